"""Is a reward still worth following? Metrics of every reward, and of canaries never trained on.

    reward_health/<name>_group_std       mean standard deviation in groups: 0 teaches nothing
    reward_health/<name>_zero_variance   share of groups in which all values are equal
    reward_health/<name>_saturated       share of values within 1 % of an end of the declared range
    canary/<name>                        mean of the canary on the training rollouts
    canary/<name>_agreement              share of a group's pairs that both rank alike
    canary/<name>_gain                   gain on it from picking the reward's best of a group
    canary/<name>_gap                    the same gain on the reward itself, minus that

Gains are in standard deviations inside the group. Where the reward stands for what the canary
sees, the gap is near 0; where it has come apart from it the gap nears the reward's own gain, and
grows beyond it when the two pull against each other. RewardDance (arXiv 2509.08826) names the
deviation of late rewards as the sign of health; agreement and gap are ours.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from vlrl.errors import RewardError
from vlrl.log.metrics import Meter
from vlrl.protocols import Reward
from vlrl.reward.parts import leaves
from vlrl.types import Rollout

log = logging.getLogger(__name__)

TOLERANCE = 1e-6
EDGE = 0.01
MAX_IDLE_STEPS = 5


class IdleWatch:
    """Ends a run whose reward applies to nothing: such a run would learn nothing to its end.

    Steps in which a reward rests on purpose (`policy_learns` is False) do not count.
    """

    def __init__(self) -> None:
        self.num_idle_steps = 0

    def rests(self, reward: Reward) -> bool:
        """Whether a part of the reward leaves this step's answers unscored on purpose."""
        return not all(leaf.policy_learns for leaf in leaves(reward))

    def see(
        self, reward: Reward, step: int, not_applicable: float, sample_id: str, is_main: bool
    ) -> None:
        """not_applicable: share of the answers of a step, over all ranks.

        Raises RewardError after MAX_IDLE_STEPS steps in a row in which it is 1, on every rank.
        """
        if not_applicable < 1.0:
            self.num_idle_steps = 0
            return
        self.num_idle_steps += 1
        names = ", ".join(leaf.name for leaf in leaves(reward))
        if self.num_idle_steps >= MAX_IDLE_STEPS:
            needs = ", ".join(sorted(reward.needs)) or "nothing"
            raise RewardError(
                f"the reward ({names}) applied to none of the answers of the last "
                f"{self.num_idle_steps} steps (the last one began with sample {sample_id}), so "
                f"nothing is learnt. It needs {needs}: does the data have it for these samples?"
            )
        if is_main:
            log.warning("the reward (%s) applied to no answer of step %d", names, step)


def record_health(meter: Meter, reward: Reward | None, rollouts: Sequence[Rollout]) -> None:
    """Spread and saturation of every part of the reward, group by group."""
    ranges = {leaf.name: leaf.range for leaf in leaves(reward)} if reward else {}
    for name, groups in _columns(rollouts).items():
        stds = [float(np.std(values, ddof=1)) for values in groups if len(values) > 1]
        meter.add(f"reward_health/{name}_group_std", stds)
        meter.add(f"reward_health/{name}_zero_variance", [std <= TOLERANCE for std in stds])
        if name in ranges:
            values = [value for group in groups for value in group]
            meter.add(f"reward_health/{name}_saturated", saturated(values, ranges[name]))


def _columns(rollouts: Sequence[Rollout]) -> dict[str, list[list[float]]]:
    """Values by part and group; a rollout without a part is left out there."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rollout in rollouts:
        if rollout.score is not None and rollout.score.value is not None:
            for name, value in rollout.score.parts.items():
                found[name][rollout.group].append(value)
    return {name: list(groups.values()) for name, groups in found.items()}


def saturated(values: Sequence[float], interval: tuple[float, float]) -> list[bool]:
    """Which values lie within 1 % of an end; nothing is near an end that is infinite."""
    low, high = interval
    if not math.isfinite(low) or not math.isfinite(high):
        return [False] * len(values)
    edge = EDGE * (high - low)
    return [value <= low + edge or value >= high - edge for value in values]


def record_canary(
    meter: Meter, name: str, canary: Sequence[float], rollouts: Sequence[Rollout]
) -> None:
    """Compare a canary's values (nan = does not apply) with the rewards of the same rollouts."""
    groups: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for value, rollout in zip(canary, rollouts, strict=True):
        reward = None if rollout.score is None else rollout.score.value
        if reward is not None and not math.isnan(value):
            groups[rollout.group].append((reward, value))
    meter.add(f"canary/{name}", [value for value in canary if not math.isnan(value)])
    for pairs in groups.values():
        rewards, values = np.array(pairs, dtype=np.float64).T
        meter.add(f"canary/{name}_agreement", agreement(rewards, values))
        own, theirs = gain(rewards, rewards), gain(rewards, values)
        if own is not None and theirs is not None:
            meter.add(f"canary/{name}_gain", [theirs])
            meter.add(f"canary/{name}_gap", [own - theirs])


def agreement(first: np.ndarray, second: np.ndarray) -> list[float]:
    """1 for each pair that both order alike, 0 otherwise; pairs that either calls equal are left
    out."""
    i, j = np.triu_indices(len(first), 1)
    signs = np.sign(first[i] - first[j]) * np.sign(second[i] - second[j])
    return [float(sign > 0) for sign in signs if sign != 0]


def gain(chosen_by: np.ndarray, value: np.ndarray) -> float | None:
    """Value of the best by `chosen_by` over the mean, in standard deviations; None without spread.

    Equally good ones count with their mean.
    """
    if len(value) < 2 or np.std(chosen_by) <= TOLERANCE:
        return None
    std = float(np.std(value, ddof=1))
    if std <= TOLERANCE:
        return 0.0
    best = value[chosen_by == chosen_by.max()].mean()
    return float((best - value.mean()) / std)
