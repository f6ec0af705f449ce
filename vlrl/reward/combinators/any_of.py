"""Several accepted answers or routes: the best match counts, and only as far as it is correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from pydantic import Field, model_validator

from vlrl.data.fields import shown
from vlrl.errors import RewardError, did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.combinators.combine import Range, hull
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score


class AnyOfOptions(NodeOptions):
    """The nodes of which the best counts, over which alternatives, times what."""

    of: list[Node] = Field(min_length=1)
    correct: Node | None = Field(None, description="multiplies the best")
    over: str | None = Field(None, description="column of the data that lists accepted answers")
    alias: str | None = Field(
        None, alias="as", description="column under which `of` sees one of them at a time"
    )

    @model_validator(mode="after")
    def _check(self) -> AnyOfOptions:
        if (self.over is None) != (self.alias is None):
            raise ValueError("`over:` and `as:` go together")
        if self.over is None and len(self.of) == 1:
            raise ValueError("`of:` has one node and there is no `over:`, so there is no choice")
        return self


class AnyOf(Combinator):
    """The greatest of `of` over all accepted answers of a prompt, times `correct`.

    Example: {any_of: {of: [{use: "mine:similarity"}], over: routes, as: route,
    correct: {use: "mine:is_right"}}}: `similarity` reads `sample.columns["route"]`, which is each
    of `sample.columns["routes"]` in turn. A prompt without accepted answers does not apply.
    """

    Options = AnyOfOptions
    formula = "correct x max over k accepted answers and nodes of r_k"
    source = "GRiP's multi-heuristic reward; the paper gives no formula for the similarity"
    name = "any_of"

    def __init__(
        self, of: Sequence[Reward], correct: Reward | None = None, over: str | None = None,
        alias: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__((*of, *(() if correct is None else (correct,))))
        self.of, self.correct, self.over, self.alias = tuple(of), correct, over, alias
        best = hull([one.range for one in of])
        self.range = best if correct is None else times(best, correct.range)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; `of` sees whole groups, one alternative at a time."""
        rounds = [[score(node, seen) for node in self.of] for seen in self._alternatives(rollouts)]
        corrects = [None] * len(rollouts) if self.correct is None else score(self.correct, rollouts)
        counts = [self._count(rollout) for rollout in rollouts]
        return [
            self._join([[column[i] for column in one] for one in rounds[: counts[i]]], corrects[i])
            for i in range(len(rollouts))
        ]

    def _alternatives(self, rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
        if self.over is None:
            return [list(rollouts)]
        most = max((self._count(rollout) for rollout in rollouts), default=0)
        return [[self._seen(rollout, k) for rollout in rollouts] for k in range(most)]

    def _seen(self, rollout: Rollout, k: int) -> Rollout:
        assert self.over is not None
        assert self.alias is not None
        columns = rollout.sample.columns
        accepted = columns[self.over]
        if not accepted:
            return rollout
        one = accepted[min(k, len(accepted) - 1)]
        return replace(
            rollout, sample=replace(rollout.sample, columns={**columns, self.alias: one})
        )

    def _count(self, rollout: Rollout) -> int:
        if self.over is None:
            return 1
        columns = rollout.sample.columns
        if self.over not in columns:
            raise RewardError(
                f"any_of: sample {rollout.sample.id!r} has no column {self.over!r}; "
                f"{did_you_mean(self.over, columns)}"
            )
        accepted = columns[self.over]
        if not isinstance(accepted, list | tuple):
            raise RewardError(
                f"any_of: column {self.over!r} of sample {rollout.sample.id!r} must be a list of "
                f"accepted answers, not {shown(accepted)}"
            )
        return len(accepted)

    def _join(self, rounds: Sequence[Sequence[Score]], correct: Score | None) -> Score:
        best: float | None = None
        parts: dict[str, float] = {}
        for row in rounds:
            for node, one in zip(self.of, row, strict=True):
                if one.value is not None and (best is None or one.value > best):
                    best = one.value
                    parts = join_parts([(node, one)])
        if self.correct is not None and correct is not None:
            parts = {**join_parts([(self.correct, correct)]), **parts}
            if best is not None:
                best = None if correct.value is None else best * correct.value
        return self.joined(best, parts)


def times(a: Range, b: Range) -> Range:
    """The interval of products; an exact 0 times infinity is 0."""
    ends = [0.0 if 0.0 in (x, y) else x * y for x, y in product(a, b)]
    return (min(ends), max(ends))
