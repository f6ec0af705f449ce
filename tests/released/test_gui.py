"""Clicks read in answers, beside what the parsers read that the profiles follow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from helpers_released import compare

from vlrl.families.profiles import PROFILES, profile_named
from vlrl.geometry.boxes import Frame, Point
from vlrl.gui.refusal import read_click
from vlrl.gui.verdict import Refusal

UNIT, THOUSAND = Frame(1, 1), Frame(1000, 1000)
GUIDE = (
    '<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": ['
)
"""How ScreenSpot-Pro's adapter of Qwen2.5-VL begins every answer."""

Kinds = Mapping[str, Callable[[str], bool]]
"""By reason, the texts whose click differs."""


@dataclass(frozen=True)
class Parser:
    """How a table's answers are read here."""

    profile: str
    differs: Kinds = field(default_factory=dict)
    frame: Frame = UNIT
    """The one that released points are in."""
    resized: Frame = THOUSAND
    """Of the tables whose rows have no image."""
    limits: tuple[int | None, int | None] = (None, None)
    before: str = ""

    def read(self, given: object) -> object:
        """[x, y], "refused", or None."""
        text, *size = given if isinstance(given, list) else [given]
        profile = profile_named(self.profile)
        resized = profile.resized(size[0], size[1], *self.limits) if size else self.resized
        answer, _ = read_click(f"{self.before}{text}", profile, resized)
        if isinstance(answer, Refusal):
            return "refused"
        if answer is None:
            return None
        click: Point = answer.to(self.frame)
        return [click.x, click.y]


NO_ACTION: Kinds = {"an answer without `Action:` is read too": lambda text: "Action:" not in text}
NOTHING_READ = "the release clicks (0, 0) where it reads nothing"
CALLS: Kinds = {
    "keywords in any order and Python's other decimals are read too": lambda text: (
        re.search(r"click\((?:y=|x=[^()]*clicks|x=1\.,|x=\.|x=[0-9.]*, y=\.)", text) is not None
    ),
    "quoted text holds no arguments": lambda text: "write('x=" in text,
}
WHOLE_BOX: Kinds = {
    "prose and nesting are read too; the release clicks (0, 0)": lambda text: (
        text.startswith("At ") or text == "[[1,2,3,4]]"
    ),
    NOTHING_READ: lambda text: text in ("", "no", "[1,2,3]"),
}

PARSERS = {
    "gui_ui_tars_1_5": Parser("ui_tars_1_5", NO_ACTION),
    "gui_ui_tars": Parser("ui_tars", NO_ACTION),
    "gui_doubao": Parser("doubao", NO_ACTION),
    "gui_mai_ui": Parser(
        "mai_ui",
        {
            "the release takes the first place of the thinking": lambda text: "[5,6]" in text,
            "the release reads no space after the comma": lambda text: (
                re.search(r'"coordinate":\[\d+, ', text) is not None
            ),
        },
    ),
    "gui_step_gui": Parser("step_gui"),
    "gui_ui_venus_1_5": Parser(
        "ui_venus_1_5",
        {
            "four numbers are a box in prose too; the release takes its corner": lambda text: (
                text.startswith("Its box")
            )
        },
    ),
    "gui_ui_venus": Parser("ui_venus", WHOLE_BOX, resized=Frame(2800, 1400)),
    "gui_gui_g2": Parser("gui_g2", WHOLE_BOX, resized=Frame(2800, 1400)),
    "gui_seed_1_8": Parser(
        "seed_1_8", {"places without a tag are read too": lambda text: "<point>" not in text}
    ),
    "gui_kimi_k2_5": Parser("kimi_k2_5"),
    "gui_gemini": Parser("gemini"),
    "gui_aguvis": Parser(
        "aguvis",
        {
            "positional arguments are read too": lambda text: "click(0." in text,
            **CALLS,
            NOTHING_READ: lambda text: re.search(r"x=[0-9.]*, y=", text) is None,
        },
    ),
    "gui_holo2": Parser(
        "holo2",
        {
            "null means a refusal": lambda text: "null" in text,
            "other notations are read too": lambda text: text == "(3, 4)",
            "numbers above 1000 are read too": lambda text: "1001" in text,
        },
    ),
    "gui_gta1": Parser(
        "gta1",
        {
            "decimals, brackets and bare numbers are read too": lambda text: (
                text in ("[3, 4]", "(3.5, 4)", "3, 4", "(1,2,3,4)")
            ),
            NOTHING_READ: lambda text: text in ("", "no"),
        },
        frame=Frame(4000, 4000),
        resized=Frame(4000, 4000),
    ),
    "gui_qwen3_vl_point": Parser(
        "qwen3_vl_point",
        {
            "a place outside a list is read too": lambda text: (
                text in ('{"point_2d": [1, 2]}', "[3, 4]")
            )
        },
    ),
    "gui_pro_qwen2_vl": Parser("qwen2_vl"),
    "gui_pro_os_atlas_7b": Parser(
        "os_atlas_7b",
        {
            "the release drops boxes that touch the image's edge": lambda text: (
                re.search(r"\b(?:0|1000)\b", text.partition("box_start")[2]) is not None
            )
        },
    ),
    "gui_pro_qwen_vl": Parser("qwen_vl"),
    "gui_pro_seeclick": Parser("seeclick"),
    "gui_pro_showui": Parser(
        "showui",
        {
            "the release takes the first two numbers": lambda text: (
                re.match(r"[^[]*\d", text) is not None
            )
        },
    ),
    "gui_pro_cogagent": Parser("cogagent"),
    "gui_pro_internvl": Parser(
        "internvl", {"the release fails at every box": lambda text: "<box>" in text}
    ),
    "gui_pro_minicpm_v": Parser("minicpm_v"),
    "gui_pro_os_atlas_4b": Parser("os_atlas_4b"),
    "gui_pro_gpt": Parser("gpt"),
    "gui_pro_holo1_5": Parser("holo1_5"),
    "gui_pro_qwen2_5_vl_tool": Parser("qwen2_5_vl_tool", limits=(3_136, 99_999_999), before=GUIDE),
    "gui_pro_kimi_vl": Parser("kimi_vl", CALLS),
}


@pytest.mark.parametrize("name", PARSERS)
def test_clicks_are_those_that_the_released_parser_reads(name: str) -> None:
    parser = PARSERS[name]

    def kind(differs: Callable[[str], bool]) -> Callable[[object], bool]:
        return lambda given: differs(str(given[0] if isinstance(given, list) else given))

    differs = {reason: kind(is_kind) for reason, is_kind in parser.differs.items()}
    compare(name, parser.read, tolerance=1e-12, differs=differs)


def test_every_profile_says_what_it_follows() -> None:
    assert all(", " in profile.follows for profile in PROFILES.values())


def test_qwen3_vls_agent_counts_to_999() -> None:
    profile = profile_named("qwen3_vl_tool")

    def ours(given: Any) -> list[int]:
        x, y, *size = given
        text = f'<tool_call>{{"arguments": {{"coordinate": [{x}, {y}]}}}}</tool_call>'
        answer, _ = read_click(text, profile, THOUSAND)
        assert isinstance(answer, Point)
        click = answer.to(Frame(*size))
        return [round(click.x), round(click.y)]

    compare("gui_qwen3_vl_tool", ours)


@pytest.mark.parametrize(
    ("name", "text", "size", "click"),
    [
        # Those that no table has, by the formula of the file that they follow.
        ("qwen2_5_vl", '```json\n[{"bbox_2d": [0, 0, 966, 546]}]\n```', (1920, 1080), (480, 270)),
        ("qwen2_5_vl_point", '[{"point_2d": [966, 546]}]', (1920, 1080), (960, 540)),
        ("qwen3_vl", '[{"bbox_2d": [400, 400, 450, 450]}]', (3840, 2160), (1632, 918)),
        ("gui_g1", '```json\n[{"bbox_2d": [0, 0, 966, 546]}]\n```', (1920, 1080), (480, 270)),
        ("uground_v1", "(425, 500)", (3840, 2160), (1632, 1080)),
        ("doubao", "click(point='<point>790 285</point>')", (2234, 1692), (1764.86, 482.22)),
    ],
)
def test_profiles_without_a_table(
    name: str, text: str, size: tuple[int, int], click: tuple[float, float]
) -> None:
    profile = profile_named(name)
    answer, _ = read_click(text, profile, profile.resized(*size))
    assert isinstance(answer, Point)
    here = answer.to(Frame(*size))
    assert (here.x, here.y) == click
