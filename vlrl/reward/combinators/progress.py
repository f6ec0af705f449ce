"""One measure of progress; faults are paid for by factors, hard faults by a fixed price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from pydantic import Field, NonNegativeFloat

from vlrl.errors import ConfigError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.combinators.stages import at_stage
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score


class ProgressOptions(NodeOptions):
    """What progress is, what lowers it, and what ends it."""

    of: Node
    penalties: list[Node] = Field([], description="factors in [0, 1]; 1 = no penalty")
    required: list[Node] = Field([], description="a hard fault where one is below its high end")
    terminal: NonNegativeFloat = Field(1.0, description="what a hard fault costs")
    by_stage: bool = Field(
        False, description="an answer's stages are its steps; only new progress is paid"
    )


class Progress(Combinator):
    """Progress times penalties, less a fixed price where something required is missing.

    Example: {progress: {of: {use: box_iou}, penalties: [{use: box_valid}],
    required: [{use: format}]}}. A penalty that does not apply counts 1, and what is required and
    does not apply is no fault. `by_stage`: the sum over stages of what each adds to the best one
    before it, times its penalties; the stages after a hard fault are paid nothing.
    """

    Options = ProgressOptions
    formula = "sum_t progress_t prod_k p_k,t - terminal at the first hard fault, which ends the sum"
    source = "CaRL (arXiv 2504.17838)"
    name = "progress"

    def __init__(
        self, of: Reward, penalties: Sequence[Reward] = (), required: Sequence[Reward] = (),
        *, terminal: float = 1.0, by_stage: bool = False,
    ) -> None:  # fmt: skip
        for place, one in enumerate(penalties):
            if not (one.range[0] >= 0 and one.range[1] <= 1):
                raise ConfigError(
                    f"penalties[{place}]: must be a factor in [0, 1]; {one.name!r} has the range "
                    f"[{one.range[0]:g}, {one.range[1]:g}]: shape it to kind unit"
                )
        for place, one in enumerate(required):
            if not math.isfinite(one.range[1]):
                raise ConfigError(
                    f"required[{place}]: {one.name!r} has no finite high end to reach; put it "
                    "under `gate`"
                )
        super().__init__((of, *penalties, *required))
        self.of, self.penalties, self.required = of, tuple(penalties), tuple(required)
        self.terminal, self.by_stage = terminal, by_stage
        low, high = of.range
        if by_stage:
            self.needs = self.needs | {"stages"}
            self.start = low if math.isfinite(low) else 0.0
            ends = [0.0, max(high - self.start, 0.0)]
        else:
            # A factor that does not apply counts 1.
            factors = (math.prod(one.range[0] for one in penalties), 1.0)
            ends = [
                0.0 if 0.0 in (end, factor) else end * factor
                for end, factor in product((low, high), factors)
            ]
        self.range = (min(ends) - (terminal if required else 0.0), max(ends))

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        if not self.by_stage:
            return [self._one(row) for row in self._rows(rollouts)]
        counts = [0 if r.parsed is None else len(r.parsed.stages) for r in rollouts]
        steps = [
            self._rows([
                at_stage([rollout], min(step, count - 1), count)[0] if count else rollout
                for rollout, count in zip(rollouts, counts, strict=True)
            ])
            for step in range(max([*counts, 1]))
        ]  # fmt: skip
        return [
            self._several([step[i] for step in steps[: max(count, 1)]])
            for i, count in enumerate(counts)
        ]

    def _rows(self, rollouts: Sequence[Rollout]) -> list[tuple[Score, ...]]:
        """Scores of all children, rollout by rollout."""
        return list(zip(*(score(child, rollouts) for child in self.children), strict=True))

    def _one(self, row: tuple[Score, ...]) -> Score:
        parts = join_parts(zip(self.children, row, strict=True))
        if row[0].value is None:
            return self.joined(None, parts)
        value = row[0].value * self._factor(row)
        return self.joined(value - (self.terminal if self._ends(row) else 0.0), parts)

    def _several(self, rows: Sequence[tuple[Score, ...]]) -> Score:
        parts = join_parts(zip(self.children, rows[-1], strict=True))
        if all(row[0].value is None for row in rows):
            return self.joined(None, parts)
        best, paid = self.start, []
        for row in rows:
            now = best if row[0].value is None else max(best, row[0].value)
            paid.append((now - best) * self._factor(row))
            best = now
            if self._ends(row):
                paid.append(-self.terminal)
                break
        return self.joined(math.fsum(paid), parts)

    def _factor(self, row: tuple[Score, ...]) -> float:
        inner = row[1 : 1 + len(self.penalties)]
        return math.prod(one.value for one in inner if one.value is not None)

    def _ends(self, row: tuple[Score, ...]) -> bool:
        outer = row[1 + len(self.penalties) :]
        return any(
            one.value is not None and one.value < node.range[1]
            for node, one in zip(self.required, outer, strict=True)
        )
