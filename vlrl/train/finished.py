"""The mark of a run that has done all it was asked to: a stopped run ends with status 0 as well."""

from __future__ import annotations

from pathlib import Path

from vlrl.errors import writing

FILE = "finished"


def mark_finished(folder: Path, step: int) -> None:
    """Write the file that says so; the main rank calls this last."""
    with writing(folder):
        (folder / FILE).write_text(f"step {step}\n", encoding="utf-8")


def mark_unfinished(folder: Path) -> None:
    """Remove it, when a run begins or goes on."""
    (folder / FILE).unlink(missing_ok=True)
