"""`vlrl.json` next to a checkpoint: how its model is asked and how its answers are read.

Training writes it with the exported weights, and evaluation takes its defaults from it, so that a
model is evaluated the way it was trained without repeating the options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlrl.protocols import PolicyOptions, Task

FILE = "vlrl.json"


def recipe_of(task: Task, options: PolicyOptions, precision: str) -> dict[str, Any] | None:
    """What task and policy say of their model; None where the task has nothing to say."""
    asked = task.recipe()
    return {**asked, **options.recipe(), "precision": precision} if asked else None


def write_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write `vlrl.json` into a checkpoint's folder."""
    text = json.dumps(recipe, indent=2, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
