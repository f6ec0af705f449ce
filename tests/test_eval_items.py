"""Loaders of the six benchmarks: rows as published, conversions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlrl.errors import ConfigError, DataError
from vlrl.eval.gui.benchmarks import BENCHMARKS, benchmark_named
from vlrl.eval.gui.command import OWN_SCREENS
from vlrl.eval.gui.items import Item, Source, load_items
from vlrl.eval.gui.precomputed import PrecomputedOptions, read_precomputed
from vlrl.eval.gui.tables import platform_of
from vlrl.families.profiles import profile_named
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of
from vlrl.gui.verdict import Polygon, Refusal

# fmt: off
# One row of each set as its authors publish it; names and numbers shortened.
SPOT = {"img_filename": "pc_a.png", "bbox": [910, 78, 44, 34], "instruction": " close ",
        "data_type": "icon", "data_source": "windows", "img_size": [960, 540]}
PRO = {"img_filename": "vscode_mac/a.png", "bbox": [10, 20, 30, 40], "instruction": "run",
       "instruction_cn": "运行", "id": "vscode_macos_0", "application": "vscode",
       "platform": "macos", "img_size": [3840, 2160], "ui_type": "icon", "group": "Dev"}
OSG = {"id": "x-0", "image_path": "x.png", "image_size": [1920, 1080], "instruction": "open",
       "GUI_types": ["Label", "Menu bar"], "box_type": "bbox",
       "box_coordinates": [100.0, 50.0, 20.0, 10.0]}
MMB = {"image_path": "a.png", "image_size": [2560, 1440], "platform": "os_mac", "app_name": "mail",
       "instruction": "send", "bbox": [0.25, 0.5, 0.5, 0.75], "data_type": "text",
       "grounding_type": "advanced"}
UIV = {"image_path": "a.png", "image_size": [1280, 720], "prompt_to_evaluate": "save",
       "bbox": [30.0, 40.0, 10.0, 20.0], "platform": "Qt Creator", "category": "Button",
       "element_type": "icon"}
# fmt: on


def write(folder: Path, name: str, rows: list[dict]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def one(folder: Path, benchmark: str, **options: object) -> Item:
    (item,) = load_items(benchmark_named(benchmark), Source(folder, **options))  # type: ignore[arg-type]
    return item


@pytest.mark.parametrize(
    ("benchmark", "name", "row", "target", "image"),
    [
        ("screenspot", "screenspot_web.json", SPOT, (910, 78, 954, 112), "images/pc_a.png"),
        ("screenspot_v2", "screenspot_web_v2.json", SPOT, (910, 78, 954, 112), "images/pc_a.png"),
        ("screenspot_pro", "annotations/a.json", PRO, (10, 20, 30, 40), "images/vscode_mac/a.png"),
        ("osworld_g", "benchmark/OSWorld-G.json", OSG, (100, 50, 120, 60), "images/x.png"),
        (
            "mmbench_gui_l2",
            "L2_annotations.json",
            MMB,
            (640, 720, 1280, 1080),
            "offline_images/os_mac/a.png",
        ),
        (
            "ui_vision",
            "annotations/element_grounding/element_grounding_basic.json",
            UIV,
            (10, 20, 30, 40),
            "images/a.png",
        ),
    ],
)
def test_published_rows_become_items_in_pixels(
    tmp_path: Path, benchmark: str, name: str, row: dict, target: tuple, image: str
) -> None:
    write(tmp_path, name, [row])
    (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
    item = one(tmp_path, benchmark)
    assert isinstance(item.target, Box)
    assert item.target.to(item.frame).xyxy == target
    # Kept as the file has it: an edge would be lost to rounding on the way to pixels and back.
    assert item.target.frame == (Frame(1, 1) if row is MMB else item.frame)
    assert item.image == str(tmp_path / image)
    assert item.instruction == item.instruction.strip()


def test_osworld_polygons_and_refusals(tmp_path: Path) -> None:
    polygon = {**OSG, "id": "p", "box_type": "polygon", "box_coordinates": [0, 0, 9, 0, 9, 9, 0, 9]}
    refusal = {**OSG, "id": "r", "box_type": "refusal", "box_coordinates": [-1, -1, -1, -1]}
    write(tmp_path, "OSWorld-G.json", [polygon, refusal])
    first, second = load_items(benchmark_named("osworld_g"), Source(tmp_path))
    assert isinstance(first.target, Polygon)
    assert [(p.x, p.y) for p in first.target.corners] == [(0, 0), (9, 0), (9, 9), (0, 9)]
    assert isinstance(second.target, Refusal)


def test_mai_ui_conversion_is_undone_or_taken_at_its_word(tmp_path: Path) -> None:
    # Their code made of the polygon x1, y1, x1 + x2, y1 + y2, ...: (10, 20), (30, 25), (12, 60).
    rows = [
        {**PRO, "id": "p", "bbox": [10, 20, 40, 45, 12, 60]},
        {**PRO, "id": "r", "bbox": [0, 0, 0, 0]},
        PRO,
    ]
    write(tmp_path, "a.json", rows)
    known = benchmark_named("osworld_g")
    mended = load_items(known, Source(tmp_path, format="osworld_g_mai", files=("*.json",)))
    assert isinstance(mended[0].target, Polygon)
    assert [(p.x, p.y) for p in mended[0].target.corners] == [(10, 20), (30, 25), (12, 60)]
    assert isinstance(mended[1].target, Refusal)
    verbatim = load_items(
        known, Source(tmp_path, format="osworld_g_mai_verbatim", files=("*.json",))
    )
    assert [item.target.xyxy for item in verbatim] == [  # type: ignore[union-attr]
        (10, 20, 40, 45),
        (0, 0, 0, 0),
        (10, 20, 30, 40),
    ]


def test_negatives_and_other_wordings(tmp_path: Path) -> None:
    row = {**PRO, "negative_instruction": "fly to the moon", "action": "press run"}
    write(tmp_path, "annotations/a.json", [row])
    assert one(tmp_path, "screenspot_pro", wording="instruction_cn").instruction == "运行"
    assert one(tmp_path, "screenspot_pro", wording="action").instruction == "press run"
    negative = one(tmp_path, "screenspot_pro", negatives=True)
    assert isinstance(negative.target, Refusal)
    assert negative.instruction == "fly to the moon"


def test_published_dirt_is_kept_as_it_is(tmp_path: Path) -> None:
    rows = [
        {**PRO, "id": "a", "bbox": [135, -1, 151, 19]},  # ScreenSpot-Pro's inventor_windows_60
        {**PRO, "id": "b", "bbox": [3830, 10, 3841, 30]},
        {**PRO, "id": "c", "bbox": [5] * 4},
    ]
    write(tmp_path, "annotations/a.json", rows)
    items = load_items(benchmark_named("screenspot_pro"), Source(tmp_path))
    assert [item.target.xyxy for item in items] == [  # type: ignore[union-attr]
        (135, -1, 151, 19),
        (3830, 10, 3841, 30),
        (5, 5, 5, 5),
    ]


def test_tables_with_a_column_mapping_name_their_convention(tmp_path: Path) -> None:
    row = {"file": "a.png", "size": [200, 100], "what": "go", "where": [0.5, 0.5, 0.75, 1.0]}
    path = write(tmp_path, "a.json", [row])
    columns = {"image": "file", "image_size": "size", "instruction": "what", "box": "where"}
    item = one(path, "screenspot_v2", format="rows", box="xyxy_unit", columns=columns)
    assert item.target == Box(0.5, 0.5, 0.75, 1.0, Frame(1, 1))
    with pytest.raises(ConfigError, match="--box"):
        one(path, "screenspot_v2", format="rows", columns=columns)


def test_a_reupload_as_parquet_with_the_images_inside(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Image, Sequence, Value
    from PIL import Image as PILImage

    columns = {"element_type": "data_type", "platform": "data_source"}
    rows = {
        "image": [PILImage.new("RGB", (200, 100))],
        "bbox": [[0.5, 0.5, 0.75, 1.0]],
        "instruction": ["go"],
        "data_type": ["text"],
        "data_source": ["ios"],
    }
    text = Value("string")
    features = Features(
        {
            "image": Image(),
            "bbox": Sequence(Value("float64")),
            "instruction": text,
            "data_type": text,
            "data_source": text,
        }
    )
    path = tmp_path / "test.parquet"
    Dataset.from_dict(rows, features=features).to_parquet(path)
    item = one(path, "screenspot_v2", format="rows", box="xyxy_unit", columns=columns)
    assert item.target == Box(0.5, 0.5, 0.75, 1.0, Frame(1, 1))
    assert platform_of(item) == "mobile"
    assert item.fields["element_type"] == "text"


def test_ui_visions_layout_task(tmp_path: Path) -> None:
    row = {
        "name": "Toolbar",
        "explanation": "the row of tools",
        "bbox": [0, 40, 1280, 20],
        "image_path": "a.png",
        "image_size": [1280, 720],
        "platform": "Gimp",
    }
    write(tmp_path, "annotations/layout_grounding/layout_grounding.json", [row])
    item = one(tmp_path, "ui_vision_layout")
    assert item.instruction == "Toolbar: the row of tools"
    assert item.target.xyxy == (0, 20, 1280, 40)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [30, 20, 10, 40]}, r"row 1: box .* is inverted; read as xyxy_px"),
        ({"bbox": [5000, 20, 5010, 40]}, r"row 1: box .* lies off its image of 3840 x 2160"),
        ({"bbox": [1, 2, 3]}, r"row 1: field 'bbox' must be four finite numbers"),
        ({"bbox": ["1", 2, 3, 4]}, r"row 1: field 'bbox'"),
        ({"img_size": [0, 10]}, r"row 1: field 'image_size'"),
        ({"instruction": None}, r"row 1: field 'instruction' must be a string"),
        ({"img_filename": ""}, r"row 1: field 'image' must be a path"),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_the_row(
    tmp_path: Path, change: dict, message: str
) -> None:
    write(tmp_path, "annotations/a.json", [{**PRO, **change}])
    with pytest.raises(DataError, match=message):
        load_items(benchmark_named("screenspot_pro"), Source(tmp_path))


def test_a_file_of_another_format_says_what_it_lacks(tmp_path: Path) -> None:
    write(tmp_path, "screenspot_web_v2.json", [PRO])
    with pytest.raises(DataError, match="field 'data_type' is missing"):
        load_items(benchmark_named("screenspot_v2"), Source(tmp_path))
    with pytest.raises(ConfigError, match="screenspot_pro"):
        load_items(benchmark_named("screenspot_v2"), Source(tmp_path, format="screenspot_prro"))
    with pytest.raises(DataError, match="no file of OSWorld-G there"):
        load_items(benchmark_named("osworld_g"), Source(tmp_path))


def test_an_id_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "annotations/a.json", [PRO, PRO])
    with pytest.raises(DataError, match="is also that of"):
        load_items(benchmark_named("screenspot_pro"), Source(tmp_path))


def test_a_limit_spreads_over_the_whole_set(tmp_path: Path) -> None:
    write(tmp_path, "annotations/a.json", [{**PRO, "id": f"i{n}"} for n in range(10)])
    items = load_items(benchmark_named("screenspot_pro"), Source(tmp_path, limit=4))
    assert [item.id for item in items] == ["i0", "i2", "i5", "i7"]


def test_a_misspelt_benchmark_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="screenspot_pro"):
        benchmark_named("screenspot_por")
    assert all(name == benchmark.name for name, benchmark in BENCHMARKS.items())


@pytest.mark.parametrize(
    ("name", "count"), [("held_out", 1160), ("unseen_apps", 432), ("new_screens", 278)]
)
def test_the_embedded_benchmarks_are_where_the_command_looks(name: str, count: int) -> None:
    data = Path(__file__).resolve().parent.parent / OWN_SCREENS[name]
    assert len(load_items(benchmark_named(name), Source(data=data))) == count


def test_a_files_own_numbers_are_its_ids(tmp_path: Path) -> None:
    """As in a conversion of MMBench-GUI, whose published answers name items by number."""
    row = {"img_filename": "a.png", "bbox": [1, 2, 3, 4], "img_size": [9, 9], "instruction": "x",
           "ui_type": "icon"}  # fmt: skip
    many = [{**row, "id": number} for number in range(3)]
    (tmp_path / "one.json").write_text(json.dumps(many))
    source = Source(tmp_path, format="screenspot_pro")
    custom = benchmark_named("custom")
    items = load_items(custom, source)
    assert [item.id for item in items] == ["0", "1", "2"]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"id": n, "output": "[1,2]"}) + "\n" for n in range(3)))
    profile = profile_named("gui_g2")
    passes = read_precomputed(PrecomputedOptions(answers), items, profile)
    assert all(own[0].reply.output == "[1,2]" for own in passes.values())
    answers.unlink()
    # Two files that count alike: the second one's ids say which file is meant.
    (tmp_path / "two.json").write_text(json.dumps([*many[1:], {**row, "id": "own"}]))
    ids = ["0", "1", "2", "two/1", "two/2", "own"]
    assert [item.id for item in load_items(custom, source)] == ids
    options = SourceOptions.model_validate(
        {"path": str(tmp_path), "format": "screenspot_pro", "check_images": False}
    )
    assert [one.id for one in read_rows_of(options).good] == ids
