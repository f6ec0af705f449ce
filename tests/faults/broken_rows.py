"""Broken tables: what is read must be what the damaged file says, or an error with its place.

A flipped digit makes another number, which nothing can tell from a meant one; so each file is also
read by an oracle of a few lines, and a value that is not the oracle's is a wrong one.
"""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

from broken_media import image_bytes, video_bytes
from damage import damaged
from row_records import RECORDS
from row_tables import TABLES, Values
from trying import Case, Outcome

KINDS = {**TABLES, **RECORDS}


def row_file(folder: Path, number: int, rng: random.Random) -> Case:
    """A broken table."""
    name = list(KINDS)[number % len(KINDS)]
    kind = KINDS[name]
    others = [b"PK\x03\x04", image_bytes("png"), base64.b64encode(image_bytes("png")), b"a: 1\n"]
    how, data = damaged(kind.text(), rng, others, is_text=name != "parquet")
    for file, content in (("good.png", image_bytes("png")), ("bad.png", image_bytes("png")),
                          ("clip.mkv", video_bytes(folder, "mkv"))):  # fmt: skip
        if not (folder / file).exists():
            (folder / file).write_bytes(content)
    path = folder / f"{number}{kind.name}"
    whole = folder / kind.name

    def run() -> Outcome:
        if not whole.exists():
            whole.write_bytes(kind.text())
        path.write_bytes(data)
        found = _comparable(kind.read(path), path, number)
        if found == _comparable(kind.read(whole), whole, None):
            return "same"
        try:
            said = _comparable(kind.oracle(path), path, number)
        except Exception as error:
            raise AssertionError(f"read as {found}, but it says nothing: {error!r}") from error
        if found == said:
            return "other"
        raise AssertionError(f"read as {found}, but it says {said}")

    return Case(f"{name}, {how}", run, path.stem)


def _comparable(values: Values, path: Path, number: int | None) -> Any:
    """Through JSON, so that tuples equal lists; names of files are those of the whole one."""
    text = json.dumps(values)
    own = path.stem.removeprefix("" if number is None else str(number))
    return json.loads(text.replace(path.stem, own))
