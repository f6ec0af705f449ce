"""The three interfaces that plug-ins implement: Task, Reward, Policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from vlrl.types import Rollout, Sample, Score

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

Ready = Callable[[Sequence[Rollout]], None]
"""Takes whole groups of rollouts while others are still being sampled."""

NEEDS: dict[str, str] = {
    "box": "target.box and parsed.box, vlrl.geometry.boxes.Box or None",
    "points": "parsed.points, tuple of vlrl.geometry.boxes.Point, best candidate first",
    "format": "parsed.well_formed, bool: the answer is exactly in the asked format",
    "image": "parsed.image, uint8 array [H, W, 3], sRGB",
    "caption": "target.caption, str: what the image should show",
    "references": "target.references, paths of images of the same caption, maybe none",
    "written": "target.written, str or None: the text that should stand in the image",
    "shape": "parsed.occupancy, bool array [R, R, R]; target.shape, the reference's or None; "
    "target.parts and target.colours; parsed.mesh",
    "views": "parsed.views, uint8 array [N, H, W, 3]: images around the object",
    "stages": "parsed.stages, the parsed value of every stage of the answer, the last one last",
    "spans": "target.spans and parsed.spans, (start, end) pairs; target.closed: whole frames",
    "track": "target.track, vlrl.video.tubes.Tube; parsed.think and .final, Track or None",
    "consistent": "parsed.consistent, bool: the boxes cover exactly the answered span",
    "timed_boxes": "target.timed and parsed.timed, pairs of seconds and vlrl.geometry.boxes.Box",
    "scene": "target.scene, the objects that should be in the image, or None",
    "verdict": "target.verdict and parsed.verdict, 1 or 2: which of two is better",
}
"""What a reward can ask of a task; a task lists what it gives in `provides`."""


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


@runtime_checkable
class Task(Protocol):
    """Data, the reading of answers and the figures that say how good they are."""

    provides: frozenset[str]
    main_metrics: ClassVar[tuple[str, ...]] = ()
    """The metrics that a report shows first; of those that a run has."""
    metric_labels: ClassVar[Mapping[str, str]] = {}
    """How reports write a metric's name, where not as it is."""
    metric_charts: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Charts of metrics that are drawn together, by title; those under "" are not drawn."""
    drawing: ClassVar[Drawing] = Drawing()

    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split, in a fixed order."""

    def parse(self, sample: Sample, output: Any) -> Any:
        """The one parsed value that rewards and metrics both read; None if unreadable."""

    def metrics(self, rollouts: Sequence[Rollout]) -> Mapping[str, Sequence[float]]:
        """Named per-rollout figures, e.g. `hit`; nan where one does not apply."""

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """The groups that a sample is reported in, e.g. {"kind": "icon", "app": "inbox"}."""

    def difficulty(self, sample: Sample) -> float:
        """Size of the target relative to the image, in (0, 1]; nan where there is none."""

    def check_policy(self, resized: Callable[[Sample], tuple[int, int]], split: str) -> None:
        """Raise ConfigError where task and policy see the data differently."""

    # A task may also have `save_files(rollout, folder)`: an evaluated answer as files for other
    # programs; and `stage_starts(text, num_stages)`: where the stages of a written answer begin,
    # for rewards that pay them one by one.

    def draw(self, sample: Sample, rollouts: Sequence[Rollout]) -> Any:
        """A PIL image of the sample with its truth and the answers drawn in; None = no image."""

    def answer_image(self, rollout: Rollout) -> np.ndarray | None:
        """An answer that is an image of its own, uint8 [H, W, 3]; None where it is none."""
        return None

    @classmethod
    def report_sections(cls, run_folder: Path) -> Sequence[str]:
        """Further sections of a run's report, HTML, made from the files that `save_files` wrote."""
        return ()


@runtime_checkable
class Reward(Protocol):
    """Scores rollouts; sees only whole groups and never changes them."""

    range: tuple[float, float]
    """Closed interval that every value lies in."""
    needs: frozenset[str]
    # A reward that mostly waits for another machine says so with `waits = True`: it is then asked
    # while other groups are still being sampled; vlrl/train/scoring_queue.py.

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order."""


@runtime_checkable
class TrainableReward(Reward, Protocol):
    """A reward that learns on the same rollouts, after the policy step.

    In rounds that the policy is not meant to learn from, its `policy_learns` is False.
    """

    name: str

    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]: ...

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Trajectory(Protocol):
    """What a policy keeps to evaluate its rollouts again."""

    logp: Tensor
    """Log-prob of every action under the sampling policy, [B, T], nats."""
    mask: Tensor
    """True where an action was taken, [B, T]."""
    group: Tensor
    """Group of every row, [B]."""
    # A policy whose answers have several stages also names, as `stage` [B, T], the one that every
    # action belongs to, 0..S-1; vlrl.algo.stages.

    def select(self, rows: Sequence[int]) -> Trajectory:
        """The trajectory of some rows."""

    def only_group(self, group: int) -> Trajectory:
        """One group alone, renumbered 0."""

    @staticmethod
    def join(parts: Sequence[Trajectory]) -> Trajectory:
        """Several trajectories as one, groups renumbered in order."""


@dataclass
class Evaluation:
    """A policy's view of a trajectory, with gradient."""

    logp: Tensor
    """[B, T], nats."""
    kl: Tensor | None
    """Per-action KL to the reference policy, [B, T], nats; None when not asked for."""
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


class Policy(Protocol):
    """Anything that takes T actions with log-probabilities."""

    module: nn.Module
    """What DeepSpeed wraps; every update goes through one call of the engine."""
    version: int
    """Optimizer steps so far; stamped on every rollout."""
    device: torch.device
    """Where losses are computed."""

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Called once, before the first sampling, with every sample that the run may ask for."""

    def image_size(self, sample: Sample) -> tuple[int, int]:
        """Width and height in pixels of the image that the policy sees or makes."""

    def sample(
        self,
        samples: Sequence[Sample],
        num_each: int,
        seed: int,
        *,
        greedy: bool = False,
        ready: Ready | None = None,
    ) -> tuple[list[Rollout], Trajectory]:
        """`num_each` rollouts for each sample, group by group.

        ready: handed whole groups as soon as they are there, all of them in order.
        """

    def plan(self, trajectory: Trajectory, rows: Sequence[int]) -> list[list[int]]:
        """Cut rows into chunks of one forward each."""

    def evaluate(self, trajectory: Trajectory, *, with_entropy_grad: bool = False) -> Evaluation:
        """Log-probs of the trajectory's actions now, through the engine."""

    def regression(
        self, trajectory: Trajectory, advantage: Tensor, old: Tensor | None
    ) -> Regression:
        """The loss under an objective without log-probs; policies refuse what they cannot serve.

        advantage: [B]; old: what `regression_target` gave before the first step; None = now.
        """

    def regression_target(self, trajectory: Trajectory) -> Tensor:
        """What a regression compares with, of the weights of now, [B, T, ...], on CPU."""

    def reference(self, trajectory: Trajectory) -> Tensor:
        """What the KL needs of the reference policy, [B, T, ...]; kept as trajectory.reference."""

    def save_pretrained(self, folder: str, weights: dict[str, Tensor]) -> None:
        """Write the module's `weights` (by parameter name) so that `from_pretrained` loads them."""
