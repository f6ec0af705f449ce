"""A reward whose values are shaped: bounded, centred, clipped, made to pay less and less."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward, TrainableReward
from vlrl.registry import resolve
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Build, Node, NodeOptions, build_fields, read_options
from vlrl.reward.parts import join_parts
from vlrl.reward.shapes.references import of_group, of_prompt, read_references
from vlrl.reward.shapes.running import Statistics
from vlrl.reward.shapes.shaper import Seen, Shaper
from vlrl.reward.tree import TOLERANCE, score
from vlrl.types import Rollout, Score


class ShapeOptions(NodeOptions):
    """A node and a kind of shaping; the options of that kind stand beside them."""

    of: Node
    kind: str = Field(description="`vlrl describe shape` lists them; its options are beside it")


class Shape(Combinator):
    """`of`, its values shaped. Example: {shape: {kind: par, of: {use: clip_score}, slope: 2.0}}.

    `vlrl describe shape` lists the kinds, `vlrl describe shape KIND` says what one does. Kinds
    compare with references (`references: {from: group}`, `file` or `policy`) or with statistics
    of all rewards before this step; a rollout without references does not apply. Until there are
    statistics, those of its group stand in.
    """

    Options = ShapeOptions
    kinds = "shape"
    formula = "f(r), f as the kind has it"
    name = "shape"

    def __init__(self, of: Reward, kind: str, shaper: Shaper, where: str = "shape") -> None:
        super().__init__((of,))
        self.of, self.kind, self.shaper, self.where = of, kind, shaper, where
        self.name = f"{kind.rpartition(':')[2]}_{of.name}"
        self.range = shaper.range
        self.statistics = Statistics()
        references = shaper.references
        self.compared_with = None if references is None else references.source
        self.of_policy: dict[str, tuple[float, ...]] = {}
        """Rewards of the frozen policy's answers by prompt, once they are there."""

    @classmethod
    def from_config(cls, value: object, where: str, build: Build) -> Self:
        """From a mapping with `of`, `kind` and its options; ConfigError that names the place."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: takes a mapping with of, kind, not {value!r}")
        shared = {key: one for key, one in value.items() if key in ShapeOptions.model_fields}
        options = read_options(ShapeOptions, shared, where)
        try:
            kind: type[Shaper] = resolve("shape", options.kind)
        except ConfigError as error:
            raise ConfigError(f"{where}.kind: {error}") from error
        given = {key: one for key, one in value.items() if key not in shared}
        own = read_options(kind.Options, given, where)
        of = build_fields(options, where, build)["of"]
        try:
            shaper = kind(own, of.range)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        references = shaper.references
        if references is not None and references.source == "file":
            _check_file(references.file, where)
        learns = shaper.keeps_statistics or (references and references.source == "policy")
        made: type[Any] = RememberingShape if learns else cls
        shape: Self = made(of, options.kind, shaper, where)
        return shape

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        scored = score(self.of, rollouts)
        values = [one.value for one in scored]
        self.notice([value for value in values if value is not None])
        others = of_group(rollouts, values) if self.needs_group else [()] * len(rollouts)
        return [
            self._join(rollout, one, rest)
            for rollout, one, rest in zip(rollouts, scored, others, strict=True)
        ]

    @property
    def needs_group(self) -> bool:
        """Whether the other answers to the prompt are looked at."""
        no_statistics = self.shaper.keeps_statistics and not self.statistics.count
        return self.compared_with == "group" or no_statistics

    def notice(self, values: Sequence[float]) -> None:
        """The values that were just scored, before they are shaped."""

    def _join(self, rollout: Rollout, one: Score, others: Sequence[float]) -> Score:
        parts = join_parts([(self.of, one)])
        if one.value is None:
            return Score(None, parts)
        references = self._references(rollout, others)
        if self.compared_with is not None and not references:
            return Score(None, parts)  # alone in its group
        statistics = self.statistics
        if self.shaper.keeps_statistics and not statistics.count:
            statistics = statistics.with_values((one.value, *others))
        seen = Seen(references, statistics, rollout.num_actions)
        value = self.shaper.shaped(one.value, seen)
        return Score(value, {**parts, self.label or self.name: value})

    def _references(self, rollout: Rollout, others: Sequence[float]) -> Sequence[float]:
        options = self.shaper.references
        if options is None:
            return ()
        if self.compared_with == "group":
            return others
        if self.compared_with == "file":
            known = read_references(str(options.file), options.column)
            found = of_prompt(known, rollout, options.num, f"{self.where}: {options.file}")
        else:
            if not self.of_policy:
                raise RewardError(
                    f"{self.where}: references `from: policy` are sampled when a training starts; "
                    "elsewhere use `from: file`"
                )
            # The frozen policy's answers may all have been without a reward.
            found = self.of_policy.get(rollout.sample.id, ())[: options.num]
        low, high = self.of.range
        slack = TOLERANCE * max([1.0, *(abs(end) for end in (low, high) if math.isfinite(end))])
        if not all(low - slack <= one <= high + slack for one in found):
            raise RewardError(
                f"{self.where}: a reference reward of sample {rollout.sample.id!r} is outside "
                f"[{low:g}, {high:g}], the range of {self.of.name!r}: is it of another reward?"
            )
        return found


class RememberingShape(Shape, TrainableReward):
    """A shape that keeps statistics of the run, or the frozen policy's rewards.

    Statistics are of every value scored, answers that were drawn again included; they are the
    same on all ranks, and change once a step, after the policy's.
    """

    def __init__(self, of: Reward, kind: str, shaper: Shaper, where: str = "shape") -> None:
        super().__init__(of, kind, shaper, where)
        self.pending: list[float] = []
        """Values of this rank since the last update."""

    @property
    def num_references(self) -> int:
        """Answers of the frozen policy to each prompt that it asks for."""
        options = self.shaper.references
        return 0 if options is None or options.source != "policy" else options.num

    def notice(self, values: Sequence[float]) -> None:
        """Keep them until the step is over."""
        if self.shaper.keeps_statistics:
            self.pending += values

    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """Add the values of all ranks to the statistics."""
        from vlrl.distributed.comm import all_gather, current

        if not self.shaper.keeps_statistics:
            return {}
        gathered = all_gather(self.pending, current())
        self.pending = []
        self.statistics = self.statistics.with_values([v for part in gathered for v in part])
        if not self.statistics.count:
            return {}
        now = self.statistics
        return {"mean": now.mean, "std": now.std, "low": now.low, "high": now.high}

    def state_dict(self) -> Mapping[str, Any]:
        """Statistics and references; the same on all ranks."""
        return {"statistics": self.statistics.saved(), "of_policy": dict(self.of_policy)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them."""
        self.statistics = Statistics.restored(state["statistics"])
        self.of_policy = {name: tuple(values) for name, values in state["of_policy"].items()}


def _check_file(file: str | None, where: str) -> None:
    from pathlib import Path

    if not Path(str(file)).is_file():
        raise ConfigError(f"{where}.references.file: there is no file {file!r}")
