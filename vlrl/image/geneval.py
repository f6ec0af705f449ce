"""GenEval: are the requested objects in the image, in number, colour and position?

Works on detected boxes, class names and colours; see vlrl/image/networks/detector.py.
Source: arXiv 2310.11513 and its code (right or wrong), Flow-GRPO's server (partial credit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vlrl.errors import DataError, did_you_mean

COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
)
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Clause:
    """One line of `include` or `exclude`."""

    name: str
    count: int
    colour: str | None = None
    position: tuple[str, int] | None = None
    """A relation, and the earlier clause of `include` that it relates to."""


@dataclass(frozen=True)
class Scene:
    """What an image should show, and what it should not."""

    tag: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...]


@dataclass(frozen=True)
class Found:
    """One detected object."""

    box: tuple[float, float, float, float]
    """xyxy, pixels, y downwards."""
    score: float
    colour: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The scores of one image."""

    score: float
    """Mean of the partial credits."""
    correct: bool
    """GenEval's own verdict: the requested count at least, the most confident objects judged."""
    strict: bool
    """Exactly the requested count, with all of them right."""
    credits: tuple[tuple[str, float], ...]
    """(`count dog`, 1.0), (`colour dog`, 0.0), ... in order."""


Objects = Mapping[str, Sequence[Found]]


def scene_of(raw: Mapping[str, Any], where: str) -> Scene:
    """GenEval's metadata, checked; raises DataError that names `where` and the field."""
    include = tuple(
        _clause(one, f"{where}, include[{i}]", i) for i, one in enumerate(raw.get("include", ()))
    )
    if not include:
        raise DataError(f"{where}: `include` lists no object, so every image would be right")
    exclude = tuple(
        _clause(one, f"{where}, exclude[{i}]", 0) for i, one in enumerate(raw.get("exclude", ()))
    )
    return Scene(str(raw.get("tag", "")), include, exclude)


def _clause(raw: Mapping[str, Any], where: str, earlier: int) -> Clause:
    name, count, colour, position = (
        raw.get(key) for key in ("class", "count", "color", "position")
    )
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: `class` is the name of an object, not {name!r}")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise DataError(f"{where}: `count` is a whole number from 1, not {count!r}")
    if colour is not None and colour not in COLOURS:
        raise DataError(f"{where}: `color` {colour!r}; {did_you_mean(str(colour), COLOURS)}")
    if position is not None:
        relation, target = (*position, None, None)[:2]
        if relation not in RELATIONS:
            raise DataError(
                f"{where}: `position` {relation!r}; {did_you_mean(str(relation), RELATIONS)}"
            )
        if not isinstance(target, int) or not 0 <= target < earlier:
            raise DataError(f"{where}: `position` refers to include[{target}], which is not before")
        position = (str(relation), target)
    return Clause(name, count, colour, position)


def keep(
    boxes: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray,
    *,
    threshold: float = 0.3,
    max_objects: int = 16,
    max_overlap: float = 1.0,
) -> dict[str, list[Found]]:
    """The objects that are judged, [N, 4], [N], [N] -> by class, most confident first.

    GenEval's thresholds are 0.3, and 0.9 for the task `counting`. max_overlap: IoU from which
    the less confident of two objects of a class is dropped; 1 keeps all, as published.
    """
    found: dict[str, list[Found]] = {}
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    for index in order:
        if not scores[index] > threshold:
            continue
        x1, y1, x2, y2 = (float(edge) for edge in boxes[index])
        found.setdefault(names[index], []).append(Found((x1, y1, x2, y2), float(scores[index])))
    return {name: _apart(objects[:max_objects], max_overlap) for name, objects in found.items()}


def _apart(objects: Sequence[Found], max_overlap: float) -> list[Found]:
    kept: list[Found] = []
    for one in objects:
        if max_overlap == 1 or all(overlap(one.box, k.box) < max_overlap for k in kept):
            kept.append(one)
    return kept


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """IoU of two boxes, each counted one pixel larger, as GenEval does."""

    def area(box: Sequence[float]) -> float:
        return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)

    both = area(
        [max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])]
    )
    union = area(one) + area(other) - both
    return both / union if union else 0.0


def relations(
    one: Sequence[float], other: Sequence[float], threshold: float = 0.1
) -> frozenset[str]:
    """How box `one` lies relative to box `other`: none, one or two of RELATIONS.

    The offset of the centres is first shortened by `threshold` of both boxes' sizes, then
    counts in a direction where it is more than half the whole offset's length.
    """
    a, b = np.asarray(one, float).reshape(2, 2), np.asarray(other, float).reshape(2, 2)
    offset = a.mean(0) - b.mean(0)
    sizes = np.abs(a[1] - a[0]) + np.abs(b[1] - b[0])
    left_over = np.maximum(np.abs(offset) - threshold * sizes, 0) * np.sign(offset)
    if np.all(np.abs(left_over) < 1e-3):
        return frozenset()
    dx, dy = left_over / np.hypot(*offset)
    seen = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return frozenset(name for name, holds in seen.items() if holds)


def to_be_coloured(scene: Scene, objects: Objects) -> list[tuple[str, int]]:
    """(class, place in its list) of every object whose colour the verdict depends on."""
    needed = {
        (clause.name, place)
        for clause in scene.include
        if clause.colour is not None and len(objects.get(clause.name, ())) >= clause.count
        for place in range(clause.count)
    }
    return sorted(needed)


def with_colours(objects: Objects, colours: Mapping[tuple[str, int], str]) -> Objects:
    """The same objects with these colours, by (class, place)."""
    return {
        name: [
            replace(one, colour=colours.get((name, place), one.colour))
            for place, one in enumerate(several)
        ]
        for name, several in objects.items()
    }


def judge(
    scene: Scene, objects: Objects, *, published: bool = False, position_threshold: float = 0.1
) -> Verdict:
    """Score, GenEval's verdict and the strict one, for the objects that `keep` returns.

    A clause earns a credit for its count, 1 - |requested - found| / requested but not below 0,
    and, where requested, for its colour (share of right ones) and its position (0 or 1); both
    are 0 where the count is wrong. `published`: as Flow-GRPO's server computes it, that is, counts
    may go below 0, a wrong position adds a credit of 0 and one of 1, no position is credited
    after a wrong colour, and `exclude` does not affect `strict`.
    """
    credits, strict = _credits(scene, objects, published, position_threshold)
    excluded = any(len(objects.get(one.name, ())) >= one.count for one in scene.exclude)
    return Verdict(
        score=sum(value for _, value in credits) / len(credits),
        correct=_is_correct(scene, objects, position_threshold) and not excluded,
        strict=strict and (published or not excluded),
        credits=tuple(credits),
    )


def _credits(
    scene: Scene, objects: Objects, published: bool, threshold: float
) -> tuple[list[tuple[str, float]], bool]:
    """The credits in order, and whether every clause holds exactly."""
    credits: list[tuple[str, float]] = []
    matched: list[Sequence[Found] | None] = []
    for clause in scene.include:
        found = objects.get(clause.name, ())
        wanted = clause.count
        count = 1 - abs(wanted - len(found)) / wanted
        credits.append((f"count {clause.name}", count if published else max(count, 0.0)))
        holds = len(found) == wanted
        counted = holds
        if clause.colour is not None and (counted or not published):
            right = sum(one.colour == clause.colour for one in found) if counted else 0
            credits.append((f"colour {clause.name}", right / wanted))
            holds = holds and right == wanted
        if clause.position is not None and (holds or not published):
            placed = holds and _is_placed(clause.position, found, matched, threshold)
            credits.append((f"position {clause.name}", float(placed)))
            if published and not placed and matched[clause.position[1]] is not None:
                credits.append((f"position {clause.name}", 1.0))
            holds = placed
        if published and not counted and (clause.colour or clause.position):
            credits.append((f"colour or position {clause.name}", 0.0))
        matched.append(found if holds else None)
    return credits, all(one is not None for one in matched)


def _is_correct(scene: Scene, objects: Objects, threshold: float) -> bool:
    """GenEval's own rule for `include`; objects beyond the requested number are ignored."""
    matched: list[Sequence[Found] | None] = []
    for clause in scene.include:
        found = objects.get(clause.name, ())[: clause.count]
        holds = len(found) == clause.count
        if holds and clause.colour is not None:
            holds = all(one.colour == clause.colour for one in found)
        if holds and clause.position is not None:
            holds = _is_placed(clause.position, found, matched, threshold)
        matched.append(found if holds else None)
    return all(one is not None for one in matched)


def _is_placed(
    position: tuple[str, int],
    found: Sequence[Found],
    matched: Sequence[Sequence[Found] | None],
    threshold: float,
) -> bool:
    """Whether every found object has the relation to every object of its target."""
    relation, target = position
    others = matched[target]
    if others is None:
        return False
    return all(relation in relations(a.box, b.box, threshold) for a in found for b in others)
