"""Do the metrics that stages look at exist? Asked as early as it can be known."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vlrl.errors import ConfigError, did_you_mean
from vlrl.protocols import Task
from vlrl.reward.parts import leaves
from vlrl.train.curriculum.stage import REWARD, Stage

OF_TRAINER = ("num_actions", "truncated", "unparsed", "staleness")
"""What the trainer itself logs as `rollout/`."""
OF_REWARD = ("reward/", "reward_health/", "trainable_reward/")
AT_TIMES = ("canary/", "filter/resampled_groups")
"""What not every step has."""


def check_known(stage: Stage, task: Task) -> None:
    """Before anything is sampled: raise ConfigError for what is no metric of the task."""
    names = list(task.metrics([]))
    if stage.options is None or not names:
        return
    if stage.success not in (None, REWARD, *names):
        raise ConfigError(
            f"{stage.place}.sampler.success: {stage.success!r} is neither `reward` nor a metric of "
            f"the task; {did_you_mean(str(stage.success), names)}"
        )
    for key, name in stage.options.exit.metrics if stage.options.exit else ():
        own = name.removeprefix("rollout/")
        if own != name and own not in (*names, *OF_TRAINER):
            known = [f"rollout/{one}" for one in (*names, *OF_TRAINER)]
            raise ConfigError(
                f"{stage.place}.exit.{key}: the task has no metric {own!r}; "
                f"{did_you_mean(name, known)}"
            )


def check_seen(stages: Sequence[Stage], number: int, metrics: Collection[str], task: Task) -> None:
    """After the first step of a stage: raise ConfigError for metrics that it does not have.

    Those of later stages are looked for too, but for those of a reward that is not in use yet.
    """
    for later, stage in enumerate(stages[number:], start=number):
        assert stage.options is not None
        is_new = later > number and stage.options.reward is not None
        known = {*metrics, *_expected(stage, task)}
        for key, name in stage.options.exit.metrics if stage.options.exit else ():
            if name in known or name.startswith(AT_TIMES):
                continue
            if is_new and name.startswith(OF_REWARD):
                continue
            raise ConfigError(
                f"{stage.place}.exit.{key}: a step has no metric {name!r}; "
                f"{did_you_mean(name, known)} (the metrics are {', '.join(sorted(known))})"
            )


def _expected(stage: Stage, task: Task) -> set[str]:
    """Metrics that a step may lack because they applied to none of its answers."""
    of_task = (*task.metrics([]), *task.main_metrics)
    of_reward = [leaf.name for leaf in leaves(stage.reward)]
    return {f"rollout/{one}" for one in of_task} | {f"reward/{one}" for one in of_reward}
