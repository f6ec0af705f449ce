"""Open-o3 Video: rewards of spans, times and boxes in its answers."""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source
from released.time_r1 import silent

COMMIT = "1eb6ecae0507c7fc632fcaa56e3e8cae69aeb765"
REPOSITORY = "marinero4972/Open-o3-Video"
FILE = "src/r1-v/src/open_r1/reward_func.py"
TASK = "temporal-spatial free-form QA"
SIDE_PX = 100
"""Both sides of the frames; true boxes are in 0..1, answered ones in pixels."""
MOMENTS = (2.0, 5.5, 9.0)
OBJECTS = {
    2.0: ((0.1, 0.1, 0.4, 0.5),),
    5.5: ((0.2, 0.1, 0.5, 0.5), (0.6, 0.6, 0.9, 0.9)),
    9.0: ((0.5, 0.5, 0.8, 0.9), (0.0, 0.0, 0.2, 0.2), (0.1, 0.5, 0.3, 0.9)),
}
"""The objects of each key frame, one box each."""

CLAIMS = (
    "<obj>dog</obj><box>{b}</box>at<t>{t}</t>s",
    "<obj>dog</obj><box>{b}</box>at<t>{t}</t>s",
    "<obj>dog</obj><box>{b}</box>at<t>{t}</t>s",
    "<obj>dogs</obj><box>{b}</box><box>{c}</box>at<t>{t}</t>s",
    "<obj>dogs</obj><box>{c}</box><box>{b}</box>at<t>{t}</t>s",
    "at <t>{t}</t>s it runs",
    "<obj>a</obj> and <obj>b</obj><box>{b}</box>at<t>{t}</t>s",
    "<box>{b}</box>at<t>{t}</t>s",
    "<obj>dog</obj><box>[1, 2, 3]</box>at<t>{t}</t>s",
    "<obj>dog</obj><box>[a, b]</box>at<t>{t}</t>s",
    "<obj>dog</obj><box>{r}</box>at<t>{t}</t>s",
    "<obj>dog</obj> <box>{b}</box> at <t>{t}</t>s",
    "<obj>dog</obj><box>{b}</box>at<t> {t} </t>s",
    "<obj>dog</obj><box>{b}</box>",
    "it runs",
)
PARTS = (
    "<think>{x}</think><answer>yes</answer>",
    "<think>{x}</think><answer>yes</answer>",
    "<think>{x}</think>\n<answer>yes</answer>",
    "<think>{x}</think><answer>{y}</answer>",
    "<think>so</think><answer>{x}</answer>",
    "<think>{x}</think>",
    "<think>{x}",
    "{x}",
    "<think>{x}</think><answer>yes",
)


def claims(random: random.Random) -> list[Json]:
    """Rows of [answer, share of the training]."""
    rows: list[Json] = []
    for _ in range(200):
        said = " ".join(_claim(random) for _ in range(random.choice((0, 1, 1, 1, 2))))
        text = random.choice(PARTS).format(x=said, y=_claim(random))
        rows.append([text, random.choice((0.0, 0.25, 0.5, 0.7, 0.75, 0.9, 1.0))])
    return rows


def _claim(random: random.Random) -> str:
    moment = random.choice(MOMENTS)
    time = round(moment + random.choice((0, 0, 0.5, -0.5, 0.99, 1, -1, -1.5, 3)), 2)
    near = [round(100 * edge) + random.randint(-4, 4) for edge in random.choice(OBJECTS[moment])]
    far = [random.randint(0, 40), 10, random.randint(50, 99), 60]
    turned = [near[2], near[3], near[0], near[1]]
    return random.choice(CLAIMS).format(b=near, c=far, r=turned, t=time)


ANSWERS = (
    "From <t>{a}</t>s to <t>{b}</t>s.",
    "<t>{a}</t>s to <t>{b}</t>s",
    "<t>{a}</t>s to <t>{b}</t>s",
    "<t>{a}</t>s to <t>{b}</t>s, not <t>1</t>s to <t>2</t>s",
    "<t>{b}</t>s to <t>{a}</t>s",
    "<t>{a}.</t>s to <t>{b}.</t>s",
    "<t>{a}</t>s and <t>{b}</t>s",
    "The <obj>dog</obj><box>[10, 20, 30, 40]</box> at <t>{a}</t>s",
    "<box>[10, 20, 30, 40]</box>",
    "{a} to {b}",
    "between {a} and {b} people",
    "<t> {a} </t>s  to <t>{b}</t>s",
)


def answers(random: random.Random) -> list[Json]:
    """Rows of [answer, true start, true end]."""
    rows: list[Json] = []
    for _ in range(210):
        start = float(random.choice((random.randint(0, 20), round(random.uniform(0, 20), 1))))
        end = round(start + random.choice((0, 1, 2.5, 6)), 1)
        a, b = (max(0, round(edge + random.choice((0, 0, 1, -1)), 1)) for edge in (start, end))
        said = random.choice(ANSWERS).format(a=a, b=b)
        around = random.choice(
            (
                "<think>t</think><answer>{x}</answer>",
                "<think>t</think><answer>{x}</answer>",
                "<think>{x}</think><answer>yes</answer>",
                "<answer>{x}</answer><answer><t>0</t>s to <t>9</t>s</answer>",
                "<think>t</think><answer>{x}",
            )
        )
        rows.append([around.format(x=said), start, end])
    return rows


def key_frames() -> dict[str, list[Any]]:
    """Columns of a batch of one, as the released rewards take them."""
    frames = [{"time": moment, "idx": k} for k, moment in enumerate(MOMENTS)]
    items = {
        str(k): {f"o{n}": [list(box)] for n, box in enumerate(OBJECTS[moment])}
        for k, moment in enumerate(MOMENTS)
    }
    return {"key_frames": [frames], "key_items": [items], "image_size": [(SIDE_PX, SIDE_PX)]}


def _function(source: Source, names: Sequence[str]) -> Any:
    given = {
        "re": re, "np": np, "json": json, "ast": ast, "datetime": datetime, "print": silent,
    }  # fmt: skip
    return source.define(FILE, names, given)[names[-1]]


def times(source: Source) -> Answer:
    """`thk_temporal_point_reward`."""
    near = _function(source, ["thk_temporal_point_reward"])

    def value(row: Any) -> Json:
        columns = {**key_frames(), "task": [TASK], "step_percent": [row[1]]}
        return float(near([[{"content": row[0]}]], **columns)[0])

    return value


def boxes(source: Source) -> Answer:
    """`thk_spatial_reward`."""
    names = (
        "convert_coord_format", "calculate_iou", "parse_temporal_spatial_reasoning_process",
        "thk_spatial_reward",
    )  # fmt: skip
    fit = _function(source, names)

    def value(row: Any) -> Json:
        return round(float(fit([[{"content": row[0]}]], task=[TASK], **key_frames())[0]), 15)

    return value


def span(source: Source) -> Answer:
    """`ans_tiou_reward` of the task with spans."""
    overlap = _function(source, ["ans_tiou_reward"])

    def value(row: Any) -> Json:

        truth = [str([row[1], row[2]])]
        return float(overlap([[{"content": row[0]}]], truth, task=["temporal QA"])[0])

    return value


COMPARISONS = [
    Comparison("open_o3_times", REPOSITORY, COMMIT, FILE, claims, times),
    Comparison("open_o3_boxes", REPOSITORY, COMMIT, FILE, claims, boxes),
    Comparison("open_o3_span", REPOSITORY, COMMIT, FILE, answers, span),
]
