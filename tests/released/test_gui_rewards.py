"""Rewards of GUI grounding beside the released ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers_released import compare

from vlrl.families.profiles import Profile, profile_named
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.gui.answers import parse_answer
from vlrl.gui.syntax import is_well_formed
from vlrl.reward.tree import build_reward
from vlrl.tasks.gui_grounding import GuiAnswer, GuiTarget
from vlrl.types import Finish, ImagePart, Message, Rollout, Sample, TextPart

SCREEN = Frame(1920, 1080)
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "rewards"


def value(node: object, answer: GuiAnswer | None, true: Box) -> float:
    """What a reward pays for an answer."""
    size = true.frame
    image = ImagePart("a.png", int(size.width), int(size.height))
    prompt = (Message("user", (image, TextPart("x"))),)
    problem = Sample("a", "gui_grounding", prompt, GuiTarget(true))
    (score,) = build_reward(node)([Rollout(problem, 0, 0, "", Finish.STOP, 1, 0, parsed=answer)])
    return score.value


def boxed(edges: Any) -> GuiAnswer:
    box = Box(*map(float, edges), SCREEN)
    return GuiAnswer(box, (box.centre,), True)


def read(text: str, profile: Profile, frame: Frame) -> GuiAnswer | None:
    """What the task makes of an answer whose image the model sees as it is."""
    places = parse_answer(text, profile, frame)
    points = tuple(place.centre if isinstance(place, Box) else place for place in places)
    return GuiAnswer(None, points, is_well_formed(text, profile)) if places else None


def recipe(name: str) -> object:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))["reward"]


@pytest.mark.parametrize(
    ("table", "name"),
    [("gui_g2_point", "gaussian_point"), ("gui_g2_coverage", "gaussian_coverage")],
)
def test_gui_g2s_gaussian_rewards(table: str, name: str) -> None:
    def ours(given: Any) -> float:
        node = {"use": name, "published": True}
        return value(node, boxed(given[0]), Box(*given[1], SCREEN))

    compare(table, ours, tolerance=1e-9)


def test_gui_g2s_format() -> None:
    profile = profile_named("gui_g2")
    compare(
        "gui_g2_format",
        lambda given: float(is_well_formed(str(given), profile)),
        differs={"white space around the answer is allowed": lambda given: str(given)[0] == "\n"},
    )


def test_gui_g1s_rewards() -> None:
    def ours(given: Any) -> object:
        return [
            value({"use": name, "published": True}, boxed(given[0]), Box(*given[1], SCREEN))
            for name in ("box_hit", "box_iou", "edge_harmonic")
        ]

    compare("gui_g1_rewards", ours, tolerance=1e-12)


def test_se_guis_dense_reward() -> None:
    def ours(given: Any) -> float:
        (x, y), true = given
        answer = GuiAnswer(None, (Point(x, y, SCREEN),), True)
        return value({"use": "point_distance", "published": True}, answer, Box(*true, SCREEN))

    def is_off(given: Any) -> bool:
        (x, y), _ = given
        return not (0 <= x <= SCREEN.width and 0 <= y <= SCREEN.height)

    compare(
        "gui_se_gui_reward",
        ours,
        tolerance=1e-12,
        differs={"off the screen nothing is taken away": is_off},
    )


def test_gta1s_click_reward() -> None:
    node, profile = recipe("gta1"), profile_named("gta1")

    def ours(given: Any) -> float:
        text, box, size = given
        frame = Frame(*size)
        return value(node, read(text, profile, frame), Box(*box, Frame(1000, 1000)).to(frame))

    def is_cut(given: Any) -> bool:
        text, box, size = given
        click = [int(number) for number in re.findall(r"\d+", text)[:2]]
        return any(
            number == box[axis] * size[axis] // 1000 and box[axis] * size[axis] % 1000
            for axis, number in enumerate(click)
        )

    compare(
        "gui_gta1_reward",
        ours,
        differs={
            "decimals count": lambda given: ".5" in given[0],  # type: ignore[index]
            "the true box is not cut to whole pixels": is_cut,
        },
    )


def test_infigui_g1s_whole_reward() -> None:
    node, profile = recipe("infigui_g1"), profile_named("infigui_g1")

    def ours(given: Any) -> float:
        text, box = given
        return value(node, read(text, profile, SCREEN), Box(*box, SCREEN))

    compare(
        "gui_infigui_g1_reward",
        ours,
        tolerance=1e-12,
        differs={
            "no point at all is malformed too": lambda given: given[0].endswith("[]"),  # type: ignore[index]
            "the format does not demand thinking, which a chat template may open": lambda given: (
                re.match("<think>.", given[0]) is None or "<think></think>" in given[0]  # type: ignore[index]
            ),
        },
    )
