"""What UI-TARS's parser reads, and the sizes to which it resizes images."""

from __future__ import annotations

import ast
import json
import math
import random
import re
from collections.abc import Callable
from typing import Any

from released.comparison import Answer, Comparison, Json
from released.gui_inputs import NUM_ROWS, before, box, point, texts_on_images
from released.gui_parsers import pair, quiet
from released.source import Source

UI_TARS = "582f3a7ea5d285ee8ed9e2e84048d1ab01453c49"


EDGES = (
    "Action: wait()\n# at (3,4)",
    "Action: finished()\n(3,4)",
    "Action: finished()",
    """Action: type(content='see start_box="(5,6)" here')""",
    """Action: type(content='see point="(5,6)" here')""",
    """Action: type(content='at (point="(5,6)") here')""",
    "Action: scroll(direction='down')",
    "Action: scroll(direction='down', start_box='(327,26)')",
    "Action: drag(end_box='(5,6)', start_box='(327,26)')",
    "Action: drag(end_point='(5,6)', start_point='(327,26)')",
    "Action: drag(end_point='(5,6)')",
    "Action: click(endpoint='(5,6)')",
    "Action: click( start_box = '(327,26)' )",
)
"""Actions without a place, with text that looks like one, and arguments in another order."""


def tars_texts(call: Callable[[random.Random], str]) -> tuple[Callable[[random.Random], str], ...]:
    """UI-TARS's answers around one kind of call."""
    return (
        lambda rng: f"Thought: {before(rng)}\nAction: {call(rng)}",
        lambda rng: f"Action: {call(rng)}",
        lambda rng: f"Thought: {before(rng)}\nAction: {call(rng)}",
        lambda rng: f"Reflection: (8,8) was wrong. Action_Summary: (7,7)\nAction: {call(rng)}",
        lambda rng: f"Thought: not Action: click(start_box='(1,1)')\nAction: {call(rng)}",
        lambda rng: f"Action: {call(rng)}\n\n{call(rng)}",
        lambda rng: f"Thought: {before(rng)}\nAction: " + rng.choice(
            ("wait()", "type(content='see (3,4)')", "hotkey(key='ctrl c')", "finished()")
        ),
        lambda rng: before(rng) + call(rng),
    )  # fmt: skip


def _start_box(rng: random.Random) -> str:
    name = rng.choice(("click", "click", "left_double", "right_single", "hover"))
    inside = rng.choice(
        (pair(rng), pair(rng), pair(rng).replace(",", ", "), "{},{},{},{}".format(*box(rng)))
    )
    if rng.random() < 0.15:
        return f"drag(start_box='({inside})', end_box='({pair(rng)})')"
    return f"{name}(start_box='({inside})')"


def _point_call(rng: random.Random) -> str:
    x, y = point(rng)
    return f"{rng.choice(('click', 'left_double'))}(point='<point>{x} {y}</point>')"


def ui_tars(model_type: str) -> Callable[[Source], Answer]:
    """The middle of the first action's `start_box`, from 0 to 1."""

    def released(source: Source) -> Answer:
        names = (
            "IMAGE_FACTOR", "MIN_PIXELS", "MAX_PIXELS", "MAX_RATIO", "round_by_factor",
            "ceil_by_factor", "floor_by_factor", "smart_resize", "convert_point_to_coordinates",
            "parse_action", "escape_single_quotes", "parse_action_to_structure_output",
        )  # fmt: skip
        given = {"re": re, "ast": ast, "math": math, "print": quiet}
        parse: Any = source.define("codes/ui_tars/action_parser.py", names, given)[names[-1]]

        def answer(given: Json) -> Json:
            text, width, height = given  # type: ignore[misc]
            try:
                actions = parse(text, 1000, height, width, model_type=model_type)
                x1, y1, x2, y2 = json.loads(actions[0]["action_inputs"]["start_box"])
            except (AssertionError, ValueError, KeyError, AttributeError):
                return None
            return [(x1 + x2) / 2, (y1 + y2) / 2]

        return answer

    return released


def tars_sizes(rng: random.Random) -> list[Json]:
    """[height, width] of images."""
    return [[rng.randint(14, 6000), rng.randint(14, 6000)] for _ in range(NUM_ROWS)]


def tars_resize(source: Source) -> Answer:
    """[height, width] of the resized image."""
    names = ("IMAGE_FACTOR", "MIN_PIXELS", "MAX_PIXELS", "MAX_RATIO", "round_by_factor",
             "ceil_by_factor", "floor_by_factor", "smart_resize")  # fmt: skip
    resize: Any = source.define("codes/ui_tars/action_parser.py", names, {"math": math})[
        "smart_resize"
    ]

    def answer(given: Json) -> Json:
        try:
            return list(resize(*given))  # type: ignore[misc]
        except ValueError:
            return None

    return answer


COMPARISONS = [
    Comparison(
        "gui_ui_tars_1_5", "bytedance/UI-TARS", UI_TARS, "codes/ui_tars/action_parser.py",
        texts_on_images(*tars_texts(_start_box), more=EDGES), ui_tars("qwen25vl"),
    ),
    Comparison(
        "gui_ui_tars", "bytedance/UI-TARS", UI_TARS, "codes/ui_tars/action_parser.py",
        texts_on_images(*tars_texts(_start_box), more=EDGES), ui_tars("qwen2vl"),
    ),
    Comparison(
        "gui_doubao", "bytedance/UI-TARS", UI_TARS, "codes/ui_tars/action_parser.py",
        texts_on_images(*tars_texts(_point_call), more=EDGES), ui_tars("doubao"),
    ),
    Comparison(
        "gui_ui_tars_sizes", "bytedance/UI-TARS", UI_TARS, "codes/ui_tars/action_parser.py",
        tars_sizes, tars_resize,
    ),
]  # fmt: skip
