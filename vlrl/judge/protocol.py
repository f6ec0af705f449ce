"""What every judge can do, and how one is made from options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vlrl.judge.question import Ask, ImageBook
from vlrl.judge.yes_token import Reading


class Judge(Protocol):
    """Answers questions with the log-probs of yes and no."""

    def ask(self, book: ImageBook, asks: Sequence[Ask]) -> list[Reading]:
        """One reading a question, in order; RewardError where one cannot be had."""
