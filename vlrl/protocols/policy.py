"""What a policy is: it takes actions with log-probs; and what it keeps of its rollouts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from vlrl.config.section import Section
from vlrl.errors import ConfigError
from vlrl.protocols.task import StageStarts
from vlrl.types import Rollout, Sample

if TYPE_CHECKING:
    from typing import Self

    import torch
    from pydantic import BaseModel
    from torch import Tensor, nn

    from vlrl.protocols.planned import PlannedPolicy, PlannedRun
    from vlrl.protocols.sequence import SequenceGroup

Ready = Callable[[Sequence[Rollout]], None]
"""Takes whole groups of rollouts while others are still being sampled."""


class Trajectory(Protocol):
    """What a policy keeps to evaluate its rollouts again; a frozen dataclass."""

    @property
    def logp(self) -> Tensor:
        """Log-prob of every action under the sampling policy, [B, T], nats."""

    @property
    def mask(self) -> Tensor:
        """True where an action was taken, [B, T]."""

    @property
    def group(self) -> Tensor:
        """Group of every row, [B]."""

    @property
    def stage(self) -> Tensor | None:
        """The stage that every action belongs to, 0..S-1, [B, T]; None: there is only one."""

    @property
    def reference(self) -> Tensor | None:
        """What `with_reference` was given; None before."""

    def __len__(self) -> int: ...

    def select(self, rows: Sequence[int]) -> Self:
        """The trajectory of some rows."""

    def only_group(self, group: int) -> Self:
        """One group alone, renumbered 0."""

    def with_reference(self, reference: Tensor | None) -> Self:
        """The same with what its KL needs of the reference policy, [B, T, ...]."""

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Several trajectories as one, groups renumbered in order."""


T = TypeVar("T", bound=Trajectory)


Drawn = tuple[list[Rollout], T]
"""Rollouts, group by group, and the trajectory of all of them."""


@dataclass
class Evaluation:
    """A policy's view of a trajectory, with gradient."""

    logp: Tensor
    """[B, T], nats."""
    kl: Tensor | None
    """Per-action KL to the reference policy, [B, T], nats; None when not needed."""
    entropy: Tensor | None
    """[B, T], nats; with gradient only when the loss asks for it."""
    action_weight: Tensor | None = None
    """Weight of every action's objective, not of its KL, [B, T]; None = 1."""


@dataclass
class Regression:
    """A policy's loss under an objective that needs no log-probs, with gradient."""

    loss: Tensor
    """[B, T]"""
    kl: Tensor | None
    """As in Evaluation."""


@dataclass(frozen=True)
class PolicySetup:
    """What a run tells its policy in addition to the policy's own options."""

    dtype: torch.dtype
    max_tokens_per_chunk: int
    """Budget of one forward of the update, over all ranks that share its rows."""
    checkpointing: bool = False
    kl_estimator: str | None = None
    """`auto`, k1, k2, k3; None = no KL is needed."""
    regression: BaseModel | None = None
    """Options of an objective without log-probs; None = log-probs are needed."""
    zero_stage: int = 0
    """Of the optimizer that the policy will have."""
    rank: int = 0
    num_ranks: int = 1
    sequence: SequenceGroup | None = None
    """The ranks that share this one's rows in the update; None: each has its own."""
    loading: Callable[[], AbstractContextManager[None]] = nullcontext
    """Wraps the reading of weights by `from_pretrained`: under ZeRO-3 it splits them over ranks."""


class PolicyOptions(Section):
    """Options of a policy; with defaults for what the build asks of them."""

    @property
    def num_stages(self) -> int:
        """Stages of every answer."""
        return 1

    def unused_under(self, objective: str) -> list[str]:
        """Options that were set and would do nothing under an objective."""
        return []

    def refuses(self, objective: str) -> str:
        """Why an objective cannot be used with this policy; empty where it can."""
        return ""

    def check_ahead(self, ahead: int, order: str) -> None:
        """Raise ConfigError where answers cannot be drawn that far ahead (`rollouts`)."""

    def models(self) -> Mapping[str, str]:
        """Options that name a model, each a folder or a name of the model hub."""
        return {}

    @property
    def has_dropout(self) -> bool:
        """Whether two passes over the same rollouts with the same weights differ."""
        return False

    def check_sequence_parallel(self) -> None:
        """Raise ConfigError unless ranks can share the rows of the update's forward passes."""
        raise ConfigError(
            "dist.sequence_parallel: this policy's rows cannot be divided over ranks; leave it at 1"
        )

    def for_given_answers(self) -> Mapping[str, Any]:
        """Options that are others where answers are given: log-probs of all that can be written."""
        return {}

    def recipe(self) -> Mapping[str, Any]:
        """What the evaluation of a checkpoint must know of how it was trained (`vlrl.json`)."""
        return {}

    def planned(self, run: PlannedRun) -> PlannedPolicy | None:
        """The policy without its weights, for `vlrl train --plan`; None: nothing is known of it."""
        return None


class Policy(ABC, Generic[T]):
    """Anything that takes T actions with log-probabilities, generic in its trajectory."""

    Options: ClassVar[type[PolicyOptions]]
    """The `policy:` section of a config."""

    options: PolicyOptions
    module: nn.Module
    """What DeepSpeed wraps; every update goes through one call of the engine."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.version = 0
        """Optimizer steps so far; stamped on every rollout."""
        self._call: Callable[..., Any] = module
        self._serving: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._reference: Callable[..., Any] | None = None

    def bind(
        self, call: Callable[..., Any], serving: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Send updates through the engine, and sample inside its `serving` context."""
        self._call, self._serving = call, serving

    def bind_reference(self, call: Callable[..., Any] | None) -> None:
        """The frozen reference's engine; None = this policy with its adapter off."""
        self._reference = call

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where losses are computed."""

    def reference_module(self, dtype: torch.dtype) -> nn.Module | None:
        """A frozen copy of the start, or None where switching the adapter off gives it."""
        return None

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Called once, before the first sampling, with every sample that the run may ask for."""

    def pick_kernels(self) -> Mapping[str, str]:
        """Choices between kernels that differ in rounding, as the main rank's device would have it.

        Asked once a run, when the weights are in place; checkpoints keep the answer.
        """
        return {}

    def use_kernels(self, kernels: Mapping[str, str]) -> None:
        """Take what was picked, on every rank; raises ConfigError where this one cannot."""

    def expect(self, samples: Sequence[Sample]) -> None:
        """Told which samples come next, in order: their prompts may be prepared meanwhile."""

    def facts(self) -> Mapping[str, float]:
        """What sampling noted since the last call, by the metric's name; the largest is logged."""
        return {"time/prompts_s": 0.0}

    def check_sample(self, sample: Sample) -> None:
        """Raise DataError where a sample cannot be made into a prompt: damaged, or too long."""

    @abstractmethod
    def size_seen(self, sample: Sample) -> tuple[int, int] | None:
        """Width and height of what the policy sees or makes for a sample, in pixels or cells.

        None where the model sees an image in tiles of its own sizes.
        """

    @abstractmethod
    def sample(
        self,
        samples: Sequence[Sample],
        num_each: int,
        seed: int,
        *,
        greedy: bool = False,
        ready: Ready | None = None,
    ) -> tuple[list[Rollout], T]:
        """`num_each` rollouts for each sample, group by group.

        ready: handed whole groups as soon as they are there, all of them in order.
        """

    def weights_swapped(self) -> None:
        """Told that the weights are others than before, although `version` is the same."""

    def publish(self, sample: Sample) -> None:
        """Hand the weights of now to whoever draws beside the update; all ranks call this.

        sample: one that can be tried at once. Raises EngineError.
        """

    def begin(
        self, samples: Sequence[Sample], num_each: int, seed: int, *, ready: Ready | None = None
    ) -> Callable[[], Drawn[T]]:
        """Begin to sample with what was published; the call, on any thread, waits for the end.

        By default all is sampled before this returns.
        """
        drawn = self.sample(samples, num_each, seed, ready=ready)
        return lambda: drawn

    def abandon(self) -> None:
        """Give up what was begun; the run has failed, and its exit must not wait for it."""

    def given(self, samples: Sequence[Sample], answers: Sequence[Sequence[Any]]) -> T:
        """Answers that were not drawn, as many to each sample; log-probs are 0.

        A text that is Unfinished has no end.

        Raises ConfigError where the policy cannot learn from given answers, DataError for an
        answer that it could not have written.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot learn from given answers: `vlrl sft` and `vlrl dpo` are "
            "for policies that write text"
        )

    def pack(self, rollouts: Sequence[Rollout], trajectory: T) -> Mapping[str, Any] | None:
        """One group as a checkpoint keeps it, tensors and plain values; None: it is drawn again."""
        return None

    def unpack(self, sample: Sample, packed: Mapping[str, Any]) -> Drawn[T]:
        """The group that `pack` was given."""
        raise NotImplementedError(f"{type(self).__name__} packs no rollouts")

    @abstractmethod
    def plan(self, trajectory: T, rows: Sequence[int]) -> list[list[int]]:
        """Cut rows into chunks of one forward each."""

    @abstractmethod
    def evaluate(self, trajectory: T, *, with_entropy_grad: bool = False) -> Evaluation:
        """Log-probs of the trajectory's actions now, through the engine."""

    def regression(self, trajectory: T, advantage: Tensor, old: Tensor | None) -> Regression:
        """The loss under an objective without log-probs.

        advantage: [B]; old: what `regression_target` gave before the first step; None = now.
        """
        raise ConfigError(f"{type(self).__name__} has log-probs: use clip, gspo or cispo")

    def regression_target(self, trajectory: T) -> Tensor:
        """What a regression compares with, of the weights of now, [B, T, ...], on CPU."""
        raise ConfigError(f"{type(self).__name__} has log-probs: use clip, gspo or cispo")

    @abstractmethod
    def reference(self, trajectory: T) -> Tensor:
        """What the KL needs of the reference policy, [B, T, ...]; kept by `with_reference`."""

    def in_stages(self, trajectory: T, starts: Callable[[str], StageStarts]) -> T:
        """The trajectory with the stage of every action; `starts` finds them in a text."""
        raise ConfigError(f"{type(self).__name__} writes no text in which stages could be found")

    @abstractmethod
    def save_pretrained(self, folder: str, weights: Mapping[str, Tensor]) -> None:
        """Write the module's `weights` (by parameter name) so that `from_pretrained` loads them."""
