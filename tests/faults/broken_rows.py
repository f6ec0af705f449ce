"""Broken tables: what is read must be what the damaged file says, or an error with its place.

A flipped digit makes another number, which nothing can tell from a meant one; so each file is also
read by an oracle of a few lines, and a value that is not the oracle's is a wrong one.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from broken_media import HEIGHT, WIDTH, image_bytes, video_bytes
from damage import damaged
from helpers_runs import run_config
from trying import Case, Outcome

from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.data.json_file import clean_text
from vlrl.distributed.engine import deepspeed_config
from vlrl.eval.gui.benchmarks import benchmark_named
from vlrl.eval.gui.items import Item, Source, load_items
from vlrl.eval.gui.passes import load
from vlrl.eval.gui.precomputed import PrecomputedOptions, read_precomputed
from vlrl.eval.judge.agreement import read_judgements
from vlrl.eval.recipe import read_recipe
from vlrl.eval.store import Store
from vlrl.eval.video.runner import stored as stored_answers
from vlrl.families.adapters import adapter_base
from vlrl.families.profiles import profile_named
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of, source_files
from vlrl.image.data.captions import CaptionSource, read_captions
from vlrl.judge.data.preference import Preference, PreferenceSource
from vlrl.judge.data.preferences import read_preferences
from vlrl.judge.question import JUDGE_FILE, JudgeTemplate, template_of
from vlrl.log.sinks import JsonLines
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


def _words(text: str) -> str:
    return clean_text(text).strip()


def _numbers(values: Any) -> list[float]:
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


def stored(i: int) -> dict[str, Any]:
    one = {"output": f"[{i}, 2]", "error": None, "crop": None, "seed": 0, "greedy": True,
           "resized": [WIDTH, HEIGHT], "seconds": 0.25, "num_tokens": 7}  # fmt: skip
    return {"id": f"s{i}", "passes": [one]}


def items() -> list[Item]:
    frame = Frame(WIDTH, HEIGHT)
    box = Box(1, 2, 3, 4, frame)
    return [Item(f"s{i}", "good.png", frame, "x", box) for i in range(NUM_ROWS)]


def read_store(path: Path) -> Values:
    """As a resumed evaluation does."""
    folder = path.parent / path.stem
    folder.mkdir(exist_ok=True)
    (folder / "answers.rank0.jsonl").write_bytes(path.read_bytes())
    store = Store(folder)
    store.drop_cut_lines()
    found = load(store, {item.id: item for item in items()})
    return sorted(
        (own, p.reply.output, list(p.reply.resized.extent), p.reply.num_tokens)
        for own, passes in found.items()
        for p in passes
    )


def said_by_store(path: Path) -> Values:
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1].decode()
    rows = [json.loads(line) for line in whole.split("\n") if line.strip()]
    last: dict[str, Any] = {}
    for row in rows:
        if row["id"] not in last or all(p["output"] is not None for p in row["passes"]):
            last[row["id"]] = row
    return sorted(
        (row["id"], p["output"] if p["output"] is None else clean_text(p["output"]),
         _numbers(p["resized"]), p["num_tokens"])
        for row in last.values()
        for p in row["passes"]
    )  # fmt: skip


def read_settings(path: Path) -> Values:
    """Another setting is refused by name, so what passes are the same ones."""
    folder = path.parent / path.stem
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_bytes(path.read_bytes())
    Store(folder).open(SETTINGS)
    return [SETTINGS]


SETTINGS = {"model": "m", "prompt": "Click: {instruction}", "temperature": 0.0, "votes": None}


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
    return [(_words(row["instruction"]), _numbers(row["bbox"])) for row in rows]


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


def beside(path: Path, name: str) -> str:
    """A folder that holds the file under another name."""
    folder = path.parent / path.stem
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(path.read_bytes())
    return str(folder)


def spoken(i: int) -> dict[str, Any]:
    return {"id": f"s{i}", "output": f"from {i}.5 s", "error": None, "seconds": 0.5,
            "num_tokens": 3}  # fmt: skip


def read_spoken(path: Path) -> Values:
    store = Store(Path(beside(path, "answers.rank0.jsonl")))
    store.drop_cut_lines()
    found = stored_answers(store, {f"s{i}" for i in range(NUM_ROWS)})
    return sorted((own, one.output, one.num_tokens) for own, one in found.items())


def said_by_spoken(path: Path) -> Values:
    data = path.read_bytes()
    lines = data[: data.rfind(b"\n") + 1].decode().split("\n")
    last: dict[str, Any] = {}
    for row in (json.loads(line) for line in lines if line.strip()):
        if row["output"] is not None or row["id"] not in last:
            last[row["id"]] = row
    return sorted(
        (own, None if row["output"] is None else clean_text(row["output"]), row["num_tokens"])
        for own, row in last.items()
        if {"error", "seconds"} <= row.keys()
    )


def read_metrics(path: Path) -> Values:
    """What a resumed run keeps."""
    file = Path(beside(path, "metrics.jsonl")) / "metrics.jsonl"
    JsonLines(file, NUM_ROWS)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def said_by_metrics(path: Path) -> Values:
    """The lines that are whole, up to the step of the resume."""
    found = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if type(row["step"]) is int and row["step"] <= NUM_ROWS:
                found.append(row)
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return found


def pairs() -> list[Preference]:
    return [Preference(f"row {i}", f"s{i}", "c", Path("a.png"), Path("b.png"), 1)
            for i in range(NUM_ROWS)]  # fmt: skip


def read_sharding(path: Path) -> Values:
    parts = {"task": {"use": "gui_grounding"}, "policy": {"use": "vision_language"},
             "reward": {"use": "letters"}}  # fmt: skip
    config = run_config(path.parent, "run", parts, {"dist__deepspeed": str(path)})
    return [deepspeed_config(check(RunConfig, config)).get("zero_optimization")]


KINDS: dict[str, Kind] = {
    "GUI-G1 JSON": Kind(
        "g1.json", lambda: as_json(rows_of(g1)), lambda path: read_gui(path, "gui_g1"),
        lambda path: [(_words(r["problem"]), _numbers(r["solution"])) for r in listed(path)],
    ),
    "screens JSONL": Kind(
        "screens.jsonl", lambda: as_lines(rows_of(screen)), lambda path: read_gui(path, "screens"),
        lambda path: [(_words(r["instruction"]), _numbers(r["bbox"])) for r in listed(path)],
    ),
    "benchmark JSON": Kind(
        "items.json", lambda: as_json(rows_of(screen)), read_items,
        lambda path: [(_words(r["instruction"]), _numbers(r["bbox"])) for r in listed(path)],
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
                       _words(r.get("caption") or r["prompt"]))
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
        lambda path: [(_words(r["caption"]), Path(r["chosen"]).name, Path(r["rejected"]).name)
                      for r in listed(path)],
    ),
    "clips JSONL": Kind(
        "clips.jsonl", lambda: as_lines(rows_of(clip)), read_clips,
        lambda path: [(clean_text(r["id"]), clean_text(r["sentence"]), r["first_frame"],
                       [_numbers(box) for box in r["boxes"]])
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
    "stored answers": Kind(
        "stored.jsonl", lambda: as_lines(rows_of(stored)), read_store, said_by_store
    ),
    "settings of an evaluation": Kind(
        "settings.json", lambda: as_json(SETTINGS), read_settings,
        lambda path: [json.loads(path.read_text("utf-8"))],
    ),
    "stored answers about videos": Kind(
        "spoken.jsonl", lambda: as_lines(rows_of(spoken)), read_spoken, said_by_spoken
    ),
    "metrics of a run": Kind(
        "metrics.jsonl", lambda: as_lines(rows_of(lambda i: {"step": i + 1, "reward/mean": i / 7})),
        read_metrics, said_by_metrics,
    ),
    "judgements JSONL": Kind(
        "judged.jsonl", lambda: as_lines(rows_of(lambda i: {"id": f"s{i}", "p": i / 7})),
        lambda path: [(j.id, j.p) for j in read_judgements(path, pairs())],
        lambda path: sorted((str(r["id"]), float(r["p"])) for r in listed(path)),
    ),
    "judge's template": Kind(
        "template.json", lambda: as_json(TEMPLATE),
        lambda path: [template_of(beside(path, JUDGE_FILE))[0].model_dump(mode="json")],
        lambda path: [{**JudgeTemplate().model_dump(mode="json"),
                       **{k: v for k, v in json.loads(path.read_text("utf-8")).items()
                          if k != "criteria"}}],
    ),
    "adapter": Kind(
        "adapter.json", lambda: as_json({"base_model_name_or_path": "Qwen/x", "r": 8}),
        lambda path: [adapter_base(beside(path, "adapter_config.json"))],
        lambda path: [json.loads(path.read_text("utf-8"))["base_model_name_or_path"]],
    ),
    "sharding": Kind(
        "sharding.json", lambda: as_json({"zero_optimization": {"stage": 2}, "wall_clock": False}),
        read_sharding,
        lambda path: [json.loads(path.read_text("utf-8")).get("zero_optimization")],
    ),
    "recipe of a checkpoint": Kind(
        "recipe.json", lambda: as_json(RECIPE), 
        lambda path: [read_recipe(beside(path, "vlrl.json")).model_dump(exclude_unset=True)],
        lambda path: [json.loads(path.read_text("utf-8"))],
    ),
}  # fmt: skip
TEMPLATE = {"criteria": "Is it a cat?", "yes": ["yes", "Yes"], "no": ["no"]}
RECIPE = {"profile": "gui_g2", "prompt": "Click: {instruction}", "max_new_tokens": 64}


def row_file(folder: Path, number: int, rng: random.Random) -> Case:
    """A broken table."""
    name = list(KINDS)[number % len(KINDS)]
    kind = KINDS[name]
    others = [b"PK\x03\x04", image_bytes("png"), base64.b64encode(image_bytes("png")), b"a: 1\n"]
    how, data = damaged(kind.text(), rng, others, is_text=name != "parquet")
    for file, content in (("good.png", image_bytes("png")), ("bad.png", image_bytes("png")),
                          ("clip.mkv", video_bytes(folder, "mkv"))):  # fmt: skip
        if not (folder / file).exists():
            (folder / file).write_bytes(content)
    path = folder / f"{number}{kind.name}"
    whole = folder / kind.name

    def run() -> Outcome:
        if not whole.exists():
            whole.write_bytes(kind.text())
        path.write_bytes(data)
        found = _comparable(kind.read(path), path, number)
        if found == _comparable(kind.read(whole), whole, None):
            return "same"
        try:
            said = _comparable(kind.oracle(path), path, number)
        except Exception as error:
            raise AssertionError(f"read as {found}, but it says nothing: {error!r}") from error
        if found == said:
            return "other"
        raise AssertionError(f"read as {found}, but it says {said}")

    return Case(f"{name}, {how}", run, path.stem)


def _comparable(values: Values, path: Path, number: int | None) -> Any:
    """Through JSON, so that tuples equal lists; names of files are those of the whole one."""
    text = json.dumps(values)
    own = path.stem.removeprefix("" if number is None else str(number))
    return json.loads(text.replace(path.stem, own))
