"""Verdicts on clicks, and sizes of resized images, beside those of released evaluations."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from helpers_released import compare

from vlrl.families.profiles import profile_named
from vlrl.families.resize import smart_resize
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.gui.answers import read_places
from vlrl.gui.data.rows import written_box
from vlrl.gui.refusal import read_click
from vlrl.gui.verdict import Answer, Outcome, Refusal, Target, judge, polygon_of

SCREEN = Frame(1920, 1080)


def on_an_edge(click: tuple[int, int], seen: tuple[float, float], box: Any, size: Any) -> bool:
    """Whether a click falls exactly on a line through one of the box's edges."""
    return any(
        Fraction(click[axis]) * size[axis] == box[place] * Fraction(seen[axis])
        for axis in (0, 1)
        for place in (axis, axis + 2)
    )


def coordinates(text: str) -> tuple[int, int]:
    """The first x and y after the text's last `[`."""
    x, y = re.findall(r"\d+", text.rpartition("[")[2])
    return int(x), int(y)


def test_screenspot_pros_verdicts_on_every_edge() -> None:
    def ours(given: Any) -> str:
        click, frame, box, size = given
        answer = None if click is None else Point(*click, Frame(*frame))
        return judge(answer, Box(*box, Frame(*size))).outcome.value

    compare("gui_screenspot_pro", ours)


def test_mmbench_guis_verdicts() -> None:
    def ours(given: Any) -> str:
        text, box, size = given
        answer: Answer = None
        for place in read_places(text):
            x, y = place.values
            # Its own rule: numbers above 1 are pixels. Here the profile says so.
            answer = Point(x, y, Frame(*size) if x > 1 or y > 1 else Frame(1, 1))
        return judge(answer, written_box(tuple(box), "xyxy_unit", *size)).outcome.value

    compare("gui_mmbench_gui", ours)


def in_osworld(click: object, kind: str, area: list[int], screen: Frame) -> bool:
    answer: Answer = Refusal() if click == "refused" else None
    if isinstance(click, list):
        answer = Point(*click, screen)
    target: Target = Refusal()
    if kind == "bbox":
        target = Box(*map(float, area), screen)
    if kind == "polygon":
        target = polygon_of(area, screen)
    return judge(answer, target).outcome is Outcome.CORRECT


def on_outline(click: object, polygon: list[int]) -> bool:
    """Whether a click falls on a side of the polygon, or on the line that goes on from it."""
    if not isinstance(click, list):
        return False
    x, y = click
    corners = list(zip(polygon[::2], polygon[1::2], strict=True))
    return any(
        (bx - ax) * (y - ay) == (by - ay) * (x - ax)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True)
    )


def test_osworld_gs_verdicts_in_clawgui() -> None:
    compare(
        "gui_osworld_g",
        lambda given: in_osworld(*given, SCREEN),  # type: ignore[misc]
        differs={
            "all sides of a polygon are inside": lambda given: (
                given[1] == "polygon" and on_outline(given[0], given[2])  # type: ignore[index]
            )
        },
    )


def test_gui_owls_verdicts() -> None:
    profile = profile_named("gui_owl_1_5")

    def ours(given: Any) -> bool:
        text, kind, area, size = given
        answer, _ = read_click(text, profile, Frame(*size))
        screen = Frame(*size)
        target: Target = Refusal()
        if kind == "bbox":
            target = written_box(tuple(area), "xywh_px", *size)
        if kind == "polygon":
            target = polygon_of(area, screen)
        return judge(answer, target).outcome is Outcome.CORRECT

    def place(given: Any) -> tuple[Fraction, Fraction]:
        """The click of the tool call in pixels."""
        x, y = coordinates(given[0])
        return Fraction(x * given[3][0], 1000), Fraction(y * given[3][1], 1000)

    def is_grown(given: Any) -> bool:
        """Whether the click is outside by less than a thousandth."""
        text, kind, area, (width, height) = given
        if kind != "bbox" or "coordinate" not in text:
            return False
        (x, y), (left, top, w, h) = place(given), area
        beyond_x = max(left - x, x - left - w) * Fraction(1000, width)
        beyond_y = max(top - y, y - top - h) * Fraction(1000, height)
        return 0 < max(beyond_x, beyond_y) < 1

    def is_on_side(given: Any) -> bool:
        text, kind, area, _ = given
        return kind == "polygon" and "coordinate" in text and on_outline([*place(given)], area)

    compare(
        "gui_owl",
        ours,
        differs={
            "an unreadable answer is not a refusal": lambda given: (
                given[1] == "refusal" and "terminate" not in given[0]  # type: ignore[index]
            ),
            "the tool call counts, not brackets before it": lambda given: given[0].startswith(
                ("Click (3,4)", "Near (5, 6)")
            ),  # type: ignore[index]
            "boxes are not grown to whole thousandths": is_grown,
            "all sides of a polygon are inside": is_on_side,
        },
    )


def test_se_guis_verdicts() -> None:
    profile = profile_named("se_gui")

    def ours(given: Any) -> int:
        text, box, size = given
        answer, _ = read_click(text, profile, profile.resized(*size))
        return int(judge(answer, Box(*box, Frame(*size))).outcome is Outcome.CORRECT)

    def on_edge(given: Any) -> bool:
        text, box, size = given
        return "tool_call" in text and on_an_edge(
            coordinates(text), profile.resized(*size).extent, box, size
        )

    compare(
        "gui_se_gui",
        ours,
        differs={
            "a click without a tool call is read too": lambda given: "tool_call" not in given[0],  # type: ignore[index]
            "right and lower edges are inside": on_edge,
        },
    )


def test_infigui_g1s_verdicts_and_sizes() -> None:
    profile = profile_named("infigui_g1")

    def ours(given: Any) -> object:
        text, box, size = given
        resized = profile.resized(*size)
        answer, _ = read_click(text, profile, resized)
        hit = judge(answer, Box(*box, Frame(*size))).outcome is Outcome.CORRECT
        return [int(hit), list(resized.extent)]

    def on_edge(given: Any) -> bool:
        text, box, size = given
        pair = re.search(r'"point_2d": \[(\d+), (\d+)', text)
        click = (0, 0) if pair is None else (int(pair[1]), int(pair[2]))
        return on_an_edge(click, profile.resized(*size).extent, box, size)

    compare(
        "gui_infigui_g1", ours, differs={"the release's scaled edges lose a click on them": on_edge}
    )


def test_ui_tars_resizes_as_its_parser_says() -> None:
    def ours(given: Any) -> object:
        try:
            return list(smart_resize(*given, 28, 78_400, 12_845_056))
        except ValueError:
            return None

    compare("gui_ui_tars_sizes", ours)
