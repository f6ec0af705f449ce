"""Answers on disk, appended as they come, so that a killed run resumes where it was.

Each rank appends to `answers.rank<r>.jsonl`; a resumed run reads them all, whatever the number of
ranks then and now. `run.json` keeps what the answers depend on: another setting is another run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vlrl.data.fields import shown
from vlrl.data.json_file import read_json, read_json_rows
from vlrl.errors import ConfigError, DataError, first_line, writing

SHARDS = "answers.rank*.jsonl"
AGAIN = "remove the line, and its item is asked again"
Answer = TypeVar("Answer")


class Store:
    """The answers of one run folder."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.path = folder / f"answers.rank{rank}.jsonl"

    def open(self, settings: Mapping[str, Any]) -> None:
        """Start, or resume with the same settings; ConfigError names one that differs.

        From here on no other process may write to the folder; ConfigError where one does.
        """
        from vlrl.train.lock import RunLock  # imports torch

        self.folder.mkdir(parents=True, exist_ok=True)
        RunLock(self.folder).acquire()
        file = self.folder / "run.json"
        # Through JSON, so that tuples and paths compare as they will be read.
        now = json.loads(json.dumps(settings, default=str))
        if file.is_file():
            before = read_json(file)
            if not isinstance(before, dict):
                raise DataError(f"{file}: must be an object of settings; choose another --out")
            for name in sorted({*now, *before}):
                if now.get(name) != before.get(name):
                    raise ConfigError(
                        f"{self.folder} holds answers with {name} = {before.get(name)!r}, this "
                        f"run has {now.get(name)!r}; choose another --out"
                    )
            return
        partial = file.with_suffix(".partial")
        with writing(partial):
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
                with writing(partial):
                    partial.write_bytes(whole)
                partial.replace(path)
                cut += 1
        return cut

    def rows(
        self, known: Container[str], read: Callable[[dict[str, Any]], Answer]
    ) -> Iterator[tuple[str, Answer]]:
        """The id and the answer of every line so far.

        read: a line's answer; its KeyError, TypeError or ValueError says that the line is no such
        answer. Raises DataError for such a line, and for one of an item that this set lacks.
        """
        for path in sorted(self.folder.glob(SHARDS)):
            for number, row in enumerate(read_json_rows(path), start=1):
                where = f"{path}, line {number}"
                own = row.get("id") if isinstance(row, dict) else None
                if not isinstance(own, str):
                    raise DataError(f"{where}: must be an object with the `id` of an item; {AGAIN}")
                if own not in known:
                    raise DataError(f"{where}: no item {shown(own)} in this set")
                try:
                    answer = read(row)
                except (KeyError, TypeError, ValueError) as error:
                    why = f"{type(error).__name__}: {shown(first_line(error))}"
                    raise DataError(f"{where}: not an answer ({why}); {AGAIN}") from error
                yield own, answer

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add lines and flush them, so that a kill loses none of them."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
