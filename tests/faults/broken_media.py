"""Broken images and videos, each through one of the paths that read them."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from damage import damaged
from PIL import Image
from trying import Case, Outcome

from vlrl.errors import DataError
from vlrl.eval.endpoint import data_url
from vlrl.eval.gui.asking import Ask
from vlrl.eval.gui.benchmarks import benchmark_named
from vlrl.eval.gui.items import Source, load_items
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of
from vlrl.image.data.captions import CaptionSource, read_captions
from vlrl.image.networks.features import read_image
from vlrl.judge.data.preference import PreferenceSource
from vlrl.judge.data.preferences import read_preferences
from vlrl.judge.question import ImageBook
from vlrl.judge.server import _image
from vlrl.media.images import image_array
from vlrl.media.video import read_frames, read_part, video_info
from vlrl.reward.server.wire_images import checked_file, file_of
from vlrl.tasks.video_grounding import VideoGrounding, video_part
from vlrl.types import VideoPart

WIDTH, HEIGHT = 64, 48
IMAGES = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF"}
VIDEOS = {"mp4": "mpeg4", "avi": "mpeg4", "mkv": "ffv1", "webm": "libvpx"}
NUM_FRAMES, FPS = 16, 8


@cache
def image_bytes(ending: str) -> bytes:
    """An image of noise and areas, with some metadata."""
    rng = np.random.default_rng(5)
    pixels = np.full((HEIGHT, WIDTH, 3), (200, 60, 30), np.uint8)
    pixels[8:30, 10:50] = rng.integers(0, 256, (22, 40, 3))
    exif = Image.Exif()
    exif[0x0112] = 1
    options = {} if ending == "gif" else {"exif": exif}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=IMAGES[ending], **options)
    return buffer.getvalue()


@cache
def image_pixels(ending: str) -> np.ndarray:
    return image_array(image_bytes(ending))


def _written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def _trained(path: Path, size: list[int] | None) -> np.ndarray:
    row = {"id": "i", "image": path.name, "image_size": size, "instruction": "x",
           "bbox": [1, 1, 9, 9]}  # fmt: skip
    data = path.with_suffix(".jsonl")
    data.write_text(json.dumps(row), encoding="utf-8")
    (one,) = read_rows_of(SourceOptions(path=str(data), format="screens")).good
    return image_array(one.image)


def _evaluated(path: Path) -> np.ndarray:
    row = {"image": path.name, "problem": "x", "solution": [1, 1, 9, 9]}
    data = _written(path.with_suffix(".json"), [row])
    (item,) = load_items(benchmark_named("custom"), Source(Path(data), format="gui_g1"))
    if item.problem is not None:
        raise DataError(item.problem)
    return image_array(base64.b64decode(data_url(Ask(item), item.frame).partition(",")[2]))


def _preferred(path: Path) -> np.ndarray:
    good = path.with_name("good.png")
    good.write_bytes(image_bytes("png"))
    row = {"caption": "c", "chosen": good.name, "rejected": path.name}
    source = PreferenceSource(path=_written(path.with_suffix(".json"), [row]))
    (pair,) = read_preferences(source).good
    book = ImageBook()
    book.add(Path(str(pair.rejected)))
    return np.asarray(book.images[0])


def _referred(path: Path) -> np.ndarray:
    rows = [{"caption": "c", "references": [path.name]}]
    source = CaptionSource(path=_written(path.with_suffix(".json"), rows))
    return read_image(read_captions(source).good[0].references[0])


def _judged(path: Path) -> np.ndarray:
    sent = base64.b64encode(path.read_bytes()).decode()
    return np.asarray(_image(f"data:image/png;base64,{sent}"))


def _served(path: Path) -> np.ndarray:
    data, _ = checked_file(*file_of(str(path), "here"), "files.x", 1 << 24)
    return image_array(data)


def _framed(path: Path) -> np.ndarray:
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    # Frames are PNG, JPEG, WEBP or BMP by their names; what is in them is looked at.
    path.rename(folder / f"{path.stem}.png")
    frame: np.ndarray = read_frames(folder, [0])[0]
    return frame


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "training": lambda path: _trained(path, None),
    "training, size stated": lambda path: _trained(path, [WIDTH, HEIGHT]),
    "evaluation": _evaluated,
    "preferences": _preferred,
    "references": _referred,
    "judge's server": _judged,
    "reward server": _served,
    "video frames": _framed,
}
PLACELESS = ("judge's server", "reward server")
"""They are sent bytes without a file's name."""


def image(folder: Path, number: int, rng: random.Random) -> Case:
    """A broken image."""
    ending = list(IMAGES)[number % len(IMAGES)]
    reader = list(READERS)[number // len(IMAGES) % len(READERS)]
    others = [image_bytes(e) for e in IMAGES if e != ending] + [b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    how, data = damaged(image_bytes(ending), rng, others)
    path = folder / f"shot{number}.{ending}"

    def run() -> Outcome:
        path.write_bytes(data)
        found = READERS[reader](path)
        if not np.array_equal(found, image_array(data)):
            return "wrong"  # another path through the program sees other pixels
        if reader.endswith("stated") and found.shape != (HEIGHT, WIDTH, 3):
            return "wrong"
        return "same" if np.array_equal(found, image_pixels(ending)) else "other"

    place = "" if reader in PLACELESS else path.stem
    return Case(f"{ending}, {how}, {reader}", run, place)


@cache
def video_bytes(folder: Path, ending: str) -> bytes:
    """A square that moves over noise."""
    import av

    path = folder / f"whole.{ending}"
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(VIDEOS[ending], rate=Fraction(FPS))
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "bgr0" if VIDEOS[ending] == "ffv1" else "yuv420p"
        for t in range(NUM_FRAMES):
            frame = rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            frame[8:24, 3 * t : 3 * t + 12] = (250, 200, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def _frames(path: Path) -> tuple[np.ndarray, VideoPart]:
    """As training and evaluation show it: compared with its row, then decoded."""
    row = {"id": "c", "video": path.name, "width": WIDTH, "height": HEIGHT, "fps": FPS,
           "num_frames": NUM_FRAMES, "sentence": "x", "first_frame": 0,
           "boxes": [[4, 4, 20, 20]] * 8}  # fmt: skip
    data = {"train": {"path": _written(path.with_suffix(".json"), [row])}}
    task = VideoGrounding(VideoGrounding.Options.model_validate({"data": data}))
    part = video_part(task.samples("train")[0])
    return read_part(part), part


def _decoded(path: Path) -> np.ndarray:
    info = video_info(path)
    frames = read_frames(path, range(0, NUM_FRAMES, 2))
    if frames.shape[1:3] != (info.height_px, info.width_px):
        raise AssertionError(f"{frames.shape} is not {info}")
    return frames


@cache
def video_pixels(folder: Path, ending: str, frames: tuple[int, ...]) -> np.ndarray:
    video_bytes(folder, ending)
    return read_frames(folder / f"whole.{ending}", frames)


def video(folder: Path, number: int, rng: random.Random) -> Case:
    """A broken video."""
    ending = list(VIDEOS)[number % len(VIDEOS)]
    others = [video_bytes(folder, e) for e in VIDEOS if e != ending] + [image_bytes("png")]
    how, data = damaged(video_bytes(folder, ending), rng, others)
    path = folder / f"clip{number}.{ending}"
    is_shown = number // len(VIDEOS) % 2 == 0

    def run() -> Outcome:
        path.write_bytes(data)
        places = tuple(range(0, NUM_FRAMES, 2))
        if is_shown:
            found, part = _frames(path)
            places = part.frames
        else:
            found = _decoded(path)
        wanted = video_pixels(folder, ending, places)
        if is_shown and found.shape != wanted.shape:
            return "wrong"
        return "same" if np.array_equal(found, wanted) else "other"

    return Case(f"{ending}, {how}, {'training' if is_shown else 'decoding'}", run, path.name)
