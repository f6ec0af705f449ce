"""What the features of learnt rewards know of the answers, and how alike those of two are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlrl.audit.answers import Answers
from vlrl.audit.features import Probe, alikeness, probe
from vlrl.audit.scoring import Scored
from vlrl.errors import ConfigError, did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.known_features import MIN_KNOWN, KnownFeatures
from vlrl.reward.parts import fresh_name, leaves
from vlrl.stats import evenly

LOW, HIGH = 0.25, 0.75
"""Quantiles of the geo-topological transform; ours, the paper tries all."""
MAX_COMPARED = 600
"""Answers of which all pairs are compared, spread evenly."""
NUM_FAR = 8
"""Answers that are named as the least known ones."""
MAX_VALUES = 12
"""Of a label that is probed; one with more is an id."""


@dataclass(frozen=True)
class Representation:
    """The features of one learnt reward."""

    name: str
    """Its name, after that of its config where two have the same."""
    features: np.ndarray
    """[M, D]"""
    rows: np.ndarray
    """Answers that have features, int [M]."""
    probes: Mapping[str, Probe]
    """By label."""
    labels: Sequence[str | None]
    """Of the rows, where one label alone was asked for; else none."""
    far: Sequence[int]
    """The answers that lie farthest from the others, farthest first."""


@dataclass(frozen=True)
class Alike:
    """Two representations on the same answers."""

    first: str
    second: str
    num: int
    rho_a: float
    topological: float


@dataclass(frozen=True)
class Representations:
    """Of all learnt rewards."""

    every: Sequence[Representation] = ()
    alike: Sequence[Alike] = ()


def represented(
    answers: Answers, rewards: Sequence[Scored], only: Sequence[str], *, load_models: bool = False
) -> Representations:
    """Features of all leaves that have any, probed by label; each model once.

    only: labels that are probed; none = all that the task, its metrics and the rows have. Leaves
    that were read from columns are left out unless `load_models`.
    """
    found: list[Representation] = []
    seen: list[Reward] = []
    rows: list[int] = np.flatnonzero(answers.whole).tolist()
    rollouts = [answers.rollouts[i] for i in rows]
    labels = labels_of(answers, only)
    for scored in rewards:
        for leaf in leaves(scored.reward):
            spared = leaf.name in scored.recorded and not load_models
            if spared or any(leaf.same_as(other) for other in seen):
                continue
            features = leaf.answer_features(rollouts)
            if features is None:
                continue
            seen.append(leaf)
            there = np.isfinite(features).all(1)
            name = leaf.name
            if name in {one.name for one in found}:
                name = fresh_name(f"{scored.name}_{name}", [one.name for one in found])
            own = np.array(rows)[there]
            found.append(_represented(name, features[there], own, answers, labels, len(only)))
    alike = [_alike(*pair) for pair in itertools.combinations(found, 2)]
    return Representations(found, alike)


def _represented(
    name: str,
    features: np.ndarray,
    rows: np.ndarray,
    answers: Answers,
    labels: Mapping[str, Sequence[str | None]],
    asked: int,
) -> Representation:
    prompts = [answers.rollouts[i].sample.id for i in rows]
    probes = {
        label: one
        for label, values in labels.items()
        if (one := probe(features, [values[i] for i in rows], prompts)) is not None
    }
    some = np.array(evenly(range(len(rows)), MAX_COMPARED), dtype=np.int64)
    far: list[int] = []
    if len(some) >= MIN_KNOWN:
        distances = KnownFeatures(features[some]).distances_without_self()
        far = [int(rows[some[i]]) for i in np.argsort(-distances, kind="stable")[:NUM_FAR]]
    own = next(iter(labels.values())) if len(labels) == 1 and asked == 1 else []
    return Representation(name, features, rows, probes, [own[i] for i in rows] if own else [], far)


def labels_of(answers: Answers, only: Sequence[str] = ()) -> dict[str, list[str | None]]:
    """Of every answer: what the rows say, the task's strata, and its metrics as yes or no.

    only: these; ConfigError for one that is not there. A metric is a label by whether it lies above
    its median, or as it is where it is 0 or 1.
    """
    found: dict[str, list[str | None]] = {}
    num = len(answers.rollouts)

    def put(name: str, place: int, value: str) -> None:
        found.setdefault(name, [None] * num)[place] = value

    for i, rollout in enumerate(answers.rollouts):
        own = answers.labels[i] if answers.labels else {}
        for name, value in {**answers.task.strata(rollout.sample), **own}.items():
            put(name, i, value)
    whole: list[int] = np.flatnonzero(answers.whole).tolist()
    metrics = answers.task.metrics([answers.rollouts[i] for i in whole])
    for name, column in metrics.items():
        known = [value for value in column if math.isfinite(value)]
        if not known:
            continue
        is_rate = set(known) <= {0.0, 1.0}
        least = 0.5 if is_rate else float(np.median(known))
        for place, number in zip(whole, column, strict=True):
            if math.isfinite(number):
                put(name, place, "yes" if number > least else "no")
    for name in only:
        if name not in found:
            raise ConfigError(f"--labels: no answer has {name!r}; {did_you_mean(name, found)}")
    return {
        name: values
        for name, values in found.items()
        if (name in only if only else 1 < len(set(values) - {None}) <= MAX_VALUES)
    }


def _alike(first: Representation, second: Representation) -> Alike:
    both = evenly(sorted(set(first.rows.tolist()) & set(second.rows.tolist())), MAX_COMPARED)
    one, other = (part.features[np.searchsorted(part.rows, both)] for part in (first, second))
    return Alike(
        first.name,
        second.name,
        len(both),
        alikeness(one, other),
        alikeness(one, other, LOW, HIGH),
    )
