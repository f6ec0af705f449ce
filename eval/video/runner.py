"""Runs a checkpoint on videos: batched, sharded over ranks, resumable; or reads answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from vlrl.data.fields import Row, field_of
from vlrl.data.json_file import read_json, read_json_rows
from vlrl.distributed.comm import World, barrier
from vlrl.errors import DataError
from vlrl.eval.store import Store
from vlrl.eval.video.scoring import Found
from vlrl.geometry.boxes import Frame
from vlrl.types import Sample, SizeSeen, VideoPart
from vlrl.video.tubes import Track, interpolated
from vlrl.video.video_answers import VideoAnswer


class VideoModel(Protocol):
    """Something that answers questions about videos, as the trainer's policies do."""

    def sample(
        self, samples: Sequence[Sample], num_each: int, seed: int, *, greedy: bool = False
    ) -> tuple[list[Any], Any]:
        """Rollouts in order, and what belongs to them."""


class VideoTask(Protocol):
    """What an evaluation needs of the task `video_grounding`."""

    options: Any
    skipped: dict[str, list[str]]

    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split."""

    def check_policy(self, size_seen: SizeSeen, split: str) -> None:
        """Raises ConfigError where the model does not fit the task."""

    def parse(self, sample: Sample, output: object) -> Any:
        """What a written answer says; None where nothing can be read."""

    def native(self, sample: Sample, parsed: VideoAnswer) -> tuple[tuple[int, int], Track] | None:
        """Span and boxes on native frames."""


@dataclass(frozen=True)
class Answered:
    """One answer as it is stored."""

    output: str | None
    error: str | None = None
    seconds: float = 0.0
    num_tokens: int = 0


_ANSWERED = TypeAdapter(Answered)


def ask_all(
    samples: Sequence[Sample],
    model: VideoModel,
    store: Store,
    settings: Mapping[str, Any],
    world: World,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Answered]:
    """One greedy answer per sample, on every rank; those of an earlier run are read."""
    if world.is_main:
        store.open(settings)
        store.drop_cut_lines()
    barrier(world)
    ids = {sample.id for sample in samples}
    known = {own for own, one in stored(store, ids).items() if one.output is not None}
    mine = [sample for sample in samples if sample.id not in known][world.rank :: world.size]
    barrier(world)  # nobody appends before all have read
    for start in range(0, len(mine), batch_size):
        batch = mine[start : start + batch_size]
        store.append(_asked(batch, model))
        progress(len(batch), len(mine))
    barrier(world)
    return stored(store, ids)


def _asked(batch: Sequence[Sample], model: VideoModel) -> list[dict[str, Any]]:
    """Lines of the answers to a batch; a sample that cannot be shown has its error."""
    begun = time.monotonic()
    try:
        rollouts, _ = model.sample(batch, 1, seed=0, greedy=True)
    except DataError as error:
        if len(batch) == 1:
            seconds = round(time.monotonic() - begun, 4)
            return [_line(batch[0].id, None, str(error), seconds, 0)]
        # One bad video must not cost the others their answers.
        return [line for sample in batch for line in _asked([sample], model)]
    seconds = round((time.monotonic() - begun) / len(batch), 4)
    return [_line(r.sample.id, r.output, None, seconds, r.num_actions) for r in rollouts]


def _line(
    own: str, output: str | None, error: str | None, seconds: float, num_tokens: int
) -> dict[str, Any]:
    return {
        "id": own,
        "output": output,
        "error": error,
        "seconds": seconds,
        "num_tokens": num_tokens,
    }


def _answer_of(row: Mapping[str, Any]) -> Answered:
    """The inverse of `_line`; KeyError, ValueError where the row is no such line."""
    return _ANSWERED.validate_python({f.name: row[f.name] for f in fields(Answered)})


def stored(store: Store, ids: set[str]) -> dict[str, Answered]:
    """All answers so far by sample; a later one that did not fail replaces one that did."""
    found: dict[str, Answered] = {}
    for own, one in store.rows(ids, _answer_of):
        if one.output is not None or own not in found:
            found[own] = one
    return found


def read_texts(
    path: Path, samples: Sequence[Sample], answer_field: str, id_field: str, allow_missing: bool
) -> dict[str, Answered]:
    """Written answers made elsewhere, one line or list entry each; raises DataError."""
    ids = {sample.id for sample in samples}
    found: dict[str, Answered] = {}
    for number, row in enumerate(read_json_rows(path), start=1):
        where = f"{path}, row {number}"
        own, output = str(field_of(row, id_field, where)), field_of(row, answer_field, where)
        if own not in ids:
            raise DataError(f"{where}: no sample {own!r} in the benchmark (--id-field)")
        if own in found:
            raise DataError(f"{where}: sample {own!r} is answered twice")
        if not isinstance(output, str):
            raise DataError(f"{where}: field {answer_field!r} must be a string (--answer-field)")
        found[own] = Answered(output)
    return _complete(path, found, samples, allow_missing)


def read_tubes(
    path: Path,
    samples: Sequence[Sample],
    *,
    first_number: int,
    interpolate: bool,
    allow_missing: bool,
) -> list[Found]:
    """Tubes made elsewhere in the form of HC-STVG's official script; raises DataError.

    {video: {"st_frame", "ed_frame", "bbox": {frame: [x1, y1, x2, y2]}}}, both ends included, native
    frames, pixels. first_number: what the first native frame is called there. interpolate: fill
    the frames between given boxes; otherwise a frame without a box has IoU 0.
    """
    data = read_json(path)
    if not isinstance(data, Mapping):
        raise DataError(f"{path}: holds a {type(data).__name__}, not tubes by video")
    by_name = {name: s for s in samples for name in (s.id, Path(s.id).stem)}
    found: dict[str, Found] = {}
    for name, row in data.items():
        where = f"{path}, {name!r}"
        sample = by_name.get(name) or by_name.get(Path(name).stem)
        if sample is None:
            raise DataError(f"{where}: no such sample in the benchmark")
        part = sample.prompt[0].parts[0]
        assert isinstance(part, VideoPart), "the video comes first in a prompt"
        frame = Frame(part.width_px, part.height_px)
        span, track = _tube(row, where, first_number, frame)
        if interpolate:
            track = interpolated(track.valid(), *span)
        found[sample.id] = Found(sample, span, track)
    missing = [sample for sample in samples if sample.id not in found]
    _check_missing(path, missing, samples, allow_missing)
    nothing = Track({}, Frame(1, 1))
    return [
        found.get(sample.id) or Found(sample, None, nothing, error="no answer in the file")
        for sample in samples
    ]


def _tube(row: Row, where: str, first_number: int, frame: Frame) -> tuple[tuple[int, int], Track]:
    try:
        span = (int(row["st_frame"]) - first_number, int(row["ed_frame"]) - first_number)
        boxes = {}
        for key, value in row["bbox"].items():
            x1, y1, x2, y2 = (float(edge) for edge in value)
            boxes[int(key) - first_number] = (x1, y1, x2, y2)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{where}: a tube has st_frame, ed_frame and bbox: {{frame: [x1, y1, x2, y2]}}; "
            f"{error!r}"
        ) from error
    return span, Track(boxes, frame)


def _complete(
    path: Path, found: dict[str, Answered], samples: Sequence[Sample], allow_missing: bool
) -> dict[str, Answered]:
    missing = [sample for sample in samples if sample.id not in found]
    _check_missing(path, missing, samples, allow_missing)
    lost = Answered(None, "no answer in the file")
    return {sample.id: found.get(sample.id, lost) for sample in samples}


def _check_missing(
    path: Path, missing: Sequence[Sample], samples: Sequence[Sample], allow_missing: bool
) -> None:
    if missing and not allow_missing:
        raise DataError(
            f"{path}: no answer to {len(missing)} of {len(samples)} samples, the first: "
            f"{missing[0].id!r}; with --allow-missing they count 0"
        )


def found_of(
    task: VideoTask, samples: Sequence[Sample], answers: Mapping[str, Answered]
) -> list[Found]:
    """Written answers read by the task, boxes between given ones interpolated to native frames."""
    found = []
    for sample in samples:
        one = answers[sample.id]
        parsed = None if one.output is None else task.parse(sample, one.output)
        native = None if parsed is None else task.native(sample, parsed)
        span, track = native if native is not None else (None, Track({}, Frame(1, 1)))
        times = None if parsed is None or sample.target.closed else parsed.spans
        found.append(Found(sample, span, track, times, one.output, one.error))
    return found
