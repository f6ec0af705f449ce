"""GenEval's verdict on detected objects."""

from __future__ import annotations

import random

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source

REPOSITORY, COMMIT = "djghosh13/geneval", "af4902f24d3ca90ebbb446dd9891a59e0f82725f"
FILE = "evaluation/evaluate_images.py"
NAMES = ("dog", "cup", "chair")
COLOURS = ("red", "green", "blue")
RELATIONS = ("left of", "right of", "above", "below")


def scenes(rng: random.Random) -> list[Json]:
    """[include, exclude, {class: [[x1, y1, x2, y2, score, colour], ...]}], best object first."""
    rows: list[Json] = []
    while len(rows) < 300:
        include: list[dict[str, Json]] = []
        for place in range(rng.choice((1, 1, 2, 2, 3))):
            clause: dict[str, Json] = {"class": NAMES[place], "count": rng.choice((1, 1, 2))}
            if rng.random() < 0.4:
                clause["color"] = rng.choice(COLOURS)
            if place and rng.random() < 0.7:
                clause["position"] = [rng.choice(RELATIONS), rng.randrange(place)]
            include.append(clause)
        exclude: list[Json] = []
        if rng.random() < 0.3:
            exclude = [{"class": rng.choice(NAMES), "count": rng.choice((2, 3))}]
        objects: dict[str, Json] = {}
        for name in NAMES:
            found = []
            for number in range(rng.choice((0, 1, 1, 2, 3))):
                x, y = rng.randrange(0, 400, 20), rng.randrange(0, 400, 20)
                box = [x, y, x + rng.choice((20, 60, 100)), y + rng.choice((20, 60, 100))]
                found.append([*box, round(0.95 - 0.1 * number, 2), rng.choice(COLOURS)])
            if found:
                objects[name] = found
        rows.append([include, exclude, objects])
    return rows


def verdict(source: Source) -> Answer:
    """`evaluate`, its colour classifier replaced by the colours in the row."""
    given = {
        "np": np,
        "POSITION_THRESHOLD": 0.1,
        "COLORS": COLOURS,
        "color_classification": lambda image, objects, name: [colour for _, colour in objects],
    }
    made = source.define(FILE, ["evaluate", "relative_position"], given)

    def answer(row: Json) -> Json:
        include, exclude, objects = row
        found = {
            name: [(np.array(one[:5], float), one[5]) for one in several]
            for name, several in objects.items()
        }
        correct, _ = made["evaluate"](None, found, {"include": include, "exclude": exclude})
        return bool(correct)

    return answer


COMPARISONS = [Comparison("geneval_verdict", REPOSITORY, COMMIT, FILE, scenes, verdict)]
