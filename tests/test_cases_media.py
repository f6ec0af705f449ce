"""Images, videos and tables as people have them: damaged, turned, transparent, odd."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlrl.errors import DataError, RewardError
from vlrl.eval.endpoint import data_url
from vlrl.eval.gui.asking import Ask
from vlrl.eval.gui.benchmarks import benchmark_named
from vlrl.eval.gui.items import Item, Source, load_items
from vlrl.families.profiles import profile_named
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of
from vlrl.http.access import RequestError
from vlrl.image.data.captions import CaptionSource, read_captions
from vlrl.image.networks.features import read_image
from vlrl.judge.data.preference import PreferenceSource
from vlrl.judge.data.preferences import read_preferences
from vlrl.judge.question import ImageBook
from vlrl.judge.server import _image
from vlrl.media.images import as_rgb, checked_size, image_array, image_size, open_image
from vlrl.media.video import video_info
from vlrl.reward.server.wire_images import WireError, checked_file, file_of
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.tasks.preference_judgement import PreferenceJudgement
from vlrl.tasks.text_to_image import TextToImage
from vlrl.types import ImagePart

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "assets/models/tiny_qwen2_5_vl"
G2 = profile_named("gui_g2")
INVERSE = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright image is laid down, by the orientation that turns it back."""


def corners(width: int = 60, height: int = 40) -> np.ndarray:
    """An image in which every turn and flip shows, uint8 [H, W, 3]."""
    image = np.full((height, width, 3), 210, np.uint8)
    image[: height // 2, : width // 2] = (200, 30, 30)
    image[height // 2 :, width // 2 :] = (20, 40, 220)
    return image


def stored(path: Path, image: np.ndarray | Image.Image, **options: Any) -> Path:
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(path, **options)
    return path


def seen_by_every_path(path: Path) -> dict[str, np.ndarray]:
    """The pixels that each path through the program gets, uint8 [H, W, 3]."""
    width, height = image_size(path)
    frame = Frame(width, height)
    item = Item("i", str(path), frame, "x", Box(1, 1, 2, 2, frame))
    whole = (0, 0, width, height)
    sent = {"endpoint": data_url(Ask(item), frame), "zoom": data_url(Ask(item, whole), frame)}
    book = ImageBook()
    book.add(path)
    url = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    return {
        "endpoint": _png(sent["endpoint"]),
        "endpoint, zoom": _png(sent["zoom"]),
        "judge": np.asarray(book.images[0]),
        "judge's server": np.asarray(_image(url)),
        "features": read_image(str(path)),
        "training": np.asarray(_prompted(path, None)),
        "local zoom": np.asarray(_prompted(path, whole)),
    }


def _png(url: str) -> np.ndarray:
    return image_array(base64.b64decode(url.partition(",")[2]))


def _prompted(path: Path, crop: tuple[int, int, int, int] | None) -> Image.Image:
    """What a family's encoder is handed for an image in a prompt."""
    from vlrl.families.reading import pixels

    return pixels(ImagePart(str(path), *image_size(path), crop))


# --- one rule for pixels ---------------------------------------------------------------------


def half_clear(mode: str) -> Image.Image:
    """Black, all of it half transparent in the upper and fully in the lower half."""
    rgba = np.zeros((8, 6, 4), np.uint8)
    rgba[:4, :, 3] = 128
    return Image.fromarray(rgba).convert(mode)


@pytest.mark.parametrize(("mode", "kind"), [
    ("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "PNG"),
])  # fmt: skip
def test_transparency_lies_over_white_on_every_path(tmp_path: Path, mode: str, kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    path = stored(tmp_path / f"a.{kind.lower()}", half_clear(mode), format=kind, **options)
    wanted = np.full((8, 6, 3), 255, np.uint8)
    wanted[:4] = 127
    for name, pixels in seen_by_every_path(path).items():
        assert np.array_equal(pixels, wanted), name


def palette_of_two() -> Image.Image:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 0, 0, 0, 250, 0, 0] + [0] * 759)
    for x in range(4):
        image.putpixel((x, 0), 1)  # black text that is there; place 0 is black and clear
        image.putpixel((x, 1), 2)
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_keeps_its_text_and_loses_its_clear_colour(tmp_path: Path, kind: str) -> None:
    path = stored(tmp_path / f"a.{kind}", palette_of_two(), format=kind, transparency=0)
    for pixels in seen_by_every_path(path).values():
        assert pixels[:, 0].tolist() == [[0, 0, 0], [250, 0, 0], [255] * 3, [255] * 3]


@pytest.mark.parametrize(("image", "clear"), [
    (Image.new("L", (4, 4), 7), 7), (Image.new("RGB", (4, 4), (1, 2, 3)), (1, 2, 3)),
    (Image.new("1", (4, 4), 0), 0), (Image.new("I;16", (4, 4), 700), 700),
])  # fmt: skip
def test_a_clear_colour_is_white(tmp_path: Path, image: Image.Image, clear: Any) -> None:
    path = stored(tmp_path / "a.png", image, transparency=clear)
    assert (image_array(path) == 255).all()
    path = stored(tmp_path / "b.png", image)
    assert (image_array(path) < 10).all()


def test_premultiplied_colours_are_not_weighted_twice() -> None:
    plain = Image.new("RGBA", (2, 2), (200, 100, 0, 128))
    assert np.abs(np.asarray(as_rgb(plain.convert("RGBa"))).astype(int) - as_rgb(plain)).max() <= 1


def test_16_bit_greys_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 128, 257, 32_768, 65_407, 65_535]], np.uint16)
    for kind in ("png", "tiff"):
        path = stored(tmp_path / f"a.{kind}", Image.fromarray(values))
        assert image_array(path)[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255]
    for pixels in seen_by_every_path(tmp_path / "a.png").values():
        assert pixels[0, :, 1].tolist() == [0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_range_are_refused(tmp_path: Path, mode: str) -> None:
    path = stored(tmp_path / "a.tiff", Image.new(mode, (4, 4), 9))
    with pytest.raises(DataError, match=f"mode {mode}.*8 or 16 bits"):
        open_image(path)


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P"])
def test_other_modes_are_converted(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(corners()).convert(mode)
    kind = "tiff" if mode == "CMYK" else "png"
    path = stored(tmp_path / f"a.{kind}", image)
    assert np.abs(image_array(path).astype(int) - np.asarray(image.convert("RGB"))).max() <= 2


@pytest.mark.parametrize(("kind", "options"), [
    ("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("JPEG", {"quality": 90}),
    ("TIFF", {"compression": "tiff_lzw"}),
])  # fmt: skip
def test_ordinary_files_keep_their_pixels(tmp_path: Path, kind: str, options: Any) -> None:
    path = stored(tmp_path / "a", corners(), format=kind, **options)
    with Image.open(path) as plain:
        wanted = np.asarray(plain.convert("RGB"))
    for name, pixels in seen_by_every_path(path).items():
        assert np.array_equal(pixels, wanted), name


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, kind: str) -> None:
    red, blue = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    path = stored(tmp_path / "a", red, format=kind, save_all=True, append_images=[blue])
    assert image_array(path)[0, 0].tolist()[2] < 10


# --- upright ---------------------------------------------------------------------------------


def laid_down(path: Path, orientation: int, kind: str, **options: Any) -> Path:
    image, exif = Image.fromarray(corners()), Image.Exif()
    exif[0x0112] = orientation
    turn = INVERSE[orientation]
    lying = image if turn is None else image.transpose(turn)
    return stored(path, lying, format=kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", INVERSE)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied_to_pixels_and_sizes(
    tmp_path: Path, orientation: int, kind: str
) -> None:
    options = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    path = laid_down(tmp_path / "a", orientation, kind, **options)
    assert image_size(path) == checked_size(path) == (60, 40)
    for name, pixels in seen_by_every_path(path).items():
        assert pixels.shape == (40, 60, 3), name
        assert np.abs(pixels[4:16, 4:26].astype(int) - (200, 30, 30)).max() < 12, name
        assert np.abs(pixels[24:36, 34:56].astype(int) - (20, 40, 220)).max() < 12, name


def test_metadata_after_a_pngs_pixels_counts_too(tmp_path: Path) -> None:
    data = laid_down(tmp_path / "a", 6, "PNG").read_bytes()
    start = data.index(b"eXIf") - 4
    length = 12 + struct.unpack(">I", data[start : start + 4])[0]
    end = data.index(b"IEND") - 4
    moved = data[:start] + data[start + length : end] + data[start : start + length] + data[end:]
    assert image_size(moved) == (60, 40)
    assert image_array(moved).shape == (40, 60, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_metadata_does_not_hide_the_pixels(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.jpg", corners(), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    assert image_size(path) == (60, 40)
    assert image_array(path).shape == (40, 60, 3)


def test_a_box_lies_on_the_upright_image_in_training_and_evaluation(tmp_path: Path) -> None:
    laid_down(tmp_path / "a.jpg", 6, "JPEG")
    row = {"image": "a.jpg", "problem": "the red corner", "solution": [0, 0, 30, 20]}
    (tmp_path / "g1.json").write_text(json.dumps([row]))
    (one,) = read_rows_of(SourceOptions(path=str(tmp_path / "g1.json"), format="gui_g1")).good
    assert (one.width_px, one.height_px) == (60, 40)
    source = Source(tmp_path / "g1.json", format="gui_g1")
    (item,) = load_items(benchmark_named("custom"), source)
    assert item.frame.extent == (60, 40)


def test_drawings_and_references_are_upright_and_over_white(tmp_path: Path) -> None:
    laid_down(tmp_path / "a.jpg", 8, "JPEG", quality=100)
    stored(tmp_path / "b.png", half_clear("RGBA").resize((60, 40)))
    rows = [{"image": "a.jpg", "problem": "x", "solution": [0, 0, 30, 20]}]
    (tmp_path / "g1.json").write_text(json.dumps(rows))
    data = {"train": {"path": str(tmp_path / "g1.json"), "format": "gui_g1"}}
    gui = GuiGrounding(GuiGrounding.Options.model_validate({"data": data}))
    assert gui.draw(gui.samples("train")[0], []).size == (60, 40)
    (tmp_path / "caps.jsonl").write_text(json.dumps({"caption": "c", "references": ["b.png"]}))
    options = {"data": {"train": {"path": str(tmp_path / "caps.jsonl")}}, "width_px": 64}
    made = TextToImage(TextToImage.Options.model_validate({**options, "height_px": 64}))
    drawn = made.draw(made.samples("train")[0], [])
    assert drawn is not None
    assert drawn.getpixel((5, drawn.height - 5)) == (255, 255, 255)
    pair = {"caption": "c", "chosen": "a.jpg", "rejected": "b.png"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    source = {"data": {"train": {"path": str(tmp_path / "pairs.jsonl")}}}
    task = PreferenceJudgement(PreferenceJudgement.Options.model_validate(source))
    sample = task.samples("train")[0]
    sizes = [(p.width_px, p.height_px) for p in sample.prompt[0].parts if isinstance(p, ImagePart)]
    assert sizes == [(60, 40), (60, 40)]
    assert task.draw(sample, []).size == (2 * 240 + 4, 160)


# --- refused ---------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A few bytes that announce very many pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format=kind)
    return buffer.getvalue()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "text": b"no image at all",
    "postscript": POSTSCRIPT,
    "ppm": b"P6 2 2 255\n" + bytes(12),
    "header only": encoded("PNG")[:30],
    "cut png": encoded("PNG")[:-400],
    "cut jpeg": encoded("JPEG")[:-900],
    "cut webp": encoded("WEBP")[:-300],
    "broken chunk": encoded("PNG")[:60] + bytes(40) + encoded("PNG")[100:],
    "no pixels": bomb(9, 9),
    "bomb": bomb(40_000, 40_000),
    "large": bomb(14_000, 13_000),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_images_are_data_errors_with_their_name_everywhere(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "shot.png"
    path.write_bytes(DAMAGED[name])
    for read in (open_image, image_array, checked_size):
        with pytest.raises(DataError, match=r"shot\.png.*(replace|smaller)"):
            read(path)
    with pytest.raises(RewardError, match=r"shot\.png"):
        read_image(str(path))
    with pytest.raises(RewardError, match=r"shot\.png"):
        ImageBook().add(path)
    with pytest.raises(RequestError):
        _image("data:image/png;base64," + base64.b64encode(DAMAGED[name]).decode())
    with pytest.raises(WireError):
        checked_file(*file_of(str(path), "here"), "files.x", 1 << 24)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_images_are_bad_rows_that_can_be_skipped(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.png").write_bytes(DAMAGED[name])
    stored(tmp_path / "good.png", corners())
    gui = [{"image": f"{n}.png", "problem": "x", "solution": [0, 0, 9, 9]} for n in ("good", "bad")]
    (tmp_path / "g1.json").write_text(json.dumps(gui))
    source = SourceOptions(path=str(tmp_path / "g1.json"), format="gui_g1")
    captions = [{"caption": n, "references": [f"{n}.png"]} for n in ("good", "bad")]
    (tmp_path / "c.json").write_text(json.dumps(captions))
    pairs = [{"caption": n, "chosen": "good.png", "rejected": f"{n}.png"} for n in ("good", "bad")]
    (tmp_path / "p.json").write_text(json.dumps(pairs))
    readers: list[Callable[[Any], Any]] = [
        lambda mode: read_rows_of(source, on_bad_row=mode),
        lambda mode: read_captions(CaptionSource(path=f"{tmp_path}/c.json"), on_bad_row=mode),
        lambda mode: read_preferences(PreferenceSource(path=f"{tmp_path}/p.json", on_bad_row=mode)),
    ]
    for read in readers:
        with pytest.raises(DataError, match=r"row 2.*bad\.png"):
            read("error")
        rows = read("skip")
        assert (len(rows.good), len(rows.skipped)) == (1, 1)
        assert re.search(r"row 2.*bad\.png", rows.skipped[0])


def test_a_large_file_that_is_cut_is_found_by_its_end(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 600, 3), dtype=np.uint8)
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 98}), ("WEBP", {"lossless": True})):
        path = stored(tmp_path / kind, noise, format=kind, **options)
        assert path.stat().st_size > 256 << 10
        assert checked_size(path) == (600, 500)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(DataError, match=kind):
            checked_size(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_folders_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "pipe.png", tmp_path / "folder.png", Path("/dev/zero")):
        with pytest.raises(DataError, match="not a regular file"):
            open_image(path)
    with pytest.raises(DataError, match=r"no video file"):
        video_info(tmp_path / "pipe.png")
    row = [{"image": "pipe.png", "problem": "x", "solution": [0, 0, 9, 9]}]
    (tmp_path / "g1.json").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"row 1.*pipe\.png"):
        read_rows_of(SourceOptions(path=str(tmp_path / "g1.json"), format="gui_g1"))
    (item,) = load_items(benchmark_named("custom"), Source(tmp_path / "g1.json", format="gui_g1"))
    assert item.problem is not None


def test_images_are_opened_in_one_place() -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in ("vlrl", "rewards", "tasks", "eval")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "Image.open(" in path.read_text(encoding="utf-8")
    ]
    assert found == ["vlrl/media/images.py"]
