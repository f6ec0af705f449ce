"""A stage as it runs: its reward, its algorithm and its options."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlrl.config.curriculum import StageConfig
from vlrl.config.schema import AlgoConfig
from vlrl.errors import ConfigError
from vlrl.protocols import Reward

REWARD = "reward"
"""`sampler.success` of the reward itself."""


@dataclass(frozen=True)
class Stage:
    """What holds in a stage; the only one of a run without a curriculum has no options."""

    reward: Reward
    algo: AlgoConfig
    options: StageConfig | None = None
    place: str = ""
    """In the config."""

    @property
    def name(self) -> str:
        """Empty without a curriculum."""
        return "" if self.options is None else self.options.name

    @property
    def success(self) -> str | None:
        """What its sampler takes for success; None where it is not adaptive."""
        if self.options is None or self.options.sampler.kind != "adaptive":
            return None
        return self.options.sampler.success

    def check(self) -> None:
        """Raise ConfigError where success is a reward of which nobody knows what success is."""
        if self.success == REWARD and not all(map(math.isfinite, self.reward.range)):
            low, high = self.reward.range
            raise ConfigError(
                f"{self.place}.sampler.success: the reward has the range [{low:g}, {high:g}], so "
                "its middle is not known; name a metric of the task that is 0 to 1, e.g. right"
            )
