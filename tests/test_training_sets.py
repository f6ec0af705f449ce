"""The sets that grounding is trained on: rows with the published keys, and what is left out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from datasets import Dataset
from PIL import Image

from vlrl.errors import DataError
from vlrl.gui.data.layouts import LAYOUTS
from vlrl.gui.data.options import Format, SourceOptions
from vlrl.gui.data.read import read_rows_of
from vlrl.gui.data.training_sets import TRAINING_SETS

WIDTH, HEIGHT = 1000, 500
LEFT, RIGHT = (100.0, 50.0, 200.0, 100.0), (600.0, 250.0, 900.0, 500.0)
UNIT_LEFT, UNIT_RIGHT = [0.1, 0.1, 0.2, 0.2], [0.6, 0.5, 0.9, 1.0]
CALL = '<tool_call>\n{{"name": "computer_use", "arguments": {{"action": "left_click", "coordinate": {}}}}}\n</tool_call>'  # noqa: E501


def talk(*turns: tuple[str, str], system: str | None = None) -> list[dict[str, str]]:
    said = [] if system is None else [{"from": "system", "value": system}]
    for asked, answer in turns:
        said += [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return said


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "white").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one image under the names that the rows use."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for name in ("a.png", "App/b1.png", "data/data/web/shop/screen1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    return tmp_path


def written(folder: Path, value: Any, name: str = "rows.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        Dataset.from_list(value).to_parquet(str(path))
    else:
        path.write_text(json.dumps(value), encoding="utf-8")
    return path


def read(path: Path, layout: Any, **options: Any) -> Any:
    how = {key: options.pop(key) for key in ("limit", "on_bad_row") if key in options}
    return read_rows_of(SourceOptions(path=str(path), format=layout, **options), **how)


OS_ATLAS = [
    {"img_filename": "a.png", "instruction": "Save", "bbox": UNIT_LEFT, "data_type": "text"},
    {
        "img_filename": "a.png",
        "elements": [
            {"instruction": "Save", "bbox": UNIT_LEFT},
            {"instruction": "Open", "bbox": UNIT_RIGHT, "data_type": "icon"},
        ],
    },
]
SHOWUI = {
    "img_url": "a.png",
    "img_size": [WIDTH, HEIGHT],
    "element": [
        {"instruction": "Save", "bbox": UNIT_LEFT, "data_type": "text", "point": [0.15, 0.15]},
        {"instruction": "Open", "bbox": UNIT_RIGHT, "data_type": "icon", "point": [0.75, 0.75]},
    ],
    "element_size": 2,
}
UGROUND = {
    "image": png(),
    "width": WIDTH,
    "height": HEIGHT,
    "conversations": json.dumps(
        talk(("Save", "(100, 100, 200, 200)"), ("Open", "(600, 500, 900, 1000)"))
    ),
}
JEDI = {
    "image": "a.png",
    # 1000 x 500 pixels are 1008 x 504 for the model.
    "conversations": talk(
        ("<image>\nSave", CALL.format("[100.8, 50.4, 201.6, 100.8]")),
        ("What is it?", "A floppy disk."),
        system="You are a helpful assistant.",
    ),
}
GTA1 = {
    "id": 1,
    "image": "a.png",
    "bbox": [100, 100, 200, 200],
    "conversations": talk(("<image>Save", "(150, 150)")),
}
SE_GUI = {
    "images": ["a.png"],
    "bbox": [200, 100, 400, 200, 2000, 1000],
    "conversations": talk(("<image>\nSave", CALL.format("[300, 150]")), system="You may call."),
}
GUI_R1 = [
    {
        "image": {"bytes": png(), "path": None},
        "gt_bbox": numbers,
        "instruction": asked,
        "history": "None",
        "task_type": "low",
        "gt_action": action,
        "gt_input_text": "no input text",
    }
    for asked, action, numbers in (
        ("Save", "click", UNIT_LEFT),
        ("down", "scroll", [-100.0, -100.0]),
        ("there", "click", [0.5, 0.5]),
    )
]
UI_R1 = [
    {"img_filename": "a.png", "instruction": "Save", "bbox": [100, 50, 200, 100]},
    {"img_filename": "a.png", "instruction": "back", "action": "navigate_back"},
]
INFIGUI = {
    "data_source": "point",
    "prompt": [
        {"role": "system", "content": "You FIRST think."},
        {
            "role": "user",
            "content": "<image>The screen's resolution is 2000x1000.\nLocate the UI element(s) for "
            '"the "Save" tab", output the coordinates using JSON format: [{"point_2d": [x, y]}]',
        },
    ],
    "images": [{"bytes": png(), "path": None}],
    "reward_model": {"ground_truth": {"x1": 200, "y1": 100, "x2": 400, "y2": 200}},
}
GROUNDCUA = [
    {"image_path": "App/b1.png", "bbox": [100, 50, 200, 100], "text": "Save", "category": "Button",
     "id": "7"},
    {"image_path": "App/b1.png", "bbox": [1, 1, 9, 9], "text": " ", "category": None, "id": "8"},
]  # fmt: skip
TUNING = {"platform": "App", "id": "b1", "instruction": "Save it", "bbox": [100, 50, 200, 100]}
SCALECUA = [
    {"image": "a.png", "width": WIDTH, "height": HEIGHT, "conversations": talk((asked, answer))}
    for asked, answer in (
        (
            "<image>\nFocus on <ref>Save</ref>.",
            "<ref>Save</ref><box>[[100, 100, 200, 200]]</box>",
        ),
        ("<image>\n<ref>Open</ref>", "<ref>Open</ref><point>[[750, 750]]</point>"),
        ("<image>\nClick Open.", "<action>\nclick(x=0.75, y=0.75)\n</action>"),
        ("<image>\nDescribe it.", "A shop."),
    )
]
AMEX = {
    "image_path": "a.png",
    "clickable_elements": [
        {"bbox": [100, 50, 200, 100], "xml_desc": ["Save"], "functionality": "click to keep it"},
        {"bbox": [600, 250, 900, 500], "xml_desc": ["a", "b"], "functionality": ""},
    ],
    "scrollable_elements": [{"bbox": [0, 0, 1000, 500]}],
}

NO_BOX = "a point and no box; `point_side_px` would make it a square"


@pytest.mark.parametrize(
    ("layout", "rows", "file", "found", "left_out"),
    [
        (
            "os_atlas",
            OS_ATLAS,
            "rows.json",
            [("rows/1", "Save", LEFT), ("rows/2/1", "Save", LEFT), ("rows/2/2", "Open", RIGHT)],
            {},
        ),
        (
            "showui",
            [SHOWUI],
            "hf_train.json",
            [("hf_train/1/1", "Save", LEFT), ("hf_train/1/2", "Open", RIGHT)],
            {},
        ),
        (
            "uground",
            [UGROUND],
            "shard_0000.parquet",
            [("shard_0000/1/1", "Save", LEFT), ("shard_0000/1/2", "Open", RIGHT)],
            {},
        ),
        (
            "jedi",
            [JEDI],
            "rows.json",
            [("rows/1/1", "Save", LEFT)],
            {"an answer without a place": 1},
        ),
        ("gta1", [GTA1], "inp.json", [("inp/1", "Save", LEFT)], {}),
        ("se_gui", [SE_GUI], "rows.json", [("rows/1", "Save", LEFT)], {}),
        (
            "gui_r1",
            GUI_R1,
            "train.parquet",
            [("train/1", "Save", LEFT)],
            {"the action 'scroll', which clicks nothing": 1, NO_BOX: 1},
        ),
        (
            "ui_r1",
            UI_R1,
            "train.json",
            [("train/1", "Save", LEFT)],
            {"the action 'navigate_back', which clicks nothing": 1},
        ),
        (
            "infigui",
            [INFIGUI],
            "omniact_filtered_train.parquet",
            [("omniact_filtered_train/1", 'the "Save" tab', LEFT)],
            {},
        ),
        (
            "groundcua",
            GROUNDCUA,
            "b1.json",
            [("b1/1", "Save", LEFT)],
            {"an element without text": 1},
        ),
        ("groundcua", [TUNING], "functional.json", [("functional/1", "Save it", LEFT)], {}),
        (
            "scalecua",
            SCALECUA,
            "rows.json",
            [("rows/1", "Save", LEFT)],
            {NO_BOX: 2, "an answer without a place": 1},
        ),
        (
            "amex",
            AMEX,
            "screen.json",
            [("screen/1", "click to keep it", LEFT), ("screen/2", "Save", LEFT)],
            {"an element without a function or one name": 1},
        ),
    ],
)
def test_rows_are_read_as_published(
    folder: Path, layout: str, rows: Any, file: str, found: Any, left_out: dict[str, int]
) -> None:
    got = read(written(folder, rows, file), layout)
    assert [(row.id, row.instruction, tuple(map(float, row.box))) for row in got.good] == [
        (name, asked, pytest.approx(box)) for name, asked, box in found
    ]
    assert dict(got.left_out) == left_out
    assert {(row.width_px, row.height_px) for row in got.good} == {(WIDTH, HEIGHT)}
    # The elements of an image share one file.
    assert len({row.image for row in got.good}) == 1


def test_a_point_becomes_a_square_where_it_is_asked_for(folder: Path) -> None:
    rows = [
        {"image": "a.png", "conversations": talk(("<image>\nx", "pyautogui.click(x=0.5, y=1.0)"))}
    ]
    path = written(folder, rows)
    with pytest.raises(DataError, match="no usable row; left out: 1: a point and no box"):
        read(path, "aguvis")
    (row,) = read(path, "aguvis", point_side_px=40).good
    assert row.box == (480, 480, 520, 500)  # within the image
    # Both of ScaleCUA's scales.
    points = read(written(folder, SCALECUA), "scalecua", point_side_px=20).good[1:]
    assert [row.box for row in points] == [(740, 365, 760, 385)] * 2
    (_, there) = read(written(folder, GUI_R1, "t.parquet"), "gui_r1", point_side_px=20).good
    assert there.box == (490, 240, 510, 260)
    outside = [{"image": "a.png", "conversations": talk(("x", "pyautogui.click(x=1.5, y=0.5)"))}]
    with pytest.raises(DataError, match=r"rows\.json, row 1: the point \(1500, 250\) is outside"):
        read(written(folder, outside), "aguvis", point_side_px=40)


def test_an_aguvis_row_may_have_one_image_for_each_question(folder: Path) -> None:
    talked = talk(("<image>\nSave", "pyautogui.click(x=0.1, y=0.1)"), ("Open", "click(0.2, 0.2)"))
    (folder / "c.png").write_bytes(png())
    row = {"image": ["a.png", "c.png"], "conversations": talked}
    good = read(written(folder, [row]), "aguvis", point_side_px=10).good
    assert [Path(one.image).name for one in good] == ["a.png", "c.png"]
    three = {"image": ["a.png"] * 3, "conversations": talked}
    got = read(written(folder, [row, three]), "aguvis", point_side_px=10)
    assert got.left_out == {"several images for one question": 1}


def test_omniact_is_read_from_its_index(folder: Path) -> None:
    index = {}
    for number, script in enumerate(
        ("pyautogui.click(150.0,75.0)", "pyautogui.click(1,1)", "pyautogui.press('a')")
    ):
        task = f"data/tasks/web/shop/task_1.{number}.txt"
        (folder / task).parent.mkdir(parents=True, exist_ok=True)
        (folder / task).write_text(f"Task: Keep the page\nOutput Script:\n{script}\n")
        index[str(number)] = {
            "task": task,
            "image": "data/data/web/shop/screen_1.png",
            "ocr": "ocr/web/shop/screen_1.json",
            "color": "detact_color/web/shop/screen_1.json",
            "icon": "detact_icon/web/shop/screen_1.json",
            "box": "data/metadata/web/boxes/shop/screen_1.json",
        }
    boxes = {
        "0": {"top_left": [50, 25], "bottom_right": [900, 400], "label": "page", "valid": 1},
        "1": {"top_left": [100, 50], "bottom_right": [200, 100], "label": "save", "valid": 1},
    }
    written(folder, boxes, "data/metadata/web/boxes/shop/screen1_boxes.json")
    got = read(written(folder, index, "train.json"), "omniact")
    assert [(row.id, row.instruction, row.box) for row in got.good] == [
        ("train/1", "Keep the page", LEFT)
    ]
    assert got.left_out == {
        "a script that is not one click": 1,
        "a click outside every annotated box": 1,
    }
    index["0"]["task"] = "../secret.txt"
    with pytest.raises(DataError, match=r"row 1: '\.\./secret\.txt' leads out of"):
        read(written(folder, index, "train.json"), "omniact")
    index["0"]["task"] = "none.txt"
    with pytest.raises(DataError, match=r"row 1: there is no file .*none\.txt"):
        read(written(folder, index, "train.json"), "omniact")


def test_files_of_one_image_each_lie_in_subfolders(folder: Path) -> None:
    written(folder, GROUNDCUA, "anno/App/b1.json")
    written(folder, GROUNDCUA, "anno/Other/c2.json")
    got = read(folder / "anno", "groundcua", image_root=str(folder))
    assert [row.id for row in got.good] == ["b1/1", "c2/1"]
    written(folder, AMEX, "elements/one.json")
    written(folder, AMEX, "elements/two.json")
    got = read(folder / "elements", "amex", image_root=str(folder), limit=3)
    assert [row.id for row in got.good] == ["one/1", "one/2", "two/1"]


@pytest.mark.parametrize(
    ("layout", "row", "message"),
    [
        ("os_atlas", {"img_filename": "a.png", "elements": 3}, "'elements' must be a list"),
        ("showui", {"img_url": "a.png"}, "field 'element' is missing"),
        ("showui", {**SHOWUI, "element": [3]}, "field 'element': a row is a JSON object"),
        ("uground", {"image": "a.png", "conversations": "{"}, "'conversations' is not JSON"),
        ("uground", {"image": "a.png", "conversations": 3}, "'conversations' must be a list"),
        ("aguvis", {"image": "a.png", "conversations": []}, "has no question of 'human'"),
        ("se_gui", {**SE_GUI, "bbox": [1, 2, 3, 4]}, r"\[x1, y1, x2, y2, width, height\]"),
        ("se_gui", {**SE_GUI, "bbox": [1, 2, 3, 4, 0, 9]}, r"\[width, height\] in px"),
        ("gta1", {**GTA1, "bbox": [100, 100, 200, 1200]}, "outside its image"),
        ("infigui", {**INFIGUI, "prompt": []}, "must end with InfiGUI-G1's question"),
        ("amex", {"image_path": "a.png"}, "field 'clickable_elements' is missing"),
        ("gta1", 3, "a row is a JSON object"),
    ],
)
def test_what_does_not_fit_names_file_and_row(
    folder: Path, layout: str, row: Any, message: str
) -> None:
    value = {**row, "images": ["a.png"]} if layout == "infigui" else row
    one = row if layout == "amex" else [value]
    place = r"rows\.json" if layout == "amex" else r"rows\.json, row 1"
    path = written(folder, one)
    with pytest.raises(DataError, match=f"{place}.*{message}"):
        read(path, layout)
    good = OS_ATLAS[0]
    if layout == "os_atlas":  # a bad row costs no other
        got = read(written(folder, [value, good]), layout, on_bad_row="skip")
        assert (len(got.good), len(got.skipped)) == (1, 1)


def test_targets_are_left_out_on_request(folder: Path) -> None:
    elements = [
        ("Save", UNIT_LEFT),
        ("save", UNIT_LEFT),
        ("Open", UNIT_LEFT),
        ("Open", UNIT_RIGHT),
        ("Dot", [0.5, 0.5, 0.504, 0.6]),
        ("Quit", UNIT_RIGHT),
    ]
    row = {
        "img_filename": "a.png",
        "elements": [{"instruction": asked, "bbox": box} for asked, box in elements],
    }
    other = {"img_filename": "App/b1.png", "instruction": "Open", "bbox": UNIT_LEFT}
    path = written(folder, [row, other])

    def kept(**leave_out: Any) -> list[str]:
        return [one.instruction for one in read(path, "os_atlas", leave_out=leave_out).good]

    assert kept() == ["Save", "save", "Open", "Open", "Dot", "Quit", "Open"]
    assert kept(repeated=True) == ["Save", "Open", "Open", "Dot", "Quit", "Open"]
    assert kept(ambiguous=True) == ["Save", "save", "Dot", "Quit", "Open"]
    assert kept(below_px=4.5) == ["Save", "save", "Open", "Open", "Quit", "Open"]
    every = {"below_px": 4.5, "ambiguous": True, "repeated": True}
    got = read(path, "os_atlas", leave_out=every, limit=2)
    assert [one.instruction for one in got.good] == ["Save", "Quit"]
    assert got.left_out == {
        "a repeated target": 1,
        "an instruction at several boxes of its image": 2,
        "a side below 4.5 px": 1,
    }
    with pytest.raises(DataError, match="no usable row; left out: 7: a side below 999 px"):
        kept(below_px=999)


def test_a_list_is_no_index(folder: Path) -> None:
    for layout in ("amex", "omniact"):
        with pytest.raises(DataError, match=r"rows\.json: holds a list; an object is needed"):
            read(written(folder, [AMEX]), layout)


def test_every_format_has_its_layout() -> None:
    assert set(get_args(Format)) == {*LAYOUTS, "rows", "hub"}
    assert set(LAYOUTS) > set(TRAINING_SETS)
