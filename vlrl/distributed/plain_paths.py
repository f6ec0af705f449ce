"""A folder under another path: DeepSpeed reads paths as patterns, and a run may be called `[a]`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def plain_path(folder: str | Path) -> Iterator[Path]:
    """Inside, a link to the folder whose path no pattern can misread."""
    with tempfile.TemporaryDirectory() as place:
        link = Path(place) / "folder"
        link.symlink_to(Path(folder).resolve(), target_is_directory=True)
        yield link
