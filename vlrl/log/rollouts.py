"""The best and the worst answer of some groups, with images: what the model really does."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlrl.log.answer_images import SMALL_PX, save_answers
from vlrl.protocols import Task
from vlrl.types import Rollout

MAX_ANSWER_IMAGES = 10
"""Of a group whose answers are images; the best and the worst are among them."""
MAX_ANSWER_HEIGHT_PX = SMALL_PX


def record_groups(
    folder: Path,
    step: int,
    task: Task,
    rollouts: Sequence[Rollout],
    num_groups: int,
    stage: str = "",
) -> None:
    """Write `rollouts/step-000010/group-<n>.json` and its image for the first groups.

    Answers that are images stand by themselves too, in `group-<n>/`, from best to worst.
    stage: of the curriculum, if there is one.
    """
    out = folder / "rollouts" / f"step-{step:06d}"
    out.mkdir(parents=True, exist_ok=True)
    groups: dict[int, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.group, []).append(rollout)
    # Groups whose answers differ most have the most to show.
    order = sorted(groups, key=lambda g: -_spread(groups[g]))[:num_groups]
    for number, g in enumerate(order):
        members = sorted(groups[g], key=_value, reverse=True)
        record = {
            "step": step,
            **({"stage": stage} if stage else {}),
            "sample": members[0].sample.id,
            "prompt": members[0].sample.texts,
            "answers": [_describe(rollout) for rollout in members],
        }
        path = out / f"group-{number}.json"
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
        image = task.draw(members[0].sample, [members[0], members[-1]])
        if image is not None:
            image.save(out / f"group-{number}.webp", quality=85)
        shown = {place: members[place] for place in _places(len(members))}
        save_answers(out / f"group-{number}", task, members[0].sample, shown, MAX_ANSWER_HEIGHT_PX)


def _places(num: int) -> list[int]:
    """First, last and evenly spaced places between, MAX_ANSWER_IMAGES at most."""
    if num <= MAX_ANSWER_IMAGES:
        return list(range(num))
    last = MAX_ANSWER_IMAGES - 1
    return [round(i * (num - 1) / last) for i in range(MAX_ANSWER_IMAGES)]


def _describe(rollout: Rollout) -> dict[str, Any]:
    score = rollout.score
    return {
        "output": rollout.output if isinstance(rollout.output, str) else None,
        "reward": None if score is None else score.value,
        "parts": {} if score is None else dict(score.parts),
        "advantage": rollout.advantage,
        "finish": rollout.finish.value,
        "num_actions": rollout.num_actions,
        "begun_after_step": rollout.begun,
        "policy_version": rollout.policy_version,
        "last_version": rollout.last_version,
    }


def _value(rollout: Rollout) -> float:
    score = rollout.score
    return -math.inf if score is None or score.value is None else score.value


def _spread(members: Sequence[Rollout]) -> float:
    values = [v for v in map(_value, members) if math.isfinite(v)]
    return max(values) - min(values) if values else 0.0
