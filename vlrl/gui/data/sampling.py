"""GUI-G2's dataset YAML: several JSON files, each with a sampling strategy."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from pathlib import Path

from vlrl.config.yaml_text import parse_yaml
from vlrl.errors import ConfigError, DataError

SEED = 42
"""Seed of `random:N`; GUI-G2 draws from the unseeded generator, which cannot be repeated."""

_STRATEGY = re.compile(r"(first|end|random):([0-9]{1,9})(%?)")


def dataset_yaml(path: Path) -> list[tuple[Path, str]]:
    """(data file, strategy) of every entry of `datasets:`; raises DataError.

    Source: GUI-G2's and VLM-R1's loader. A relative `json_path` begins at the YAML's folder.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    entries = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"{path}: field 'datasets' must be a list of {{json_path, sampling_strategy}}"
        )
    files = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("json_path"), str):
            raise DataError(f"{path}, dataset {number}: field 'json_path' must be a path")
        files.append((path.parent / entry["json_path"], str(entry.get("sampling_strategy", "all"))))
    return files


def sampled(count: int, strategy: str, where: str) -> Sequence[int]:
    """Indices of the rows that a strategy keeps, of `count`; a percentage rounds up.

    `all | first:N | end:N | random:N`, or with `N%`. Raises ConfigError on anything else.
    """
    if strategy == "all":
        return range(count)
    match = _STRATEGY.fullmatch(strategy)
    if match is None:
        raise ConfigError(
            f"{where}: sampling strategy {strategy!r} is none of all, first:N, end:N, random:N, "
            "first:P%, end:P%, random:P%"
        )
    kind, number, percent = match.groups()
    keep = math.ceil(count * int(number) / 100) if percent else int(number)
    keep = min(keep, count)
    if kind == "first":
        return range(keep)
    if kind == "end":
        return range(count - keep, count)
    return random.Random(SEED).sample(range(count), keep)
