"""What every judge can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vlrl.judge.question import Ask, ImageBook
from vlrl.judge.yes_token import Reading


class Judge(Protocol):
    """Answers questions with the log-probs of yes and no."""

    def ask(self, book: ImageBook, asks: Sequence[Ask]) -> list[Reading]:
        """One reading per question, in order; RewardError where there is none."""
