"""How many points an answer may have before it counts as a scan."""

from __future__ import annotations

import pytest

from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.reward.tree import build_reward
from vlrl.tasks.gui_grounding import GuiAnswer, GuiTarget
from vlrl.types import Finish, ImagePart, Message, Rollout, Sample, TextPart

SIDE = 37


@pytest.mark.parametrize(("count", "value"), [(3, 1.0), (31, 1.0), (32, 1.0), (33, 0.0)])
def test_up_to_32_points_may_be_answered(count: int, value: float) -> None:
    frame = Frame(SIDE, SIDE)
    # On a parabola modulo a prime no three points lie on one line.
    points = tuple(Point(x, x * x % SIDE, frame) for x in range(count))
    prompt = (Message("user", (ImagePart("a.png", SIDE, SIDE), TextPart("Click: x"))),)
    sample = Sample("s", "gui_grounding", prompt, GuiTarget(Box(1, 1, 2, 2, frame)))
    parsed = GuiAnswer(None, points, True)
    rollout = Rollout(sample, 0, 0, "", Finish.STOP, 1, 0, parsed=parsed)
    (score,) = build_reward({"use": "points_spread"})([rollout])
    assert score.value == value
