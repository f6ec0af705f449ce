"""The answers of an audit: the recorded groups of a run, or the rows of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlrl.data.fields import field_of, id_of, row_of, shown
from vlrl.data.json_file import read_json_rows
from vlrl.errors import DataError
from vlrl.log.answer_images import SMALL_PX, answer_file
from vlrl.log.recorded import recorded_finish, recorded_group, recorded_paths, recorded_score
from vlrl.log.report.files import readable
from vlrl.media.images import image_array
from vlrl.protocols import Task
from vlrl.stats import evenly
from vlrl.types import Rollout, Sample


@dataclass(frozen=True)
class Answers:
    """Answers of one task in groups, each with what was recorded of its reward."""

    task: Task
    source: str
    """Where they come from."""
    rollouts: Sequence[Rollout]
    """`score` is what was recorded; `policy_version` the step, -1 = unknown."""
    whole: np.ndarray
    """Whether the answer itself is there and not only its reward, bool [N]."""
    labels: Sequence[Mapping[str, str]] = field(default_factory=tuple)
    """Of each answer: what a row's own `labels` say."""
    notes: tuple[str, ...] = ()
    """What was left out."""
    pictures: Sequence[Path | None] = ()
    """Of each answer: what a run kept to look at; none for a file of answers."""

    @property
    def group(self) -> np.ndarray:
        """Group of each answer, int [N]."""
        return np.array([rollout.group for rollout in self.rollouts], dtype=np.int64)

    @property
    def same(self) -> np.ndarray:
        """The same number for answers that are the same, int [N]; unknown answers differ."""
        known: dict[object, int] = {}
        keys = [
            ("text", one.output)
            if isinstance(one.output, str)
            else ("image", one.output.shape, one.output.tobytes())
            if isinstance(one.output, np.ndarray)
            else ("row", i)
            for i, one in enumerate(self.rollouts)
        ]
        return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)


def read_run_answers(folder: Path, task: Task, split: str, limit: int = 0) -> Answers:
    """The groups that a run has recorded so far; DataError where there is none.

    limit: groups, spread evenly over the run; 0 = all.
    """
    records = readable(evenly(recorded_paths(folder), limit), recorded_group)
    if not records:
        raise DataError(
            f"{folder / 'rollouts'}: no group is recorded there; train with log.rollouts_every "
            "above 0, or give a file of answers"
        )
    samples = _by_id(task, split)
    rows: list[_Row] = []
    for number, (path, record) in enumerate(records):
        sample = _sample(samples, record["sample"], str(path), task, split)
        for place, answer in enumerate(record["answers"]):
            where = f"{path}, answer {place}"
            output = answer.get("output")
            picture = path.with_suffix("") / answer_file(place)
            kept = picture if picture.is_file() else None
            if output is None and kept is not None:
                output = _small_image(kept)
            rows.append(_Row(sample, number, output, answer, record["step"], where, kept))
    return _answers(task, str(folder), rows)


def read_answers_file(path: Path, task: Task, split: str, limit: int = 0) -> Answers:
    """The rows of a JSONL file; DataError that names the line.

    A row has `sample` (or `id`), the sample's id, and `output`, the answer's text, or `image`, the
    path of one. It may have `group` (default: one per sample), `reward`, `parts`, `step`, `labels`.
    limit: groups, spread evenly over the file; 0 = all.
    """
    samples = _by_id(task, split)
    groups: dict[tuple[str, str], list[_Row]] = {}
    for number, row in enumerate(read_json_rows(path), start=1):
        where = f"{path}, line {number}"
        name = "sample" if "sample" in row_of(row, where) else "id"
        own = id_of(field_of(row, name, where), where)
        sample = _sample(samples, own, where, task, split)
        key = (own, str(row.get("group", "")))
        step = row.get("step", -1)
        if isinstance(step, bool) or not isinstance(step, int):
            raise DataError(f"{where}: field 'step' must be a whole number, not {shown(step)}")
        groups.setdefault(key, []).append(
            _Row(sample, 0, _output(row, path.parent, where), row, step, where)
        )
    if not groups:
        raise DataError(f"{path}: holds no answer")
    kept = evenly(list(groups.values()), limit)
    rows = [replace(row, group=number) for number, own in enumerate(kept) for row in own]
    return _answers(task, str(path), rows)


@dataclass(frozen=True)
class _Row:
    """An answer as it was read."""

    sample: Sample
    group: int
    output: Any
    record: Mapping[str, Any]
    step: int
    where: str
    picture: Path | None = None


def _answers(task: Task, source: str, rows: Sequence[_Row]) -> Answers:
    sizes = np.bincount([row.group for row in rows])
    kept = [row for row in rows if sizes[row.group] > 1]
    if not kept:
        raise DataError(
            f"{source}: no prompt has two or more answers in a group, so there is nothing to "
            "compare within a prompt; record groups of two or more"
        )
    notes = []
    if alone := len({row.group for row in rows}) - len({row.group for row in kept}):
        notes.append(f"{alone} groups of one answer are left out")
    numbers: dict[int, int] = {}
    rollouts, whole = [], []
    places: dict[int, int] = {}
    for row in kept:
        group = numbers.setdefault(row.group, len(numbers))
        index = places[group] = places.get(group, -1) + 1
        parsed = None if row.output is None else task.parse(row.sample, row.output)
        # Not every task reads its answers back from their pictures.
        is_whole = isinstance(row.output, str) or parsed is not None
        whole.append(is_whole)
        rollouts.append(
            Rollout(
                row.sample,
                group,
                index,
                row.output if is_whole else None,
                recorded_finish(row.record, row.where),
                0,
                row.step,
                parsed=parsed,
                score=recorded_score(row.record, row.where),
            )
        )
    if missing := len(whole) - sum(whole):
        notes.append(f"of {missing} of {len(whole)} answers only the recorded rewards are there")
    labels = [_labels(row) for row in kept]
    pictures = [row.picture for row in kept]
    return Answers(task, source, rollouts, np.array(whole), labels, tuple(notes), pictures)


def _by_id(task: Task, split: str) -> dict[str, Sample]:
    return {sample.id: sample for sample in task.samples(split)}


def _sample(samples: Mapping[str, Sample], id_: str, where: str, task: Task, split: str) -> Sample:
    if id_ not in samples:
        raise DataError(
            f"{where}: there is no sample {shown(id_)} in the split {split!r} of task "
            f"{task.name!r}; give the task, data and split that the answers were made for"
        )
    return samples[id_]


def _output(row: Mapping[str, Any], base: Path, where: str) -> Any:
    image = row.get("image")
    if isinstance(image, str):
        return image_array(str(base / image))
    output = row.get("output")
    if output is not None and not isinstance(output, str):
        raise DataError(f"{where}: field 'output' must be a text, not {shown(output)}")
    if output is None and "reward" not in row and "parts" not in row:
        raise DataError(f"{where}: needs `output`, `image`, or a recorded `reward` or `parts`")
    return output


def _small_image(path: Path) -> np.ndarray | None:
    """An answer's picture where it was kept as it was: only small ones are."""
    image = image_array(str(path))
    return image if image.shape[0] < SMALL_PX else None


def _labels(row: _Row) -> dict[str, str]:
    labels = row.record.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise DataError(f"{row.where}: field 'labels' must map names to words, not {shown(labels)}")
    return {str(name): str(value) for name, value in labels.items()}
