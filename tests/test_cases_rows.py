"""Rows that do not fit their images, tables as people publish them, and paths that lead out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image
from test_cases_media import corners, encoded, laid_down, stored

from vlrl.cli.main import main
from vlrl.data.fields import shown
from vlrl.errors import DataError
from vlrl.eval.endpoint import Endpoint, EndpointOptions
from vlrl.eval.gui.asking import Ask
from vlrl.eval.gui.benchmarks import benchmark_named
from vlrl.eval.gui.items import Source, load_items, unfit
from vlrl.eval.gui.local_model import LocalModel, loaded_here
from vlrl.eval.gui.passes import failure
from vlrl.eval.gui.runner import Job, ask_batch
from vlrl.eval.gui.strategies import Reading, Single, Vote, Zoom
from vlrl.families.profiles import profile_named
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of
from vlrl.image.data.captions import CaptionSource, read_captions
from vlrl.judge.data.preference import PreferenceSource
from vlrl.judge.data.preferences import read_preferences
from vlrl.mesh.data import ShapeSource, read_shapes
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.video.data.video_rows import VideoSource, read_videos

ROOT = Path(__file__).resolve().parent.parent
TINY = str(ROOT / "assets/models/tiny_qwen2_5_vl")
G2 = profile_named("gui_g2")
BOX = [0, 0, 30, 20]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def row(name: str, image: str, **over: Any) -> dict[str, Any]:
    size = None  # read in the image
    return {"id": name, "image": image, "image_size": size, "instruction": "x", "bbox": BOX, **over}


def gui_task(path: Path, **over: Any) -> GuiGrounding:
    data = {"train": {"path": str(path), "format": "screens"}}
    return GuiGrounding(GuiGrounding.Options.model_validate({"data": data, **over}))


def folder_of_cases(folder: Path) -> Path:
    """Six rows, of which only the first can be shown to a model."""
    stored(folder / "good.png", corners())
    (folder / "cut.jpg").write_bytes(encoded("JPEG")[:-900])
    (folder / "text.png").write_bytes(b"no image")
    stored(folder / "bar.png", Image.new("RGB", (4200, 20)))
    stored(folder / "thin.png", Image.new("RGB", (60, 14)))
    rows = [
        row("good", "good.png"),
        row("cut", "cut.jpg", image_size=[64, 48]),
        row("text", "text.png", image_size=[60, 40]),
        row("bar", "bar.png", image_size=[4200, 20], bbox=[0, 0, 2000, 10]),
        row("thin", "thin.png", image_size=[60, 14], bbox=[0, 0, 30, 7]),
        row("unknown size", "text.png", image_size=None),
    ]
    return written(folder / "rows.jsonl", rows)


# --- training --------------------------------------------------------------------------------


def test_training_skips_and_counts_what_no_model_can_be_shown(tmp_path: Path) -> None:
    path = folder_of_cases(tmp_path)
    with pytest.raises(DataError, match=r"row 2.*cut\.jpg"):
        gui_task(path).samples("train")
    task = gui_task(path, on_bad_row="skip")
    assert [sample.id for sample in task.samples("train")] == ["good"]
    said = "\n".join(task.skipped["train"])
    assert len(task.skipped["train"]) == 5
    assert "row 4: the image" in said
    assert "4200 x 20 px is above 200" in said
    assert "row 5: the image" in said
    assert "shorter side of 60 x 14 px" in said


def test_sides_from_half_a_patch_on_are_shown(tmp_path: Path) -> None:
    """Exactly where the family's own resizing and the task's agree."""
    from qwen_vl_utils.vision_process import smart_resize

    rows = []
    for side in (13, 14, 15, 16):
        stored(tmp_path / f"{side}.png", Image.new("RGB", (side, 100)))
        rows.append(row(str(side), f"{side}.png", image_size=[side, 100], bbox=[0, 0, 9, 9]))
    task = gui_task(written(tmp_path / "a.jsonl", rows), on_bad_row="skip")
    samples = task.samples("train")
    assert [sample.id for sample in samples] == ["15", "16"]
    for sample in samples:
        mine, width = task.resized(sample), int(sample.target.box.frame.width)
        theirs = smart_resize(100, width, 28, min_pixels=3136, max_pixels=12_845_056)
        assert mine.extent == (theirs[1], theirs[0])


@pytest.mark.parametrize("lying", [False, True])
def test_a_wrong_size_is_the_same_error_in_training_and_evaluation(
    tmp_path: Path, lying: bool
) -> None:
    """Swapped sides, also those of an image that is turned on opening."""
    laid_down(tmp_path / "a.jpg", 6 if lying else 1, "JPEG")
    path = written(tmp_path / "a.jsonl", [row("a", "a.jpg", image_size=[40, 60])])
    said = r"row 1: field 'image_size' says 40 x 60, the image .*a\.jpg is 60 x 40"
    with pytest.raises(DataError, match=said):
        read_rows_of(SourceOptions(path=str(path), format="screens"))
    with pytest.raises(DataError, match=said):
        load_items(benchmark_named("custom"), Source(path))
    right = written(tmp_path / "b.jsonl", [row("a", "a.jpg", image_size=[60, 40])])
    assert load_items(benchmark_named("custom"), Source(right))[0].problem is None


# --- evaluation ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> LocalModel:
    options = VisionLanguageConfig(model=TINY, max_new_tokens=8)
    own = loaded_here(options, dtype=torch.float32, device=torch.device("cpu"))
    return LocalModel(own, "Find: {instruction}")


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"choices": [{"message": {"content": "[0,0,30,20]"}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}/v1"
    made.shutdown()
    made.server_close()
    thread.join()


def endpoint(url: str) -> Endpoint:
    return Endpoint(EndpointOptions(url, "m", "Find: {instruction}", max_tries=1), G2)


@pytest.mark.parametrize("kind", ["model", "endpoint"])
@pytest.mark.parametrize("strategy", [Single(), Zoom(0.5), Vote(2)], ids=["single", "zoom", "vote"])
def test_one_failed_item_each_and_the_rest_is_answered(
    tmp_path: Path, model: LocalModel, server: str, kind: str, strategy: Any
) -> None:
    loaded = load_items(benchmark_named("custom"), Source(folder_of_cases(tmp_path)))
    items = [unfit(item, G2) for item in loaded]
    job = Job(items, strategy, Reading(G2), 8)
    if kind == "model":
        passes = ask_batch(items, job, model)
    else:
        with endpoint(server) as asked:
            passes = ask_batch(items, job, asked)
    failed = {own: failure(found) for own, found in passes.items()}
    assert failed["good"] is None
    assert [own for own, why in failed.items() if why] == [item.id for item in items[1:]]
    assert all(len(passes[item.id]) == 1 for item in items[1:])


@pytest.mark.parametrize("kind", ["model", "endpoint"])
def test_an_image_that_breaks_after_the_start_fails_alone(
    tmp_path: Path, model: LocalModel, server: str, kind: str
) -> None:
    for name in ("a", "b", "c"):
        stored(tmp_path / f"{name}.png", corners())
    rows = [row(name, f"{name}.png", image_size=[60, 40]) for name in ("a", "b", "c")]
    items = load_items(benchmark_named("custom"), Source(written(tmp_path / "a.jsonl", rows)))
    (tmp_path / "b.png").write_bytes(b"no image")
    asks = [Ask(item) for item in items]
    if kind == "model":
        replies = model.answer(asks)
    else:
        with endpoint(server) as asked:
            replies = asked.answer(asks)
    assert [reply.output is None for reply in replies] == [False, True, False]
    assert "b.png" in str(replies[1].error)


def test_answers_made_elsewhere_count_one_failed_item_each(tmp_path: Path) -> None:
    path = folder_of_cases(tmp_path)
    names = ["good", "cut", "text", "bar", "thin", "unknown size"]
    answers = written(tmp_path / "p.jsonl", [{"id": n, "output": "[0,0,30,20]"} for n in names])
    words = ["eval", "--benchmark", "custom", "--data", str(path), "--profile", "gui_g2"]
    words += ["--predictions", str(answers), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["outcomes"]["failed"], sum(summary["outcomes"].values())) == (5, 6)


def test_answers_made_elsewhere_need_no_images(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [row("a", "gone.png", image_size=[60, 40])])
    (item,) = load_items(benchmark_named("custom"), Source(path))
    assert item.problem is None


# --- tables ----------------------------------------------------------------------------------


def table(folder: Path, column: str, feature: Any, values: list[Any], name: str = "t") -> Path:
    columns = {"what": ["x"] * len(values), "bbox": [BOX] * len(values), column: values}
    features = Features({"what": Value("string"), "bbox": List(Value("int64")), column: feature})
    path = folder / f"{name}.parquet"
    Dataset.from_dict(columns, features=features).to_parquet(str(path))
    return path


def read_table(path: Path, column: str) -> list[Any]:
    columns = {"instruction": "what", "image": column}
    options = SourceOptions(path=str(path), format="rows", box="xyxy_px", columns=columns)
    return read_rows_of(options).good


STRUCT = {"bytes": Value("binary"), "path": Value("string")}


@pytest.mark.parametrize("column", ["image", "screenshot", "a b.c"])
@pytest.mark.parametrize("kind", ["Image", "list of Image", "struct", "list of struct", "binary"])
def test_images_inside_a_table_are_read_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, kind: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    one: Any = {"bytes": encoded("PNG"), "path": None}
    feature, value = {
        "Image": (ImageFeature(), one),
        "list of Image": (List(ImageFeature()), [one]),
        "struct": (STRUCT, one),
        "list of struct": (List(STRUCT), [one]),
        "binary": (Value("binary"), one["bytes"]),
    }[kind]
    (found,) = read_table(table(tmp_path, column, feature, [value]), column)
    assert (found.width_px, found.height_px) == (64, 48)
    assert Path(found.image).read_bytes() == one["bytes"]


def test_a_list_of_one_path_is_a_path(tmp_path: Path) -> None:
    stored(tmp_path / "a.png", corners())
    options = SourceOptions(
        path=str(written(tmp_path / "a.jsonl", [row("a", ["a.png"])])),  # type: ignore[arg-type]
        format="rows",
        box="xyxy_px",
    )
    assert read_rows_of(options).good[0].image == str(tmp_path / "a.png")


@pytest.mark.parametrize("num", [0, 2])
def test_several_images_are_refused_without_their_bytes(tmp_path: Path, num: int) -> None:
    one = {"bytes": encoded("PNG") * 200, "path": None}
    path = table(tmp_path, "images", List(STRUCT), [[one] * num])
    with pytest.raises(DataError, match=f"row 1: field 'image' is a list of {num} images") as told:
        read_table(path, "images")
    assert len(str(told.value)) < 400


def test_a_folder_of_shards_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    one = {"bytes": encoded("PNG"), "path": None}
    for name in ("train-00000-of-00002", "train-00001-of-00002", "more/test"):
        table(folder, "image", ImageFeature(), [one, one], name)
    columns = {"instruction": "what"}
    options = SourceOptions(path=str(folder), format="rows", box="xyxy_px", columns=columns)
    assert [one.where.rpartition(" ")[2] for one in read_rows_of(options).good] == list("123456")


def test_preferences_are_read_from_shards_too(tmp_path: Path) -> None:
    one, other = encoded("PNG"), encoded("JPEG")
    features = Features({name: List(ImageFeature()) for name in ("chosen", "rejected")})
    features["caption"] = Value("string")
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number in range(2):
        columns = {
            "chosen": [[{"bytes": one, "path": None}]],
            "rejected": [[{"bytes": other, "path": None}]],
            "caption": [f"c{number}"],
        }
        Dataset.from_dict(columns, features=features).to_parquet(f"{folder}/{number}.parquet")
    source = PreferenceSource(path=str(folder), unpack=str(tmp_path / "unpacked"))
    found = read_preferences(source).good
    assert [pair.caption for pair in found] == ["c0", "c1"]
    assert Path(found[0].first).read_bytes() == one


@pytest.mark.parametrize("value", [
    "x" * 10_000_000, b"\x89PNG" * 1_000_000, [{"bytes": b"1" * 5_000_000, "path": None}] * 3,
    {"a": [["deep" * 1000] * 100] * 100}, 10**4000, np.zeros((500, 500)), None, 3.5,
])  # fmt: skip
def test_values_in_messages_are_short_and_never_bytes(value: Any) -> None:
    text = shown(value)
    assert len(text) <= 80
    assert "1111" not in text
    assert "PNG" not in text


@pytest.mark.parametrize("name", ["image", "instruction", "image_size", "bbox"])
def test_a_field_of_megabytes_makes_a_short_message(tmp_path: Path, name: str) -> None:
    stored(tmp_path / "a.png", corners())
    bad = {**row("a", "a.png"), name: {"x": "y" * 1_000_000}}
    with pytest.raises(DataError, match="row 1") as told:
        read_rows_of(
            SourceOptions(path=str(written(tmp_path / "a.jsonl", [bad])), format="screens")
        )
    assert len(str(told.value)) < 400


# --- paths -----------------------------------------------------------------------------------


def paths_out(folder: Path) -> dict[str, str]:
    stored(folder / "secret.png", corners())
    (folder / "data").mkdir()
    stored(folder / "data/own.png", corners())
    (folder / "data/link.png").symlink_to(folder / "secret.png")
    return {
        "above": "../secret.png",
        "absolute": str(folder / "secret.png"),
        "link": "link.png",
        "inside": "sub/../own.png",
        "own": "own.png",
    }


@pytest.mark.parametrize("kind", ["above", "absolute", "link", "inside", "own"])
def test_paths_out_of_the_root_are_followed_unless_refused(tmp_path: Path, kind: str) -> None:
    name = paths_out(tmp_path)[kind]
    (tmp_path / "data/sub").mkdir()
    gui = written(tmp_path / "data/gui.jsonl", [row("a", name)])
    captions = written(tmp_path / "data/c.jsonl", [{"caption": "c", "references": [name]}])
    pair = {"caption": "c", "chosen": name, "rejected": "own.png"}
    pairs = written(tmp_path / "data/p.jsonl", [pair])
    shapes = written(tmp_path / "data/s.jsonl", [{"caption": "c", "reference": name}])
    clip = {"id": "v", "video": name, "width": 9, "height": 9, "fps": 8, "num_frames": 2}
    clip |= {"sentence": "x", "first_frame": 0, "boxes": [[1, 1, 5, 5]]}
    clips = written(tmp_path / "data/v.jsonl", [clip])

    def shapes_of(**options: Any) -> list[Any]:
        return read_shapes(ShapeSource(path=str(shapes), **options)).good

    def clips_of(**options: Any) -> list[Any]:
        source = VideoSource(path=str(clips), check_videos=False, **options)
        return read_videos(source, on_bad_row="error", limit=None).good

    def read(within: bool) -> list[int]:
        options = {"within_root": within}
        return [
            len(read_rows_of(SourceOptions(path=str(gui), **options)).good),
            len(read_captions(CaptionSource(path=str(captions), **options)).good),
            len(read_preferences(PreferenceSource(path=str(pairs), **options)).good),
            len(load_items(benchmark_named("custom"), Source(gui, **options))),
            len(shapes_of(**options)),
            len(clips_of(**options)),
        ]

    assert read(False) == [1] * 6
    if kind in ("inside", "own"):
        assert read(True) == [1] * 6
        return
    readers: list[Any] = [
        lambda: read_rows_of(SourceOptions(path=str(gui), within_root=True)),
        lambda: read_captions(CaptionSource(path=str(captions), within_root=True)),
        lambda: read_preferences(PreferenceSource(path=str(pairs), within_root=True)),
        lambda: load_items(benchmark_named("custom"), Source(gui, within_root=True)),
        lambda: shapes_of(within_root=True),
        lambda: clips_of(within_root=True),
    ]
    for refused in readers:
        with pytest.raises(DataError, match=r"row 1: .*leads out of .*within_root"):
            refused()
