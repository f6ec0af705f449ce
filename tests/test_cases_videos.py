"""Videos as people have them: turned, of variable rate, damaged, not as their rows say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_video import moving_square, write_video
from test_cases_media import corners, laid_down, stored

from vlrl.distributed.comm import World
from vlrl.errors import DataError
from vlrl.eval.store import Store
from vlrl.eval.video.runner import ask_all
from vlrl.media.frame_sampling import sample_frames
from vlrl.media.video import read_frames, read_part, video_info
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup
from vlrl.tasks.video_grounding import VideoGrounding, video_part
from vlrl.types import VideoPart
from vlrl.video.data.video_rows import VideoSource, read_videos

ROOT = Path(__file__).resolve().parent.parent
MATRICES = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""How a player turns frames, clockwise in degrees, as MP4 writes it (90: a phone held upright)."""
GREY, GREEN = (128, 128, 128), (20, 200, 20)


def turned(
    path: Path,
    degrees: int,
    num_frames: int = 16,
    matrix: tuple[int, int, int, int] | None = None,
) -> Path:
    """An MP4 of 120 x 80 with a rotation flag, as phones write them; or with any matrix."""
    frames = np.stack([corners(120, 80)] * num_frames)
    data = timed(path, frames, [k / 8 for k in range(num_frames)]).read_bytes()
    a, b, c, d = matrix or MATRICES[degrees]
    sixteen = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    start = data.index(b"tkhd") + 44
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in sixteen)
    path.write_bytes(data[:start] + matrix + data[start + 36 :])
    return path


def timed(path: Path, frames: np.ndarray, times_s: Sequence[float]) -> Path:
    """A video whose frames are shown at these times."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=8)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time in zip(frames, times_s, strict=True):
            made = av.VideoFrame.from_ndarray(frame, format="rgb24")
            made.pts, made.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    return path


def plain(width: int, height: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


UNEVEN = [*(k / 30 for k in range(60)), 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
"""Thirty frames a second for two seconds, then one a second up to 10 s."""


def uneven(path: Path) -> Path:
    """Grey, but green from 5 to 8 s."""
    frames = [plain(64, 48, GREEN if 5 <= time < 8 else GREY) for time in UNEVEN]
    return timed(path, np.stack(frames), UNEVEN)


def is_green(frame: np.ndarray) -> bool:
    return bool(np.abs(frame.astype(int) - GREEN).mean() < 40)


def hcstvg(**over: Any) -> dict[str, Any]:
    row = {"bbox": [[4, 4, 20, 20]] * 8, "st_frame": 1, "img_num": 16, "width": 112, "height": 84}
    return {**row, "caption": "the square", **over}


def clip(**over: Any) -> dict[str, Any]:
    row = {"id": "c", "video": "a.mkv", "width": 112, "height": 84, "fps": 8, "num_frames": 16}
    return {**row, "sentence": "x", "first_frame": 0, "boxes": [[4, 4, 20, 20]] * 8, **over}


def rows_of(folder: Path, rows: Any, form: str, mode: Any = "error") -> Any:
    text = rows if isinstance(rows, str) else json.dumps(rows)
    (folder / "rows.json").write_text(text, encoding="utf-8")
    source = VideoSource(path=str(folder / "rows.json"), format=form)  # type: ignore[arg-type]
    return read_videos(source, on_bad_row=mode, limit=None)


# --- upright ---------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", MATRICES)
def test_frames_stand_as_a_player_shows_them(tmp_path: Path, degrees: int) -> None:
    lying = read_frames(turned(tmp_path / "flat.mp4", 0), [0, 9])
    path = turned(tmp_path / "turned.mp4", degrees)
    shown = read_frames(path, [0, 9])
    assert np.array_equal(shown, np.rot90(lying, -degrees // 90, (1, 2)))
    info = video_info(path)
    assert (info.width_px, info.height_px) == ((80, 120) if degrees % 180 else (120, 80))
    assert (info.num_frames, info.fps, info.is_variable) == (16, 8.0, False)


@pytest.mark.parametrize("degrees", MATRICES)
@pytest.mark.parametrize("across", [True, False])
def test_mirrored_frames_are_shown_mirrored(tmp_path: Path, degrees: int, across: bool) -> None:
    """A point of the file goes where its matrix sends it: (x, y) to (ax + cy, bx + dy)."""
    a, b, c, d = MATRICES[degrees]
    matrix = (-a, b, -c, d) if across else (a, -b, c, -d)
    lying = read_frames(turned(tmp_path / "flat.mp4", 0), [3])[0]
    (shown,) = read_frames(turned(tmp_path / "mirrored.mp4", degrees, matrix=matrix), [3])
    height, width = lying.shape[:2]
    y, x = np.mgrid[:height, :width]
    at_x, at_y = matrix[0] * x + matrix[2] * y, matrix[1] * x + matrix[3] * y
    expected = np.empty_like(shown)
    expected[at_y - at_y.min(), at_x - at_x.min()] = lying
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize("degrees", [90, 270])
def test_a_row_gives_the_upright_size(tmp_path: Path, degrees: int) -> None:
    turned(tmp_path / "a.mp4", degrees)
    (row,) = rows_of(tmp_path, "a 0.5 1.5##the red corner", "charades_sta").good
    assert (row.width_px, row.height_px) == (80, 120)
    own = {"a.mp4": hcstvg(width=80, height=120)}
    assert len(rows_of(tmp_path, own, "hcstvg").good) == 1
    with pytest.raises(DataError, match=r"says 120 x 80 px, the video .*a\.mp4 is 80 x 120"):
        rows_of(tmp_path, {"a.mp4": hcstvg(width=120, height=80)}, "hcstvg")


def test_a_folder_of_frames_is_upright_and_over_white(tmp_path: Path) -> None:
    laid_down(tmp_path / "0.jpg", 6, "JPEG", quality=100)
    clear = np.zeros((40, 60, 4), np.uint8)
    from PIL import Image

    stored(tmp_path / "1.png", Image.fromarray(clear))
    info = video_info(tmp_path)
    assert (info.width_px, info.height_px) == (60, 40)
    frames = read_frames(tmp_path, [0, 1])
    assert frames[0, 10, 10, 0] > 180 > 60 > frames[0, 10, 10, 1]
    assert (frames[1] == 255).all()


# --- when frames are shown -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mp4", "mkv", "mov"])
def test_frames_of_variable_rate_are_chosen_by_time(tmp_path: Path, kind: str) -> None:
    uneven(tmp_path / f"a.{kind}")
    (row,) = rows_of(tmp_path, "a 5.0 8.0##the square is green", "charades_sta").good
    assert row.num_frames / row.fps == pytest.approx(10, abs=0.05)
    frames = sample_frames(row.num_frames, row.fps, 2.0)
    times = [frame / row.fps for frame in frames]
    part = VideoPart(row.video, 64, 48, row.fps, row.num_frames, frames)
    assert len(frames) == 20
    assert [is_green(frame) for frame in read_part(part)] == [5 <= t + 0.01 < 8 for t in times]


@pytest.mark.parametrize("form", ["clips", "hcstvg"])
def test_numbered_frames_of_a_variable_rate_are_refused(tmp_path: Path, form: str) -> None:
    uneven(tmp_path / "a.mp4")
    size = {"width": 64, "height": 48}
    rows: Any = {"a.mp4": hcstvg(**size, img_num=68)}
    if form == "clips":
        rows = [clip(**size, video="a.mp4", num_frames=68, fps=6.8)]
    with pytest.raises(DataError, match=r"a\.mp4 are not evenly spaced in time.*re-encode"):
        rows_of(tmp_path, rows, form)


def test_the_start_of_a_large_file_without_an_index_says_whether_its_rate_is_constant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [*(k / 10 for k in range(12)), *(1.2 + k for k in range(12))]
    frames = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), dtype=np.uint8)
    path = timed(tmp_path / "a.mkv", frames, times)
    monkeypatch.setattr("vlrl.media.container.SCANNED_BYTES", path.stat().st_size * 3 // 4)
    assert video_info(path).is_variable
    even = timed(tmp_path / "b.mkv", frames, [0.5 * k for k in range(24)])
    assert not video_info(even).is_variable


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
@pytest.mark.parametrize("fps", [8, 24, Fraction(30_000, 1001), 60])
def test_rounded_times_and_one_missing_frame_are_a_constant_rate(
    tmp_path: Path, kind: str, fps: float
) -> None:
    times = [round(float(k / fps), 3) for k in range(120) if k != 40]
    frames = np.stack([plain(64, 48, (2 * (k % 120), 0, 0)) for k in range(len(times))])
    path = timed(tmp_path / f"a.{kind}", frames, times)
    assert not video_info(path).is_variable
    found = read_frames(path, [0, 60, 100])[:, 20, 30, 0].astype(int)
    assert np.abs(found - [0, 120, 200]).max() < 16


def test_embedded_clips_give_their_decoded_frames_bit_for_bit() -> None:
    import av

    for path in sorted((ROOT / "assets/clips/videos").glob("*.mp4"))[::60]:
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert np.array_equal(read_frames(path, range(len(frames))), np.stack(frames))
        info = video_info(path)
        height, width = frames[0].shape[:2]
        assert (info.num_frames, info.width_px, info.height_px) == (len(frames), width, height)


# --- what rows say ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"width": 84, "height": 112}, "says 84 x 112 px, the video .* is 112 x 84"),
        ({"width": 112, "height": 112}, "says 112 x 112 px"),
        ({"fps": 16}, "says 16 frames a second, the video .* has 8"),
        ({"fps": 7.5}, "says 7.5 frames a second"),
        ({"num_frames": 32}, "says 32 frames, the video .* has 16"),
        ({"num_frames": 8}, "says 8 frames, the video .* has 16"),
        ({}, ""),
        ({"num_frames": 18}, ""),
        ({"num_frames": 15}, ""),
        ({"fps": 8.01}, ""),
        ({"width": 224, "height": 168}, ""),  # the file is a smaller copy
        ({"width": 225, "height": 168}, ""),
    ],
)
def test_size_rate_and_number_of_frames_are_compared(
    tmp_path: Path, over: dict[str, Any], said: str
) -> None:
    write_video(tmp_path / "a.mkv", moving_square(16))
    if not said:
        assert len(rows_of(tmp_path, [clip(**over)], "clips").good) == 1
        return
    with pytest.raises(DataError, match=f"row 1: {said}"):
        rows_of(tmp_path, [clip(**over)], "clips")
    both = [clip(id="good"), clip(**over)]
    found = rows_of(tmp_path, both, "clips", "skip")
    assert ([row.id for row in found.good], len(found.skipped)) == (["good"], 1)


def test_folders_of_frames_are_compared_too(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for number in range(16):
        stored(tmp_path / "f" / f"{number:02d}.png", corners(112, 84))
    assert len(rows_of(tmp_path, [clip(video="f")], "clips").good) == 1
    with pytest.raises(DataError, match="says 84 x 112"):
        rows_of(tmp_path, [clip(video="f", width=84, height=112)], "clips")
    with pytest.raises(DataError, match="says 40 frames"):
        rows_of(tmp_path, [clip(video="f", num_frames=40)], "clips")


# --- damaged ---------------------------------------------------------------------------------


def damaged(folder: Path) -> list[str]:
    """Names of videos, only the first of which can be read."""
    good = write_video(folder / "good.mkv", moving_square(16)).read_bytes()
    index = timed(folder / "x.mp4", moving_square(16), [k / 8 for k in range(16)]).read_bytes()
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"<html>404</html>",
        "cut.mp4": index[: len(index) // 2],
        "header.mkv": good[:300],
        "noise.mp4": bytes(range(256)) * 40,
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "nothing").mkdir()
    return ["good.mkv", *contents, "nothing"]


def test_damaged_videos_are_bad_rows_that_can_be_skipped(tmp_path: Path) -> None:
    names = damaged(tmp_path)
    rows = {name: hcstvg() for name in names}
    with pytest.raises(DataError, match=r"'empty\.mp4'.*empty\.mp4"):
        rows_of(tmp_path, rows, "hcstvg")
    found = rows_of(tmp_path, rows, "hcstvg", "skip")
    assert [row.id for row in found.good] == names[:1]
    assert len(found.skipped) == len(names) - 1
    lines = "\n".join(f"{name.partition('.')[0]} 0.2 1.5##x" for name in names[:-1])
    found = rows_of(tmp_path, lines, "charades_sta", "skip")
    assert (len(found.good), len(found.skipped)) == (1, len(names) - 2)


def test_frames_too_long_for_every_model_are_bad_rows(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", moving_square(16))
    write_video(tmp_path / "bar.mkv", np.zeros((16, 2, 420, 3), np.uint8))
    box = [[0, 0, 9, 2]] * 8
    bar = clip(id="bar", video="bar.mkv", width=420, height=2, boxes=box)
    (tmp_path / "rows.json").write_text(json.dumps([clip(), bar]))
    data = {"train": {"path": str(tmp_path / "rows.json")}}
    with pytest.raises(DataError, match=r"row 2: the video .*aspect ratio of 420 x 2"):
        VideoGrounding(VideoGrounding.Options.model_validate({"data": data})).samples("train")
    options = VideoGrounding.Options.model_validate({"data": data, "on_bad_row": "skip"})
    task = VideoGrounding(options)
    assert [sample.id for sample in task.samples("train")] == ["c"]
    assert len(task.skipped["train"]) == 1


def test_a_video_that_breaks_after_the_start_fails_alone(tmp_path: Path) -> None:
    rows = []
    for number in range(3):
        write_video(tmp_path / f"{number}.mkv", moving_square(16, seed=number))
        rows.append(clip(id=str(number), video=f"{number}.mkv"))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    options = {"data": {"eval": {"path": str(tmp_path / "rows.json")}}, "longer_side_px": 112}
    task = VideoGrounding(VideoGrounding.Options.model_validate(options))
    samples = list(task.samples("eval"))
    (tmp_path / "0.mkv").write_bytes((tmp_path / "0.mkv").read_bytes()[:400])
    model = VisionLanguagePolicy(
        VisionLanguageConfig(model=str(ROOT / "assets/models/tiny_video"), max_new_tokens=4),
        PolicySetup(dtype=torch.float32, max_tokens_per_chunk=16_384),
    )
    task.check_policy(model.size_seen, "eval")
    alone = World(0, 1, torch.device("cpu"))
    answers = ask_all(samples, model, Store(tmp_path / "out"), {}, alone, 3)
    assert [answers[name].output is None for name in "012"] == [True, False, False]
    assert "0.mkv" in str(answers["0"].error)
    assert video_part(samples[0]).source.endswith("0.mkv")
