"""What an evaluation leaves on disk: every answer, the summary, and images of some answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlrl.log.answer_images import SMALL_PX, save_answers
from vlrl.protocols import Task
from vlrl.types import Rollout

NUM_IMAGES = 12
NUM_SMALL_IMAGES = 24
MAX_ANSWER_HEIGHT_PX = 384


def write_evaluation(
    folder: Path,
    split: str,
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    task: Task,
    rollouts: Sequence[Rollout],
) -> None:
    """`<split>.jsonl`, `<split>.json` and `images/<split>-<n>.webp`.

    Answers that are images stand by themselves too, in `images/<split>-<n>/`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    (folder / f"{split}.json").write_text(text, encoding="utf-8")
    images = folder / "images"
    # The same samples every time, so that before and after can be laid side by side.
    limit = _num_images(task, rollouts)
    step = max(1, len(rollouts) // limit)
    for number, rollout in enumerate(list(rollouts)[::step][:limit]):
        image = task.draw(rollout.sample, [rollout])
        if image is None:
            continue
        images.mkdir(exist_ok=True)
        name = f"{split}-{number:02d}"
        image.save(images / f"{name}.webp", quality=85)
        save_answers(images / name, task, rollout.sample, {0: rollout}, MAX_ANSWER_HEIGHT_PX)
        task.save_files(rollout, images / name)
        caption = {
            "id": rollout.sample.id,
            "output": rollout.output if isinstance(rollout.output, str) else None,
            "prompt": " ".join(rollout.sample.texts),
        }
        path = images / f"{name}.json"
        path.write_text(json.dumps(caption, ensure_ascii=False), encoding="utf-8")


def is_evaluated(folder: Path, splits: Sequence[str]) -> bool:
    """Whether the folder holds the evaluation of every split."""
    return all((folder / f"{split}.json").is_file() for split in splits)


def _num_images(task: Task, rollouts: Sequence[Rollout]) -> int:
    """More where the first image is a small one."""
    images = (task.draw(rollout.sample, [rollout]) for rollout in rollouts)
    first = next((image for image in images if image is not None), None)
    return NUM_IMAGES if first is None or first.height >= SMALL_PX else NUM_SMALL_IMAGES
