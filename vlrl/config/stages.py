"""The run's config as each stage of its curriculum has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlrl.config.algo import AlgoConfig
from vlrl.config.curriculum import StageConfig
from vlrl.config.loader import merge
from vlrl.config.resolve import check, plain
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, did_you_mean

RATIOS = ("clip", "gspo", "cispo")
"""Objectives that one policy can change between."""
CHANGES = frozenset(
    {
        "advantage", "population_std", "advantage_eps", "advantage_clip", "objective", "clip",
        "old_logp", "rollout_correction", "aggregate", "constant_length", "stage_carry", "kl_beta",
        "entropy_coef", "drop_zero_variance", "resample_rounds", "mask_truncated", "difficulty",
    }
)  # fmt: skip
"""Keys of `algo` that each step reads anew."""
FIXED: Mapping[str, str] = {
    "num_prompts": "the plan of the GPUs' memory and the division over ranks rest on it",
    "group_size": "the plan of the GPUs' memory rests on it",
    "num_epochs": "the schedule of the learning rate counts its steps",
    "num_minibatches": "the schedule of the learning rate counts its steps",
    "kl_estimator": "the policy is built with it",
    "nft": "the policy is built with it",
    "balance": "what it has learnt belongs to one objective",
}
"""Why others cannot change."""


def stage_configs(config: RunConfig) -> list[tuple[str, RunConfig]]:
    """Place and config of every stage, checked as a run's is; ConfigError that names the place."""
    return [
        (f"curriculum.{number}", _staged(config, stage, f"curriculum.{number}"))
        for number, stage in enumerate(config.curriculum)
    ]


def _staged(config: RunConfig, stage: StageConfig, place: str) -> RunConfig:
    _check_keys(config, stage.algo, f"{place}.algo")
    changed: dict[str, Any] = {"curriculum": []}
    if stage.reward is not None:
        changed["reward"] = stage.reward
    if stage.algo:
        changed["algo"] = merge(plain(config.algo), stage.algo)
    try:
        staged = check(RunConfig, {**plain(config), **changed})
    except ConfigError as error:
        lines = (f"{place}: {line}" for line in str(error).splitlines())
        raise ConfigError("\n".join(lines)) from error
    _check_values(config.algo, staged.algo, f"{place}.algo")
    return staged


def _check_keys(config: RunConfig, over: Mapping[str, Any], place: str) -> None:
    for key in over:
        if key not in AlgoConfig.model_fields:
            hint = did_you_mean(str(key), AlgoConfig.model_fields)
            raise ConfigError(f"unknown key '{place}.{key}'; {hint}")
        if key not in CHANGES and over[key] != plain(config.algo)[key]:
            why = FIXED.get(key, "it is fixed when the run starts")
            raise ConfigError(f"{place}.{key}: cannot change in the middle of a run: {why}")


def _check_values(run: AlgoConfig, stage: AlgoConfig, place: str) -> None:
    if run.objective != stage.objective and not {run.objective, stage.objective} <= set(RATIOS):
        raise ConfigError(
            f"{place}.objective: cannot change from {run.objective} to {stage.objective} in the "
            f"middle of a run; only {', '.join(RATIOS)} can follow each other"
        )
    if stage.kl_beta and not run.kl_beta:
        raise ConfigError(
            f"{place}.kl_beta: must be 0 where algo.kl_beta is, since the reference policy is made "
            "at the start; set algo.kl_beta, and 0 in the stages without"
        )
