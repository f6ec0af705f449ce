"""Sizes of models by their hub names, for plans on machines that do not have them.

`configs/architectures/<owner>/<model>.json` holds what their own config.json files say of layers
and widths; nothing is ever loaded by these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlrl.config.shipped import shipped_folder


def shipped_architecture(model: str) -> Mapping[str, Any] | None:
    """The sizes of a model that comes with a recipe; None for any other name."""
    known = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for folder in [shipped_folder("configs") / "architectures"]
        for file in folder.rglob("*.json")
    }
    return read_json(known[model]) if model in known else None


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object; raises ValueError for anything else."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path}: must be an object, not {type(found).__name__}")
    return found
