"""The same answers under several reward configs, through the real tree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlrl.audit.answers import Answers
from vlrl.audit.recorded import node_at, recorded_node, with_nodes
from vlrl.build import build_scored
from vlrl.config.loader import compose
from vlrl.errors import ConfigError
from vlrl.protocols import Reward, Task, TrainableReward
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.functions import FunctionReward
from vlrl.reward.parts import fresh_name, leaves, walk
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

NUM_PERTURBATIONS = 16
MAX_ERROR = 1e-6
"""Between a tree and the same tree on the recorded values of its leaves."""


@dataclass(frozen=True)
class RewardConfig:
    """A reward to audit."""

    name: str
    node: Mapping[str, Any]
    source: str
    """Where it stands, for messages."""


def read_reward_configs(files: Sequence[str | Path], taken: Sequence[str]) -> list[RewardConfig]:
    """The `reward:` of each file (a run's config, or a reward alone), named by the file.

    taken: names that are used already. ConfigError for a file without a reward.
    """
    found: list[RewardConfig] = []
    for file in files:
        node = compose([file]).get("reward")
        if not isinstance(node, Mapping):
            raise ConfigError(f"{file}: has no `reward:`, which an audit compares")
        name = fresh_name(Path(file).stem, [*taken, *(one.name for one in found)])
        found.append(RewardConfig(name, node, str(file)))
    return found


@dataclass(frozen=True)
class Scored:
    """A reward's values on all answers."""

    config: RewardConfig
    reward: Reward
    """The tree as the config has it."""
    values: np.ndarray
    """[N]; nan where it does not apply or the answer is not there."""
    parts: Sequence[Mapping[str, float]]
    """Values of its leaves, by name."""
    rows: Sequence[int]
    """Places of the answers that were scored."""
    recorded: tuple[str, ...]
    """Leaves that were read from what the rollouts hold."""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the config."""
        return self.config.name

    @property
    def how(self) -> str:
        """How its values came about."""
        num = sum(1 for _ in leaves(self.reward))
        if not self.recorded:
            return "all of it scored again"
        names = ", ".join(self.recorded)
        if len(self.recorded) == num:
            return f"from recorded columns: {names}"
        return f"scored again, but for recorded columns: {names}"


def build(config: RewardConfig, task: type[Task], use: str) -> Reward:
    """The tree of a config for a task; ConfigError with the file and the place in it."""
    try:
        return build_scored(use, config.node, "reward", task)
    except ConfigError as error:
        raise ConfigError(f"{config.source}: {error}") from error


def score_answers(
    config: RewardConfig,
    answers: Answers,
    use: str,
    own: Reward | None = None,
    *,
    load_models: bool = False,
) -> Scored:
    """Score all answers; own: the tree that wrote the columns that the answers hold.

    A leaf is read from its column where an answer is not there itself, where it learns along with
    a training, and, unless `load_models`, where it may need a model; else it is scored again.
    ConfigError for a leaf that can be neither.
    """
    reward = build(config, type(answers.task), use)
    columns = {leaf.place: _column(leaf, own, answers) for leaf in leaves(reward)}
    swaps: dict[str, dict[str, Any]] = {}
    again: list[Reward] = []
    for leaf in leaves(reward):
        column, node = columns[leaf.place], node_at(config.node, leaf.place)
        may_ask = load_models and not isinstance(leaf, TrainableReward)
        anew = (isinstance(leaf, FunctionReward) or may_ask) and bool(answers.whole.all())
        if column is not None and node is not None and not anew:
            swaps[leaf.place] = recorded_node(node, leaf, column)
        else:
            again.append(leaf)
    for leaf in again:
        if isinstance(leaf, TrainableReward):
            raise ConfigError(
                f"{config.source}: {leaf.place}: {leaf.name!r} learns along with a training, and "
                "these answers hold no values of it; audit the run that trained it"
            )
    chosen = np.flatnonzero(answers.whole) if again else np.arange(len(answers.rollouts))
    rows: list[int] = chosen.tolist()
    if not rows:
        raise ConfigError(
            f"{config.source}: {again[0].place}: {again[0].name!r} has to be scored again, but "
            f"{answers.source} holds only rewards and no answers that can be read; leave it out, "
            "or give a file of answers"
        )
    tree = reward if not swaps else build(
        replace(config, node=with_nodes(config.node, swaps)), type(answers.task), use
    )  # fmt: skip
    found = score(tree, [answers.rollouts[i] for i in rows])
    values = np.full(len(answers.rollouts), np.nan)
    parts: list[Mapping[str, float]] = [{} for _ in answers.rollouts]
    for i, one in zip(rows, found, strict=True):
        values[i] = np.nan if one.value is None else one.value
        parts[i] = one.parts
    recorded = tuple(leaf.name for leaf in leaves(reward) if leaf.place in swaps)
    return Scored(config, reward, values, parts, rows, recorded, tuple(_notes(reward)))


def _notes(reward: Reward) -> list[str]:
    return [
        f"{node.label or node.name} is as it is before its first update"
        for node in walk(reward)
        if isinstance(node, TrainableReward) and node.children
    ]


def _column(leaf: Reward, own: Reward | None, answers: Answers) -> str | None:
    """The column that holds a leaf's values; None where there is none."""
    same = [] if own is None else [one.name for one in leaves(own) if one.same_as(leaf)]
    held = {name for one in answers.rollouts if one.score for name in one.score.parts}
    return next((name for name in same if name in held), None)


@dataclass(frozen=True)
class Perturbed:
    """A reward's values after small changes."""

    values: np.ndarray
    """[K, N]"""
    how: str


def perturb(scored: Scored, answers: Answers, use: str, share: float, seed: int) -> Perturbed:
    """Every weight of the tree changed up or down by `share` of itself, together.

    Where the tree has no two weights, or its leaves' values do not make up its own, the values
    themselves are changed instead: by `share` of their standard deviation, up or down at random.
    """
    weights = _weighted_places(scored.config.node)
    known = [
        replace(rollout, score=Score(None, parts))
        for rollout, parts in zip(answers.rollouts, scored.parts, strict=True)
    ]
    rng = np.random.default_rng(seed)
    if len(weights) > 1:
        found = [
            _rebuilt(scored, answers, use, known, dict(zip(weights, factors, strict=True)))
            for factors in [
                np.ones(len(weights)),
                *(1 + share * signs for signs in _signs(len(weights), rng)),
            ]
        ]
        same = found[0] is not None and np.allclose(
            found[0], scored.values, rtol=0, atol=MAX_ERROR, equal_nan=True
        )
        if same:
            values = np.stack([one for one in found[1:] if one is not None])
            return Perturbed(values, f"{len(weights)} weights, each by {100 * share:g} %")
    known_values = scored.values[np.isfinite(scored.values)]
    spread = float(known_values.std()) if known_values.size else 0.0
    same_answer = answers.same
    signs = rng.choice([-1.0, 1.0], (NUM_PERTURBATIONS, int(same_answer.max()) + 1))
    values = scored.values + share * spread * signs[:, same_answer]
    why = "it has no two weights" if len(weights) < 2 else "its weights cannot be changed alone"
    return Perturbed(values, f"its values by {100 * share:g} % of their deviation, for {why}")


def _signs(num: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All combinations of signs, or some of them."""
    if 2**num <= NUM_PERTURBATIONS:
        return [np.array(one) for one in itertools.product((-1.0, 1.0), repeat=num)]
    return list(rng.choice([-1.0, 1.0], (NUM_PERTURBATIONS, num)))


def _weighted_places(node: Any, where: str = "reward") -> list[str]:
    """Places of the nodes that carry a weight, written or 1, beside another one."""
    if isinstance(node, list):
        return [p for i, one in enumerate(node) for p in _weighted_places(one, f"{where}[{i}]")]
    if not isinstance(node, Mapping):
        return []
    found = []
    for key, value in node.items():
        place = f"{where}.{key}"
        is_sum = key in REGISTRY["combinator"] and resolve("combinator", key).weighted
        if is_sum and isinstance(value, list) and len(value) > 1:
            found += [f"{place}[{i}]" for i in range(len(value))]
        found += _weighted_places(value, place)
    return found


def _rebuilt(
    scored: Scored,
    answers: Answers,
    use: str,
    known: Sequence[Rollout],
    factors: Mapping[str, float],
) -> np.ndarray | None:
    """The tree with other weights on the values of its leaves, [N]; None where that fails."""
    node = scored.config.node
    swaps: dict[str, dict[str, Any]] = {}
    for leaf in leaves(scored.reward):
        here = node_at(node, leaf.place)
        if here is None:
            return None
        swaps[leaf.place] = recorded_node(here, leaf, leaf.name)
    changed = _with_weights(with_nodes(node, swaps), factors)
    try:
        tree = build(replace(scored.config, node=changed), type(answers.task), use)
    except ConfigError:
        return None  # a weight that its node refuses, a leaf that cannot be exchanged
    values = np.full(len(known), np.nan)
    for i, one in zip(scored.rows, score(tree, [known[i] for i in scored.rows]), strict=True):
        values[i] = np.nan if one.value is None else one.value
    return values


def _with_weights(node: Any, factors: Mapping[str, float], where: str = "reward") -> Any:
    if isinstance(node, list):
        return [_with_weights(one, factors, f"{where}[{i}]") for i, one in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    inner = {key: _with_weights(one, factors, f"{where}.{key}") for key, one in node.items()}
    if where in factors:
        inner["weight"] = float(inner.get("weight", 1.0)) * float(factors[where])
    return inner
