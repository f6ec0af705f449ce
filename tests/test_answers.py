"""Reading and writing places in the formats of the model families."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrl.errors import ConfigError
from vlrl.families.profiles import PROFILES, Profile, profile_named
from vlrl.families.resize import smart_resize
from vlrl.families.thinking import Thought, first_thought, strip_thinking
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.gui.answers import candidates, parse_answer, read_places, self_check
from vlrl.gui.syntax import SYNTAXES, is_well_formed, write_answer

QWEN25 = (28, 3_136, 12_845_056)
QWEN3 = (32, 65_536, 16_777_216)
VENUS = (28, 2_000_000, 4_800_000)

# (width, height), resized (width, height) under the three limits.
SIZES = [
    ((1920, 1080), (1932, 1092), (1920, 1088), (1932, 1092)),
    ((2560, 1440), (2548, 1428), (2560, 1440), (2548, 1428)),
    ((3840, 2160), (3836, 2156), (3840, 2176), (2912, 1624)),
    ((3456, 2234), (3444, 2240), (3456, 2240), (2716, 1736)),
    ((5120, 2880), (4760, 2688), (5120, 2880), (2912, 1624)),
    ((6016, 3384), (4760, 2688), (5440, 3072), (2912, 1624)),
    ((1280, 720), (1288, 728), (1280, 704), (1904, 1064)),
    ((960, 540), (952, 532), (960, 544), (1904, 1064)),
    ((20, 20), (56, 56), (256, 256), (1428, 1428)),
]


@pytest.mark.parametrize(("size", "qwen25", "qwen3", "venus"), SIZES)
def test_sides_are_resized_as_each_familys_processor_does(size, qwen25, qwen3, venus):
    width, height = size
    for limits, expected in ((QWEN25, qwen25), (QWEN3, qwen3), (VENUS, venus)):
        new_height, new_width = smart_resize(height, width, *limits)
        assert (new_width, new_height) == expected


def test_smart_resize_ties_limits_and_errors():
    assert smart_resize(70, 42) == (56, 56)  # 2.5 and 1.5 round to even
    assert smart_resize(1080, 1920, max_pixels=1_003_520) == (728, 1316)
    with pytest.raises(ValueError, match="aspect ratio"):
        smart_resize(10, 2001)
    with pytest.raises(ValueError, match="positive size"):
        smart_resize(0, 10)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([QWEN25, QWEN3, VENUS]))
def test_smart_resize_equals_transformers(height, width, limits):
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as theirs

    if max(height, width) / min(height, width) <= 200:
        assert smart_resize(height, width, *limits) == theirs(height, width, *limits)


B = (1.0, 2.0, 3.0, 4.0)
P = (1.0, 2.0)
READ = [
    ("[1,2,3,4]", [B]),
    ("The box: [1, 2 ,3,4].", [B]),
    ("[[1,2,3,4]]", [B]),
    ("[[1,2,3,4],[5,6,7,8]]", [B, (5.0, 6.0, 7.0, 8.0)]),
    ('```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "a"}]\n```', [B]),
    ('[{"bbox_2d": [1, 2, 3, 4]', [B]),
    ("[{'bbox_2d': [1, 2, 3, 4]}]", [B]),
    ('{"bbox_2d": [[1,2,3,4],[5,6,7,8]]}', [B, (5.0, 6.0, 7.0, 8.0)]),
    ('[{"point_2d": [1, 2]}, {"point_2d": [3, 4]}]', [P, (3.0, 4.0)]),
    ('x [9,9] {"point_2d": [1, 2]}', [P]),
    ("<|box_start|>(1,2),(3,4)<|box_end|>", [B]),
    ("<|object_ref_start|>a<|object_ref_end|><|box_start|>[1,2],[3,4]<|box_end|>", [B]),
    ("<box>(1,2),(3,4)</box>", [B]),
    ("<box>1 2 3 4</box>", [B]),
    ("<point>1 2</point>", [P]),
    ("<point>1, 2<point>", [P]),
    ("<point>1 2</point> then <point>3 4</point>", [P, (3.0, 4.0)]),
    ("(1,2)", [P]),
    ("[0.25, 0.5]", [(0.25, 0.5)]),
    ("[1,2],[3,4]", [B]),
    ("(1,2),(3,4)", [B]),
    ("(1,2) or (3,4)", [P, (3.0, 4.0)]),
    ("click(start_box='(1,2)')", [P]),
    ("Action: click(start_box='<|box_start|>(1,2)<|box_end|>')", [P]),
    ("click(point='<point>1 2</point>')", [P]),
    ("pyautogui.click(x=0.25, y=0.5)", [(0.25, 0.5)]),
    ("Click(1, 2)", [P]),
    ('{"action":"click_absolute","x":1,"y":2}', [P]),
    ('{"arguments":{"action":"left_click","coordinate":[1,2]}}', [P]),
    ('{"coordinate":[1,2,3,4]}', [B]),
    ('{"x": null, "y": null}', []),
    ("point:1,2", [P]),
    ("1, 2, 3, 4", [B]),
    ("[-1,-1]", [(-1.0, -1.0)]),
    ("<think>[9,9,9,9]</think>[1,2,3,4]", [B]),
    ("[9,9,9,9]</think>[1,2,3,4]", [B]),
    ("<think>[9,9,9,9]", []),
    ("◁think▷(9,9)◁/think▷(1,2)", [P]),
    (
        '<grounding_think>at (9,9)</grounding_think>\n<answer>\n{"coordinate":[1,2]}\n</answer>',
        [P],
    ),
    ("<answer>[9,9,9,9]</answer> no: <answer>[1,2,3,4]</answer>", [B]),
    ("<answer>[9,9,9,9]</answer><answer>[1,2,3,4]", [B]),
    ("<answer>[9,9,9,9]</answer> no: <answer>none</answer>", []),
    (f"[{'9' * 100},2]", [(1e100, 2.0)]),
    (f"[{'9' * 101},2]", []),
    (f"[-{'9' * 309},-1]", []),
    ("[1,2,3]", []),
    ("[nan,1,2,3,4]", []),
    ("[nan, 1, 2]", []),
    ("[1,2,3,4<|im_end|>", []),
    ("no box here", []),
    ("Version 1.2", []),
]


@pytest.mark.parametrize(("text", "places"), READ)
def test_places_are_read_from_any_text(text, places):
    assert [place.values for place in read_places(text)] == places


ACTIONS = [
    ("ui_tars", "Thought: Click (3,4) in the list\nAction: click(start_box='(327,26)')", (327, 26)),
    ("ui_tars", "Action: click(start_box='(1,1)')\nAction: click(start_box='(327,26)')", (327, 26)),
    ("ui_tars", "Action: drag(start_box='(327,26)', end_box='(5,6)')", (327, 26)),
    ("ui_tars", "Action: click(start_box='<|box_start|>(327,26)<|box_end|>')", (327, 26)),
    ("ui_tars", "I click (3,4): click(start_box='(327,26)')", (327, 26)),
    ("ui_tars", "Action: type(content='see (3,4)')", None),
    ("ui_tars", "Thought: Click (3,4)\nAction: wait()", None),
    ("ui_tars_1_5", "Thought: [3, 4]\nAction: click(start_box='(327,26)')", (327, 26)),
    ("doubao", "Thought: (3,4)\nAction: click(point='<point>327 26</point>')", (327, 26)),
    (
        "doubao",
        "Thought: <point>3 4</point>\nAction: click(point='<point>327 26</point>')",
        (327, 26),
    ),
    ("aguvis", "Action: Click (3,4).\npyautogui.click(x=0.25, y=0.5)", (0.25, 0.5)),
    ("aguvis", "Click (3,4).\npyautogui.click(0.25, 0.5)", (0.25, 0.5)),
    ("ui_tars", "Action: wait()\n# at (3,4)", None),
    ("ui_tars", "Action: finished()\n(3,4)", None),
    ("ui_tars", "Action: wait()\n\nclick(start_box='(327,26)')", (327, 26)),
    ("ui_tars", "Action: drag(end_box='(5,6)', start_box='(327,26)')", (327, 26)),
    ("ui_tars", "Action: drag(end_point='(5,6)')", None),
    ("doubao", "Action: drag(endpoint='<point>5 6</point>')", None),
    ("doubao", """Action: type(content='see point="5,6" here')""", None),
    ("doubao", """Action: type(content='it's (point="5,6") here')""", None),
    ("doubao", """Action: type(content="it's, point='5,6' here")""", None),
    ("doubao", """Action: type(content='Action: click(point="5,6")')""", None),
    (
        "doubao",
        """Action: type(content='(point="5,6")', point='<point>327 26</point>')""",
        (327, 26),
    ),
    ("doubao", "Action: click( point = '<point>327 26", (327, 26)),  # cut off
    ("aguvis", "pyautogui.write('(3,4)')", None),
    ("aguvis", "pyautogui.write('x=0.5, y=0.25')", None),
    ("aguvis", "pyautogui.write('pyautogui.click(0.5, 0.25)')", None),
    ("aguvis", "pyautogui.hotkey(['a', 'b'])\npyautogui.click(x=0.25, y=0.5)", (0.25, 0.5)),
    ("aguvis", "pyautogui.write('it\npyautogui.click(x=0.25, y=0.5)", (0.25, 0.5)),
    ("aguvis", "pyautogui.click(y=0.5, x=0.25)", (0.25, 0.5)),
    ("kimi_vl", "pyautogui.click(x=.25, y=.5)", (0.25, 0.5)),
    ("kimi_vl", "pyautogui.click(x=-.25, clicks=2, button='left', y=1.)", (-0.25, 1)),
    ("kimi_vl", "pyautogui.click(.25, y=.5)", (0.25, 0.5)),
    ("kimi_vl", "pyautogui.click(x=0.2, x=0.3)", None),
    ("kimi_vl", "pyautogui.click(x=0.2)\npyautogui.click(y=0.3)", None),
    ("gui_g2", "click(y=26, x=327)", (327, 26)),
    (
        "kimi_vl",
        "## Action:\nAt (3,4)\n## Code:\npyautogui.click(x=0.25, y=0.5)",
        (0.25, 0.5),
    ),
    (
        "step_gui",
        "<THINK>(9,9)</THINK>\nexplain:(3,4)\taction:CLICK\tpoint:327,26",
        (327, 26),
    ),
    ("step_gui", "explain:point:3,4\taction:CLICK\tpoint:327 26\tsummary:(5,6)", (327, 26)),
    ("step_gui", "action:SLIDE\tpoint1:327,26\tpoint2:5,6", (327, 26)),
    ("step_gui", "explain:at (3,4)\taction:WAIT\tvalue:5", None),
    ("gui_owl_1_5", 'At (3,4). <tool_call>{"coordinate": [327, 26]}</tool_call> (5,6)', (327, 26)),
    ("gui_owl_1_5", '<tool_call>{"action": "terminate"}</tool_call> (5,6)', None),
    ("se_gui", '"x": 3, "y": 4 <tool_call>{"coordinate": [327, 26]}</tool_call>', (327, 26)),
    ("cogagent", "Tap (3,4): [[320,20,334,32]]", (320, 20, 334, 32)),
    ("os_atlas_4b", "[[3,4]] no: [[327,26]] of [5, 6]", (327, 26)),
    ("gui_g2", "The tab (3,4): [320,20,334,32]", (320, 20, 334, 32)),
    ("gta1", "Item [12, 8]: (327, 26)", (327, 26)),
    ("showui", "Item (3,4): [0.25, 0.5]", (0.25, 0.5)),
    ("ui_venus_1_5", "[320, 20], [334, 32]", (320, 20, 334, 32)),
]


@pytest.mark.parametrize(("name", "text", "numbers"), ACTIONS)
def test_the_action_counts_and_not_the_prose(name, text, numbers):
    places = candidates(text, profile_named(name))
    assert (places[0].values if places else None) == numbers


@pytest.mark.parametrize(
    "marks", ["<THINK>{}</THINK>", "<Think>{}</think>", "<TINK>{}</THINK>", "{}< / THINK >"]
)
def test_thinking_is_taken_off_whatever_its_case(marks):
    text = marks.format("at [9,9,9,9]")
    assert [place.values for place in read_places(f"{text}\n[1,2,3,4]")] == [B]
    assert strip_thinking("<THINK>never ends [9,9,9,9]") == ""


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("<THINK>a</Think>b<think>c</think>", Thought("a", is_closed=True)),
        ("</think><think>a<think>b</think>", Thought("a<think>b", is_closed=True)),
        ("x<think>a", Thought("a", is_closed=False)),
        ("a</think>b", None),
        ("<think_bbox>a</think_bbox>", None),
    ],
)
def test_the_first_thought(text, thought):
    assert first_thought(text) == thought


def test_what_profiles_take_from_released_code():
    for name, scale in (
        ("doubao", "thousand"),
        ("step_gui", "thousand"),
        ("ui_venus", "resized_px"),
    ):
        assert profile_named(name).scale == scale
    assert profile_named("se_gui").max_pixels == 7_049_280
    infigui = profile_named("infigui_g1")
    # 5,600 tokens of 28 x 28 pixels first, then Qwen2.5-VL's own limits.
    assert infigui.resized(3840, 2160) == Frame(2800, 1568)
    assert infigui.resized(1920, 1080) == Frame(1932, 1092)
    assert infigui.resized(3840, 2160, max_pixels=12_845_056) == Frame(3836, 2156)


CORNERS = [
    '[{"bbox_2d": [[1, 2], [3, 4]]}]',
    '{"bbox": [(1, 2), (3, 4)]}',
    '{"bbox_2d": [[1, 2] [3, 4]]}',
    '{"bbox_2d": [[1, 2]; [3, 4]]}',
    '{"bbox_2d": [1, 2], [3, 4]}',
    '{"bbox_2d": (1, 2) to (3, 4)}',
    '{"bbox_2d": [[1, 2], "to", [3, 4]]}',
    "{'bbox': [[1,2],'to',[3,4]]}",
    '{"bbox_2d": [1, 2], to [3, 4]}',
]
JOINTS = [", ", " ", "", " to ", "to", ";", " ; ", ', "to", ', ',"to",', ", to "]
SEPARATE = [" or ", "\n", " and then ", ". ", " / "]


@pytest.mark.parametrize("name", sorted(PROFILES))
@pytest.mark.parametrize("text", CORNERS)
def test_two_corners_under_a_boxs_key_are_a_box_in_every_profile(text, name):
    profile = PROFILES[name]
    assert [place.values for place in candidates(text, profile)] == [B]


@pytest.mark.parametrize("joint", JOINTS)
@pytest.mark.parametrize(
    "form", ["({}){}({})", "[{}]{}[{}]", "The box is [{}]{}[{}].", "<box>({}){}({})</box>"]
)
def test_two_corners_are_a_box_however_they_are_joined(form, joint):
    text = form.format("1,2", joint, "3,4")
    for profile in PROFILES.values():
        if profile.kind == "box":
            assert [place.values for place in candidates(text, profile)] == [B]


@pytest.mark.parametrize("joint", [" ", " to ", "; ", ", "])
def test_bare_corners_are_a_box_for_a_box_model(joint):
    text = f"at 1,2{joint}3,4"
    assert [place.values for place in read_places(text)] == [B]
    first, *_ = read_places(text, join_pairs=False)
    assert first.values == (B if joint == ", " else P)


@pytest.mark.parametrize("joint", SEPARATE)
def test_two_places_that_nothing_joins_stay_two(joint):
    assert [place.values for place in read_places(f"(1,2){joint}(3,4)")] == [P, (3.0, 4.0)]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('{"bbox_2d": {"x1": 1}, "label": "(3,4)"}', []),
        ('{"label": "(3,4)", "bbox_2d": {"x1": 1}}', []),
        ('[{"point_2d": null, "label": "<point>3 4</point>"}]', []),
        ('{"arguments": {"coordinate": "none", "text": "3,4"}, "note": "at [3,4]"}', []),
        ('{"bbox_2d": [' + "9" * 101 + ',2], "label": "(3,4)"}', []),
        ('{"bbox_2d": {"x1": 1}, "label": "(3,4)', []),
        # What is readable stays so: the key's own value, another object, text outside.
        ('{"bbox_2d": "[1,2,3,4]", "label": "(3,4)"}', [B]),
        ('{"coordinate": {"x": 1, "y": 2}, "label": "(3,4)"}', [P]),
        ('[{"bbox_2d": null, "label": "(3,4)"}, {"bbox_2d": [1,2,3,4]}]', [B]),
        ('As {"point_2d": [x, y]}: (1,2)', [P]),
    ],
)
def test_a_label_beside_an_unreadable_place_is_no_click(text, places):
    assert [place.values for place in read_places(text)] == places


def test_more_than_two_pairs_in_json_are_points():
    text = '{"bbox_2d": [[1,2],[3,4],[5,6]]}'
    assert [place.values for place in read_places(text)] == [P, (3.0, 4.0), (5.0, 6.0)]
    assert [p.values for p in read_places('{"point_2d": [[1,2],[3,4]]}')] == [P, (3.0, 4.0)]


def test_two_points_are_no_box_for_a_point_model():
    frame = Frame(100, 100)
    first, second = parse_answer("(1,2),(3,4)", profile_named("gta1"), frame)
    assert (first, second) == (Point(1, 2, frame), Point(3, 4, frame))
    assert parse_answer("(1,2) (3,4)", profile_named("gemini"), frame)[0].x == 3


def test_the_frame_comes_from_the_profile_alone():
    resized = Frame(1932, 1092)
    for name, frame in (
        ("gui_g2", resized),
        ("qwen2_vl", Frame(1000, 1000)),
        ("qwen3_vl_tool", Frame(999, 999)),
        ("showui", Frame(1, 1)),
    ):
        for text in ("[0.1,0.2,0.3,0.4]", "[900,900,950,950]"):
            (place,) = parse_answer(text, profile_named(name), resized)
            assert place.frame == frame


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_reads_what_it_writes(name):
    profile = PROFILES[name]
    assert SYNTAXES[profile.syntax].kind == profile.kind
    for size in ((1920, 1080), (448, 364), (5120, 2880), (390, 844)):
        self_check(profile, *size)


def test_self_check_finds_a_wrong_profile():
    with pytest.raises(ConfigError, match="writes no point"):
        self_check(Profile("mixed", "unit", "bracket_box", "point"), 1920, 1080)

    class Doubled(Profile):
        """Reads in another frame than it writes."""

        def frame(self, resized):
            self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
            return Frame(1000 * self.__dict__["calls"], 1000)

    with pytest.raises(ConfigError, match="fails its self-check"):
        self_check(Doubled("doubled", "thousand", "bracket_box", "box"), 1920, 1080)


def test_each_profile_writes_a_box_in_its_own_syntax():
    screen = Frame(1932, 1092)
    box = Box(100, 100, 200, 140, screen)
    for name, text in (
        ("gui_g2", "[100,100,200,140]"),
        ("gui_g1", '```json\n[{"bbox_2d": [100, 100, 200, 140]}]\n```'),
        ("gta1", "(150, 120)"),
        ("qwen2_vl", "<|box_start|>(52,92),(104,128)<|box_end|>"),
        ("kimi_vl", "pyautogui.click(x=0.0776, y=0.1099)"),
    ):
        assert write_answer(box, profile_named(name), screen) == text


STRICT = [
    ("gui_g2", "[1,2,3,4]", True),
    ("gui_g2", " [ 1, 2 ,3 , 4 ]\n<|im_end|>\n", True),
    ("gui_g2", "[1,2,3,4]</s><|endoftext|>", True),
    ("gui_g2", "[1,2,3,4.0]", False),
    ("gui_g2", "[-1,2,3,4]", False),
    ("gui_g2", "[1,2,3,4].", False),
    ("gui_g2", "[[1,2,3,4]]", False),
    ("gui_g2", "[١,2,3,4]", False),
    ("gui_g2", "[1,2,3," + "4" * 400 + "]", False),
    ("gui_g2", "", False),
    ("gui_g1", '```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "a"}]\n```', True),
    ("gui_g1", '[{"bbox_2d": [1, 2, 3, 4]}]', True),
    ("gui_g1", '[{"bbox_2d": [1, 2, 3]}]', False),
    ("gui_g1", '{"bbox_2d": [1, 2, 3, 4]}', False),
    ("gui_g1", '[{"bbox_2d": [1, 2, 3, true]}]', False),
    ("gui_g1", "[" * 1500, False),
    ("infigui_g1", '<think>a</think>[{"point_2d": [1, 2]}, {"point_2d": [3, 4]}]', True),
    ("infigui_g1", "[]", False),
    ("showui", "[0.25, 0.5]", True),
    ("mai_ui", '<answer>{"coordinate":[1,2]}</answer>', True),
]


@pytest.mark.parametrize(("name", "text", "good"), STRICT)
def test_only_the_exact_format_is_well_formed(name, text, good):
    assert is_well_formed(text, profile_named(name)) is good


BOMBS = [
    "[" + "1" * 8000,
    "[1," + " " * 8000,
    "[" * 8000,
    "[1," * 2600,
    "1," * 4000,
    "<box>" * 1600,
    "<point>" * 1100,
    "<box>1 " * 1100,
    '"x":1,' * 1300,
    '"bbox_2d":[[' * 700,
    "x=1," * 2000,
    "<think>" * 1100,
    "</s>" * 2000,
    "<answer>" * 1000,
    "1." * 4000,
    "-" * 8000,
    " " * 8000,
]


@pytest.mark.parametrize("text", BOMBS, ids=[text[:8] for text in BOMBS])
def test_long_answers_take_linear_time(text):
    def seconds(text):
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            read_places(text)
            is_well_formed(text, profile_named("gui_g2"))
            best = min(best, time.process_time() - start)
        return best

    # 16 times the text: 16 times the time if linear, 256 if quadratic.
    assert seconds(text * 16) < 64 * seconds(text) + 0.01


TEXT = """
[ ] ( ) { } , : ; = 1 20 -3 0.5 1e9 99999999999999999999 nan inf + % . " ' bbox_2d point_2d
coordinate x y <box> </box> <point> <|box_start|> <|box_end|> <think> </think> <answer> </answer>
```json ``` <|im_end|> ١ １ click pyautogui.click start_box "bbox_2d": "x": "y": x= y= [[ ]]
"""
pieces = st.sampled_from([*TEXT.split(), " ", "\n"])


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(pieces, max_size=60).map("".join), st.text(max_size=200)))
def test_no_answer_breaks_the_parser(text):
    frame = Frame(1932, 1092)
    for name in ("gui_g2", "gui_g1", "gemini"):
        profile = profile_named(name)
        for place in parse_answer(text, profile, frame):
            assert isinstance(place, Box | Point)
        assert is_well_formed(text, profile) in (True, False)


def test_an_unknown_profile_names_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'gui_g2'"):
        profile_named("guig2")
