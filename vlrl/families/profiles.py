"""How a model family sees images and writes places: resize limits, coordinate frame, syntax.

The scale is a fact about a family, stated here; nothing infers it from the size of a number.
Source: the families' released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlrl.errors import ConfigError, did_you_mean
from vlrl.families.resize import smart_resize
from vlrl.geometry.boxes import Frame

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
    factor: int = 28
    min_pixels: int = 3_136
    max_pixels: int = 12_845_056
    pick: Pick = "first"
    """Which of several answers counts."""
    thinking: bool = False
    """Whether the requested format begins with thinking, in tags."""

    def resized(
        self, width: int, height: int, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> Frame:
        """The frame of the image as the model sees it; arguments in pixels, width first.

        Raises ConfigError as `limits` does.
        """
        low, high = self.limits(min_pixels, max_pixels)
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
            "unit": Frame(1, 1),
        }[self.scale]

    @property
    def decimals(self) -> int:
        """Digits after the point that the family writes."""
        return 4 if self.scale == "unit" else 0


def _named(value: int, configured: int | None) -> str:
    return f"{value:,}" if configured is not None else f"{value:,} (the profile's own)"


_QWEN3 = (32, 65_536, 16_777_216)
_TARS = (28, 78_400, 12_845_056)
_OWL = (32, 200_704, 10_035_200)

_ALL = (
    Profile("gui_g2", "resized_px", "bracket_box", "box"),
    Profile("gui_g1", "resized_px", "json_box", "box"),
    Profile("qwen2_5_vl", "resized_px", "json_box", "box"),
    Profile("qwen2_5_vl_point", "resized_px", "json_point", "point"),
    Profile("qwen2_5_vl_tool", "resized_px", "coordinate_json", "point"),
    Profile("qwen3_vl", "thousand", "json_box", "box", *_QWEN3),
    Profile("qwen3_vl_point", "thousand", "json_point", "point", *_QWEN3),
    Profile("qwen3_vl_tool", "nine_ninety_nine", "coordinate_json", "point", *_QWEN3),
    Profile("qwen2_vl", "thousand", "box_tokens", "box"),
    Profile("os_atlas_7b", "thousand", "box_tokens", "box"),
    Profile("qwen_vl", "thousand", "box_tag", "box"),
    Profile("seeclick", "unit", "paren_point", "point"),
    Profile("ui_tars", "thousand", "start_box", "point", *_TARS),
    Profile("ui_tars_1_5", "resized_px", "start_box", "point", *_TARS),
    Profile("doubao", "resized_px", "point_call", "point", *_TARS),
    Profile("seed_1_8", "thousand", "point_tag", "point", pick="last"),
    Profile("se_gui", "resized_px", "bracket_point", "point", max_pixels=4_028_160),
    Profile("gta1", "resized_px", "paren_point", "point", max_pixels=8_847_360),
    Profile(
        "ui_venus", "resized_px", "bracket_box", "box", min_pixels=2_000_000, max_pixels=4_800_000
    ),
    Profile("ui_venus_1_5", "thousand", "bracket_point", "point"),
    Profile("infigui_g1", "resized_px", "json_point", "point", thinking=True),
    Profile("holo1_5", "resized_px", "xy_json", "point", max_pixels=3_686_400),
    Profile("holo2", "thousand", "xy_json", "point", *_QWEN3),
    Profile("mai_ui", "thousand", "answer_coordinate", "point", *_QWEN3, thinking=True),
    Profile("gui_owl_1_5", "thousand", "coordinate_json", "point", *_OWL),
    Profile("step_gui", "nine_ninety_nine", "colon_point", "point"),
    Profile("kimi_vl", "unit", "pyautogui", "point"),
    Profile("aguvis", "unit", "pyautogui", "point"),
    Profile("kimi_k2_5", "thousand", "paren_point", "point", pick="last"),
    Profile("gemini", "thousand", "paren_point", "point", pick="last"),
    Profile("showui", "unit", "bracket_point", "point"),
    Profile("os_atlas_4b", "thousand", "nested_box", "box"),
    Profile("internvl", "thousand", "nested_box", "box"),
    Profile("cogagent", "thousand", "nested_box", "box"),
    Profile("minicpm_v", "thousand", "box_spaces", "box"),
    Profile("uground_v1", "thousand", "paren_point", "point"),
    Profile("gpt", "unit", "nested_box", "box"),
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in _ALL}


def profile_named(name: str) -> Profile:
    """The profile; raises ConfigError with the nearest known name."""
    if name not in PROFILES:
        raise ConfigError(f"unknown coordinate profile {name!r}; {did_you_mean(name, PROFILES)}")
    return PROFILES[name]
