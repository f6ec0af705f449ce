"""What a reward is: a score for every rollout of whole groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from vlrl.types import Rollout, Score

if TYPE_CHECKING:
    from pydantic import BaseModel


class Reward(ABC):
    """Scores rollouts; sees only whole groups and never changes them."""

    Options: ClassVar[type[BaseModel]]
    """The options of a node `{use: name, ...}`; rewards built in another way have none."""
    formula: str = ""
    units: str = "none"
    source: str = ""

    options: BaseModel | None = None
    name: str
    """How logs and errors call it; unique among the leaves of a tree."""
    first_name: str = ""
    """Its name before a tree made names unique."""
    range: tuple[float, float]
    """Closed interval that every value lies in."""
    needs: frozenset[str] = frozenset()
    """What a task has to provide."""
    children: tuple[Reward, ...] = ()
    """The rewards that a node joins, in order; none = a leaf."""
    label: str | None = None
    """A combinator's name in the logs, where the config gives it one."""
    waits: bool = False
    """It mostly waits for another machine: called while other groups are still being sampled."""
    num_stages: int = 1
    """Stages of an answer with rewards of their own, one advantage each."""

    @abstractmethod
    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""

    @property
    def policy_learns(self) -> bool:
        """False in rounds in which it leaves answers unscored on purpose."""
        return True

    @property
    def min_stages(self) -> int:
        """Stages that an answer must have to be scored."""
        return self.num_stages

    def check_weight(self, weight: float, others: Sequence[tuple[float, Reward]]) -> None:
        """Raise ConfigError for a weight in a sum at which it can be farmed.

        others: weights and rewards of the same sum.
        """

    def macro_group(self, rollout: Rollout) -> str | None:
        """The part of a benchmark that a rollout counts for, where each part counts once."""
        return None

    def same_as(self, other: Reward) -> bool:
        """Whether both give every rollout the same score, so that one model serves both."""
        has_options = self.options is not None
        return has_options and type(self) is type(other) and self.options == other.options


class TrainableReward(Reward):
    """A reward that learns on the same rollouts, after the policy step."""

    @abstractmethod
    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """One round of learning; returns its metrics."""

    @abstractmethod
    def state_dict(self) -> Mapping[str, Any]:
        """All that a resumed run needs, as torch saves it."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
