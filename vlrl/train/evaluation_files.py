"""What an evaluation leaves on disk: every answer, the summary, and pictures of some answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlrl.protocols import Task
from vlrl.types import Rollout

NUM_PICTURES = 12


def write_evaluation(
    folder: Path,
    split: str,
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    task: Task,
    rollouts: Sequence[Rollout],
) -> None:
    """`<split>.jsonl`, `<split>.json` and `pictures/<split>-<n>.webp`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    (folder / f"{split}.json").write_text(text, encoding="utf-8")
    pictures = folder / "pictures"
    # The same samples every time, so that before and after can be laid side by side.
    step = max(1, len(rollouts) // NUM_PICTURES)
    for number, rollout in enumerate(list(rollouts)[::step][:NUM_PICTURES]):
        image = task.picture(rollout.sample, [rollout])
        if image is None:
            continue
        pictures.mkdir(exist_ok=True)
        image.save(pictures / f"{split}-{number:02d}.webp", quality=85)
        caption = {
            "id": rollout.sample.id,
            "output": rollout.output if isinstance(rollout.output, str) else None,
            "prompt": " ".join(rollout.sample.texts),
        }
        path = pictures / f"{split}-{number:02d}.json"
        path.write_text(json.dumps(caption, ensure_ascii=False), encoding="utf-8")
