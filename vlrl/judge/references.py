"""The file that says which images a caption's new images are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vlrl.errors import RewardError, VlrlError


def read_reference_cache(path: Path) -> Mapping[str, Sequence[Path]]:
    """Sample id to image files, from JSON lines {id, references}; RewardError.

    Paths are relative to the file.
    """
    from vlrl.data.json_file import read_json_rows

    try:
        rows = read_json_rows(path)
    except VlrlError as error:
        raise RewardError(f"{error}; `vlrl references` writes it") from error
    found: dict[str, list[Path]] = {}
    for number, row in enumerate(rows, start=1):
        names = row.get("references") if isinstance(row, Mapping) else None
        if (
            not isinstance(row, Mapping)
            or not isinstance(row.get("id"), str)
            or not isinstance(names, list)
            or not names
            or not all(isinstance(name, str) for name in names)
        ):
            raise RewardError(f"{path}, line {number}: needs `id` and a list `references`")
        images = [path.parent / name for name in names]
        for image in images:
            if not image.is_file():
                raise RewardError(f"{path}, line {number}: there is no image {image}")
        found[row["id"]] = images
    return found
