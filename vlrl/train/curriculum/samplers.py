"""The orders in which a stage draws its samples.

All are the same on every rank: they depend on the seed, on the position and, if adaptive, on
running means that were gathered from all ranks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

from vlrl.algo.learnability import shares
from vlrl.config.curriculum import SamplerConfig
from vlrl.data.fields import as_written, shown
from vlrl.errors import ConfigError
from vlrl.protocols import Task
from vlrl.seeds import row_seed
from vlrl.train.curriculum.fields import Fields, check_field, fields_of, kept, number_of
from vlrl.train.curriculum.names import check_known
from vlrl.train.curriculum.stage import Stage
from vlrl.train.sampler import PromptSampler, Sampler, Walk
from vlrl.types import Sample

UNSEEN = 0.5
"""Success that a prompt is taken to have before its first answers: the most to learn from."""


def stage_samplers(
    stages: Sequence[Stage], samples: Sequence[Sample], task: Task, split: str, seed: int
) -> list[Sampler]:
    """One for each stage; ConfigError for stages that keep no sample, or ask what none has."""
    if stages[0].options is None:
        return [PromptSampler(len(samples), seed)]
    fields = [fields_of(task, sample) for sample in samples]
    made = []
    for stage in stages:
        assert stage.options is not None
        check_known(stage, task)
        places = kept(stage.options, stage.place, fields, split)
        options, name = stage.options.sampler, f"{seed}/{stage.name}"
        made.append(sampler_of(options, places, fields, name, f"{stage.place}.sampler"))
    return made


def sampler_of(
    options: SamplerConfig, places: Sequence[int], fields: Sequence[Fields], seed: str, place: str
) -> Sampler:
    """The sampler of a stage that keeps the samples at `places`; ConfigError with the place."""
    if options.kind == "in_order":
        return Walk(places, lambda epoch: list(places))
    if options.kind == "by_field":
        return _by_field(options, places, fields, seed, place)
    if options.kind == "adaptive":
        return AdaptiveSampler(places, options, seed)
    return PromptSampler(places, seed)


def _by_field(
    options: SamplerConfig, places: Sequence[int], fields: Sequence[Fields], seed: str, place: str
) -> Walk:
    """Rising by a field; equal values in another order in each epoch."""
    name = str(options.field)
    check_field(name, f"{place}.field", [fields[i] for i in places])
    ranks = {as_written(value): float(rank) for rank, value in enumerate(options.order)}
    key: dict[int, float] = {}
    for i in places:
        if name not in fields[i]:
            raise ConfigError(f"{place}.field: sample {fields[i]['id']!r} has no field {name!r}")
        if not ranks:
            key[i] = number_of(fields[i], name, place) * (-1 if options.descending else 1)
        elif (written := as_written(fields[i][name])) in ranks:
            key[i] = ranks[written]
        else:
            raise ConfigError(
                f"{place}.order: must have every value of {name!r}; sample {fields[i]['id']!r} "
                f"has {shown(fields[i][name])}"
            )

    def order(epoch: int) -> list[int]:
        shuffled = list(places)
        random.Random(f"{seed}/{epoch}").shuffle(shuffled)
        return sorted(shuffled, key=key.__getitem__)

    return Walk(places, order)


class AdaptiveSampler(Sampler):
    """Draws prompts of middling success more often: vlrl/algo/learnability.py.

    A prompt's success is a running mean over its groups. A step's prompts differ from each other
    as long as there are enough.
    """

    def __init__(self, places: Sequence[int], options: SamplerConfig, seed: str) -> None:
        super().__init__(places)
        self.options, self.seed = options, seed
        self.success: dict[int, float] = {}
        """Running means of the samples that were tried, as of the last finished step."""

    def learn(self, success: Mapping[int, float]) -> None:
        """Take in a step: the mean success of each sample that was tried in it."""
        rate = self.options.rate
        for place, value in success.items():
            old = self.success.get(place, value)
            self.success[place] = old + rate * (value - old)

    def _take(self, count: int) -> list[int]:
        there = [i for i in self.places if i not in self.left_out]
        known = np.array([self.success.get(i, UNSEEN) for i in there])
        with np.errstate(divide="ignore"):
            log_share = np.log(shares(known, self.options.floor))
        drawn: list[int] = []
        while len(drawn) < count:
            num = min(count - len(drawn), len(there))
            # The largest of log-shares plus Gumbel noise: a draw without putting back
            # (arXiv 1903.06059). The noise depends on the position alone.
            noise = np.random.default_rng(row_seed(self.seed, self.position)).gumbel(
                size=len(there)
            )
            order = np.argsort(-(log_share + noise), kind="stable")
            drawn += [there[i] for i in order[:num]]
            self.position += num
        return drawn
