"""One audit: every measure on the same answers, as data that a page and a file are made of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vlrl.audit.answers import Answers
from vlrl.audit.distance import AdvantageChange, Orders, advantage_change, orders, starc
from vlrl.audit.hacks import Hacks, find_hacks
from vlrl.audit.known import KnownGroup, known_groups, ranked, why_not_ranked
from vlrl.audit.one_right import OneRight, Row, one_right
from vlrl.audit.options import AuditOptions
from vlrl.audit.representations import Representations, represented
from vlrl.audit.scoring import Perturbed, Scored, perturb
from vlrl.audit.stability import PromptStability, Tilt, stability, tilts
from vlrl.errors import ConfigError, did_you_mean
from vlrl.stats import evenly

TARGET_SIZE = "target size"
BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Pair:
    """Two rewards beside each other."""

    first: Scored
    second: Scored
    distance: float
    by_step: Sequence[tuple[int, float]]
    """STARC distance on each step's answers alone."""
    orders: Orders
    advantages: AdvantageChange


@dataclass(frozen=True)
class Stability:
    """One reward under perturbation."""

    scored: Scored
    perturbed: Perturbed
    prompts: Sequence[PromptStability]
    tilts: Sequence[Tilt]


@dataclass(frozen=True)
class Ranking:
    """One reward on known answers."""

    scored: Scored
    rows: Sequence[Row]
    result: OneRight | None
    why_not: str = ""


@dataclass(frozen=True)
class HackSearch:
    """Best answers of one reward that another dislikes."""

    reward: Scored
    independent: Scored
    found: Hacks
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean of the task's metrics over the disliked ones, and over the other best answers."""


@dataclass(frozen=True)
class Audit:
    """All that was found."""

    answers: Answers
    options: AuditOptions
    rewards: Sequence[Scored]
    pairs: Sequence[Pair]
    stability: Sequence[Stability]
    rankings: Sequence[Ranking]
    accepted: Mapping[str, Sequence[str]]
    """Known wrong answers that the task takes for right: the samples by kind."""
    hacks: HackSearch | None
    representations: Representations


def audit(answers: Answers, rewards: Sequence[Scored], use: str, options: AuditOptions) -> Audit:
    """Run every measure; use: the task's name in the config. ConfigError for unknown rewards."""
    group = answers.group
    search = _search(answers, rewards, options)
    pairs = [
        Pair(
            one,
            other,
            starc(one.values, other.values, group),
            _by_step(one, other, answers),
            orders(one.values, other.values, group, options.num_pairs),
            advantage_change(one.values, other.values, group),
        )
        for one, other in itertools.combinations(rewards, 2)
    ]
    known = _known(answers, options)
    accepted: dict[str, list[str]] = {}
    for one in known:
        for kind in one.accepted:
            accepted.setdefault(kind, []).append(one.sample.id)
    return Audit(
        answers,
        options,
        rewards,
        pairs,
        [_stability(one, answers, use, options) for one in rewards],
        _rankings(known, rewards),
        accepted,
        search,
        represented(answers, rewards, options.labels, load_models=options.load_models),
    )


def _by_step(one: Scored, other: Scored, answers: Answers) -> list[tuple[int, float]]:
    steps = np.array([rollout.policy_version for rollout in answers.rollouts])
    if len(np.unique(steps)) < 2:
        return []
    group = answers.group
    found = []
    for step in np.unique(steps):
        own = steps == step
        _, inside = np.unique(group[own], return_inverse=True)
        distance = starc(one.values[own], other.values[own], inside.astype(np.int64))
        if math.isfinite(distance):
            found.append((int(step), distance))
    return found


def _stability(one: Scored, answers: Answers, use: str, options: AuditOptions) -> Stability:
    changed = perturb(one, answers, use, options.perturb, options.seed)
    given = (one.values, changed.values, answers.group, answers.same)
    betas = sorted({*BETAS, options.beta})
    return Stability(one, changed, stability(*given, options.beta), tilts(*given, betas))


def _known(answers: Answers, options: AuditOptions) -> list[KnownGroup]:
    samples = list({one.sample.id: one.sample for one in answers.rollouts}.values())
    return known_groups(answers.task, evenly(samples, options.num_known), answers.rollouts)


def _rankings(groups: Sequence[KnownGroup], rewards: Sequence[Scored]) -> list[Ranking]:
    found = []
    for one in rewards:
        why = why_not_ranked(one.reward, groups, one.recorded)
        rows = [] if why else ranked(one.reward, groups)
        if not why and not any(row.wrong for row in rows):
            why = "it applies to none of the right answers"
        found.append(Ranking(one, rows, None if why else one_right(rows), why))
    return found


def _search(
    answers: Answers, rewards: Sequence[Scored], options: AuditOptions
) -> HackSearch | None:
    """The search for hacks; None where there is one reward and no other is asked for."""
    named = {one.name: one for one in rewards}
    for option, name in (("reward", options.reward), ("independent", options.independent)):
        if name is not None and name not in named:
            raise ConfigError(
                f"--{option}: there is no reward {name!r}; {did_you_mean(name, named)}"
            )
    own = named[options.reward] if options.reward else rewards[0]
    others = [one for one in rewards if one is not own]
    if not others and options.independent is None:
        return None
    other = named[options.independent] if options.independent else others[0]
    if other is own:
        raise ConfigError(
            f"--independent: {other.name!r} is the reward that is searched; it cannot judge itself"
        )
    names = [one.sample.id for one in answers.rollouts]
    _, prompt = np.unique(names, return_inverse=True)
    found = find_hacks(
        own.values,
        other.values,
        prompt.astype(np.int64),
        top_share=options.top,
        num=options.num_hacks,
    )
    return HackSearch(own, other, found, _compared(answers, found))


def _compared(answers: Answers, found: Hacks) -> dict[str, tuple[float, float]]:
    """What sets hacks apart from the other best answers, in the task's own metrics."""
    disliked = set(found.disliked)
    top = [row for row in found.top if answers.whole[row]]
    parts = [[row for row in top if (row in disliked) == is_hack] for is_hack in (True, False)]
    if not all(parts):
        return {}
    columns = [_figures(answers, part) for part in parts]
    means = [{name: _mean(values) for name, values in own.items()} for own in columns]
    return {name: (means[0][name], means[1][name]) for name in means[0] if name in means[1]}


def _figures(answers: Answers, rows: Sequence[int]) -> dict[str, Sequence[float]]:
    """The task's metrics of some answers, and the size of what they had to find."""
    rollouts = [answers.rollouts[row] for row in rows]
    found = dict(answers.task.metrics(rollouts))
    sizes = [answers.task.difficulty(one.sample) for one in rollouts]
    return {**found, TARGET_SIZE: sizes} if any(map(math.isfinite, sizes)) else found


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
