"""Answers on disk, appended as they come, so that a killed run resumes where it was.

Each rank appends to `answers.rank<r>.jsonl`; a resumed run reads them all, whatever the number of
ranks then and now. `run.json` keeps what the answers depend on: another setting is another run.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlrl.data.json_file import read_json_rows
from vlrl.errors import ConfigError, DataError

SHARDS = "answers.rank*.jsonl"


class Store:
    """The answers of one run folder."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.path = folder / f"answers.rank{rank}.jsonl"

    def open(self, settings: Mapping[str, Any]) -> None:
        """Start, or resume with the same settings; ConfigError names one that differs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "run.json"
        # Through JSON, so that tuples and paths compare as they will be read.
        now = json.loads(json.dumps(settings, default=str))
        if file.is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            for name in sorted({*now, *before}):
                if now.get(name) != before.get(name):
                    raise ConfigError(
                        f"{self.folder} holds answers with {name} = {before.get(name)!r}, this "
                        f"run has {now.get(name)!r}; choose another --out"
                    )
            return
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(now, indent=2, ensure_ascii=False), encoding="utf-8")
        partial.replace(file)

    def drop_cut_lines(self) -> int:
        """Remove the last line of shards where a kill cut it; returns how many."""
        cut = 0
        for path in sorted(self.folder.glob(SHARDS)):
            data = path.read_bytes()
            if data and not data.endswith(b"\n"):
                whole = data[: data.rfind(b"\n") + 1]
                partial = path.with_suffix(".partial")
                partial.write_bytes(whole)
                partial.replace(path)
                cut += 1
        return cut

    def rows(self, known: Container[str]) -> Iterator[dict[str, Any]]:
        """All lines so far; raises DataError for one of an item that this set does not have."""
        for path in sorted(self.folder.glob(SHARDS)):
            for number, row in enumerate(read_json_rows(path), start=1):
                if row["id"] not in known:
                    raise DataError(f"{path}, line {number}: no item {row['id']!r} in this set")
                yield row

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add lines and flush them, so that a kill loses none of them."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
