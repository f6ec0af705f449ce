"""How a model family sees images and writes places: resize limits, coordinate frame, syntax.

The scale is a fact about a family, stated here; nothing infers it from the size of a number.
Each profile names the released code that it follows; docs/released.md says what was compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlrl.errors import ConfigError, did_you_mean
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
    factor: int = 28
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
    follows: str = ""
    """The released code: repository, file (branch), function where that is not plain."""

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


_QWEN3 = (32, 65_536, 16_777_216)
_TARS = (28, 78_400, 12_845_056)
_OWL = (32, 200_704, 10_035_200)
_QWEN_BOOK = "QwenLM/Qwen3-VL, cookbooks/"
_PRO_MODELS = "likaixin2000/ScreenSpot-Pro-GUI-Grounding, models/"
_UI_TARS = "bytedance/UI-TARS, codes/ui_tars/action_parser.py"
_CLAW = "ZJU-REAL/ClawGUI, clawgui-eval/"

_ALL = (
    Profile(
        "gui_g2",
        "resized_px",
        "bracket_box",
        "box",
        follows="ZJU-REAL/GUI-G2, README.md; rewards: src/gui_g2/src/open_r1/gaussian_grpo.py",
    ),
    Profile(
        "gui_g1",
        "resized_px",
        "json_box",
        "box",
        follows="Yuqi-Zhou/GUI-G1, src/open-r1-multimodal/src/open_r1/grpo_rec.py",
    ),
    Profile(
        "qwen2_5_vl",
        "resized_px",
        "json_box",
        "box",
        follows=_QWEN_BOOK + "spatial_understanding.ipynb, in pixels",
    ),
    Profile(
        "qwen2_5_vl_point",
        "resized_px",
        "json_point",
        "point",
        follows=_QWEN_BOOK + "spatial_understanding.ipynb, decode_json_points, in pixels",
    ),
    Profile(
        "qwen2_5_vl_tool",
        "resized_px",
        "coordinate_json",
        "point",
        follows=_PRO_MODELS + "qwen2_5vl.py",
    ),
    Profile(
        "qwen3_vl",
        "thousand",
        "json_box",
        "box",
        *_QWEN3,
        follows=_QWEN_BOOK + "spatial_understanding.ipynb",
    ),
    Profile(
        "qwen3_vl_point",
        "thousand",
        "json_point",
        "point",
        *_QWEN3,
        follows=_QWEN_BOOK + "spatial_understanding.ipynb, decode_json_points",
    ),
    Profile(
        "qwen3_vl_tool",
        "nine_ninety_nine",
        "coordinate_json",
        "point",
        *_QWEN3,
        follows=_QWEN_BOOK + "mobile_agent.ipynb, rescale_coordinates",
    ),
    Profile("qwen2_vl", "thousand", "box_tokens", "box", follows=_PRO_MODELS + "qwen2vl.py"),
    Profile("os_atlas_7b", "thousand", "box_tokens", "box", follows=_PRO_MODELS + "osatlas7b.py"),
    Profile("qwen_vl", "thousand", "box_tag", "box", follows=_PRO_MODELS + "qwen1vl.py"),
    Profile("seeclick", "unit", "paren_point", "point", follows=_PRO_MODELS + "seeclick.py"),
    Profile(
        "ui_tars",
        "thousand",
        "start_box",
        "point",
        *_TARS,
        follows=f"{_UI_TARS}, model_type qwen2vl",
    ),
    Profile(
        "ui_tars_1_5",
        "resized_px",
        "start_box",
        "point",
        *_TARS,
        follows=f"{_UI_TARS}, model_type qwen25vl",
    ),
    Profile(
        "doubao",
        "thousand",
        "point_call",
        "point",
        *_TARS,
        follows=f"{_UI_TARS}, model_type doubao",
    ),
    Profile(
        "seed_1_8",
        "thousand",
        "point_tag",
        "point",
        pick="last",
        follows=_CLAW + "judge/grounding_judge.py, seed18_parse; ByteDance has released none",
    ),
    Profile(
        "se_gui",
        "resized_px",
        "tool_call",
        "point",
        max_pixels=7_049_280,
        follows="YXB-NKU/SE-GUI, src/eval/test_grounding_r1_nothink.py",
    ),
    Profile(
        "gta1",
        "resized_px",
        "paren_point",
        "point",
        max_pixels=8_847_360,
        follows="Yan98/GTA1, README.md; reward: src/grpo_grounding.py",
    ),
    Profile(
        "ui_venus",
        "resized_px",
        "bracket_box",
        "box",
        min_pixels=2_000_000,
        max_pixels=4_800_000,
        follows="inclusionAI/UI-Venus, models/grounding/ui_venus_ground_7b.py (UI-Venus-1.0)",
    ),
    Profile(
        "ui_venus_1_5",
        "thousand",
        "bracket_point",
        "point",
        pair_is_box=True,
        follows="inclusionAI/UI-Venus, models/grounding/ui_venus1_5_gd.py",
    ),
    Profile(
        "infigui_g1",
        "resized_px",
        "json_point",
        "point",
        thinking=True,
        shrink_pixels=5_600 * 28**2,
        follows="InfiXAI/InfiGUI-G1, eval/eval.py, eval/data.py, eval/prompts.py",
    ),
    Profile(
        "holo1_5",
        "resized_px",
        "xy_json",
        "point",
        max_pixels=3_686_400,
        follows=_PRO_MODELS + "holo1_5.py",
    ),
    Profile(
        "holo2",
        "thousand",
        "xy_json",
        "point",
        *_QWEN3,
        follows="hcompai/hai-cookbook, holo2/holo_2_localization_hosted_api.ipynb",
    ),
    Profile(
        "mai_ui",
        "thousand",
        "answer_coordinate",
        "point",
        *_QWEN3,
        thinking=True,
        follows="Tongyi-MAI/MAI-UI, evaluation/grounding/eval_server.py; its agent divides by 999",
    ),
    Profile(
        "gui_owl_1_5",
        "thousand",
        "coordinate_json",
        "point",
        *_OWL,
        pick="last",
        follows="X-PLUG/MobileAgent, Mobile-Agent-v3.5/grounding_and_kb/"
        "eval_grounding_benchmarks.py",
    ),
    Profile(
        "step_gui",
        "thousand",
        "colon_point",
        "point",
        follows="stepfun-ai/gelab-zero, copilot_tools/parser_0920_summary.py (999 in ClawGUI)",
    ),
    Profile("kimi_vl", "unit", "pyautogui", "point", follows=_PRO_MODELS + "kimivl.py"),
    Profile(
        "aguvis",
        "unit",
        "pyautogui",
        "point",
        follows="open-compass/MMBench-GUI, models/local_aguvis.py; xlang-ai/aguvis has no parser",
    ),
    Profile(
        "kimi_k2_5",
        "thousand",
        "paren_point",
        "point",
        pick="last",
        follows=_CLAW + "judge/grounding_judge.py, kimi_parse; Moonshot has released none",
    ),
    Profile(
        "gemini",
        "thousand",
        "paren_point",
        "point",
        pick="last",
        follows=_CLAW + "inference/gemini_inferencer.py; Google has released none",
    ),
    Profile("showui", "unit", "bracket_point", "point", follows=_PRO_MODELS + "showui.py"),
    Profile(
        "os_atlas_4b",
        "thousand",
        "nested_box",
        "box",
        pick="last",
        follows=_PRO_MODELS + "osatlas4b.py",
    ),
    Profile("internvl", "thousand", "nested_box", "box", follows=_PRO_MODELS + "internvl.py"),
    Profile("cogagent", "thousand", "nested_box", "box", follows=_PRO_MODELS + "cogagent.py"),
    Profile("minicpm_v", "thousand", "box_spaces", "box", follows=_PRO_MODELS + "minicpmv.py"),
    Profile(
        "uground_v1",
        "thousand",
        "paren_point",
        "point",
        follows="OSU-NLP-Group/UGround, grounding/uground_qwen2vl.py",
    ),
    Profile("gpt", "unit", "nested_box", "box", follows=_PRO_MODELS + "gpt5.py, gpt4x.py"),
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in _ALL}


def profile_named(name: str) -> Profile:
    """The profile; raises ConfigError with the nearest known name."""
    if name not in PROFILES:
        raise ConfigError(f"unknown coordinate profile {name!r}; {did_you_mean(name, PROFILES)}")
    return PROFILES[name]
