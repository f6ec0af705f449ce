"""One table of small inputs that are easily taken wrongly, each with its right value.

The kinds that they stand for have tests of their own in test_cases_media, test_cases_rows and
test_cases_videos.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_judge import group

from vlrl.config.yaml_text import parse_yaml
from vlrl.errors import DataError, RewardError
from vlrl.eval.gui.benchmarks import benchmark_named
from vlrl.eval.gui.items import Source, load_items
from vlrl.families.profiles import profile_named
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.answers import parse_answer
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of
from vlrl.media.images import image_array
from vlrl.media.video import read_frames
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup
from vlrl.reward.tree import build_reward, score
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.video.data.video_rows import VideoSource, read_videos

CASES = Path(__file__).resolve().parent / "cases"


def pixels(name: str) -> np.ndarray:
    return image_array(CASES / "pictures" / name)


def rows(name: str, form: str = "screens", skip: bool = False, **options: Any) -> Any:
    source = SourceOptions(path=str(CASES / name), format=form, **options)  # type: ignore[arg-type]
    return read_rows_of(source, on_bad_row="skip" if skip else "error")


def clips(name: str, form: str, skip: bool = False) -> Any:
    source = VideoSource(path=str(CASES / "videos" / name), format=form)  # type: ignore[arg-type]
    return read_videos(source, on_bad_row="skip" if skip else "error", limit=None)


def refused(read: Callable[[], object], kind: type[Exception] = DataError) -> str:
    with pytest.raises(kind) as told:
        read()
    return str(told.value)


def transparency() -> Any:
    image = pixels("rgba.png")
    return image[0, 0].tolist(), bool((image.max(-1) < 80).any())


def references() -> Any:
    return bool(np.array_equal(pixels("ref_alpha.png"), pixels("ref_white.png")))


def orientation() -> Any:
    (row,) = rows("pictures/exif6_gui_g1.json", "gui_g1").good
    image = pixels("exif6.jpg")
    x1, y1, x2, y2 = row.box
    red, _, blue = image[int(y1 + y2) // 2, int(x1 + x2) // 2].tolist()
    return (row.width_px, row.height_px) == image.shape[1::-1], blue > red + 50


def damaged_image(name: str) -> Callable[[], Any]:
    return lambda: f"{name} cannot be read" in refused(lambda: pixels(name))


def special_token() -> Any:
    """Image tokens in both prompts: those of the image, and none of the text."""
    path = str(CASES / "instructions/special_token.jsonl")
    task = GuiGrounding(GuiGrounding.Options.model_validate({"data": {"train": {"path": path}}}))
    model = str(CASES.parent.parent / "assets/models/tiny_qwen2_5_vl")
    setup = PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096)
    policy = VisionLanguagePolicy(VisionLanguageConfig(model=model), setup)
    pad = policy.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    prompts = [policy.encoder.encode(sample) for sample in task.samples("train")]
    counts = {int((prompt.input_ids == pad).sum()) for prompt in prompts}
    return len(prompts), len(counts)


def swapped_size() -> Any:
    path = CASES / "rows/swapped_size.jsonl"
    training = refused(lambda: rows("rows/swapped_size.jsonl"))
    evaluation = refused(lambda: load_items(benchmark_named("custom"), Source(path)))
    return ["364" in text and "448" in text for text in (training, evaluation)]


def long_bar() -> Any:
    path = "rows/with_bar210.jsonl"
    found = rows(path, skip=True)
    task = GuiGrounding(
        GuiGrounding.Options.model_validate(
            {"data": {"train": {"path": str(CASES / path)}}, "on_bad_row": "skip"}
        )
    )
    items = load_items(benchmark_named("custom"), Source(CASES / path))
    kept = len(task.samples("train"))
    return len(found.good), kept, "row 4" in task.skipped["train"][0], len(items)


def table_of(name: str, column: str) -> Callable[[], Any]:
    def read() -> Any:
        columns = {"instruction": "problem", "image": column}
        found = rows(f"rows/{name}.parquet", "rows", box="xyxy_px", columns=columns).good
        return all(Path(row.image).is_file() for row in found) and len(found) > 0

    return read


def turned_video() -> Any:
    (row,) = clips("rot.txt", "charades_sta").good
    frame = read_frames(row.video, [int(4 * row.fps)], row.fps)[0]
    return row.height_px > row.width_px, frame.shape[:2] == (row.height_px, row.width_px)


def variable_rate() -> Any:
    (row,) = clips("vfr.txt", "charades_sta").good
    shown = read_frames(row.video, [int(t * row.fps) for t in (2, 6, 9)], row.fps)
    over = shown[..., 1].astype(int) - shown.astype(int).max(
        -1, where=[True, False, True], initial=0
    )
    green = (over > 60).any((1, 2)).tolist()
    return row.spans_s, round(row.num_frames / row.fps, 1), green


def damaged_videos() -> Any:
    found = clips("damaged.json", "hcstvg", skip=True)
    names = [name for name in ("cut.mp4", "empty.mp4") if name in " ".join(found.skipped)]
    stopped = refused(lambda: clips("damaged.json", "hcstvg"))
    return [Path(row.video).name for row in found.good], names, "mp4" in stopped


def corners_in_json() -> Any:
    text = json.loads((CASES / "answers/answers.jsonl").read_text())["output"]
    (place,) = parse_answer(text, profile_named("qwen2_5_vl"), Frame(1008, 784))
    return isinstance(place, Box) and place.xyxy


def infinite_reward(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(CASES / "rewards"))
    text = (CASES / "rewards/inf_later.yaml").read_text()
    reward = build_reward(parse_yaml(text, "inf_later.yaml")["reward"], "reward")
    answers = group("a red ball", (1, 2))
    scores = [score(reward, answers)[1].value for _ in range(2)]
    return scores, "inf_later" in refused(lambda: score(reward, answers), RewardError)


TABLE: list[tuple[str, Callable[..., Any], Any]] = [
    ("pictures/rgba.png", transparency, ([255, 255, 255], True)),
    ("pictures/ref_alpha.png, ref_white.png", references, True),
    ("pictures/exif6.jpg, exif6_gui_g1.json", orientation, (True, True)),
    ("pictures/truncated.jpg", damaged_image("truncated.jpg"), True),
    ("pictures/broken_chunk.png", damaged_image("broken_chunk.png"), True),
    ("instructions/special_token.jsonl", special_token, (2, 1)),
    ("rows/swapped_size.jsonl", swapped_size, [True, True]),
    ("rows/with_bar210.jsonl", long_bar, (4, 3, True, 4)),
    ("rows/screenshot_feature.parquet", table_of("screenshot_feature", "screenshot"), True),
    ("rows/images_bytes.parquet", table_of("images_bytes", "images"), True),
    ("videos/rot90.mp4, rot.txt", turned_video, (True, True)),
    ("videos/vfr.mp4, vfr.txt", variable_rate, (((5.0, 8.0),), 10.0, [False, True, False])),
    ("videos/damaged.json", damaged_videos, (["plain.mp4"], ["cut.mp4", "empty.mp4"], True)),
    ("answers/answers.jsonl", corners_in_json, (400.0, 300.0, 500.0, 350.0)),
    ("rewards/inf_later.yaml", infinite_reward, ([1.0, 1.0], True)),
]


@pytest.mark.parametrize(("case", "value", "right"), TABLE, ids=[name for name, _, _ in TABLE])
def test_the_right_value(
    case: str, value: Callable[..., Any], right: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = value(monkeypatch) if value is infinite_reward else value()
    assert found == right


def test_every_case_is_in_the_table() -> None:
    named = " ".join(name for name, _, _ in TABLE)
    helping = {"a.png", "rgb.png", "caps.jsonl", "normal.png", "bar210.png", "plain.mp4"}
    helping |= {"cut.mp4", "empty.mp4", "odd_rewards.py"}
    files = {path.name for path in CASES.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {name for name in files - helping if name not in named} == set()
