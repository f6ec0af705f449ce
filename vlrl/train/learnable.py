"""Combinations of reward, algorithm and policy that nothing can be learnt with."""

from __future__ import annotations

from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError
from vlrl.protocols import PolicyOptions, Reward
from vlrl.reward.combinators.combine import Sum
from vlrl.reward.tree import min_stages


def check_terms(config: RunConfig, reward: Reward) -> None:
    """Refuse gdpo where there is nothing to normalise one by one, and balance of several stages."""
    if config.algo.objective == "trajectory_balance" and reward.num_stages > 1:
        raise ConfigError(
            "algo.objective: trajectory_balance has one loss per answer, and `reward` is one of "
            "several stages; take it out of `stages`"
        )
    if config.algo.advantage != "gdpo":
        return
    if not isinstance(reward, Sum) or len(reward.children) < 2:
        raise ConfigError(
            "algo.advantage: gdpo normalises the rewards of a sum one by one, so `reward` must be "
            f"a `sum` of two or more; it is {reward.name!r}"
        )


def check_dropout(config: RunConfig, options: PolicyOptions) -> None:
    """Refuse dropout where a ratio compares two passes: it would not be 1 for equal weights."""
    algo = config.algo
    if options.has_dropout and (algo.num_steps_each > 1 or algo.old_logp == "rollout"):
        raise ConfigError(
            "policy.lora.dropout: ratios compare two passes with different dropout, so they are "
            "not 1 for equal weights; set it to 0, or take one step a batch "
            "(algo.num_epochs and algo.num_minibatches 1, algo.old_logp: recompute)"
        )


def check_num_stages(where: str, reward: Reward, policy: str, options: PolicyOptions) -> None:
    """Refuse a reward that asks for more stages than an answer has."""
    asked = min_stages(reward)
    has = options.num_stages
    if asked > has:
        raise ConfigError(
            f"{where}: asks for {asked} stages of an answer, those of policy {policy!r} have "
            f"{has}; stages come from voxel_tokens with policy.refine"
        )
