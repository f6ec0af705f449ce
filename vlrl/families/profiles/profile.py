"""What a coordinate profile says: resize limits, coordinate frame, syntax.

The scale is a fact about a family, stated here; nothing infers it from the size of a number.
Each profile names the released code that it follows; docs/released.md says what was compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlrl.errors import ConfigError
from vlrl.families.resize import shrunk, smart_resize
from vlrl.geometry.boxes import UNIT, Frame

Scale = Literal["resized_px", "thousand", "nine_ninety_nine", "unit"]
Kind = Literal["box", "point"]
Pick = Literal["first", "last"]

GUI_G2_QUESTION = (
    "Outline the position corresponding to the instruction: {instruction}. "
    "The output should be only [x1,y1,x2,y2]."
)
"""GUI-G2's published question, the same in training and at inference."""


@dataclass(frozen=True)
class Profile:
    """One model family's conventions; pixel limits count the resized image's pixels."""

    name: str
    scale: Scale
    syntax: str
    """A name of `vlrl.gui.syntax.SYNTAXES`: what the model writes, and what the prompt asks for."""
    kind: Kind
    factor: int | None = 28
    """Pixels of a patch with its neighbours, of which both sides are multiples. None: images are
    cut into tiles or resized in another way, and the numbers are relative to the image."""
    min_pixels: int = 3_136
    max_pixels: int = 12_845_056
    pick: Pick = "first"
    """Which of several answers counts."""
    thinking: bool = False
    """Whether the requested format begins with thinking, in tags."""
    pair_is_box: bool = False
    """Where one point is asked for: two adjacent ones are a box's corners, its middle the click."""
    shrink_pixels: int | None = None
    """Area to which a larger image is shrunk before the resize, unless `max_pixels` is given."""
    width_px: int | None = None
    """Width that every image is first scaled to, its shape kept; the numbers are pixels of that."""
    follows: str = ""
    """The released code: repository, file (branch), function where that is not plain."""

    def __post_init__(self) -> None:
        if self.factor is None and self.width_px is None and self.scale == "resized_px":
            raise ValueError(
                f"profile {self.name!r}: pixels of the resized image need `factor` or `width_px`, "
                "which say its size"
            )

    def patch(self) -> int:
        """Pixels of a patch with its neighbours; raises ConfigError for a family without."""
        if self.factor is None:
            raise ConfigError(
                f"profile {self.name!r} has no patch size, which videos are resized to: use the "
                "profile of a family that reads videos, e.g. qwen2_5_vl or qwen3_vl"
            )
        return self.factor

    @property
    def joins_pairs(self) -> bool:
        """Whether two adjacent pairs of numbers are one box."""
        return self.kind == "box" or self.pair_is_box

    def resized(
        self, width: int, height: int, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Frame:
        """The frame of the image as the model sees it; arguments in pixels, width first.

        Raises ConfigError as `limits` does.
        """
        low, high = self.limits(min_pixels, max_pixels)
        if max_pixels is None and self.shrink_pixels is not None:
            height, width = shrunk(height, width, self.shrink_pixels)
        if self.width_px is not None:
            return Frame(self.width_px, max(1, int(height * self.width_px / width)))
        if self.factor is None:
            height, width = shrunk(height, width, max_pixels or height * width)
            return Frame(width, height)
        resized_height, resized_width = smart_resize(height, width, self.factor, low, high)
        return Frame(resized_width, resized_height)

    def limits(self, min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
        """Least and largest area of the resized image, the family's own for None.

        Raises ConfigError where no area lies between them.
        """
        low = self.min_pixels if min_pixels is None else min_pixels
        high = self.max_pixels if max_pixels is None else max_pixels
        if low > high:
            raise ConfigError(
                f"min_pixels {_named(low, min_pixels)} is above max_pixels "
                f"{_named(high, max_pixels)} in profile {self.name!r}: no image fits; set both"
            )
        return low, high

    def frame(self, resized: Frame) -> Frame:
        """The frame that the model's numbers are in, for an image of this resized size."""
        return {
            "resized_px": resized,
            "thousand": Frame(1000, 1000),
            "nine_ninety_nine": Frame(999, 999),
            "unit": UNIT,
        }[self.scale]

    @property
    def decimals(self) -> int:
        """Digits after the point that the family writes."""
        return 4 if self.scale == "unit" else 0


def _named(value: int, configured: int | None) -> str:
    return f"{value:,}" if configured is not None else f"{value:,} (the profile's own)"
