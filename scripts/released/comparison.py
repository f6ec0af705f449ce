"""One comparison: inputs from a seed, and the released function that answers them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from released.source import Source

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Answer: TypeAlias = Callable[[Json], Json]

MIN_ROWS = 200


@dataclass(frozen=True)
class Comparison:
    """What one table holds: `[input, released value]` in each row."""

    name: str
    repository: str
    """Owner and name."""
    commit: str
    file: str
    inputs: Callable[[random.Random], Sequence[Json]]
    released: Callable[[Source], Answer]

    def write(self, git_dir: Path, folder: Path) -> Path:
        """Writes the table.

        Raises:
            ValueError: fewer rows than a comparison needs.
        """
        answer = self.released(Source(git_dir, self.commit))
        rows = [[given, answer(given)] for given in self.inputs(random.Random(self.name))]
        if len(rows) < MIN_ROWS:
            raise ValueError(f"{self.name}: {len(rows)} rows, must be at least {MIN_ROWS}")
        head = {
            "repository": self.repository,
            "commit": self.commit,
            "file": self.file,
        }
        lines = ",\n".join(
            json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows
        )
        path = folder / f"{self.name}.json"
        path.write_text(
            json.dumps(head, ensure_ascii=False)[:-1] + ', "rows": [\n' + lines + "\n]}\n",
            encoding="utf-8",
        )
        return path
