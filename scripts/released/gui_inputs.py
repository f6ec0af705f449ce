"""Seeded answers, images and boxes for the comparisons of GUI grounding."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from released.comparison import Comparison, Json

COMPARISONS: list[Comparison] = []

SIZES = (
    (1920, 1080), (2560, 1440), (3840, 2160), (3456, 2234), (1179, 2556), (2360, 1640), (1280, 720),
    (960, 540), (5120, 2880), (390, 844), (1366, 768), (2234, 1692), (448, 364), (1440, 900),
)  # fmt: skip
NUM_ROWS = 210
CODE_EDGES = (
    "pyautogui.click(y=0.3, x=0.2)",
    "pyautogui.click(x=.5, y=.25)",
    "pyautogui.click(x=0.5, y=.25)",
    "pyautogui.click(x=1., y=0.25)",
    "pyautogui.click(x=0.2, clicks=2, y=0.3)",
    "pyautogui.write('x=0.5, y=0.25')",
    "pyautogui.write('x=0.5, y=0.25')\npyautogui.click(x=0.75, y=0.125)",
    "pyautogui.hotkey(['ctrl', 'c'])\npyautogui.click(x=0.75, y=0.125)",
    "pyautogui.click(x=0.2)\npyautogui.click(y=0.3)",
)
"""pyautogui calls: keyword order, short decimals, places in what is typed."""


class Hint:
    """Stands for a name that only type hints of the released code use."""

    Tensor = object

    def __class_getitem__(cls, item: object) -> type[Hint]:
        return cls


Text = Callable[[random.Random], str]


def whole(rng: random.Random, top: int) -> int:
    """From 0 to `top`, the ends and short decimals of it more often."""
    kind = rng.random()
    if kind < 0.1:
        return rng.choice((0, top))
    if kind < 0.3:
        return top * rng.randrange(41) // 40
    return rng.randrange(top + 1)


def point(rng: random.Random, top: int = 1000) -> tuple[int, int]:
    """x and y."""
    return whole(rng, top), whole(rng, top)


def box(rng: random.Random, top: int = 1000) -> tuple[int, int, int, int]:
    """Left, top, right, bottom; seldom empty or inverted."""
    (x1, y1), (x2, y2) = point(rng, top), point(rng, top)
    if rng.random() < 0.05:
        return x1, y1, x2, y2
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def unit(rng: random.Random, top: int = 1) -> str:
    """A number from 0 to `top` with up to four decimals, as a model writes it."""
    return f"{rng.random() * top:.{rng.randint(1, 4)}f}"


def before(rng: random.Random) -> str:
    """Prose before an answer, often with numbers in brackets."""
    return rng.choice(
        (
            "",
            "Click (3,4) in the list. ",
            "It is item [12, 8] of 40. ",
            "The 2nd of 5 tabs. ",
            "Near (5, 6)\n",
        )
    )


def texts(*ways: Text, more: Sequence[str] = ()) -> Callable[[random.Random], Sequence[Json]]:
    """`NUM_ROWS` answers, written in turn in these ways, and `more`."""
    return lambda rng: [*(ways[number % len(ways)](rng) for number in range(NUM_ROWS)), *more]


def texts_on_images(
    *ways: Text, more: Sequence[str] = ()
) -> Callable[[random.Random], Sequence[Json]]:
    """The same, each with an image's width and height."""

    def rows(rng: random.Random) -> Sequence[Json]:
        written = [[ways[n % len(ways)](rng), *rng.choice(SIZES)] for n in range(NUM_ROWS)]
        return [*written, *([text, *SIZES[0]] for text in more)]

    return rows


def true_box(rng: random.Random, width: int, height: int) -> list[int]:
    """A box on an image as benchmarks have them: whole pixels, mostly small."""
    w, h = rng.randint(8, 200), rng.randint(8, 80)
    x, y = rng.randrange(max(1, width - w)), rng.randrange(max(1, height - h))
    return [x, y, x + w, y + h]
