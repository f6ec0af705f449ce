"""From a checked config to the stages of its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vlrl.config.schema import RunConfig
from vlrl.config.stages import stage_configs
from vlrl.errors import ConfigError
from vlrl.protocols import Reward
from vlrl.train.curriculum.stage import Stage

Build = Callable[[RunConfig, Mapping[str, Any], str], Reward]
"""(config, node, place in the config) -> reward."""
Check = Callable[[RunConfig, Reward, str], None]
"""(the stage's config, its reward, the reward's place): raises ConfigError."""


def read_stages(config: RunConfig, reward: Reward, build: Build, check: Check) -> tuple[Stage, ...]:
    """The stages in order, one that says nothing where there is no curriculum.

    A stage without a reward of its own shares the run's. ConfigError with the stage's place.
    """
    if not config.curriculum:
        return (Stage(reward, config.algo),)
    stages = []
    for (place, staged), options in zip(stage_configs(config), config.curriculum, strict=True):
        own, where = reward, "reward"
        if options.reward is not None:
            where = f"{place}.reward"
            own = build(staged, options.reward, where)
        try:
            if own is not reward or options.algo:
                check(staged, own, where)
        except ConfigError as error:
            told = str(error)
            raise ConfigError(told if told.startswith(place) else f"{place}: {told}") from error
        stage = Stage(own, staged.algo, options, place)
        stage.check()
        stages.append(stage)
    return tuple(stages)
