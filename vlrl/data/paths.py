"""Paths that data names, below a folder or anywhere."""

from __future__ import annotations

import os
from pathlib import Path

from vlrl.data.fields import shown
from vlrl.errors import DataError

MAX_PATH_CHARS = 4000
MAX_NAME_BYTES = 255
"""Of one name in a path: what file systems take. Looking up a longer one is an error of theirs."""


def path_below(root: Path, name: str, where: str, *, within: bool) -> Path:
    """The path that a row names, relative to `root` or absolute.

    within: raise DataError for one that leads out of `root`: absolute, by `..`, or by a link.
    """
    path = root / name
    if "\0" in name:
        raise DataError(f"{where}: a path has no NUL character; correct the row")
    if len(name) > MAX_PATH_CHARS or any(len(os.fsencode(p)) > MAX_NAME_BYTES for p in path.parts):
        raise DataError(f"{where}: {shown(name)} is too long for a path; correct the row")
    if within and not path.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{where}: {shown(name)} leads out of {root}; correct the row, or allow it with "
            "`within_root: false`"
        )
    return path
