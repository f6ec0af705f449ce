"""What a task is: data, the reading of answers, and the metrics that say how good they are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vlrl.errors import ConfigError
from vlrl.types import Rollout, Sample, SizeSeen

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from pydantic import BaseModel

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


@dataclass(frozen=True)
class KnownAnswers:
    """Answers to one sample whose worth is known, each as a policy would give it."""

    right: Any
    wrong: Mapping[str, Any]
    """By kind: near misses, and what a lazy policy would try; wrong whatever `is_right` says."""


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

    def is_right(self, rollout: Rollout) -> bool | None:
        """Whether a parsed answer is right; None where the data cannot tell."""
        return None

    def known_answers(self, sample: Sample) -> KnownAnswers | None:
        """A right answer and wrong ones, for audits of rewards; None where none can be made."""
        return None

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """The groups that a sample is reported in, e.g. {"kind": "icon", "app": "inbox"}."""
        return {}

    def skips_unreadable(self, split: str) -> bool:
        """Whether a sample that turns out to be unreadable in mid-run is left out."""
        return False

    def difficulty(self, sample: Sample) -> float:
        """Size of the target relative to the whole, in (0, 1]; nan where there is none."""
        return math.nan

    def check_policy(self, size_seen: SizeSeen, split: str) -> None:
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
