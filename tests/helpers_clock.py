"""A clock for short trainings in tests."""

from __future__ import annotations

from scripts.assets.models.image.clock import Clock


class Counted(Clock):
    """A clock that counts steps, so that a test does not depend on the machine."""

    def __init__(self, num_steps: int) -> None:
        super().__init__(minutes=1.0)
        self.left = self.num_steps = num_steps

    @property
    def running(self) -> bool:
        self.left -= 1
        return self.left >= 0

    @property
    def share(self) -> float:
        return 1 - max(self.left, 0) / self.num_steps
