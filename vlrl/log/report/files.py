"""What a run has left on disk, as its report reads it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from vlrl.config.yaml_text import parse_yaml
from vlrl.data.json_file import read_json, read_json_rows, whole_lines
from vlrl.errors import ConfigError, DataError, first_line
from vlrl.protocols import Task
from vlrl.registry import resolve

log = logging.getLogger(__name__)
Value = TypeVar("Value")

STEP_FOLDER = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Evaluation:
    """One split, evaluated once."""

    num_samples: int
    overall: Mapping[str, Mapping[str, float]]
    """Figure -> mean, low, high and num."""
    strata: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    """Key -> group -> metric -> mean and num."""
    values: Mapping[str, Mapping[str, float]]
    """Figure -> sample id -> value, without the samples to which it does not apply."""


@dataclass(frozen=True)
class Comparison:
    """A split before and after training."""

    split: str
    before: Evaluation
    after: Evaluation

    def pairs(self, metric: str) -> tuple[list[float], list[float]]:
        """Values of the samples to which the metric applied both times."""
        old, new = self.before.values.get(metric, {}), self.after.values.get(metric, {})
        both = [sample for sample in old if sample in new]
        return [old[sample] for sample in both], [new[sample] for sample in both]


@dataclass(frozen=True)
class Run:
    """A run's folder; everything but the curves is read on first use."""

    folder: Path
    metrics: Sequence[Mapping[str, Any]]
    """In order of steps."""

    @property
    def num_steps(self) -> int:
        """Training steps so far."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @cached_property
    def config(self) -> str:
        """The text of config.yaml, empty where there is none."""
        path = self.folder / "config.yaml"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @cached_property
    def task(self) -> type[Task]:
        """The class of the run's task; one without metrics of its own where it cannot be found."""
        section = self._options.get("task")
        name = section.get("use") if isinstance(section, dict) else None
        try:
            return resolve("task", str(name)) if name else Task
        except (ConfigError, ImportError) as error:
            log.warning("%s: reported without its task's part: %s", self.folder, first_line(error))
            return Task

    @cached_property
    def measured(self) -> tuple[str, ...]:
        """Names of the rewards that were only measured, in the config's order."""
        return tuple(self._options.get("metrics") or ())

    @cached_property
    def _options(self) -> Mapping[str, Any]:
        path = self.folder / "config.yaml"
        found = parse_yaml(self.config, str(path)) if self.config else {}
        return found if isinstance(found, dict) else {}

    def place(self, split: str) -> tuple[int, str]:
        """Sorts splits as the config's `eval.splits` has them, others after them by name."""
        named = list((self._options.get("eval") or {}).get("splits") or ())
        return (named.index(split) if split in named else len(named), split)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every split that was evaluated both before and after."""
        before, after = self._evaluated("before"), self._evaluated("after")
        return tuple(Comparison(s, before[s], after[s]) for s in before if s in after)

    @cached_property
    def evaluations(self) -> tuple[tuple[int, Mapping[str, Evaluation]], ...]:
        """(step, split -> evaluation) of a run that was evaluated on the way, else empty.

        Before is step 0; after is the last step.
        """
        found = {}
        for path in (self.folder / "evaluations").glob("step-*"):
            if match := STEP_FOLDER.fullmatch(path.name):
                found[int(match[1])] = self._evaluated(path.name)
        if not found:
            return ()
        found[0] = self._evaluated("before")
        if self.metrics and (after := self._evaluated("after")):
            found[self.metrics[-1]["step"]] = after
        return tuple(sorted(found.items()))

    def main_metrics(self, comparison: Comparison) -> list[str]:
        """The task's main metrics, else every reward that was only measured."""
        both = [name for name in comparison.before.values if comparison.pairs(name)[0]]
        own = [name for name in self.task.main_metrics if name in both]
        return own or [name for name in self.measured if name in both]

    def label(self, name: str) -> str:
        """How a metric is written."""
        return self.task.metric_labels.get(name, name)

    def _evaluated(self, label: str) -> dict[str, Evaluation]:
        found = (self.folder / "evaluations" / label).glob("*.json")
        paths = sorted(found, key=lambda path: self.place(path.stem))
        return {path.stem: evaluation for path, evaluation in readable(paths, _evaluation)}


def read_run(folder: Path) -> Run:
    """The run in a folder; DataError where there is none."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise DataError(f"{folder}: no metrics.jsonl there; is it the folder of a run?")
    lines = enumerate(whole_lines(path), start=1)
    return Run(folder, [_step(line, f"{path}, line {number}") for number, line in lines])


def readable(paths: Sequence[Path], read: Callable[[Path], Value]) -> list[tuple[Path, Value]]:
    """What was written whole; the rest, as a kill leaves it, is logged and left out."""
    found = []
    for path in paths:
        try:
            found.append((path, read(path)))
        except DataError as error:
            log.warning("left out: %s", error)
    return found


def record_of(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object with these keys; raises DataError for half-written files and others."""
    value = read_json(path)
    lacking = sorted(set(keys) - set(value)) if isinstance(value, dict) else list(keys)
    if lacking:
        raise DataError(f"{path}: lacks {', '.join(lacking)}; it is not what a run writes")
    return dict(value)


def _evaluation(path: Path) -> Evaluation:
    summary = record_of(path, "num_samples", "overall", "strata")
    values: dict[str, dict[str, float]] = {}
    answers = path.with_suffix(".jsonl")
    for number, row in enumerate(read_json_rows(answers), start=1):
        try:
            metrics = row["metrics"].items()
            id_ = row["id"]
        except (AttributeError, KeyError, TypeError):
            raise DataError(f"{answers}, line {number}: lacks id or metrics") from None
        for name, value in metrics:
            if value is not None:
                values.setdefault(name, {})[id_] = value
    return Evaluation(summary["num_samples"], summary["overall"], summary["strata"], values)


def _step(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON: {error}; remove the line") from error
    if not isinstance(row, dict) or "step" not in row:
        raise DataError(f"{where}: holds no step; remove the line")
    return row
