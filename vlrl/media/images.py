"""The one place that opens images: what is read, how it becomes RGB, and what is refused.

file or bytes ─> allowed formats only ─> upright (EXIF) ─> over white ─> RGB, 8 bits
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from vlrl.errors import DataError
from vlrl.media.stored_samples import load_samples

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is read; of animations and pages the first. PostScript would run a program."""
MAX_PIXELS = 178_956_970
"""Width times height of the largest image; Pillow's own limit against decompression bombs."""
SMALL_BYTES = 256 << 10
"""Files up to this size are decoded when they are checked."""
_TAIL_BYTES = 4096
_LYING = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
GAP_GREY = 128

Source = str | Path | bytes
"""An image's file, or its bytes."""


def open_image(
    source: Source, *, formats: Sequence[str] = FORMATS, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The image in memory, upright, RGB, transparency over white; raises DataError."""
    with _opened(source, formats, max_pixels) as image:
        return _rgb_of(image)


def image_array(source: Source) -> np.ndarray:
    """The image as `open_image` gives it, uint8 [H, W, 3], writable; raises DataError."""
    return np.array(open_image(source))


def image_size(
    source: Source, *, formats: Sequence[str] = FORMATS, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from its header; raises DataError."""
    with _opened(source, formats, max_pixels) as image:
        return _upright_size(image)


def whole_format(data: bytes, *, formats: Sequence[str] = FORMATS) -> str:
    """The format of an image, decoded and with its checksums checked; raises DataError."""
    with _opened(data, formats, MAX_PIXELS) as image:
        image.verify()
    with _opened(data, formats, MAX_PIXELS) as image:
        load_samples(image)
        # Cameras' JPEGs with a preview behind them.
        return "JPEG" if image.format == "MPO" else str(image.format)


def checked_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright image after a cheap check that its file is whole.

    Small files are decoded; of larger ones the header and the end are read, and the rest only
    where the end is not that of a whole file. Raises DataError.
    """
    found = os.stat(path) if os.path.exists(path) else None
    return _checked(str(path), *((found.st_size, found.st_mtime_ns) if found else (0, 0)))


@lru_cache(maxsize=65_536)
def _checked(path: str, num_bytes: int, changed_ns: int) -> tuple[int, int]:
    with _opened(path, FORMATS, MAX_PIXELS) as image:
        size = _upright_size(image)
        if num_bytes <= SMALL_BYTES or not _has_end(image.fp, image.format, num_bytes):
            load_samples(image)
    return size


def _has_end(file: IO[bytes] | None, kind: str | None, num_bytes: int) -> bool:
    """Whether a file ends as its format does; False too where that cannot be told."""
    if file is None:
        return False
    file.seek(max(0, num_bytes - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    if kind in ("JPEG", "MPO"):
        return b"\xff\xd9" in tail
    if kind == "PNG":
        return b"IEND\xaeB`\x82" in tail
    if kind == "WEBP":
        file.seek(4)
        return num_bytes >= struct.unpack("<I", file.read(4))[0] + 8
    return kind == "BMP"


@contextmanager
def _opened(source: Source, formats: Sequence[str], max_pixels: int) -> Iterator[ImageFile]:
    """The image with only its header read; whatever goes wrong in the block is a DataError."""
    name = "the image" if isinstance(source, bytes) else f"the image {source}"
    try:
        with _stream(source) as file, Image.open(file, formats=list(formats)) as image:
            if image.width * image.height > max_pixels:
                raise _BadImageError(_too_large(f"{image.width} x {image.height}", max_pixels))
            yield image
    except _BadImageError as error:
        raise DataError(f"{name} {error}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name} {_too_large('too many', max_pixels)}") from None
    except Image.UnidentifiedImageError:
        raise DataError(
            f"{name} cannot be read: it is damaged or not one of {', '.join(formats)}; replace "
            "it or leave it out"
        ) from None
    # Pillow's readers raise nearly every kind of error on broken files, SyntaxError and
    # struct.error among them.
    except Exception as error:
        why = str(error).strip() or type(error).__name__
        raise DataError(
            f"{name} cannot be read: {why[:200]}; replace it or leave it out"
        ) from error


class _BadImageError(Exception):
    """A whole sentence about the image, after its name."""


def _too_large(pixels: str, limit: int) -> str:
    return f"has {pixels} pixels; at most {limit:,} are read; make it smaller"


@contextmanager
def _stream(source: Source) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    # Without O_NONBLOCK the opening of a pipe waits for a writer.
    handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _BadImageError("is not a regular file; name an image's file")
    with os.fdopen(handle, "rb") as file:
        yield file


def _rgb_of(image: ImageFile) -> Image.Image:
    """The first frame, upright, as RGB."""
    loaded = load_samples(image)
    # A TIFF is turned by Pillow when it is loaded.
    orientation = 1 if image.format == "TIFF" else _orientation(image)
    rgb = as_rgb(loaded)
    method = _UPRIGHT.get(orientation)
    return rgb if method is None else rgb.transpose(method)


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, transparency over white, 16-bit greys scaled to 8 bits.

    Raises ValueError for modes without a fixed range (32-bit numbers).
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels are 32-bit numbers (mode {image.mode}), whose range is not known; save it "
            "with 8 or 16 bits per channel"
        )
    if image.mode == "RGBa":  # premultiplied: the colour is already weighted
        red, green, blue, alpha = (np.asarray(band, np.uint16) for band in image.split())
        over = np.stack([red, green, blue], -1) + (255 - alpha)[..., None]
        return Image.fromarray(over.clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 0 to 65,535 on 0 to 255, rounded; a transparent value becomes white."""
    values = np.asarray(image).astype(np.uint32)
    grey = ((values * 255 + 32_767) // 65_535).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _upright_size(image: ImageFile) -> tuple[int, int]:
    width, height = image.size
    # Pillow gives a TIFF's size upright.
    if image.format != "TIFF" and _orientation(image) in _LYING:
        return height, width
    return width, height


def _orientation(image: ImageFile) -> int:
    """EXIF's (or XMP's) orientation, 1 to 8; 1 where there is none that can be read."""
    try:
        if image.format == "PNG" and not _has_late_metadata(image.fp):
            # Pillow would decode the whole image to look for metadata after its pixels.
            exif = Image.Image.getexif(image)
        else:
            exif = image.getexif()
        found = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken block of metadata says nothing about the pixels
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _has_late_metadata(file: IO[bytes] | None) -> bool:
    """Whether a PNG has metadata after its first pixels; the file's position is kept."""
    if file is None:  # loaded: all metadata is known
        return False
    before, seen = file.tell(), False
    file.seek(8)
    try:
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IDAT":
                seen = True
            elif seen and kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
                return True
            elif kind == b"IEND":
                break
            file.seek(length + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(before)


def side_by_side(
    images: Sequence[np.ndarray], least_height_px: int = 128, gap_px: int = 4
) -> np.ndarray:
    """Images (uint8 [H, W, 3]) in a row, each enlarged by a whole factor to a height of
    at least `least_height_px`.

    No pixel is blended, so that visible defects are the images' own. Raises ValueError without
    images.
    """
    if not images:
        raise ValueError("side_by_side needs at least one image")
    factors = [max(1, -(-least_height_px // image.shape[0])) for image in images]
    large = [
        image.repeat(factor, axis=0).repeat(factor, axis=1)
        for image, factor in zip(images, factors, strict=True)
    ]
    height = max(image.shape[0] for image in large)
    width = sum(image.shape[1] for image in large) + gap_px * (len(large) - 1)
    canvas = np.full((height, width, 3), GAP_GREY, dtype=np.uint8)
    left = 0
    for image in large:
        canvas[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + gap_px
    return canvas
