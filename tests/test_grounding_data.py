"""Readers of grounding data: native formats, checks and their messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from vlrl.errors import ConfigError, DataError
from vlrl.gui.data.layouts import LAYOUTS
from vlrl.gui.data.options import Format, SourceOptions
from vlrl.gui.data.read import read_rows_of
from vlrl.gui.data.sampling import sampled

# A few rows in the published formats; ScreenSpot-Pro, UI-Vision and OSWorld-G (in
# ScreenSpot-Pro's keys) as in MAI-UI's copies (Apache-2.0).
PRO = {
    "img_filename": "android_studio_mac/screenshot.png",
    "bbox": [1774, 1586, 2113, 1618],
    "instruction": " modify the highlights ",
    "instruction_cn": "修改",
    "id": "android_studio_macos_0",
    "application": "android_studio",
    "platform": "macos",
    "img_size": [3840, 2160],
    "ui_type": "icon",
    "group": "Dev",
}
OS_G = {
    **PRO,
    "id": "0FOB4CLBT2-0",
    "bbox": [1422.9, 326.4, 1449.58, 354.8],
    "img_size": [1920, 1080],
    "ui_type": ["Label", "Button"],
}
UI_VISION = {
    "image_path": "element_grounding/a.png",
    "image_size": [2880, 1800],
    "prompt_to_evaluate": "layout in grid",
    "bbox": [1814.4, -1.5, 1857.6, 36.0],
    "platform": "Qt Creator",
    "category": "Button",
    "element_type": "icon",
}
SPOT = {
    "img_filename": "pc_a.png",
    "bbox": [910, 78, 44, 34],
    "instruction": "close this window",
    "data_type": "icon",
    "data_source": "windows",
    "img_size": [960, 540],
}
G2 = {
    "image_path": "a.png",
    "image_url": "",
    "height": 540,
    "width": 960,
    "instruction": "close",
    "rela_box": [0.9, 0.1, 0.95, 0.2],
    "abs_box": [910, 78, 954, 112],
}
G1 = {
    "image": "a.png",
    "problem": "close",
    "solution": [910.0, 78.0, 954.0, 112.0],
    "rate": 1,
    "image_size": [960, 540],
}
OWN = {
    "id": "gentelella/inbox/e12",
    "image": "images/a.png",
    "image_size": [960, 540],
    "instruction": "Click: Inbox",
    "bbox": [910, 78, 954, 112],
    "kind": "label",
    "element_type": "text",
    "role": "link",
    "name": "Inbox",
    "app": "gentelella",
    "platform": "web",
    "screen": "inbox",
}


def write(folder: Path, rows, name="rows.json") -> Path:
    """A data file."""
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def read(path, format_name="screens", **options):
    """The rows of a file without images."""
    how = {key: options.pop(key) for key in ("on_bad_row", "limit") if key in options}
    source = {"path": str(path), "format": format_name, "check_images": False, **options}
    return read_rows_of(SourceOptions(**source), **how)


@pytest.mark.parametrize(
    ("format_name", "row", "box", "fields"),
    [
        ("screens", OWN, (910, 78, 954, 112), {"kind": "label", "app": "gentelella"}),
        ("screenspot_pro", PRO, (1774, 1586, 2113, 1618), {"element_type": "icon"}),
        (
            "screenspot_pro",
            OS_G,
            (1422.9, 326.4, 1449.58, 354.8),
            {"app": "android_studio"},
        ),
        ("screenspot", SPOT, (910, 78, 954, 112), {"element_type": "icon", "app": "windows"}),
        ("gui_g2", G2, (910, 78, 954, 112), {}),
        ("gui_g1", G1, (910, 78, 954, 112), {"rate": 1}),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_published_formats_are_read_into_the_same_fields(
    tmp_path, format_name, row, box, fields, suffix
):
    rows = read(write(tmp_path, [row], f"rows.{suffix}"), format_name).good
    assert rows[0].box == pytest.approx(box)
    assert rows[0].fields.items() >= fields.items()
    assert rows[0].instruction == rows[0].instruction.strip()
    assert Path(rows[0].image).parent.is_relative_to(tmp_path)


def test_ui_vision_exceeds_its_images(tmp_path):
    path = write(tmp_path, [UI_VISION])
    with pytest.raises(DataError, match=r"1\.5 px outside its image .* `clip_px`"):
        read(path, "ui_vision")
    (row,) = read(path, "ui_vision", clip_px=2).good
    assert row.box == (1814.4, 0.0, 1857.6, 36.0)


BAD = [
    ({"bbox": [910, 78, 970, 112]}, "outside its image"),
    ({"bbox": [910, 78, 910, 112]}, "has no area"),
    ({"bbox": [954, 112, 910, 78]}, "is inverted"),
    ({"bbox": ["910", "78", "954", "112"]}, "four finite numbers"),
    ({"bbox": [910, 78, 954]}, "four finite numbers"),
    ({"bbox": [True, 78, 954, 112]}, "four finite numbers"),
    ({"bbox": [1, 2, 3, 10**400]}, "four finite numbers"),
    ({"bbox": None}, "four finite numbers"),
    ({"image_size": [960]}, "'image_size' must be"),
    ({"image_size": [960.5, 540]}, "'image_size' must be"),
    ({"instruction": "  "}, "'instruction' must be"),
    ({"instruction": 3}, "'instruction' must be"),
    ({"image": None}, "'image' must be"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_rows_name_file_row_and_field(tmp_path, change, message):
    path = write(tmp_path, [OWN, {**OWN, "id": "b", **change}])
    with pytest.raises(
        DataError, match=rf"rows\.json, row 2: field .*{message}|{message}"
    ) as error:
        read(path)
    assert "rows.json, row 2" in str(error.value)
    rows = read(path, on_bad_row="skip")
    assert len(rows.good) == 1
    assert len(rows.skipped) == 1
    assert "row 2" in rows.skipped[0]


def test_missing_field_duplicate_id_and_non_object(tmp_path):
    lacking = {key: value for key, value in OWN.items() if key != "bbox"}
    for rows, message in (
        ([lacking], r"row 1: field 'bbox' is missing; the row has"),
        ([OWN, OWN], r"row 2: id 'gentelella/inbox/e12' is also that of .*row 1"),
        ([OWN, [1]], r"row 2: a row is a JSON object, not list"),
    ):
        with pytest.raises(DataError, match=message):
            read(write(tmp_path, rows))
    for format_name in ("gui_g1", "gui_g2", "screenspot", "screenspot_pro", "ui_vision"):
        with pytest.raises(DataError, match="row 1"):
            read(write(tmp_path, [[1]]), format_name)


def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path):
    with pytest.raises(DataError, match="no data file"):
        read(tmp_path / "none.json")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"a": 1}\n{"a": NaN}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: not valid JSON: NaN"):
        read(bad)
    (tmp_path / "object.json").write_text("{}")
    with pytest.raises(DataError, match="a list of rows is needed"):
        read(tmp_path / "object.json")
    with pytest.raises(DataError, match="no usable row"):
        read(write(tmp_path, []))


def test_images_are_checked_and_sized(tmp_path):
    from PIL import Image

    path = write(tmp_path, [{**SPOT, "img_size": None}])
    with pytest.raises(DataError, match=r"row 1: .*no image"):
        read(path, "screenspot", check_images=True)
    Image.new("RGB", (960, 540)).save(tmp_path / "pc_a.png")
    (row,) = read(path, "screenspot", check_images=True).good
    assert (row.width_px, row.height_px) == (960, 540)


@pytest.mark.parametrize(
    ("box", "numbers"),
    [
        ("xyxy_px", [96, 54, 192, 108]),
        ("xywh_px", [96, 54, 96, 54]),
        ("xyxy_unit", [0.1, 0.1, 0.2, 0.2]),
        ("xywh_unit", [0.1, 0.1, 0.1, 0.1]),
        ("xyxy_thousand", [100, 100, 200, 200]),
        ("xywh_thousand", [100, 100, 100, 100]),
    ],
)
def test_conventions_and_column_mapping(tmp_path, box, numbers):
    row = {"image": "a.png", "size": [960, 540], "text": "close", "answer": numbers}
    columns = {"image": "image", "image_size": "size", "instruction": "text", "box": "answer"}
    (got,) = read(write(tmp_path, [row]), "rows", box=box, columns=columns).good
    assert got.box == pytest.approx((96, 54, 192, 108))
    assert got.id == "rows/1"


def test_parquet_with_images_inside(tmp_path, monkeypatch):
    from datasets import Dataset, Features, Image, Sequence, Value
    from PIL import Image as PILImage

    monkeypatch.setenv("HOME", str(tmp_path))
    PILImage.new("RGB", (960, 540)).save(tmp_path / "a.png")
    features = Features(
        {"image": Image(), "instruction": Value("string"), "bbox": Sequence(Value("float64"))}
    )
    rows = {"image": [str(tmp_path / "a.png")], "instruction": ["x"], "bbox": [[1, 2, 3, 4]]}
    # `embed_external_files` writes the bytes into the table, as published sets have them.
    from datasets.table import embed_table_storage

    table = Dataset.from_dict(rows, features=features).with_format("arrow")
    table.map(embed_table_storage, batched=True).with_format(None).to_parquet(
        str(tmp_path / "rows.parquet")
    )
    (tmp_path / "a.png").unlink()
    (row,) = read(tmp_path / "rows.parquet", "rows", box="xyxy_px", check_images=True).good
    assert row.box == (1, 2, 3, 4)
    assert (row.width_px, row.height_px) == (960, 540)


def test_options_that_do_not_fit_the_format_are_refused(tmp_path):
    path = write(tmp_path, [OWN])
    with pytest.raises(ConfigError, match="no use for columns"):
        read(path, columns={"box": "b"})
    with pytest.raises(ConfigError, match="needs `box:`"):
        read(path, "rows")
    with pytest.raises(ConfigError, match="did you mean 'instruction'"):
        read(path, "rows", box="xyxy_px", columns={"instructon": "a"})
    with pytest.raises(ValidationError, match="extra"):
        SourceOptions(path="a", frmat="screens")


def test_gui_g2_dataset_yaml(tmp_path):
    for name in ("a", "b"):
        rows = [{**G2, "instruction": f"{name}{number}"} for number in range(5)]
        write(tmp_path, rows, f"{name}.json")
    (tmp_path / "data.yaml").write_text(
        "datasets:\n"
        "  - {json_path: a.json, sampling_strategy: 'first:2'}\n"
        "  - {json_path: b.json, sampling_strategy: 'end:30%'}\n"
    )
    rows = read(tmp_path / "data.yaml", "gui_g2").good
    assert [row.instruction for row in rows] == ["a0", "a1", "b3", "b4"]
    assert rows[-1].where.endswith("b.json, row 5")


def test_sampling_takes_the_first_the_last_or_a_fixed_random_part():
    assert list(sampled(5, "all", "f")) == [0, 1, 2, 3, 4]
    assert list(sampled(5, "first:9", "f")) == [0, 1, 2, 3, 4]
    assert list(sampled(5, "end:0", "f")) == []
    assert len(sampled(7, "random:50%", "f")) == 4
    assert sampled(7, "random:3", "f") == sampled(7, "random:3", "f")
    with pytest.raises(ConfigError, match="sampling strategy 'odd:2'"):
        sampled(5, "odd:2", "f")


def test_limit_and_folder_of_files(tmp_path):
    write(tmp_path, [{**PRO, "id": f"a{number}"} for number in range(3)], "a.json")
    write(tmp_path, [{**PRO, "id": f"b{number}"} for number in range(3)], "b.json")
    assert [row.id for row in read(tmp_path, "screenspot_pro", limit=4).good] == [
        "a0",
        "a1",
        "a2",
        "b0",
    ]


def test_every_layout_of_the_table_can_be_chosen() -> None:
    assert get_args(Format) == (*LAYOUTS, "rows", "hub")
