"""How often a model is asked about one item, and how its replies become one click.

`Single` asks once. `Zoom` asks again about a window around the first click (ScreenSpot-Pro's best
entries do). `Vote` samples several answers and takes the one that most others agree with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vlrl.errors import ConfigError
from vlrl.eval.gui.asking import Ask, Crop, Reply
from vlrl.eval.gui.items import Item
from vlrl.families.profiles import Profile
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.gui.refusal import read_click
from vlrl.gui.verdict import Answer, Refusal


@dataclass(frozen=True)
class Pass:
    """One ask with its reply."""

    ask: Ask
    reply: Reply


@dataclass(frozen=True)
class Final:
    """The one answer to an item, in the frame that it was written in.

    After a second look at a window, in the original image's pixels.
    """

    answer: Answer
    box: Box | None = None
    note: str = ""
    """A note for people, e.g. that the second look was useless."""
    place: int = 0
    """Which of the passes it was read in."""


@dataclass(frozen=True)
class Reading:
    """How replies are read: the model's profile, and further words that mean a refusal."""

    profile: Profile
    refusal_words: tuple[str, ...] = ()

    def click(self, one: Pass) -> tuple[Answer, Box | None]:
        """The click of one reply on the original image, in its own frame or (window) in pixels."""
        if one.reply.output is None:
            return None, None
        answer, box = read_click(
            one.reply.output, self.profile, one.reply.resized, self.refusal_words
        )
        if not isinstance(answer, Point):
            return answer, None
        return _point_on(one.ask, answer), None if box is None else _box_on(one.ask, box)


class Strategy(Protocol):
    """Asks in rounds; all items of a batch go through a round together."""

    num_rounds: int

    def asks(self, item: Item, passes: Sequence[Pass], reading: Reading) -> list[Ask]:
        """The calls of the next round, given those so far; none = nothing more to ask."""

    def final(self, passes: Sequence[Pass], reading: Reading) -> Final:
        """The one answer; the passes have no failed call among them."""

    def settings(self) -> Mapping[str, Any]:
        """What a run must keep to be resumed."""


@dataclass(frozen=True)
class Single:
    """One greedy answer."""

    num_rounds = 1

    def asks(self, item: Item, passes: Sequence[Pass], reading: Reading) -> list[Ask]:
        """The item's whole image."""
        return [Ask(item)]

    def final(self, passes: Sequence[Pass], reading: Reading) -> Final:
        """What it says."""
        return Final(*reading.click(passes[0]))

    def settings(self) -> Mapping[str, Any]:
        """Its name alone."""
        return {"strategy": "single"}


@dataclass(frozen=True)
class Zoom:
    """A first click, then a second look at the window around it, enlarged to the full size."""

    share: float = 0.5
    """Sides of the window relative to the image's."""
    num_rounds = 2

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"--zoom is the window's share of each side, in (0, 1): {self.share}")

    def asks(self, item: Item, passes: Sequence[Pass], reading: Reading) -> list[Ask]:
        """The whole image first; then the window, if the first answer names a place."""
        if not passes:
            return [Ask(item)]
        click, _ = reading.click(passes[0])
        if not isinstance(click, Point):
            return []
        return [Ask(item, crop=window(click.to(item.frame), item.frame, self.share))]

    def final(self, passes: Sequence[Pass], reading: Reading) -> Final:
        """The second click; the first where the second look shows no place."""
        first, first_box = reading.click(passes[0])
        if len(passes) == 1:
            return Final(first, first_box)
        second, box = reading.click(passes[1])
        if isinstance(second, Point):
            return Final(second, box, place=1)
        return Final(first, first_box, "no place in the second look: the first counts")

    def settings(self) -> Mapping[str, Any]:
        """Its name and window."""
        return {"strategy": "zoom", "share": self.share}


@dataclass(frozen=True)
class Vote:
    """Several sampled answers; the click that has most others near it."""

    num: int
    radius: float = 0.02
    """What is near, relative to the image's longer side."""
    num_rounds = 1

    def __post_init__(self) -> None:
        if self.num < 2:
            raise ConfigError(f"--votes needs at least 2, not {self.num}")

    def asks(self, item: Item, passes: Sequence[Pass], reading: Reading) -> list[Ask]:
        """The same question with other seeds."""
        return [Ask(item, seed=seed, greedy=False) for seed in range(self.num)]

    def final(self, passes: Sequence[Pass], reading: Reading) -> Final:
        """Refusals vote too; unreadable answers have no vote. Ties go to the earlier answer."""
        read = [reading.click(one) for one in passes]
        reach, pixels = self.radius * max(passes[0].ask.size_px), passes[0].ask.item.frame
        placed = [answer.to(pixels) if isinstance(answer, Point) else answer for answer, _ in read]
        supports = [
            sum(_agree(answer, other, reach) for other in placed) if answer is not None else 0
            for answer in placed
        ]
        best = max(range(len(read)), key=supports.__getitem__)
        return Final(*read[best], f"{supports[best]} of {len(read)} votes", best)

    def settings(self) -> Mapping[str, Any]:
        """Its name, number and radius."""
        return {"strategy": "vote", "num": self.num, "radius": self.radius}


def _agree(one: Answer, other: Answer, reach: float) -> bool:
    if isinstance(one, Point) and isinstance(other, Point):
        return math.hypot(one.x - other.x, one.y - other.y) <= reach
    return isinstance(one, Refusal) and isinstance(other, Refusal)


def window(click: Point, frame: Frame, share: float) -> Crop:
    """A window of the image's own shape around a click, shifted to lie inside."""
    width = max(1, round(frame.width * share))
    height = max(1, round(frame.height * share))
    left = min(max(round(click.x - width / 2), 0), int(frame.width) - width)
    top = min(max(round(click.y - height / 2), 0), int(frame.height) - height)
    return left, top, left + width, top + height


def _point_on(ask: Ask, point: Point) -> Point:
    """A point of the image that was sent, on the original image."""
    frame = ask.item.frame
    if ask.crop is None:
        return point
    left, top, right, bottom = ask.crop
    inner = point.to(Frame(right - left, bottom - top))
    return Point(inner.x + left, inner.y + top, frame)


def _box_on(ask: Ask, box: Box) -> Box:
    """A box of the image that was sent, on the original image."""
    if ask.crop is None:
        return box
    low = _point_on(ask, Point(box.x1, box.y1, box.frame))
    high = _point_on(ask, Point(box.x2, box.y2, box.frame))
    return Box(low.x, low.y, high.x, high.y, ask.item.frame)
