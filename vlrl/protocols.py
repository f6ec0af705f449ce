"""The four interfaces that plug-ins implement: Task, Reward, Policy and its Trajectory.

Everything that the trainer, the evaluation and the reports ask of a plug-in is declared here.
What has a default may be left out; nothing else is ever looked for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from vlrl.config.section import Section
from vlrl.errors import ConfigError
from vlrl.types import Rollout, Sample, Score

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    import torch
    from PIL.Image import Image
    from pydantic import BaseModel
    from torch import Tensor, nn

Ready = Callable[[Sequence[Rollout]], None]
"""Takes whole groups of rollouts while others are still being sampled."""

StageStarts = Sequence[tuple[int, int]]
"""(first character, stage), in the order of the text; the text before the first one is stage 0."""


@dataclass(frozen=True)
class Drawing:
    """How reports speak of what `Task.draw` draws."""

    title: str = "answers"
    """Plural, e.g. "screens"."""
    truth: str = ""
    """What the truth's marks are."""
    answer: str = ""
    """What an answer's marks are."""
    note: str = ""


class Task(ABC):
    """Data, the reading of answers, and the metrics that say how good they are."""

    Options: ClassVar[type[BaseModel]]
    """The `task:` section of a config."""
    name: ClassVar[str]
    provides: ClassVar[Mapping[str, str]]
    """What rewards may ask for by name (`Reward.needs`), each with where it is found."""
    main_metrics: ClassVar[tuple[str, ...]] = ()
    """The metrics that a report shows first; of those that a run has."""
    metric_labels: ClassVar[Mapping[str, str]] = {}
    """How reports write a metric's name, where it differs."""
    metric_charts: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Charts of metrics that are drawn together, by title; those under "" are not drawn."""
    drawing: ClassVar[Drawing] = Drawing()
    names_splits: ClassVar[bool] = False
    """Whether the options have `data`, which maps every split to what it is read from."""
    finds_stages: ClassVar[bool] = False
    """Whether `stage_starts` finds the stages of a written answer."""

    def __init__(self, options: BaseModel) -> None:
        self.options = options

    @abstractmethod
    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split, in a fixed order; raises ConfigError, DataError."""

    @abstractmethod
    def parse(self, sample: Sample, output: object) -> Any:
        """The one parsed value that rewards and metrics both read; None if unreadable."""

    @abstractmethod
    def metrics(self, rollouts: Sequence[Rollout]) -> Mapping[str, Sequence[float]]:
        """Named metrics, one value per rollout; nan where one does not apply."""

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """The groups that a sample is reported in, e.g. {"kind": "icon", "app": "inbox"}."""
        return {}

    def skips_unreadable(self, split: str) -> bool:
        """Whether a sample that turns out to be unreadable in mid-run is left out."""
        return False

    def difficulty(self, sample: Sample) -> float:
        """Size of the target relative to the whole, in (0, 1]; nan where there is none."""
        return math.nan

    def check_policy(self, size_seen: Callable[[Sample], tuple[int, int]], split: str) -> None:
        """Raise ConfigError where task and policy see the data differently.

        size_seen: `Policy.size_seen`.
        """

    def draw(self, sample: Sample, rollouts: Sequence[Rollout]) -> Image | None:
        """The sample with its truth and the answers drawn in; None = nothing to see."""
        return None

    def answer_image(self, rollout: Rollout) -> np.ndarray | None:
        """An answer that is an image of its own, uint8 [H, W, 3]; None where it is none."""
        return None

    def save_files(self, rollout: Rollout, folder: Path) -> None:
        """Write an evaluated answer as files for other programs, where there is such a form."""

    def stage_starts(self, text: str, num_stages: int) -> StageStarts:
        """Where the stages of a written answer begin; only called where `finds_stages`."""
        raise ConfigError(f"task {self.name!r}: its answers have no stages in their text")

    def sample_from_columns(self, row: Mapping[str, Any], where: str) -> Sample:
        """A problem from a table's row, for rewards that run in another trainer.

        Raises ConfigError where the task cannot do that, DataError that names `where`.
        """
        raise ConfigError(
            f"{type(self).__name__} has no `sample_from_columns`, so a table's row cannot become "
            "one of its samples; add it to use this task's rewards in TRL"
        )

    def recipe(self) -> Mapping[str, Any]:
        """What the evaluation of a checkpoint must know of how it was trained (`vlrl.json`)."""
        return {}

    @classmethod
    def report_sections(cls, run_folder: Path) -> Sequence[str]:
        """Further sections of a run's report, HTML, made from the files that `save_files` wrote."""
        return ()


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
    """Budget of one forward of the update."""
    checkpointing: bool = False
    kl_estimator: str | None = None
    """`auto`, k1, k2, k3; None = no KL is needed."""
    regression: BaseModel | None = None
    """Options of an objective without log-probs; None = log-probs are needed."""


class PolicyOptions(Section):
    """Options of a policy; with defaults for what the build asks of them."""

    @property
    def num_stages(self) -> int:
        """Stages of every answer."""
        return 1

    def unused_under(self, objective: str) -> list[str]:
        """Options that were set and would do nothing under an objective."""
        return []

    def models(self) -> Mapping[str, str]:
        """Options that name a model, each a folder or a name of the model hub."""
        return {}

    def recipe(self) -> Mapping[str, Any]:
        """What the evaluation of a checkpoint must know of how it was trained (`vlrl.json`)."""
        return {}


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

    @property
    def waited_s(self) -> float:
        """Seconds that sampling has waited for prompts so far."""
        return 0.0

    def check_sample(self, sample: Sample) -> None:
        """Raise DataError where a sample cannot be made into a prompt: damaged, or too long."""

    @abstractmethod
    def size_seen(self, sample: Sample) -> tuple[int, int]:
        """Width and height of what the policy sees or makes for a sample, in pixels or cells."""

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
