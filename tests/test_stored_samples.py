"""Transparent values, inverted greys and YCbCr are read as PNG and TIFF define them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vlrl.errors import DataError
from vlrl.media.images import image_array, whole_format

GREY, RGB, PALETTE = 0, 2, 3


def png(
    depth: int, colour: int, row: bytes, width: int, clear: bytes, palette: bytes = b""
) -> bytes:
    """A PNG of one row, as stored, with a transparent value."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    colours = chunk(b"PLTE", palette) if palette else b""
    pixels = chunk(b"tRNS", clear) + chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + head + colours + pixels + chunk(b"IEND", b"")


def grey_tiff(bits: int, photometric: int, row: bytes, width: int) -> bytes:
    """An uncompressed TIFF of one row of greys, as stored."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1}
    tags[279] = len(row)
    data = row + bytes(len(row) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return start + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def ycbcr_tiff(**tags: object) -> bytes:
    stored = io.BytesIO()
    names = {"subsampling": 530, "reference": 532}
    info = {names[name]: value for name, value in tags.items()}
    gradient = np.arange(9 * 7 * 3, dtype=np.uint8).reshape(7, 9, 3)
    Image.fromarray(gradient).convert("YCbCr").save(stored, "TIFF", tiffinfo=info)
    return stored.getvalue()


@pytest.mark.parametrize(
    ("depth", "row", "clear", "seen"),
    [
        (1, b"\x40", 0, [255, 255]),
        (1, b"\x40", 1, [0, 255]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (2, b"\x1b", 0, [255, 85, 170, 255]),
        (4, b"\x50", 5, [255, 0]),
        (4, b"\x0f", 15, [0, 255]),
        (4, b"\x50", 85, [255, 0]),  # only the lower bits count
        (8, b"\x50\x05", 5, [80, 255]),
        (8, b"\x50\x05", 0x50, [255, 5]),
        (16, b"\x50\x05\x50\x06", 0x5005, [255, 80]),
    ],
)
def test_the_transparent_grey_is_one_of_the_files_own_depth(
    depth: int, row: bytes, clear: int, seen: list[int]
) -> None:
    data = png(depth, GREY, row, len(seen), struct.pack(">H", clear))
    assert image_array(data)[0].tolist() == [[value] * 3 for value in seen]


def test_the_transparent_colour_is_compared_with_all_its_bits() -> None:
    row = struct.pack(">6H", 256, 512, 768, 257, 512, 768)
    data = png(16, RGB, row, 2, struct.pack(">3H", 256, 512, 768))
    assert image_array(data)[0].tolist() == [[255] * 3, [1, 2, 3]]
    data = png(8, RGB, b"\1\2\3\4\5\6", 2, struct.pack(">3H", 4, 5, 6))
    assert image_array(data)[0].tolist() == [[1, 2, 3], [255] * 3]


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x40"), (2, b"\x10"), (4, b"\x01")])
def test_a_transparent_place_of_a_palette_is_white(depth: int, row: bytes) -> None:
    data = png(depth, PALETTE, row, 2, b"\xff\x00", bytes(range(6)))
    assert image_array(data)[0].tolist() == [[0, 1, 2], [255] * 3]


@pytest.mark.parametrize(
    ("bits", "row", "seen"),
    [
        (1, b"\x40", [0, 255]),
        (2, b"\x1b", [0, 85, 170, 255]),
        (4, b"\x0f", [0, 255]),
        (8, b"\x00\x10", [0, 16]),
        (12, b"\xff\xf0\x10", [255, 1]),
        (16, struct.pack("<3H", 0, 1000, 65_535), [0, 4, 255]),
    ],
)
def test_greys_of_tiffs_fill_the_range_and_may_be_inverted(
    bits: int, row: bytes, seen: list[int]
) -> None:
    data = grey_tiff(bits, 1, row, len(seen))
    assert image_array(data)[0, :, 0].tolist() == seen
    inverted = grey_tiff(bits, 0, row, len(seen))
    if bits == 12:
        with pytest.raises(DataError, match="the image cannot be read"):
            image_array(inverted)
    else:
        assert image_array(inverted)[0, :, 0].tolist() == [255 - value for value in seen]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_white_is_zero_in_compressed_tiffs_too(compression: str | None) -> None:
    stored = io.BytesIO()
    values = np.array([[0, 1000, 65_535]], np.uint16)
    tags = {TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: 0}
    Image.fromarray(values).save(stored, "TIFF", compression=compression, tiffinfo=tags)
    assert image_array(stored.getvalue())[0, :, 0].tolist() == [255, 251, 0]


def test_ycbcr_of_a_tiff_is_converted() -> None:
    gradient = np.arange(9 * 7 * 3, dtype=np.uint8).reshape(7, 9, 3)
    data = ycbcr_tiff()
    assert np.abs(image_array(data).astype(int) - gradient).max() <= 2
    assert whole_format(data) == "TIFF"


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"subsampling": (2, 2)}, "subsampled YCbCr; save it as RGB"),
        ({"reference": (16.0, 235.0, 128.0, 240.0, 128.0, 240.0)}, "another range than JPEG's"),
    ],
)
def test_ycbcr_that_is_not_read_is_refused(tags: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        image_array(ycbcr_tiff(**tags))
