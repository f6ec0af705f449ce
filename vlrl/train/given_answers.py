"""The answers that `vlrl sft` and `vlrl dpo` learn from, and where they are found."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlrl.config.supervised import DpoConfig, SftConfig
from vlrl.data.fields import shown
from vlrl.data.json_file import read_json_rows
from vlrl.errors import ConfigError, DataError, did_you_mean
from vlrl.log.recorded import recorded_finish, recorded_group, recorded_paths
from vlrl.log.report.files import readable
from vlrl.protocols import Task
from vlrl.types import Finish, Sample, Unfinished

log = logging.getLogger(__name__)
COLUMN = "column:"


@dataclass(frozen=True)
class GivenAnswers:
    """By the sample's id: choices, each one answer (SFT), or a better and a worse one (DPO)."""

    by_id: Mapping[str, Sequence[tuple[Any, ...]]]
    dpo: DpoConfig | None = None
    """None: all answers are right ones."""


def right_answers(options: SftConfig, task: Task, samples: Sequence[Sample]) -> GivenAnswers:
    """Of `sft.answers`; raises ConfigError or DataError where there are none."""
    source, found = options.answers, defaultdict(list)
    if source == "task":
        for sample in samples:
            known = task.known_answers(sample)
            if known is not None:
                found[sample.id].append((known.right,))
    elif source.startswith(COLUMN):
        name = source.removeprefix(COLUMN)
        for sample in samples:
            if name in sample.columns:
                found[sample.id].append((sample.columns[name],))
        if not found and samples:
            hint = did_you_mean(name, samples[0].columns)
            raise ConfigError(f"sft.answers: {source}: the data has no column {name!r}; {hint}")
    else:
        for row, place in _rows(source, "sft.answers"):
            found[_text(row, "id", place)].append((_text(row, "output", place),))
    return GivenAnswers(_of(found, samples, "sft.answers"))


def pairs(options: DpoConfig, samples: Sequence[Sample]) -> GivenAnswers:
    """Of `dpo.pairs`; raises ConfigError or DataError where there are none."""
    if options.pairs is None:
        raise ConfigError(
            "dpo.pairs: name a run's folder, or JSON lines of {id, chosen, rejected} (--pairs)"
        )
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    folder = Path(options.pairs)
    if folder.is_dir():
        for id_, pair in recorded_pairs(folder, options.min_gap):
            found[id_].append(pair)
        if not found:
            raise DataError(
                f"dpo.pairs: {folder} has no recorded group whose rewards differ by "
                f"{options.min_gap:g} (dpo.min_gap); record more with log.rollouts_every: 1 and "
                "log.num_rollout_groups"
            )
    else:
        for row, place in _rows(options.pairs, "dpo.pairs"):
            pair = (_text(row, "chosen", place), _text(row, "rejected", place))
            found[_text(row, "id", place)].append(pair)
    return GivenAnswers(_of(found, samples, "dpo.pairs"), options)


def recorded_pairs(folder: Path, min_gap: float) -> Iterator[tuple[str, tuple[str, str]]]:
    """The best and the worst answer of every group that a run has recorded, with its sample's id.

    Groups whose rewards differ by less than `min_gap` have no pair. Files that are not what a run
    writes, as a kill leaves them, are logged and left out.
    """
    for file, record in readable(recorded_paths(folder), _group):
        scored = [
            (answer["reward"], _as_drawn(answer, f"{file}, answer {place}"))
            for place, answer in enumerate(record["answers"])
            if answer["reward"] is not None and isinstance(answer["output"], str)
        ]
        if not scored:
            continue
        best, worst = max(scored), min(scored)
        if best[0] - worst[0] >= max(min_gap, 1e-12) and best[1] != worst[1]:
            yield record["sample"], (best[1], worst[1])


def _group(path: Path) -> dict[str, Any]:
    return recorded_group(path, "output", "reward", "finish")


def _as_drawn(answer: Mapping[str, Any], where: str) -> str:
    text: str = answer["output"]
    return Unfinished(text) if recorded_finish(answer, where) is Finish.LENGTH else text


def _rows(source: str, key: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"{key}: no file {source}")
    for number, row in enumerate(read_json_rows(path), 1):
        if not isinstance(row, Mapping):
            raise DataError(f"{path}, row {number}: must be a mapping, not {shown(row)}")
        yield row, f"{path}, row {number}"


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{place}, field {name!r}: must be text, not {shown(value)}")
    return value


def _of(
    found: Mapping[str, list[tuple[Any, ...]]], samples: Sequence[Sample], key: str
) -> dict[str, list[tuple[Any, ...]]]:
    """Those of the run's samples; others are counted and said."""
    known = {sample.id for sample in samples}
    kept = {id_: answers for id_, answers in found.items() if id_ in known}
    if not kept:
        raise DataError(f"{key}: none of the {len(samples)} training samples has an answer there")
    strangers, silent = len(found) - len(kept), len(known) - len(kept)
    if strangers or silent:
        log.warning(
            "%s: %d samples are learnt from; %d have no answer, %d answers are of no sample",
            key, len(kept), silent, strangers,
        )  # fmt: skip
    return kept
