"""Reading the marks of thinking, whatever their case: what was thought, and what was answered."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Possessive: no text makes it slow. gelab-zero's parser also accepts TINK, any case and spaces.
_MARK = re.compile(
    r"<\s*+(/?+)\s*+(?:think|thinking|grounding_think|tink)\s*+>|◁(/?+)think▷",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Thought:
    """What stands after an opening mark."""

    text: str
    is_closed: bool
    """Whether a closing mark ends it; else it is the rest of the answer."""


def first_thought(text: str) -> Thought | None:
    """From the first opening mark to the next closing one; None without an opening one."""
    start = -1
    for mark in _MARK.finditer(text):
        if not (mark[1] or mark[2]):
            start = mark.end() if start < 0 else start
        elif start >= 0:
            return Thought(text[start : mark.start()], is_closed=True)
    return None if start < 0 else Thought(text[start:], is_closed=False)


def strip_thinking(text: str) -> str:
    """The answer after the last thinking.

    A closing mark without an opening one counts too: chat templates put the opening one into
    the prompt. Empty when the thinking never ends. Linear in the length of the text.
    """
    start, end = 0, len(text)
    for mark in _MARK.finditer(text):
        if mark[1] or mark[2]:
            start, end = mark.end(), len(text)
        elif end == len(text):
            end = mark.start()
    return text[start:end]
