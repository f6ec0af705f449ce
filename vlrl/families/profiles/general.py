"""Coordinate profiles of general vision-language families.

Gemma 3 has none: Google documents no format of boxes for it.
"""

from __future__ import annotations

from vlrl.families.profiles.profile import Profile

QWEN3 = (32, 65_536, 16_777_216)
TARS = (28, 78_400, 12_845_056)
PRO_MODELS = "likaixin2000/ScreenSpot-Pro-GUI-Grounding, models/"
UI_TARS = "bytedance/UI-TARS, codes/ui_tars/action_parser.py"
_CLAW = "ZJU-REAL/ClawGUI, clawgui-eval/"
_QWEN_BOOK = "QwenLM/Qwen3-VL, cookbooks/"

GENERAL = (
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
        follows=PRO_MODELS + "qwen2_5vl.py",
    ),
    Profile(
        "qwen3_vl",
        "thousand",
        "json_box",
        "box",
        *QWEN3,
        follows=_QWEN_BOOK + "spatial_understanding.ipynb",
    ),
    Profile(
        "qwen3_vl_point",
        "thousand",
        "json_point",
        "point",
        *QWEN3,
        follows=_QWEN_BOOK + "spatial_understanding.ipynb, decode_json_points",
    ),
    Profile(
        "qwen3_vl_tool",
        "nine_ninety_nine",
        "coordinate_json",
        "point",
        *QWEN3,
        follows=_QWEN_BOOK + "mobile_agent.ipynb, rescale_coordinates",
    ),
    Profile("qwen2_vl", "thousand", "box_tokens", "box", follows=PRO_MODELS + "qwen2vl.py"),
    Profile("qwen_vl", "thousand", "box_tag", "box", follows=PRO_MODELS + "qwen1vl.py"),
    Profile(
        "doubao",
        "thousand",
        "point_call",
        "point",
        *TARS,
        follows=f"{UI_TARS}, model_type doubao",
    ),
    Profile(
        "seed_1_8",
        "thousand",
        "point_tag",
        "point",
        pick="last",
        follows=_CLAW + "judge/grounding_judge.py, seed18_parse; ByteDance has released none",
    ),
    Profile("kimi_vl", "unit", "pyautogui", "point", factor=None, follows=PRO_MODELS + "kimivl.py"),
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
    Profile(
        "internvl", "thousand", "nested_box", "box", factor=None, follows=PRO_MODELS + "internvl.py"
    ),
    Profile(
        "cogagent", "thousand", "nested_box", "box", factor=None, follows=PRO_MODELS + "cogagent.py"
    ),
    Profile(
        "minicpm_v",
        "thousand",
        "box_spaces",
        "box",
        factor=None,
        follows=PRO_MODELS + "minicpmv.py",
    ),
    Profile("gpt", "unit", "nested_box", "box", follows=PRO_MODELS + "gpt5.py, gpt4x.py"),
    # Qwen has released no parser of its answers.
    Profile(
        "qwen3_5",
        "thousand",
        "json_point",
        "point",
        *QWEN3,
        follows="deskmind-ai/eyes, docs/training.md (Qwen3.5-4B)",
    ),
    Profile(
        "glm4v",
        "thousand",
        "glm_box",
        "box",
        factor=None,
        thinking=True,
        follows="zai-org/GLM-V, README.md, Grounding (GLM-4.1V, 4.5V, 4.6V)",
    ),
    Profile(
        "cogagent_9b",
        "thousand",
        "box_call",
        "box",
        factor=None,
        follows=PRO_MODELS + "cogagent24.py",
    ),
)
