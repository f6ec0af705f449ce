"""A reward is a tree of nodes, written in the config.

A node is a scorer, `{use: name, weight: 1.0, <options>}`, or a combinator, `{sum: [node, ...]}`
or `{gate: {if: node, then: node, else: 0.0}}`. A node under `sum` or `mean` may carry `weight`;
any node may carry `label` (its name in the logs).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from vlrl.errors import ConfigError, RewardError, did_you_mean
from vlrl.protocols import Reward
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.functions import FunctionReward, RewardSpec, validate_options
from vlrl.types import Rollout, Score

NODE_KEYS = ("weight", "label")


def build_reward(node: Mapping[str, Any], where: str = "reward") -> Reward:
    """The reward that a config node describes; raises ConfigError that names the place."""
    reject_weight(node, where)
    reward = build_node(node, where)
    if any(num_stages(one) > 1 for one in walk(reward) if one is not reward):
        raise ConfigError(f"{where}: `stages` stands at the root of the tree, not below it")
    return reward


def build_node(node: Mapping[str, Any], where: str) -> Reward:
    """One node and what is below it; its `weight` is its parent's affair."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"{where}: a reward node is a mapping, not {node!r}")
    if "use" in node:
        return _build_scorer(node, where)
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
    combinator = resolve("combinator", kind)
    reward = combinator.from_config(node[kind], f"{where}.{kind}", build_node)
    if "label" in node:
        reward.label = str(node["label"])
    return reward


def _build_scorer(node: Mapping[str, Any], where: str) -> Reward:
    name = node["use"]
    if not isinstance(name, str):
        raise ConfigError(f"{where}: `use:` takes a name or package.module:attribute, not {name!r}")
    options = {key: value for key, value in node.items() if key not in ("use", *NODE_KEYS)}
    label = str(node.get("label", name.rpartition(":")[2]))
    try:
        target: Any = resolve("reward", name)
        if inspect.isclass(target):
            make: Any = target
            checked = validate_options(name, make.Options, options)
            reward = make(make.Options(**checked))
            reward.name = label
            return reward
        return FunctionReward(label, spec_of(target), options)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def reject_weight(node: Any, where: str) -> None:
    """Raises ConfigError where a weight would be ignored."""
    if isinstance(node, Mapping) and "weight" in node:
        raise ConfigError(f"{where}: `weight` counts only under `sum` and `mean`; remove it")


def check_of(value: Any, where: str, keys: Sequence[str]) -> None:
    """A combinator over one node: a mapping with `of` and known keys; raises ConfigError."""
    if not isinstance(value, Mapping) or "of" not in value:
        raise ConfigError(f"{where}: takes a mapping with `of:`, not {value!r}")
    for key in value:
        if key not in keys:
            raise ConfigError(f"{where}: unknown key {key!r}; {did_you_mean(str(key), keys)}")
    reject_weight(value["of"], f"{where}.of")


def spec_of(function: Any) -> RewardSpec:
    """The spec of a marked function; a plain function is taken as it is.

    A function with a `completions` argument is a TRL-style reward, any other one gets a rollout.
    """
    spec = getattr(function, "vlrl_reward", None)
    if spec is not None:
        return spec
    if not callable(function):
        raise ConfigError(f"{function!r} is not a reward: neither a function nor a class")
    anything = (float("-inf"), float("inf"))
    kind = "trl" if "completions" in inspect.signature(function).parameters else "rollout"
    return RewardSpec(kind, function, anything, "unstated", "unstated", "the user's own")


def weight_of(node: Mapping[str, Any], where: str = "reward") -> float:
    """The node's weight; 1 where none is written. Raises ConfigError if it is no number."""
    weight = node.get("weight", 1.0) if isinstance(node, Mapping) else 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not isfinite(weight):
        raise ConfigError(f"{where}: `weight` is a finite number, not {weight!r}")
    return float(weight)


def walk(reward: Reward) -> Iterator[Reward]:
    """The node and everything below it."""
    yield reward
    for child in getattr(reward, "children", ()):
        yield from walk(child)


def num_stages(reward: Reward) -> int:
    """Stages of an answer that the reward tells apart, an advantage each; 1 for most."""
    return int(getattr(reward, "num_stages", 1))


def num_stages_needed(reward: Reward) -> int:
    """Stages that an answer must have for the whole tree to be scored."""
    return max(int(getattr(node, "needs_stages", num_stages(node))) for node in walk(reward))


def score(reward: Reward, rollouts: Sequence[Rollout]) -> list[Score]:
    """Run the tree; an exception of a reward comes back with the reward's name."""
    try:
        scores = reward(rollouts)
    except RewardError:
        raise
    except Exception as error:
        name = getattr(reward, "name", type(reward).__name__.lower())
        raise RewardError(f"reward {name!r} failed: {type(error).__name__}: {error}") from error
    if len(scores) != len(rollouts):
        raise RewardError(f"{reward!r} gave {len(scores)} scores for {len(rollouts)} rollouts")
    return scores
