"""Verdicts of released evaluations, and the sizes to which they resize images."""

from __future__ import annotations

import ast
import json
import math
import os
import random
import re
import traceback
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from released.comparison import Answer, Comparison, Json
from released.gui_inputs import NUM_ROWS, SIZES, Hint, before, true_box
from released.gui_parsers import CLAW, quiet
from released.source import Source

INFI_COMMIT = "22208e4d4826626731292fa08bb73ec9fc6f9b15"
OWL_FILE = "Mobile-Agent-v3.5/grounding_and_kb/eval_grounding_benchmarks.py"
SE_GUI_COMMIT = "0e2623762fc57427908c15dcbca30cf09175b547"


def tool_call(x: int, y: int) -> str:
    """A click as Qwen's computer use has it, without its action and name."""
    return f'<tool_call>{{"arguments": {{"coordinate": [{x}, {y}]}}}}</tool_call>'


def click_near(
    rng: random.Random, box: list[int], size: tuple[int, int], frame: tuple[int, int]
) -> list[int]:
    """A whole-number click: on an edge or corner of the box where the frame allows it, or near."""
    found = []
    for low, high, side, whole in (
        (box[0], box[2], size[0], frame[0]),
        (box[1], box[3], size[1], frame[1]),
    ):
        place = rng.choice((low, high, (low + high) // 2, rng.randint(low, high)))
        found.append(round(place * whole / side) + rng.choice((0, 0, 0, 0, -1, 1)))
    return found


def edge_box(rng: random.Random, width: int, height: int) -> list[int]:
    """A box whose edges are whole pixels that thousandths fall on, where the image has such."""
    steps = [side // math.gcd(side, 1000) for side in (width, height)]
    left, top = (
        rng.randrange(max(1, side // step - 1))
        for side, step in zip((width, height), steps, strict=True)
    )
    x1, y1 = left * steps[0], top * steps[1]
    return [
        x1,
        y1,
        min(width, x1 + rng.randint(1, 4) * steps[0]),
        min(height, y1 + rng.randint(1, 4) * steps[1]),
    ]


def hard_edges() -> list[tuple[int, int, int]]:
    """(thousandth, side, pixel) where a scale that is divided beforehand misses the pixel."""
    sides = sorted({side for size in SIZES for side in size})
    return [
        (number, side, number * side // 1000)
        for side in sides
        for number in range(1, 1000)
        if number * side % 1000 == 0 and number * (side / 1000) != number * side // 1000
    ]


def clicks_and_boxes(rng: random.Random) -> list[Json]:
    """[click in thousandths or in pixels of a resized image, its frame, box, image's size]."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        size = rng.choice(SIZES)
        box = edge_box(rng, *size) if number % 3 else true_box(rng, *size)
        resized = smart_resize(size[1], size[0], 28, 3_136, 12_845_056)[::-1]
        frame = (1000, 1000) if number % 2 else resized
        rows.append([click_near(rng, box, size, frame), list(frame), box, list(size)])
    rows[::25] = [[None, *row[1:]] for row in rows[::25]]  # type: ignore[misc]
    for thousandth, side, edge in rng.choices(hard_edges(), k=60):
        box = rng.choice(([edge - 9, edge - 9, edge, edge], [edge, edge, edge + 9, edge + 9]))
        rows.append([[thousandth] * 2, [1000, 1000], box, [side, side]])  # type: ignore[list-item]
    return rows


def screenspot_pro(source: Source) -> Answer:
    """correct, wrong or wrong_format."""
    name = "eval_sample_positive_gt"
    judge: Any = source.define("eval_screenspot_pro.py", [name], {"print": quiet})[name]

    def answer(given: Json) -> Json:
        click, frame, box, size = given  # type: ignore[misc]
        where = None if click is None else [click[0] / frame[0], click[1] / frame[1]]
        return judge({"bbox": box, "img_size": size}, {"point": where})

    return answer


def mmbench_inputs(rng: random.Random) -> list[Json]:
    """[answer, box from 0 to 1, image's size]."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        size = rng.choice(SIZES)
        x1, y1, x2, y2 = true_box(rng, *size)
        box = [
            round(x1 / size[0], 4),
            round(y1 / size[1], 4),
            round(x2 / size[0], 4),
            round(y2 / size[1], 4),
        ]
        edge = rng.random() < 0.5
        where = [
            rng.choice((box[i], box[i + 2])) if edge else (box[i] + box[i + 2]) / 2 for i in (0, 1)
        ]
        if number % 2:
            place = [round(where[i] * size[i]) for i in (0, 1)]
            text = f"({place[0]}, {place[1]})"
        else:
            text = f"({where[0]:.4f}, {where[1]:.4f})"
        rows.append([rng.choice((text, text, text, text, text, "no idea")), box, list(size)])
    return rows


def mmbench_gui(source: Source) -> Answer:
    """correct, wrong or wrong_format, by its whole evaluation of one line."""
    misc: Any = source.define(
        "utils/misc.py",
        ["parser_response_into_coordinates", "deep_nested"],
        {"re": re, "defaultdict": defaultdict},
    )
    kept: dict[str, Any] = {}

    class Lines(list[Any]):
        iloc = property(lambda self: self)
        __contains__ = lambda self, name: True  # noqa: E731

    given = {
        "ImageBaseDataset": object, "defaultdict": defaultdict, "deep_nested": misc["deep_nested"],
        "tqdm": list, "ast": ast, "os": os, "logger": SimpleNamespace(warning=quiet),
        "load": lambda lines: lines, "level2_calculate_scores": lambda stats: {},
        "dump": lambda rows, path: kept.update(rows=rows), "pd": SimpleNamespace(DataFrame=list),
        "Image": SimpleNamespace(open=lambda path: SimpleNamespace(size=kept["size"])),
    }  # fmt: skip
    path, name = "benchmarks/l2_element_grounding.py", "GUIElementGrounding"
    evaluation: Any = source.define(path, [name], given)[name]

    def answer(given: Json) -> Json:
        text, box, size = given  # type: ignore[misc]
        kept["size"] = size
        line = {
            "bbox": box, "image_path": "a.png", "data_type": "icon", "prediction": text,
            "platform": "p", "grounding_type": "basic", "instruction": "x", "app_name": "a",
        }  # fmt: skip
        mine = evaluation.__new__(evaluation)
        mine.parse_function, mine.img_root = misc["parser_response_into_coordinates"], ""
        lines: Any = Lines([line])
        lines.replace = lambda old, new: new
        mine.evaluate(lines)
        (row,) = kept["rows"]
        return "wrong_format" if row["is_wrong_format"] else "correct" if row["match"] else "wrong"

    return answer


def osworld_inputs(rng: random.Random) -> list[Json]:
    """[click in pixels or "refused" or nothing, kind, xyxy box or flat polygon]."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        box = true_box(rng, 1920, 1080)
        x1, y1, x2, y2 = box
        polygon = [x1, y1, x2, y1, x2, y2, (x1 + x2) // 2, y2 + 20, x1, y2]
        kind = ("bbox", "bbox", "polygon", "polygon", "refusal")[number % 5]
        click: Json = click_near(rng, box, (1920, 1080), (1920, 1080))
        if kind == "refusal" or rng.random() < 0.1:
            click = rng.choice((click, "refused", "refused", None, [0, 0]))
        rows.append([click, kind, polygon if kind == "polygon" else box])
    return rows


def osworld_g(source: Source) -> Answer:
    """Whether the click is right."""
    path = "clawgui-eval/judge/osworld_g_judge.py"
    names = ("is_point_in_rectangle", "is_point_in_polygon", "OSWorldGJudge")
    hints = dict.fromkeys(("Tuple", "List", "Optional", "Dict"), Hint)
    given = {"BaseJudge": object, "REFUSAL": (-1, -1), "Any": Any, **hints}
    judge: Any = source.define(path, names, given)[names[-1]]

    def answer(given: Json) -> Json:
        click, kind, area = given  # type: ignore[misc]
        where = (-1, -1) if click == "refused" else None if click is None else tuple(click)
        mine = judge.__new__(judge)
        return bool(mine.evaluate_single(where, {"box_type": kind, "answer": area}))

    return answer


def owl_inputs(rng: random.Random) -> list[Json]:
    """[answer, kind, xywh box or flat polygon, image's size]."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        size = rng.choice(SIZES)
        x1, y1, x2, y2 = box = edge_box(rng, *size) if number % 2 else true_box(rng, *size)
        x, y = click_near(rng, box, size, (1000, 1000))
        prose = before(rng) if number % 4 == 0 else ""
        text = f"{prose}{tool_call(x, y)}"
        kind: str = ("bbox", "bbox", "bbox", "polygon", "refusal")[number % 5]
        area = [x1, y1, x2 - x1, y2 - y1]
        if kind == "polygon":
            area = [x1, y1, x2, y1, x2, y2, x1, y2]
        if rng.random() < 0.15:
            text = rng.choice((
                "", "I cannot find it.",
                '<tool_call>{"arguments": {"action": "terminate"}}</tool_call>',
            ))  # fmt: skip
        rows.append([text, kind, area, list(size)])
    return rows


def gui_owl(source: Source) -> Answer:
    """Whether the answer is right."""
    given = {"defaultdict": defaultdict, "math": math, "re": re, "print": quiet,
             "traceback": traceback, "Path": Path}  # fmt: skip
    evaluation: Any = source.define(OWL_FILE, ["ScreenSpotv2"], given)["ScreenSpotv2"]

    def answer(given: Json) -> Json:
        text, kind, area, (width, height) = given  # type: ignore[misc]
        image = {"width": width, "height": height, "resized_width": 0, "resized_height": 0}
        extra = {"platform": "p", "bbox": area, "box_type": kind, "image_ele": image}
        mine = evaluation.__new__(evaluation)
        mine.use_qwen3vl = True
        found = mine.evaluate([{"model_response": text, "extra": extra}])
        return found["Overall Acc"] == 100

    return answer


def se_gui_inputs(rng: random.Random) -> list[Json]:
    """[answer, box, image's size]."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        size = rng.choice(SIZES)
        box = edge_box(rng, *size) if number % 3 else true_box(rng, *size)
        height, width = smart_resize(size[1], size[0], 28, 3_136, 7_049_280)
        x, y = click_near(rng, box, size, (width, height))
        text = f"{before(rng) if number % 4 == 0 else ''}{tool_call(x, y)}"
        rows.append([text if rng.random() < 0.95 else f"({x}, {y})", box, list(size)])
    return rows


def se_gui(source: Source) -> Answer:
    """1 for a hit, else 0."""
    names = ["extract_point_answer", "point_in_box"]
    found: Any = source.define(
        "src/eval/test_grounding_r1_nothink.py", names, {"re": re, "json": json}
    )

    def answer(given: Json) -> Json:
        text, box, (width, height) = given  # type: ignore[misc]
        x, y = found[names[0]](text)
        h, w = smart_resize(height, width, 28, 3_136, 7_049_280)
        true = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]
        return found[names[1]]([x / w, y / h], true)

    return answer


def infigui_inputs(rng: random.Random) -> list[Json]:
    """[answer, box, image's size]."""
    rows: list[Json] = []
    for number in range(NUM_ROWS):
        size = rng.choice(SIZES)
        box = edge_box(rng, *size) if number % 2 else true_box(rng, *size)
        seen = smart_resize(size[1], size[0], 28, 3_136, 4_390_400)[::-1]
        points = [click_near(rng, box, size, seen) for _ in range(rng.randint(1, 3))]
        listed = ", ".join(f'{{"point_2d": [{x}, {y}]}}' for x, y in points)
        thinking = rng.choice(("<think>a tab</think>\n", f"<think>{before(rng)}</think>", ""))
        text = f"{thinking}[{listed}]"
        rows.append(
            [
                text if rng.random() < 0.93 else rng.choice(("", "no", "[3, 4]", "[]")),
                box,
                list(size),
            ]
        )
    return rows


def infigui(source: Source) -> Answer:
    """[hit of the first point, size of the image as the model sees it]."""
    prompts: Any = source.define(
        "eval/prompts.py",
        ("extract_and_parse_json", "point_in_polygon", "is_point_inside_element",
         "InfiguiG1Prompt"),
        {"json": json, "Any": Any, **dict.fromkeys(("Dict", "List", "Tuple", "Optional"), Hint)},
    )  # fmt: skip
    resize: Any = source.define("eval/data.py", ["resize_image"], {"math": math, "Tuple": Hint})[
        "resize_image"
    ]
    size_now = [0, 0]
    image = SimpleNamespace(size=None, resize=lambda size: size_now.__setitem__(slice(None), size))
    given = {
        "os": SimpleNamespace(path=SimpleNamespace(join=os.path.join, exists=lambda path: True)),
        "Image": SimpleNamespace(open=lambda path: image), "resize_image": resize,
        "smart_resize": lambda h, w, max_pixels: smart_resize(h, w, 28, 3_136, max_pixels),
        "Dict": dict,
    }  # fmt: skip
    prepare: Any = source.define("eval/eval.py", ["prepare_sample_data"], given)[
        "prepare_sample_data"
    ]
    processor = prompts["InfiguiG1Prompt"]

    def answer(given: Json) -> Json:
        text, box, size = given  # type: ignore[misc]
        image.size = size
        sample = {
            "images": "a.png",
            "bbox": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
            "instruction": "x",
        }
        _, _, true = prepare(sample, {"image_root": ""}, 5_600 * 28 * 28, processor, True)
        places = processor.extract_coordinates(text, True)
        return [processor.calculate_metrics(sample, places, true)["correct"], list(size_now)]

    return answer


COMPARISONS = [
    Comparison(
        "gui_screenspot_pro", "likaixin2000/ScreenSpot-Pro-GUI-Grounding",
        "bd8bbbb470fbc4fda2a4fa9ec90bd2572507794e", "eval_screenspot_pro.py", clicks_and_boxes,
        screenspot_pro,
    ),
    Comparison(
        "gui_mmbench_gui", "open-compass/MMBench-GUI", "896ddf1d3aa4d6464d0c55c6416518f889d78d77",
        "benchmarks/l2_element_grounding.py", mmbench_inputs, mmbench_gui,
    ),
    Comparison(
        "gui_osworld_g", "ZJU-REAL/ClawGUI", CLAW, "clawgui-eval/judge/osworld_g_judge.py",
        osworld_inputs, osworld_g,
    ),
    Comparison(
        "gui_owl", "X-PLUG/MobileAgent", "11cea575561fb7800b5fb6b6cafa56f7a91de11f", OWL_FILE,
        owl_inputs, gui_owl,
    ),
    Comparison(
        "gui_se_gui", "YXB-NKU/SE-GUI", SE_GUI_COMMIT, "src/eval/test_grounding_r1_nothink.py",
        se_gui_inputs, se_gui,
    ),
    Comparison(
        "gui_infigui_g1", "InfiXAI/InfiGUI-G1", INFI_COMMIT, "eval/eval.py", infigui_inputs,
        infigui,
    ),
]  # fmt: skip
