"""A primary reward and helpers whose weights are learnt on prompts that are held out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, PositiveFloat, model_validator

from vlrl.errors import RewardError
from vlrl.protocols import Reward, TrainableReward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

MAX_UNJUDGED_UPDATES = 50
"""Updates in a row without a held-out prompt, after which the run ends."""
Moments = tuple[float, tuple[float, ...], tuple[float, ...]]
"""Of a held-out group: variance of the primary, of each helper, covariance with each."""


class BlendOptions(NodeOptions):
    """The rewards, and how the helpers' weights are learnt."""

    primary: Node
    helpers: dict[str, Node] = Field(min_length=1)
    held_out: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the prompts, by id, that only judge the helpers: the policy does "
        "not learn from them",
    )
    start: float = Field(0.5, ge=0, description="every helper's weight at the start")
    most: PositiveFloat = Field(1.0, description="largest weight")
    lr: PositiveFloat = 0.05
    decay: float = Field(0.1, ge=0, description="pulls weights to 0, in units of a correlation")

    @model_validator(mode="after")
    def _check(self) -> BlendOptions:
        if self.held_out is None:
            raise ValueError(
                "`held_out:` must be a share of the prompts, 0.1 say: without held-out prompts "
                "nothing tells a helper that helps from one that does not"
            )
        if self.start > self.most:
            raise ValueError(f"start ({self.start:g}) is above most ({self.most:g})")
        return self


class Blend(Combinator, TrainableReward):
    """The primary reward and weighted helpers, the weights learnt so that the primary rises.

    Example: {blend: {primary: {use: box_hit}, helpers: {size: {use: box_iou}}, held_out: 0.1}}.

    After each step w_h moves by lr (c_h - decay w_h) and stays in [0, most]: c_h is the
    correlation of helper and primary inside the groups of the held-out prompts. That is the sign
    of the derivative of the held-out primary by w_h for the policy proportional to exp(reward),
    to which a run with a KL or entropy term moves: dE[primary]/dw_h = Cov(primary, helper). A
    helper equal to minus the primary ends at 0. Differs from BARFI, which differentiates through
    the inner policy's optimum and also learns the discount. It does not apply to held-out prompts,
    and is the root of the tree, so that nothing else pays for them.
    """

    Options = BlendOptions
    only_root = True
    names_leaves = False  # a part's name begins with its helper's
    formula = "primary + sum_h w_h helper_h, 0 <= w_h <= most"
    source = "BARFI (arXiv 2310.19007); the update is ours"
    name = "blend"

    def __init__(
        self, primary: Reward, helpers: Mapping[str, Reward], held_out: float, *,
        start: float = 0.5, most: float = 1.0, lr: float = 0.05, decay: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__((primary, *helpers.values()))
        self.names = tuple(helpers)
        self.held_out, self.most, self.lr, self.decay = held_out, most, lr, decay
        self.weights = [start] * len(helpers)
        self.pending: list[Moments] = []
        """Of this rank's held-out groups since the last update."""
        self.num_unjudged = 0
        ends = [node.range for node in helpers.values()]
        self.range = (
            primary.range[0] + math.fsum(min(most * low, 0.0) for low, _ in ends),
            primary.range[1] + math.fsum(max(most * high, 0.0) for _, high in ends),
        )

    def is_held_out(self, sample_id: str) -> bool:
        """Whether a prompt only judges; decided by its id alone, so the same in every run."""
        digest = hashlib.sha256(sample_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < self.held_out

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        columns = [score(child, rollouts) for child in self.children]
        groups: dict[tuple[str, int], list[int]] = {}
        for i, rollout in enumerate(rollouts):
            if self.is_held_out(rollout.sample.id):
                groups.setdefault((rollout.sample.id, rollout.group), []).append(i)
        for rows in groups.values():
            own = [[column[i].value for column in columns] for i in rows]
            self.pending.append(_moments(own))
        return [
            self._join([column[i] for column in columns], self.is_held_out(rollout.sample.id))
            for i, rollout in enumerate(rollouts)
        ]

    def _join(self, row: Sequence[Score], held_out: bool) -> Score:
        parts = join_parts([(self.children[0], row[0])])
        value = row[0].value
        for name, weight, node, one in zip(
            self.names, self.weights, self.children[1:], row[1:], strict=True
        ):
            if one.value is not None:
                parts[name] = one.value
                value = None if value is None else value + weight * one.value
            if node.children:
                parts |= {f"{name}_{key}": v for key, v in join_parts([(node, one)]).items()}
        return self.joined(None if held_out else value, parts)

    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """Move the weights by the held-out groups of all ranks; called on all ranks."""
        from vlrl.distributed.comm import all_gather, current

        found = [one for part in all_gather(self.pending, current()) for one in part]
        self.pending = []
        self.num_unjudged = 0 if found else self.num_unjudged + 1
        if self.num_unjudged >= MAX_UNJUDGED_UPDATES:
            raise RewardError(
                f"blend: none of the prompts of the last {self.num_unjudged} steps is held out "
                f"(held_out: {self.held_out:g} of them, by id); raise it, or use more prompts"
            )
        metrics: dict[str, float] = {}
        for place, name in enumerate(self.names):
            cov = math.fsum(one[2][place] for one in found)
            scale = math.sqrt(
                math.fsum(one[0] for one in found) * math.fsum(one[1][place] for one in found)
            )
            if scale > 0:  # else nothing was to be seen
                correlation = cov / scale
                metrics[f"{name}_correlation"] = correlation
                moved = self.lr * (correlation - self.decay * self.weights[place])
                self.weights[place] = min(max(self.weights[place] + moved, 0.0), self.most)
            metrics[f"{name}_weight"] = self.weights[place]
        return metrics

    def state_dict(self) -> Mapping[str, Any]:
        """The weights by name; the same on all ranks."""
        return {
            "weights": dict(zip(self.names, self.weights, strict=True)),
            "unjudged": self.num_unjudged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them; RewardError where the helpers are other ones."""
        if set(state["weights"]) != set(self.names):
            raise RewardError(
                f"blend: the saved weights are of {', '.join(state['weights'])}, the config has "
                f"{', '.join(self.names)}"
            )
        self.weights = [float(state["weights"][name]) for name in self.names]
        self.num_unjudged = int(state["unjudged"])


def _moments(rows: Sequence[Sequence[float | None]]) -> Moments:
    """Second moments inside a group, over the answers to which primary and helper apply."""
    num = len(rows[0]) - 1
    own = [row[0] for row in rows if row[0] is not None]
    variances, covariances = [], []
    for place in range(num):
        both = [
            (row[0], value)
            for row in rows
            if row[0] is not None and (value := row[1 + place]) is not None
        ]
        first, second = [a for a, _ in both], [b for _, b in both]
        variances.append(_covariance(second, second))
        covariances.append(_covariance(first, second))
    return _covariance(own, own), tuple(variances), tuple(covariances)


def _covariance(a: Sequence[float], b: Sequence[float]) -> float:
    if len(a) < 2:
        return 0.0
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    return math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / len(a)
