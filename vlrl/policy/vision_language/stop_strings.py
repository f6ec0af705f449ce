"""Strings that end an answer, looked for in its last tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Decoder(Protocol):
    """The part of a tokenizer that gives tokens' text."""

    def decode(self, ids: Sequence[int], /, *, skip_special_tokens: bool) -> str:
        """The text of some ids."""


class StopStrings:
    """Finds the token that completes one of the strings."""

    def __init__(self, tokenizer: Decoder, strings: Sequence[str]) -> None:
        self.tokenizer, self.strings = tokenizer, tuple(strings)
        # A token is a byte at least; one more for a first one that holds part of the string.
        self.num_tokens = max(len(string.encode()) for string in self.strings) + 1

    def first_end(self, tokens: Sequence[int], num_checked: int) -> int | None:
        """Tokens up to the one that completes a string, if it comes after `num_checked` others."""
        if not self._ends_in(tokens[max(0, num_checked + 1 - self.num_tokens) :]):
            return None
        for end in range(num_checked + 1, len(tokens) + 1):
            if self._ends_in(tokens[max(0, end - self.num_tokens) : end]):
                return end
        return None

    def _ends_in(self, tokens: Sequence[int]) -> bool:
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=False)
        return any(string in text for string in self.strings)
