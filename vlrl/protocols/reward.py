"""What a reward is: a score for every rollout of whole groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vlrl.errors import RewardError
from vlrl.types import Rollout, Score

if TYPE_CHECKING:
    import numpy as np
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
    only_root: bool = False
    """It stands below no other node, which would pay for answers that it leaves out."""
    noisy: bool = False
    """A judge's opinion: answers that are equally good get somewhat different values."""
    pooled: Literal["", "max", "mean", "min"] = ""
    """How it joins several looks at one answer, where it does."""
    place: str = ""
    """Where it stands in the config."""
    allowed: Mapping[str, str] = {}
    """Rules of vlrl/reward/lint that it breaks on purpose, with the reasons."""

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

    def models(self) -> Mapping[str, int]:
        """Models that every rank loads onto its GPU, and the bytes of each of their numbers."""
        return {}

    def answer_features(self, rollouts: Sequence[Rollout]) -> np.ndarray | None:
        """What its model sees in answers, float64 [N, D]; a row of nan where there is nothing.

        None: it has no model that sees an answer by itself.
        """
        return None

    def macro_group(self, rollout: Rollout) -> str | None:
        """The part of a benchmark that a rollout counts for, where each part counts once."""
        return None

    def same_as(self, other: Reward) -> bool:
        """Whether both give every rollout the same score, so that one model serves both."""
        has_options = self.options is not None
        return has_options and type(self) is type(other) and self.options == other.options


class Learner(ABC):
    """Learns on the rollouts of each step, after the policy's; saved with every checkpoint."""

    name: str

    @abstractmethod
    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """One round of learning; returns its metrics. Called on all ranks."""

    @abstractmethod
    def state_dict(self) -> Mapping[str, Any]:
        """All that a resumed run needs, as torch saves it."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""

    def resharded(
        self, states: Sequence[Mapping[str, Any]], rank: int, num_ranks: int
    ) -> Mapping[str, Any]:
        """The state of one rank of `num_ranks`, from those of all ranks of another number.

        RewardError where ranks hold different states, which only the learner knows how to join.
        """
        if any(not _same(states[0], other) for other in states[1:]):
            raise RewardError(
                f"reward {self.name!r} has another state on each rank and does not say how "
                f"{len(states)} of them are joined (`resharded`); resume with {len(states)} ranks"
            )
        return states[0]


class TrainableReward(Reward, Learner):
    """A reward that learns on the same rollouts, after the policy step."""


def _same(one: object, other: object) -> bool:
    """Whether two saved states are equal, tensors and plain values alike."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
