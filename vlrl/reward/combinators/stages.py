"""Rewards of answers in stages: one for each (credit), or that of a single one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlrl.errors import ConfigError, RewardError, did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.tree import reject_weight, score
from vlrl.types import Rollout, Score

Build = Callable[[Mapping[str, Any], str], Reward]


class Stages:
    """A reward for every stage of an answer, in order; the trainer credits each its own actions.

    Example: {stages: {coarse: {use: voxel_iou}, refined: {sum: [node, node]}}}. The value is the
    plain sum; `algo.stage_carry` says how much a later stage's reward counts in earlier ones. It
    stands at the root of the tree. Source: Hi-GRPO (AR3D-R1, arXiv 2512.10949).
    """

    formula = "one reward a stage; value = sum_k r_k over the stages that apply"
    name = "stages"

    def __init__(self, children: Mapping[str, Reward]) -> None:
        self.names = tuple(children)
        self.children = tuple(children.values())
        self.num_stages = len(self.children)
        self.label: str | None = None
        needs = frozenset().union(*(child.needs for child in self.children))
        self.needs = needs | {"stages"}
        ends = [child.range for child in self.children]
        self.range = (sum(min(low, 0.0) for low, _ in ends), sum(max(h, 0.0) for _, h in ends))

    @classmethod
    def from_config(cls, value: Any, where: str, build: Build) -> Stages:
        """From a mapping of names to nodes; raises ConfigError that names the place."""
        if not isinstance(value, Mapping) or len(value) < 2:
            raise ConfigError(f"{where}: takes two or more nodes by name, one a stage: {value!r}")
        children = {}
        for name, node in value.items():
            reject_weight(node, f"{where}.{name}")
            children[str(name)] = build(node, f"{where}.{name}")
        return cls(children)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order, with a value a stage."""
        columns = [
            score(child, at_stage(rollouts, index, self.num_stages))
            for index, child in enumerate(self.children)
        ]
        return [self._join(row) for row in zip(*columns, strict=True)]

    def _join(self, row: tuple[Score, ...]) -> Score:
        parts: dict[str, float] = {}
        for name, one in zip(self.names, row, strict=True):
            parts |= {f"{name}_{key}": value for key, value in one.parts.items()}
            if one.value is not None:
                parts[name] = one.value
        applying = [one.value for one in row if one.value is not None]
        value = math.fsum(applying) if applying else None
        if self.label is not None and value is not None:
            parts[self.label] = value
        return Score(value, parts, tuple(one.value for one in row))


class Stage:
    """The reward of one stage alone, 0 = the first. Example: {stage: {index: 0, of: node}}."""

    formula = "r of the stage `index`"
    name = "stage"

    def __init__(self, child: Reward, index: int) -> None:
        self.index = index
        self.needs_stages = index + 1
        self.children = (child,)
        self.label: str | None = None
        self.needs = child.needs | {"stages"}
        self.range = child.range

    @classmethod
    def from_config(cls, value: Any, where: str, build: Build) -> Stage:
        """From a mapping with `index` and `of`; raises ConfigError that names the place."""
        given = options_of(value, where, ("index", "of"))
        index = given["index"]
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise ConfigError(f"{where}.index: takes a stage's number from 0, not {index!r}")
        reject_weight(given["of"], f"{where}.of")
        return cls(build(given["of"], f"{where}.of"), index)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order."""
        found = score(self.children[0], at_stage(rollouts, self.index, self.index + 1))
        if self.label is None:
            return found
        return [
            one if one.value is None else replace(one, parts={**one.parts, self.label: one.value})
            for one in found
        ]


def at_stage(rollouts: Sequence[Rollout], index: int, num_stages: int) -> list[Rollout]:
    """The same rollouts as if their answer was this stage; RewardError where there are fewer."""
    seen = []
    for rollout in rollouts:
        parsed = rollout.parsed
        if parsed is not None:
            if len(parsed.stages) < num_stages:
                raise RewardError(
                    f"sample {rollout.sample.id!r}: its answer has {len(parsed.stages)} stages, "
                    f"the reward asks for {num_stages}; for a second one set policy.refine"
                )
            parsed = parsed.stages[index]
        seen.append(replace(rollout, parsed=parsed))
    return seen


def options_of(value: Any, where: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """A mapping with exactly these keys; raises ConfigError."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: takes a mapping with {', '.join(keys)}, not {value!r}")
    for key in value:
        if key not in keys:
            raise ConfigError(f"{where}: unknown key {key!r}; {did_you_mean(str(key), keys)}")
    for key in keys:
        if key not in value:
            raise ConfigError(f"{where}: `{key}:` is missing")
    return value
