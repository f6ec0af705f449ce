"""Rewards of answers in stages: one for each (credit), or that of a single one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import Field, NonNegativeInt, field_validator

from vlrl.errors import RewardError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score


class StagesOptions(NodeOptions):
    """The nodes by name, one per stage, in order."""

    children: dict[str, Node]

    @field_validator("children")
    @classmethod
    def _are_several(cls, children: dict[str, object]) -> dict[str, object]:
        if len(children) < 2:
            raise ValueError("takes two or more nodes by name, one per stage")
        return children


class Stages(Combinator):
    """A reward for every stage of an answer, in order; the trainer credits each its own actions.

    Example: {stages: {coarse: {use: voxel_iou}, refined: {sum: [node, node]}}}. The value is the
    plain sum; `algo.stage_carry` says how much a later stage's reward counts in earlier ones. It
    must be the root of the tree. Source: Hi-GRPO (AR3D-R1, arXiv 2512.10949).
    """

    Options = StagesOptions
    only_field = "children"
    names_leaves = False  # a part's name begins with its stage's
    formula = "one reward per stage; value = sum_k r_k over the stages that apply"
    name = "stages"

    def __init__(self, children: Mapping[str, Reward]) -> None:
        super().__init__(tuple(children.values()))
        self.names = tuple(children)
        self.num_stages = len(self.children)
        self.needs = self.needs | {"stages"}
        ends = [child.range for child in self.children]
        self.range = (sum(min(low, 0.0) for low, _ in ends), sum(max(h, 0.0) for _, h in ends))

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order, with a value per stage."""
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
        return self.joined(value, parts, tuple(one.value for one in row))


class StageOptions(NodeOptions):
    """A node, and the stage that it looks at."""

    index: NonNegativeInt = Field(description="number of the stage, from 0")
    of: Node


class Stage(Combinator):
    """The reward of one stage alone, 0 = the first. Example: {stage: {index: 0, of: node}}."""

    Options = StageOptions
    formula = "r of the stage `index`"
    name = "stage"

    def __init__(self, of: Reward, index: int) -> None:
        super().__init__((of,))
        self.index = index
        self.needs = self.needs | {"stages"}
        self.range = of.range

    @property
    def min_stages(self) -> int:
        """As many as it takes to have this one."""
        return self.index + 1

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        found = score(self.children[0], at_stage(rollouts, self.index, self.index + 1))
        return [self.joined(one.value, one.parts, one.stages) for one in found]


def at_stage(rollouts: Sequence[Rollout], index: int, num_stages: int) -> list[Rollout]:
    """The same rollouts as if their answer were this stage; RewardError where there are fewer."""
    seen = []
    for rollout in rollouts:
        parsed, earlier = rollout.parsed, ()
        if parsed is not None:
            if len(parsed.stages) < num_stages:
                raise RewardError(
                    f"sample {rollout.sample.id!r}: its answer has {len(parsed.stages)} stages, "
                    f"the reward asks for {num_stages}; for a second one set policy.refine"
                )
            earlier = tuple(parsed.stages[:index])
            parsed = parsed.stages[index]
        seen.append(replace(rollout, parsed=parsed, earlier=earlier))
    return seen
