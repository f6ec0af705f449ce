"""Taking the thinking out of an answer, so that places named on the way do not count."""

from __future__ import annotations

import re

# Possessive: no text makes it slow. gelab-zero's parser also accepts TINK, any case and spaces.
_MARK = re.compile(
    r"<\s*+(/?+)\s*+(?:think|thinking|grounding_think|tink)\s*+>|◁(/?+)think▷",
    re.IGNORECASE | re.ASCII,
)


def strip_thinking(text: str) -> str:
    """The answer after the last thinking, whatever the case of its marks.

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
