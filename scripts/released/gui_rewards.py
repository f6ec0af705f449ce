"""Released rewards of GUI grounding."""

from __future__ import annotations

import ast
import json
import logging
import math
import os
import random
import re
from collections.abc import Callable
from datetime import datetime
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.gui_inputs import NUM_ROWS, Hint, before, true_box
from released.gui_parsers import quiet
from released.source import Source

G2, G2_COMMIT = "ZJU-REAL/GUI-G2", "5c5c36581654364073385e37deca28f4d765aa94"
G2_FILE = "src/gui_g2/src/open_r1/gaussian_grpo.py"
G1, G1_COMMIT = "Yuqi-Zhou/GUI-G1", "e581fe98fe902d7903207686351d6d30c2ca4acd"
G1_FILE = "src/open-r1-multimodal/src/open_r1/grpo_rec.py"
SCREEN = (1920, 1080)
SE_GUI_FILE = "src/open-r1-multimodal/src/open_r1/vlm_modules/qwen_module.py"


def predicted(rng: random.Random, true: list[int]) -> list[int]:
    """A box near the true one, seldom equal, inverted, empty or far away."""
    kind = rng.random()
    if kind < 0.1:
        return list(true)
    if kind < 0.2:
        return true_box(rng, *SCREEN)
    x1, y1, x2, y2 = true
    dx, dy = (x2 - x1) // 2 + 1, (y2 - y1) // 2 + 1
    near = [x1 + rng.randint(-dx, dx), y1 + rng.randint(-dy, dy),
            x2 + rng.randint(-dx, dx), y2 + rng.randint(-dy, dy)]  # fmt: skip
    if kind < 0.9:
        near = [*map(min, near[:2], near[2:]), *map(max, near[:2], near[2:])]
    return near


def boxes(rng: random.Random) -> list[Json]:
    """[predicted box, true box] on a screen of 1920 x 1080."""
    trues = [true_box(rng, *SCREEN) for _ in range(NUM_ROWS)]
    return [[predicted(rng, true), true] for true in trues]


def one(text: str) -> list[list[dict[str, str]]]:
    """One completion as trl passes it."""
    return [[{"content": text}]]


def gui_g2(name: str) -> Callable[[Source], Answer]:
    """One of its Gaussian rewards."""

    def released(source: Source) -> Answer:
        given = {"re": re, "np": np, "math": math, "os": os, "print": quiet}
        reward: Any = source.define(G2_FILE, [name], given)[name]
        return lambda given: float(reward(one(str(given[0])), [given[1]])[0])  # type: ignore[index]

    return released


def g2_answers(rng: random.Random) -> list[Json]:
    """Answers, most of them in the format that is asked for."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        box = true_box(rng, *SCREEN)
        text = ("[{},{},{},{}]", "[{}, {}, {}, {}]", "[ {} ,{} , {}, {} ]", "[[{},{},{},{}]]",
                "{}, {}, {}, {}", "[{}.0,{},{},{}]", "[{},{},{}]", "[-{},{},{},{}]",
                "\n[{},{},{},{}]")[number % 9].format(*box)  # fmt: skip
        rows.append(text if number % 5 else before(rng) + text)
    return rows


def g2_format(source: Source) -> Answer:
    """1 in the format, else 0."""
    reward: Any = source.define(G2_FILE, ["format_reward"], {"re": re, "os": os})["format_reward"]
    return lambda given: reward(one(str(given)))[0]


def gui_g1(source: Source) -> Answer:
    """[hit, IoU, box] of the released rewards, without their weights of 0.25 and 0.125."""
    names = ("parse_json", "hit_reward", "iou_reward", "box_reward")
    given = {"re": re, "ast": ast, "os": os, "datetime": datetime}
    found: Any = source.define(G1_FILE, names, given)
    image = SimpleNamespace(width=SCREEN[0], height=SCREEN[1])

    def answer(given: Json) -> Json:
        box, true = given  # type: ignore[misc]
        text = one(f'```json\n[{{"bbox_2d": {box}, "label": "a"}}]\n```')
        hit, iou, size = (found[name](text, [true], image=[image])[0] for name in names[1:])
        return [hit, iou / 0.25, size / 0.125]

    return answer


def clicks(rng: random.Random) -> list[Json]:
    """[click, true box] on a screen of 1920 x 1080: on edges, inside, near, anywhere, off it."""
    rows: list[Json] = []
    for _ in range(NUM_ROWS):
        box = true_box(rng, *SCREEN)
        where = []
        for low, high, side in ((box[0], box[2], 1920), (box[1], box[3], 1080)):
            near = rng.choice((low, high, rng.randint(low, high), rng.randint(low - 9, high + 9)))
            where.append(near if rng.random() < 0.85 else rng.randint(-side // 2, 2 * side))
        rows.append([where, box])
    return rows


def se_gui(source: Source) -> Answer:
    """Hit plus the fall with the distance."""
    given = {"VLMBaseModule": object, "Dict": dict, "Any": Any, "Union": Hint, "torch": Hint}
    module: Any = source.define(SE_GUI_FILE, ["Qwen2VLModule"], given)["Qwen2VLModule"]

    def answer(given: Json) -> Json:
        (x, y), box = given  # type: ignore[misc]
        call = json.dumps({"name": "computer_use", "arguments": {"coordinate": [x, y]}})
        text = one(f"<tool_call>\n{call}\n</tool_call>")
        return float(module.point_reward(text, [[*box, *SCREEN]])[0])

    return answer


def gta1_inputs(rng: random.Random) -> list[Json]:
    """[answer, true box in thousandths, image's size], the image as the model sees it."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        width, height = rng.choice(((1932, 1092), (2548, 1428), (1288, 728), (1000, 1000)))
        x, y = rng.randrange(900), rng.randrange(900)
        box = [x, y, x + rng.randint(5, 100), y + rng.randint(5, 100)]
        edge = [rng.choice((box[i], box[i + 2], (box[i] + box[i + 2]) // 2)) for i in (0, 1)]
        click = [edge[0] * width // 1000, edge[1] * height // 1000]
        text = "({}, {})".format(*click)
        if number % 7 == 0:
            text = rng.choice(
                (f"{text} or {text}", f"At {text}.", "no", "({}.5, {})".format(*click))
            )
        rows.append([text, box, [width, height]])
    return rows


def gta1(source: Source) -> Answer:
    """1 for a hit, else 0."""
    names = ["parse_coordinates", "click_reward"]
    found: Any = source.define("src/grpo_grounding.py", names, {"re": re, "os": os})
    return lambda given: found["click_reward"](
        one(given[0]), [[given[1], given[2][1] / 1000, given[2][0] / 1000]]  # type: ignore[index, call-overload, arg-type]
    )[0]  # fmt: skip


def infigui_inputs(rng: random.Random) -> list[Json]:
    """[answer, true box] on a screen of 1920 x 1080."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        box = true_box(rng, *SCREEN)
        points = []
        for _ in range(rng.choice((1, 1, 2, 3, 4))):
            inside = [rng.randint(box[i], box[i + 2]) for i in (0, 1)]
            points.append(
                inside if rng.random() < 0.4 else [rng.randrange(1920), rng.randrange(1080)]
            )
        if number % 9 == 0:
            points = [[10, 10], [20, 20], [30, 30]]
        listed = ", ".join(f'{{"point_2d": {point}}}' for point in points)
        text = f"<think>a tab</think>\n[{listed}]"
        if number % 8 == 0:
            thought = "<think>a</think>"
            text = rng.choice((f"[{listed}]", f"<think></think>[{listed}]", f"{thought}no",
                               f"{thought}[]", f"{thought}```json\n[{listed}]\n```"))  # fmt: skip
        rows.append([text, box])
    return rows


def infigui_g1(source: Source) -> Answer:
    """The whole score."""
    names = (
        "extract_think_format", "extract_and_parse_json", "_extract_verifiable_answer",
        "_format_reward", "_check_collinear", "_accuracy_reward", "calculate_point_reward",
    )  # fmt: skip
    given = {"json": json, "re": re, "math": math, "combinations": combinations, "logging": logging}
    score: Any = source.define("recipe/infigui-g1/reward_fn.py", names, given)[names[-1]]

    def answer(given: Json) -> Json:
        text, box = given  # type: ignore[misc]
        true = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
        return score(text, true, extra_info={})["score"]

    return answer


COMPARISONS = [
    Comparison("gui_g2_point", G2, G2_COMMIT, G2_FILE, boxes, gui_g2("gaussian_point_reward")),
    Comparison("gui_g2_coverage", G2, G2_COMMIT, G2_FILE, boxes, gui_g2("gaussian_plane_reward")),
    Comparison("gui_g2_format", G2, G2_COMMIT, G2_FILE, g2_answers, g2_format),
    Comparison("gui_g1_rewards", G1, G1_COMMIT, G1_FILE, boxes, gui_g1),
    Comparison(
        "gui_se_gui_reward", "YXB-NKU/SE-GUI", "0e2623762fc57427908c15dcbca30cf09175b547",
        SE_GUI_FILE, clicks, se_gui,
    ),
    Comparison(
        "gui_gta1_reward", "Yan98/GTA1", "81f0c4c2997cf6ad696d42f47c5480f4c856b73a",
        "src/grpo_grounding.py", gta1_inputs, gta1,
    ),
    Comparison(
        "gui_infigui_g1_reward", "InfiXAI/InfiGUI-G1", "22208e4d4826626731292fa08bb73ec9fc6f9b15",
        "recipe/infigui-g1/reward_fn.py", infigui_inputs, infigui_g1,
    ),
]  # fmt: skip
