"""Whose tokens get which reward, where the task finds the stages in what was written."""

from __future__ import annotations

from functools import partial
from typing import Any

from vlrl.errors import ConfigError
from vlrl.protocols import Task


def in_stages(policy: Any, task: Task, trajectory: Any, num_stages: int) -> Any:
    """The trajectory with the stage of every action; ConfigError where task or policy can't say."""
    starts, staged = getattr(task, "stage_starts", None), getattr(policy, "staged", None)
    if starts is None or staged is None:
        raise ConfigError(
            "reward: one of several stages needs answers that have stages: of voxel_tokens with "
            "policy.refine, or of a task that finds them in a text (video_grounding)"
        )
    return staged(trajectory, partial(starts, num_stages=num_stages))
