"""Patterns of written numbers and boxes, and the blocks between tags; all linear in the text."""

from __future__ import annotations

import re

from vlrl.families.thinking import strip_thinking

DIGITS = r"[0-9]++(?:\.[0-9]++)?+"
"""A decimal without sign or exponent; any number of digits, or the rest would be another number."""
# A search tries every place of a text: only at its first digit may it read a number to its end.
NUMBER = rf"(?:-|(?<![0-9])){DIGITS}"
TIME = r"(?<![0-9])[0-9]++(?:\.[0-9]*+)?+"
"""Seconds, as released code reads them: without a sign; `5.` is 5."""
COMMA = r"\s*+,\s*+"
BOX = rf"\[\s*+({NUMBER}){COMMA}({NUMBER}){COMMA}({NUMBER}){COMMA}({NUMBER})\s*+\]"
BARE_BOX = re.compile(BOX)


def whole_blocks(text: str, tag: str) -> list[str]:
    """What the closed blocks of a tag hold, in order."""
    found, end = [], 0
    while (start := text.find(f"<{tag}>", end)) >= 0:
        end = text.find(f"</{tag}>", start)
        if end < 0:
            break
        found.append(text[start + len(tag) + 2 : end])
    return found


def answer_blocks(text: str) -> list[str]:
    """The answers in a text, in order; at least one.

    The closed blocks; failing these one that is cut off; failing that what is written outside the
    thinking, which is no answer itself.
    """
    found = whole_blocks(text, "answer")
    if found:
        return found
    _, tag, cut_off = text.rpartition("<answer>")
    if tag:
        return [cut_off]
    return [strip_thinking(text)]
