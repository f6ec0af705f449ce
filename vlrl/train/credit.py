"""Whose tokens get which reward, where the task finds the stages in what was written."""

from __future__ import annotations

from functools import partial

from vlrl.errors import ConfigError
from vlrl.protocols import Policy, T, Task


def in_stages(policy: Policy[T], task: Task, trajectory: T, num_stages: int) -> T:
    """The trajectory with the stage of every action; ConfigError where task or policy can't say."""
    if not task.finds_stages:
        raise ConfigError(
            "reward: one of several stages needs answers that have stages: of voxel_tokens with "
            "policy.refine, or of a task that finds them in a text (video_grounding)"
        )
    return policy.in_stages(trajectory, partial(task.stage_starts, num_stages=num_stages))
