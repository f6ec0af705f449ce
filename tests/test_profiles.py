"""Coordinate profiles: one answer of each family's own, and which profile a checkpoint has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlrl.errors import ConfigError
from vlrl.eval.own_profile import own_profile
from vlrl.eval.recipe import Recipe
from vlrl.families.profiles import PROFILES, Profile, profile_named
from vlrl.families.profiles.chosen import NAMED, OF_TYPE, chosen_profile
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.gui.refusal import read_click
from vlrl.gui.syntax import is_well_formed

HD, QHD, UHD = (1920, 1080), (2560, 1440), (3840, 2160)
MIDDLE, QUARTER = (960, 540), (480, 270)
TOOL = (
    '<tool_call>\n{{"name": "computer_use", "arguments": {{"action": "left_click", '
    '"coordinate": [{}]}}}}\n</tool_call>'
)

# Qwen2.5-VL sees 1920 x 1080 as 1932 x 1092, whose middle is (966, 546).
ANSWERS = [
    ("gui_g2", "[956,536,976,556]", HD, MIDDLE),
    ("gui_g1", '```json\n[{"bbox_2d": [956, 536, 976, 556]}]\n```', HD, MIDDLE),
    ("qwen2_5_vl", '```json\n[{"bbox_2d": [956, 536, 976, 556], "label": "tab"}]\n```', HD, MIDDLE),
    ("qwen2_5_vl_point", '[{"point_2d": [966, 546], "label": "tab"}]', HD, MIDDLE),
    ("qwen2_5_vl_tool", TOOL.format("966, 546"), HD, MIDDLE),
    ("qwen3_vl", '[{"bbox_2d": [240, 240, 260, 260], "label": "tab"}]', HD, QUARTER),
    ("qwen3_vl_point", '[{"point_2d": [250, 250], "label": "tab"}]', HD, QUARTER),
    ("qwen3_vl_tool", TOOL.format("333, 333"), HD, (640, 360)),
    ("qwen3_5", '[{"point_2d": [250, 250]}]', HD, QUARTER),
    (
        "qwen2_vl",
        "<|object_ref_start|>the tab<|object_ref_end|><|box_start|>(240,240),(260,260)<|box_end|>",
        HD,
        QUARTER,
    ),
    ("qwen_vl", "<ref>the tab</ref><box>(240,240),(260,260)</box>", HD, QUARTER),
    (
        "doubao",
        "Thought: It is at (9,9).\nAction: click(point='<point>250 250</point>')",
        HD,
        QUARTER,
    ),
    ("seed_1_8", "<point>250 250</point>", HD, QUARTER),
    ("kimi_vl", "◁think▷(9,9)◁/think▷pyautogui.click(x=0.25, y=0.25)", HD, QUARTER),
    ("kimi_k2_5", "It is not (9, 9) but (250, 250)", HD, QUARTER),
    ("gemini", "(250, 250)", HD, QUARTER),
    ("internvl", "<ref>the tab</ref><box>[[240, 240, 260, 260]]</box>", HD, QUARTER),
    ("cogagent", "[[240,240,260,260]]", HD, QUARTER),
    (
        "cogagent_9b",
        "Action: Click it, not (9,9).\nGrounded Operation: "
        "CLICK(box=[[240,240,260,260]], element_info='Tab')",
        HD,
        QUARTER,
    ),
    ("minicpm_v", "<box>240 240 260 260</box>", HD, QUARTER),
    ("gpt", "[[0.24,0.24,0.26,0.26]]", HD, QUARTER),
    (
        "glm4v",
        "<think>At [9,9,9,9].</think>It is at <|begin_of_box|>[[240,240,260,260]]<|end_of_box|>.",
        HD,
        QUARTER,
    ),
    ("os_atlas_7b", "<|box_start|>(240,240),(260,260)<|box_end|>", HD, QUARTER),
    ("os_atlas_4b", "<ref>tab</ref><box>[[240,240,260,260]]</box>", HD, QUARTER),
    ("seeclick", "(0.25,0.25)", HD, QUARTER),
    ("ui_tars", "Action: click(start_box='<|box_start|>(250,250)<|box_end|>')", HD, QUARTER),
    ("ui_tars_1_5", "Thought: The tab.\nAction: click(start_box='(966,546)')", HD, MIDDLE),
    ("se_gui", TOOL.format("966, 546"), HD, MIDDLE),
    ("gta1", "(966, 546)", HD, MIDDLE),
    ("ui_venus", "[956,536,976,556]", HD, MIDDLE),
    ("ui_venus_1_5", "[250, 250]", HD, QUARTER),
    ("infigui_g1", '<think>.</think>```json\n[{"point_2d": [966, 546]}]\n```', HD, MIDDLE),
    ("holo1_5", '{"action": "click_absolute", "x": 966, "y": 546}', HD, MIDDLE),
    ("holo2", '{"x": 250, "y": 250}', HD, QUARTER),
    (
        "mai_ui",
        '<grounding_think>.</grounding_think>\n<answer>\n{"coordinate":[250,250]}\n</answer>',
        HD,
        QUARTER,
    ),
    ("gui_owl_1_5", TOOL.format("250, 250"), HD, QUARTER),
    ("gui_owl", TOOL.format("966, 546"), HD, MIDDLE),
    ("step_gui", "explain:the tab\taction:CLICK\tpoint:250,250", HD, QUARTER),
    ("aguvis", "Action: Click it.\npyautogui.click(x=0.25, y=0.25)", HD, QUARTER),
    ("showui", "[0.25, 0.25]", HD, QUARTER),
    ("uground_v1", "(250, 250)", HD, QUARTER),
    # Scaled to 1344 x 756 first.
    ("uground_v0", "(672, 378)", HD, MIDDLE),
    # At most 2,700 units of 28 x 28 pixels: 1932 x 1064.
    ("jedi", TOOL.format("966, 532"), QHD, (1280, 720)),
    ("opencua", "```python\npyautogui.click(x=966, y=546)\n```", HD, MIDDLE),
    ("opencua_qwen2", "```python\npyautogui.click(x=0.25, y=0.25)\n```", HD, QUARTER),
    # At most 6 million pixels: 3248 x 1820.
    ("groundnext", TOOL.format("1624, 910"), UHD, (1920, 1080)),
]


@pytest.mark.parametrize(("name", "text", "size", "pixel"), ANSWERS)
def test_a_familys_own_answer_is_the_right_pixel(
    name: str, text: str, size: tuple[int, int], pixel: tuple[int, int]
) -> None:
    profile = profile_named(name)
    click, _ = read_click(text, profile, profile.resized(*size))
    assert isinstance(click, Point)
    click = click.to(Frame(*size))
    assert (round(click.x), round(click.y)) == pixel


def test_every_profile_has_an_answer_above() -> None:
    assert {row[0] for row in ANSWERS} == set(PROFILES)


def test_every_profile_is_in_the_docs() -> None:
    page = (Path(__file__).parent.parent / "docs/profiles.md").read_text(encoding="utf-8")
    assert [name for name in PROFILES if f"`{name}`" not in page] == []


def test_numbers_relative_to_the_image_need_no_size() -> None:
    internvl = profile_named("internvl")
    assert internvl.resized(1000, 500) == Frame(1000, 500)
    assert internvl.resized(1000, 500, max_pixels=125_000) == Frame(500, 250)
    with pytest.raises(ConfigError, match="no patch size, which videos"):
        internvl.patch()
    with pytest.raises(ValueError, match="need `factor` or `width_px`"):
        Profile("mine", "resized_px", "bracket_box", "box", factor=None)


def test_glms_marks_are_part_of_the_form() -> None:
    glm = profile_named("glm4v")
    assert is_well_formed("<think>.</think><|begin_of_box|>[[1,2,3,4]]<|end_of_box|>", glm)
    assert not is_well_formed("[[1,2,3,4]]", glm)
    click, box = read_click("At (9,9): <|begin_of_box|>[1,2,3,4]<|end_of_box|>", glm, Frame(9, 9))
    assert isinstance(box, Box)
    assert (box.xyxy, isinstance(click, Point)) == ((1, 2, 3, 4), True)


@pytest.mark.parametrize(
    ("name", "model_type", "profile"),
    [
        ("ByteDance-Seed/UI-TARS-1.5-7B", "qwen2_5_vl", "ui_tars_1_5"),
        ("ByteDance-Seed/UI-TARS-7B-DPO", "qwen2_vl", "ui_tars"),
        ("OS-Copilot/OS-Atlas-Base-7B", "qwen2_vl", "os_atlas_7b"),
        ("OS-Copilot/OS-Atlas-Base-4B", "internvl_chat", "os_atlas_4b"),
        ("xlangai/Aguvis-7B-720P", "qwen2_vl", "aguvis"),
        ("osunlp/UGround-V1-2B", "qwen2_vl", "uground_v1"),
        ("osunlp/UGround", "llava_llama", "uground_v0"),
        ("showlab/ShowUI-2B", "qwen2_vl", "showui"),
        ("xlangai/Jedi-3B-1080p", "qwen2_5_vl", "jedi"),
        ("Salesforce/GTA1-7B", "qwen2_5_vl", "gta1"),
        ("Hcompany/Holo1.5-7B", "qwen2_5_vl", "holo1_5"),
        ("Hcompany/Holo2-8B", "qwen3_vl", "holo2"),
        ("inclusionAI/UI-Venus-Ground-7B", "qwen2_5_vl", "ui_venus"),
        ("inclusionAI/UI-Venus-1.5-8B", "qwen3_vl", "ui_venus_1_5"),
        ("mPLUG/GUI-Owl-7B", "qwen2_5_vl", "gui_owl"),
        ("mPLUG/GUI-Owl-1.5-8B-Instruct", "qwen3_vl", "gui_owl_1_5"),
        ("Tongyi-MAI/MAI-UI-8B", "qwen3_vl", "mai_ui"),
        ("xlangai/OpenCUA-32B", "opencua", "opencua"),
        ("xlangai/OpenCUA-Qwen2-7B", "qwen2_vl", "opencua_qwen2"),
        ("ServiceNow/GroundNext-7B-V0", "qwen2_5_vl", "groundnext"),
        ("zai-org/cogagent-9b-20241220", "chatglm", "cogagent_9b"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", "qwen2_5_vl"),
        ("Qwen/Qwen3.5-4B", "qwen3_5", "qwen3_5"),
        ("zai-org/GLM-4.1V-9B-Thinking", "glm4v", "glm4v"),
        ("OpenGVLab/InternVL3-8B-hf", "internvl", "internvl"),
        # A name that promises another family: the type is a fact.
        ("me/gta1-on-qwen3", "qwen3_vl", "qwen3_vl"),
        ("google/gemma-3-4b-it", "gemma3", None),
        ("me/mine", "llava", None),
    ],
)
def test_a_checkpoint_tells_its_profile(
    tmp_path: Path, name: str, model_type: str, profile: str | None
) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    choice = chosen_profile(str(folder))
    assert (None if choice is None else choice.profile) == profile
    # Under a name that says nothing, the config's own may still say it.
    plain = tmp_path / "run" / "model"
    plain.mkdir(parents=True)
    config = {"model_type": model_type, "_name_or_path": name}
    (plain / "config.json").write_text(json.dumps(config))
    assert chosen_profile(str(plain)) == choice
    # An adapter's profile is its model's.
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(folder)})
    )
    assert chosen_profile(str(adapter)) == choice


def test_names_of_the_hub_tell_it_without_their_files() -> None:
    choice = chosen_profile("nobody/Holo2-8B")
    assert choice is not None
    assert (choice.profile, choice.why) == ("holo2", "the checkpoint's name, 'Holo2-8B'")
    assert chosen_profile("nobody/my-pogta1") is None
    assert {known.profile for known in NAMED} | set(OF_TYPE.values()) <= set(PROFILES)


def test_the_profile_taken_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    assert own_profile(str(tmp_path), Recipe(profile="gta1")) == "gta1"
    assert own_profile(str(tmp_path), Recipe()) == "qwen3_vl"
    assert own_profile(str(tmp_path / "none"), Recipe()) is None
    said = capsys.readouterr().out
    assert "profile: gta1 (from the model's vlrl.json)\n" in said
    assert "profile: qwen3_vl (from its model_type 'qwen3_vl'; for a model" in said
