"""How unlike others an answer is: those of its group, or all of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from pydantic import Field

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import TrainableReward
from vlrl.registry import resolve
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Build, NodeOptions, read_options
from vlrl.reward.novelty.features import Features
from vlrl.reward.novelty.kind import NoveltyKind, RememberingKind
from vlrl.types import Rollout, Score


class NoveltyOptions(NodeOptions):
    """What answers are compared by, and how; the options of the kind stand beside them."""

    features: str = Field(description="text, image, shape, or package.module:features of your own")
    kind: str = Field(
        "elliptical", description="`vlrl describe novelty` lists them: in the group, over the run"
    )


class Novelty(Combinator):
    """Pays for answers unlike others, in [0, 1]. Example: {novelty: {features: image}}.

    `vlrl describe novelty` lists the kinds: elliptical (in the group), distilled and archive (over
    the run). Nonsense is new too: put it behind a gate that asks for a sound answer. The product
    of one inside the group and one over the run is E3B's robust choice. An answer with nothing to
    compare gets 0.
    """

    Options = NoveltyOptions
    kinds = "novelty"
    formula = "as the kind has it"
    range = (0.0, 1.0)

    def __init__(self, features: Features, kind: str, novelty: NoveltyKind) -> None:
        self.name = f"novelty_{kind.rpartition(':')[2]}"
        super().__init__(())
        self.features, self.novelty = features, novelty
        self.needs = features.needs

    @classmethod
    def from_config(cls, value: object, where: str, build: Build) -> Self:
        """From a mapping with `features`, `kind` and its options; ConfigError with the place."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: takes a mapping with features, kind, not {value!r}")
        shared = {key: one for key, one in value.items() if key in NoveltyOptions.model_fields}
        options = read_options(NoveltyOptions, shared, where)
        try:
            kind: type[NoveltyKind] = resolve("novelty", options.kind)
            features: Features = resolve("features", options.features)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        given = {key: one for key, one in value.items() if key not in shared}
        novelty = kind(read_options(kind.Options, given, where), features.num)
        if isinstance(novelty, RememberingKind):
            remembering: Any = RememberingNovelty(features, options.kind, novelty)
            return remembering
        return cls(features, options.kind, novelty)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        groups: dict[tuple[str, int], list[int]] = {}
        for i, rollout in enumerate(rollouts):
            groups.setdefault((rollout.sample.id, rollout.group), []).append(i)
        found: list[float | None] = [None] * len(rollouts)
        for rows in groups.values():
            rows.sort(key=lambda i: rollouts[i].index)
            features = np.stack([self.features.of(rollouts[i]) for i in rows])
            self.notice(features)
            for i, value in zip(rows, self.novelty.values(features), strict=True):
                found[i] = value
        name = self.label or self.name
        return [Score(value, {} if value is None else {name: value}) for value in found]

    def notice(self, features: np.ndarray) -> None:
        """The answers of a group that was just scored, [G, D]."""


class RememberingNovelty(Novelty, TrainableReward):
    """Novelty over the run; what it remembers changes once a step, and is alike on all ranks."""

    novelty: RememberingKind

    def __init__(self, features: Features, kind: str, novelty: RememberingKind) -> None:
        super().__init__(features, kind, novelty)
        self.pending: list[np.ndarray] = []
        """Features of this rank's groups since the last update."""

    def notice(self, features: np.ndarray) -> None:
        """Keep them until the step is over."""
        self.pending.append(features)

    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """Remember the answers of all ranks."""
        from vlrl.distributed.comm import all_gather, current

        found = [one for part in all_gather(self.pending, current()) for one in part]
        self.pending = []
        # In an order of their own: that of ranks changes with their number, and with draws anew.
        rows = sorted((row for part in found for row in part), key=np.ndarray.tobytes)
        return self.novelty.remember(np.stack(rows)) if rows else {}

    def state_dict(self) -> Mapping[str, Any]:
        """What the kind remembers."""
        return self.novelty.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with it; RewardError where the options have changed since."""
        try:
            self.novelty.restore(state)
        except ValueError as error:
            raise RewardError(
                f"reward {self.name!r}: what it remembered does not fit, its options have changed "
                f"since: {error}"
            ) from error
