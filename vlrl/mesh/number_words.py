"""Small numbers as words."""

from __future__ import annotations

NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip


def number_of(word: str) -> int | None:
    """The number of a word or of digits; `a` and `an` are 1; None for any other text."""
    word = word.lower()
    if word in NUMBERS:
        return NUMBERS.index(word)
    if word in ("a", "an"):
        return 1
    return int(word) if word.isdecimal() else None
