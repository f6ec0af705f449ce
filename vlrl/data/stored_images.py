"""Images that a table holds as bytes: written out once, named by their content."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from vlrl.errors import writing


def stored_image(data: bytes) -> str:
    """The path of a file with these bytes, written where there is none."""
    folder = Path.home() / ".cache" / "vlrl" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / sha256(data).hexdigest()
    if not file.is_file():
        partial = file.with_suffix(f".{os.getpid()}.partial")
        with writing(partial):
            partial.write_bytes(data)
        partial.replace(file)  # atomic, also when two ranks write it
    return str(file)
