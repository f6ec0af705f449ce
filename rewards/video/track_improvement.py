"""How much better the prediction's boxes are than those of the thinking (STVG-o1's R_k)."""

from __future__ import annotations

from collections.abc import Sequence

from vlrl.errors import ConfigError
from vlrl.protocols import Reward
from vlrl.types import Rollout
from vlrl.video.track_reward import SpatialOptions, TrackReward, spatial_score


class TrackImprovement(TrackReward):
    """max(R_spa(final) - R_spa(think), 0).

    Its weight in a sum must be below that of the thinking boxes' own `track_spatial`: with as much
    or more, spoiling the thinking is free or pays. A sum without that term is refused too.
    """

    Options = SpatialOptions
    options: SpatialOptions
    formula = "max(R_spa(final) - R_spa(think), 0)"
    range = (0.0, 3.0)
    units = "the unit frame"
    source = "STVG-o1 (arXiv 2511.21375), R_k, there with the weight lambda_k = 0.5"
    name = "track_improvement"

    def __init__(self, options: SpatialOptions) -> None:
        super().__init__(options)
        low, high = options.range
        self.range = (0.0, high - low)

    def value(self, rollout: Rollout) -> float | None:
        """The gain in the spatial score, 0 where there is none."""
        think = spatial_score(rollout, "think", self.options)
        final = spatial_score(rollout, "final", self.options)
        return None if think is None or final is None else max(final - think, 0.0)

    def check_weight(self, weight: float, others: Sequence[tuple[float, Reward]]) -> None:
        """Raise ConfigError where this weight makes bad thinking boxes pay."""
        thinking = sum(
            other
            for other, reward in others
            if isinstance(reward, TrackReward) and reward.options.scored_track == "think"
        )
        if weight >= thinking:
            raise ConfigError(
                f"{self.name} has the weight {weight:g}, the thinking boxes' own track_spatial "
                f"{thinking:g}: spoiling the thinking would cost nothing; the weight must be "
                "below it (STVG-o1: 0.5 and 1)"
            )
