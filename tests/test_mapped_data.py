"""Tables with a column mapping: JSON, parquet, image folders and names for `datasets`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Image
from PIL import Image as PILImage

from vlrl.errors import ConfigError, DataError
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of

COLUMNS = {"instruction": "problem", "box": "target", "kind": "sort"}
ROWS = [
    {"problem": "click Save", "target": [10, 20, 30, 10], "sort": "label"},
    {"problem": "click Open", "target": [0, 0, 64, 32], "sort": "icon"},
]
BOXES = [(10, 20, 40, 30), (0, 0, 64, 32)]


@pytest.fixture(autouse=True)
def _caches_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def png(colour: str) -> bytes:
    file = io.BytesIO()
    PILImage.new("RGB", (64, 48), colour).save(file, "PNG")
    return file.getvalue()


def table() -> Dataset:
    rows = [
        {**row, "image": {"bytes": png(colour), "path": None}}
        for row, colour in zip(ROWS, ("red", "blue"), strict=True)
    ]
    return Dataset.from_list(rows).cast_column("image", Image())


def read(**source: Any) -> Any:
    return read_rows_of(SourceOptions(box="xywh_px", columns=COLUMNS, **source))


def image_folder(folder: Path) -> Path:
    folder.mkdir()
    lines = []
    for i, (row, colour) in enumerate(zip(ROWS, ("red", "blue"), strict=True)):
        (folder / f"{i}.png").write_bytes(png(colour))
        lines.append(json.dumps({"file_name": f"{i}.png", **row}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["parquet", "image folder", "datasets name"])
def test_images_inside_the_table(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        path = tmp_path / "rows.parquet"
        table().to_parquet(str(path))
        rows = read(path=str(path), format="rows").good
    elif kind == "image folder":
        rows = read(path=str(image_folder(tmp_path / "images")), format="rows").good
    else:
        # What a hub repository holds, in a folder: `load_dataset` takes either.
        repository = tmp_path / "grounding" / "data"
        repository.mkdir(parents=True)
        table().to_parquet(str(repository / "test-00000-of-00001.parquet"))
        rows = read(path=str(repository.parent), format="hub", split="test").good
    assert [tuple(row.box) for row in rows] == BOXES
    assert [row.instruction for row in rows] == ["click Save", "click Open"]
    assert [row.fields["kind"] for row in rows] == ["label", "icon"]
    with PILImage.open(rows[1].image) as image:
        assert image.size == (64, 48)
        assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 255)


def test_a_name_that_is_nowhere_is_an_error_with_the_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody/nothing"):
        read(path="nobody/nothing", format="hub")
    with pytest.raises(DataError, match=r"rows\.csv.*image folders"):
        read(path=str(tmp_path / "rows.csv"), format="rows")


def test_an_unknown_column_and_a_missing_convention(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images")
    with pytest.raises(ConfigError, match="instruction"):
        read_rows_of(
            SourceOptions(
                path=str(folder), format="rows", box="xywh_px", columns={"instructions": "problem"}
            )
        )
    with pytest.raises(ConfigError, match="box"):
        read_rows_of(SourceOptions(path=str(folder), format="rows", columns=COLUMNS))


@pytest.mark.parametrize("layout", ["rows", "screens"])
@pytest.mark.parametrize(
    ("own", "wanted"),
    [("a", "a"), (7, "7"), (0, "0"), (2.0, "2.0"), (None, "data/1"), ("", None), (" ", None),
     (True, None), ([1], None), ({"a": 1}, None)],
)  # fmt: skip
def test_an_id_is_a_text_or_a_number(
    tmp_path: Path, layout: Any, own: object, wanted: str | None
) -> None:
    PILImage.new("RGB", (60, 60)).save(tmp_path / "a.png")
    row = {"image": "a.png", "image_size": [60, 60], "instruction": "it", "bbox": [1, 1, 9, 9]}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"id": own, **row}) + "\n")
    box: Any = {"box": "xyxy_px"} if layout == "rows" else {}
    options = SourceOptions(path=str(path), format=layout, **box)
    if wanted is None:
        with pytest.raises(DataError, match=r"data\.jsonl, row 1: field 'id' must be"):
            read_rows_of(options)
    elif own is not None or layout == "rows":
        assert read_rows_of(options).good[0].id == wanted
