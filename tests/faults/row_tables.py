"""Tables that people publish: how vlrl reads them, and how an oracle of a few lines does."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from broken_media import HEIGHT, WIDTH, image_bytes

from vlrl.data.json_file import clean_text
from vlrl.eval.gui.benchmarks import benchmark_named
from vlrl.eval.gui.items import Item, Source, load_items
from vlrl.eval.gui.precomputed import PrecomputedOptions, read_precomputed
from vlrl.families.profiles import profile_named
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of, source_files
from vlrl.image.data.captions import CaptionSource, read_captions
from vlrl.judge.data.preference import PreferenceSource
from vlrl.judge.data.preferences import read_preferences
from vlrl.mesh.data import ShapeSource, read_shapes
from vlrl.video.data.video_rows import VideoSource, read_videos

Values = list[Any]


NUM_ROWS = 5


@dataclass(frozen=True)
class Kind:
    """A type of file: its content, what vlrl reads in it, and what it says."""

    name: str
    """Of the file."""
    text: Callable[[], bytes]
    read: Callable[[Path], Values]
    oracle: Callable[[Path], Values]


def rows_of(make: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    return [make(number) for number in range(NUM_ROWS)]


def as_json(rows: Any) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def listed(path: Path) -> list[Any]:
    """The rows of a .json or .jsonl file, by Python's own reader."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":
        found: list[Any] = json.loads(text)
        return found
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def words(text: str) -> str:
    return clean_text(text).strip()


def numbers(values: Any) -> list[float]:
    return [float(value) for value in values]


def g1(i: int) -> dict[str, Any]:
    return {"image": "good.png", "problem": f"the button {i}", "solution": [i, 2, 30 + i, 40]}


def screen(i: int) -> dict[str, Any]:
    return {"id": f"s{i}", "image": "good.png", "image_size": [WIDTH, HEIGHT],
            "instruction": f"press {i}", "bbox": [i, 2, 30.5 + i, 40]}  # fmt: skip


def caption(i: int) -> dict[str, Any]:
    return {"id": f"c{i}", "caption": f"a red cat {i}", "references": ["good.png"]}


def pair(i: int) -> dict[str, Any]:
    return {"caption": f"a dog {i}", "chosen": "good.png", "rejected": "bad.png"}


def clip(i: int) -> dict[str, Any]:
    return {"id": f"v{i}", "video": "clip.mkv", "width": WIDTH, "height": HEIGHT, "fps": 8,
            "num_frames": 16, "sentence": f"the square {i}", "first_frame": i,
            "boxes": [[4, 4, 20 + i, 20]] * 3}  # fmt: skip


def answer(i: int) -> dict[str, Any]:
    return {"id": f"s{i}", "output": f"[{i}, 20, 30, 40] “there”"}


def items() -> list[Item]:
    frame = Frame(WIDTH, HEIGHT)
    box = Box(1, 2, 3, 4, frame)
    return [Item(f"s{i}", "good.png", frame, "x", box) for i in range(NUM_ROWS)]


@cache
def parquet_bytes() -> bytes:
    import pyarrow
    import pyarrow.parquet

    rows = rows_of(lambda i: {**screen(i), "image": {"bytes": image_bytes("png"), "path": None}})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def said_by_parquet(path: Path) -> Values:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path).to_pylist()
    return [(words(row["instruction"]), numbers(row["bbox"])) for row in rows]


def shapes_csv() -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["sha256", "captions", "note"])
    for i in range(NUM_ROWS):
        writer.writerow([f"{i:08x}", json.dumps([f"a long chair {i}", f"chair {i}"]), 'a "b", c'])
    return buffer.getvalue().encode()


def said_by_csv(path: Path) -> Values:
    text = path.read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    return [(row.get("sha256") or f"{path.stem}/{n}", _long(row["captions"] or row.get("prompt")))
            for n, row in enumerate(rows, start=1)]  # fmt: skip


def _long(cell: str) -> str:
    if cell.lstrip().startswith("["):
        found: str = json.loads(cell)[0]
        return found.strip()
    return cell.strip()


def read_gui(path: Path, form: str, **more: Any) -> Values:
    options = {"path": str(path), "format": form, **more}
    rows = read_rows_of(SourceOptions.model_validate(options)).good
    return [(row.instruction, list(row.box)) for row in rows]


def read_items(path: Path) -> Values:
    found = load_items(benchmark_named("custom"), Source(path))
    return [(item.instruction, list(item.target.xyxy)) for item in found]  # type: ignore[union-attr]


def read_answers(path: Path) -> Values:
    found = read_precomputed(PrecomputedOptions(path), items(), profile_named("gui_g2"))
    return [(own, passes[0].reply.output) for own, passes in sorted(found.items())]


def read_pairs(path: Path) -> Values:
    rows = read_preferences(PreferenceSource(path=str(path))).good
    return [(row.caption, Path(str(row.chosen)).name, Path(str(row.rejected)).name) for row in rows]


def read_clips(path: Path) -> Values:
    rows = read_videos(VideoSource(path=str(path)), on_bad_row="error", limit=None).good
    return [(row.id, row.sentence, row.tube.first, row.tube.boxes.tolist())
            for row in rows if row.tube is not None]  # fmt: skip


TABLES: dict[str, Kind] = {
    "GUI-G1 JSON": Kind(
        "g1.json", lambda: as_json(rows_of(g1)), lambda path: read_gui(path, "gui_g1"),
        lambda path: [(words(r["problem"]), numbers(r["solution"])) for r in listed(path)],
    ),
    "screens JSONL": Kind(
        "screens.jsonl", lambda: as_lines(rows_of(screen)), lambda path: read_gui(path, "screens"),
        lambda path: [(words(r["instruction"]), numbers(r["bbox"])) for r in listed(path)],
    ),
    "benchmark JSON": Kind(
        "items.json", lambda: as_json(rows_of(screen)), read_items,
        lambda path: [(words(r["instruction"]), numbers(r["bbox"])) for r in listed(path)],
    ),
    "answers JSONL": Kind(
        "answers.jsonl", lambda: as_lines(rows_of(answer)), read_answers,
        lambda path: sorted((str(r["id"]), clean_text(r["output"])) for r in listed(path)),
    ),
    "answers JSON": Kind(
        "answers.json", lambda: as_json({"details": rows_of(answer)}), read_answers,
        lambda path: sorted((str(r["id"]), clean_text(r["output"]))
                            for r in json.loads(path.read_text("utf-8"))["details"]),
    ),
    "captions JSON": Kind(
        "captions.json", lambda: as_json(rows_of(caption)),
        lambda path: [(r.id, r.caption) for r in read_captions(CaptionSource(path=str(path))).good],
        lambda path: [(str(r.get("id") or f"{path.stem}/{n}"), 
                       words(r.get("caption") or r["prompt"]))
                      for n, r in enumerate(listed(path), start=1)],
    ),
    "captions TXT": Kind(
        "captions.txt", lambda: b"a red cat\na blue dog\n\xc3\xa9 one more\n",
        lambda path: [r.caption for r in read_captions(CaptionSource(path=str(path))).good],
        lambda path: [line.strip() for line in path.read_text("utf-8-sig").split("\n")
                      if line.strip()],
    ),
    "preferences JSON": Kind(
        "pairs.json", lambda: as_json(rows_of(pair)), read_pairs,
        lambda path: [(words(r["caption"]), Path(r["chosen"]).name, Path(r["rejected"]).name)
                      for r in listed(path)],
    ),
    "clips JSONL": Kind(
        "clips.jsonl", lambda: as_lines(rows_of(clip)), read_clips,
        lambda path: [(clean_text(r["id"]), clean_text(r["sentence"]), r["first_frame"],
                       [numbers(box) for box in r["boxes"]])
                      for r in listed(path)],
    ),
    "shapes CSV": Kind(
        "shapes.csv", shapes_csv,
        lambda path: [(r.id, r.caption) for r in read_shapes(ShapeSource(path=str(path))).good],
        said_by_csv,
    ),
    "GUI-G2 YAML": Kind(
        "sets.yaml",
        lambda: b"datasets:\n  - json_path: a.json\n    sampling_strategy: first:10%\n"
        b"  - {json_path: b.json, sampling_strategy: all}\n",
        lambda path: [(p.name, s) for p, s in source_files(path, "gui_g2")],
        lambda path: [(Path(e["json_path"]).name, str(e.get("sampling_strategy", "all")))
                      for e in yaml.safe_load(path.read_text("utf-8"))["datasets"]],
    ),
    "parquet": Kind(
        "rows.parquet", parquet_bytes, lambda path: read_gui(path, "rows", box="xyxy_px"),
        said_by_parquet,
    ),
}  # fmt: skip
