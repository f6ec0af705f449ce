"""A reward is a tree of nodes, written in the config.

A leaf is a reward by name, `{use: name, weight: 1.0, <options>}`; any other node a combinator,
`{sum: [node, ...]}` or `{gate: {if: node, then: node, else: 0.0}}`. A node under `sum` or `mean`
may carry `weight`; any node may carry `label` (its name in the logs) and `allow` (rules that it
breaks on purpose, vlrl/reward/lint).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from numbers import Real

from pydantic import BaseModel

from vlrl.errors import ConfigError, RewardError, did_you_mean
from vlrl.protocols import Reward
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.functions import spec_of, validate_options
from vlrl.reward.lint.allowed import allowed_by
from vlrl.reward.node import reject_weight
from vlrl.reward.parts import walk
from vlrl.types import Rollout, Score

NODE_KEYS = ("weight", "label", "allow")
TOLERANCE = 1e-6
"""How far rounding may take a value out of its declared range, relative to the larger end."""


def build_reward(node: object, where: str = "reward") -> Reward:
    """The reward that a config node describes; raises ConfigError that names the place."""
    reject_weight(node, where)
    reward = build_node(node, where)
    for one in walk(reward):
        if one is not reward and (one.num_stages > 1 or one.only_root):
            raise ConfigError(
                f"{one.place or where}: {one.name!r} must be the root of the tree, not below it"
            )
    return reward


def build_node(node: object, where: str) -> Reward:
    """One node and what is below it; its `weight` is read by its parent."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"{where}: a reward node must be a mapping, not {node!r}")
    if "use" in node:
        leaf = _build_leaf(node, where)
        leaf.place, leaf.allowed = where, allowed_by(node, where)
        return leaf
    kinds = [key for key in node if key not in NODE_KEYS]
    if len(kinds) != 1:
        raise ConfigError(
            f"{where}: a reward node has `use:` or exactly one combinator "
            f"({', '.join(REGISTRY['combinator'])}); found {kinds}"
        )
    kind = kinds[0]
    if kind not in REGISTRY["combinator"] and ":" not in kind:
        known = [*REGISTRY["combinator"], "use"]
        raise ConfigError(f"{where}: unknown combinator {kind!r}; {did_you_mean(kind, known)}")
    reward: Reward = resolve("combinator", kind).from_config(
        node[kind], f"{where}.{kind}", build_node
    )
    if "label" in node:
        reward.label = str(node["label"])
    reward.place, reward.allowed = where, allowed_by(node, where)
    return reward


def _build_leaf(node: Mapping[str, object], where: str) -> Reward:
    name = node["use"]
    if not isinstance(name, str):
        raise ConfigError(f"{where}: `use:` takes a name or package.module:attribute, not {name!r}")
    options = {key: value for key, value in node.items() if key not in ("use", *NODE_KEYS)}
    label = str(node.get("label", name.rpartition(":")[2]))
    try:
        target = resolve("reward", name)
        if not inspect.isclass(target):
            spec = spec_of(target)
            return spec.reward_class(label, spec, options)
        if not issubclass(target, Reward):
            raise ConfigError(f"{name} is not a reward: a class has to derive from vlrl's Reward")
        make: Callable[[BaseModel], Reward] = target
        reward = make(target.Options(**validate_options(name, target.Options, options)))
        reward.name = label
        return reward
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def min_stages(reward: Reward) -> int:
    """Stages that an answer must have for the whole tree to be scored."""
    return max(node.min_stages for node in walk(reward))


def score(reward: Reward, rollouts: Sequence[Rollout]) -> list[Score]:
    """Run the tree; an exception in a reward is raised again with the reward's name."""
    try:
        scores = reward(rollouts)
    except RewardError:
        raise
    except Exception as error:
        raise RewardError(
            f"reward {reward.name!r} failed: {type(error).__name__}: {error}"
        ) from error
    check_scores(reward, rollouts, scores)
    return scores


def check_scores(reward: Reward, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
    """Raise RewardError, with the reward's name and the sample, for a score that cannot be used.

    One per rollout; a value is a finite number in the declared range, and so is that of a stage
    finite. Nothing that a policy learns from comes past this check.
    """
    if len(scores) != len(rollouts):
        raise RewardError(
            f"reward {reward.name!r} gave {len(scores)} scores for {len(rollouts)} rollouts"
        )
    low, high = reward.range
    slack = TOLERANCE * max(
        1.0, abs(low) if isfinite(low) else 0.0, abs(high) if isfinite(high) else 0.0
    )
    for rollout, one in zip(rollouts, scores, strict=True):
        found = [value for value in (one.value, *one.stages) if value is not None]
        wrong = next((value for value in found if not _is_number(value)), None)
        if wrong is None and one.value is not None and not low - slack <= one.value <= high + slack:
            wrong = one.value
        if wrong is not None:
            raise RewardError(
                f"reward {reward.name!r} gave {wrong} for sample {rollout.sample.id!r}; a reward "
                f"is a finite number, and it declares the range [{low:g}, {high:g}]"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
