"""Samples that Pillow leaves as a file stores them: transparent values of PNGs, greys and YCbCr of
TIFFs.

PNG: W3C, Portable Network Graphics, 11.3.2.1 (tRNS). TIFF: revision 6.0, sections 3, 4 and 21.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

_DEPTH_AT = 24
"""Where a PNG says its bits per sample."""
_YCBCR = 6
_REFERENCE_BLACK_WHITE = 532
_YCBCR_COEFFICIENTS = 529
_FULL_RANGE = (0, 255, 128, 255, 128, 255)
_BT_601 = (0.299, 0.587, 0.114)


def load_samples(image: ImageFile) -> Image.Image:
    """The first frame with its pixels read, and with the values that its format gives them.

    Raises what Pillow raises on damaged files, and ValueError for samples that are not read.
    """
    if isinstance(image, PngImageFile):
        return _png(image)
    if isinstance(image, TiffImageFile):
        return _tiff(image)
    image.load()
    return image


def _png(image: PngImageFile) -> Image.Image:
    file = image.fp
    if file is None:  # its pixels are read already
        return image
    file.seek(_DEPTH_AT)
    depth = file.read(1)[0]
    wide = image.mode == "RGB" and depth == 16 and "transparency" in image.info
    low = _low_bytes(image) if wide else None
    image.load()
    clear = image.info.get("transparency")
    most = (1 << depth) - 1
    if low is not None and isinstance(clear, tuple):
        return _over_white_16(image, low, clear)
    if image.mode == "L" and isinstance(clear, int):
        # Pillow scales the pixels to 8 bits, but not the transparent value.
        image.info["transparency"] = (clear & most) * 255 // most
    elif image.mode == "RGB" and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value & most for value in clear)
    return image


def _low_bytes(image: PngImageFile) -> np.ndarray:
    """The lower byte of every 16-bit sample, uint8 [H, W, 3]; Pillow keeps the upper one."""
    assert image.fp is not None
    image.fp.seek(0)
    again = PngImageFile(image.fp)
    # Read as little-endian, the byte that counts as upper is the lower one.
    again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
    return np.asarray(again)


def _over_white_16(image: Image.Image, low: np.ndarray, clear: tuple[int, ...]) -> Image.Image:
    """8-bit pixels with white where all 16 bits of a pixel are those of the transparent one."""
    high = np.array(image)
    values = high.astype(np.uint16) << 8 | low
    high[(values == np.array(clear, np.uint16)).all(-1)] = 255
    return Image.fromarray(high)


def _tiff(image: TiffImageFile) -> Image.Image:
    tags = image.tag_v2
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)
    if photometric == _YCBCR and [tile.codec_name for tile in image.tile][:1] == ["raw"]:
        return _raw_ycbcr(image)
    image.load()
    if not image.mode.startswith("I;16"):
        return image
    # Greys of 8 bits and fewer are scaled and inverted by Pillow, those of 12 and 16 are not.
    most = (1 << tags[TiffImagePlugin.BITSPERSAMPLE][0]) - 1
    values = np.asarray(image).astype(np.uint32)
    if photometric == 0:  # white is zero
        values = most - values
    return Image.fromarray(((values * 65_535 + most // 2) // most).astype(np.uint16))


def _raw_ycbcr(image: TiffImageFile) -> Image.Image:
    """Uncompressed YCbCr, three bytes a pixel, as RGB; Pillow would look for four."""
    tags = image.tag_v2
    if tuple(tags.get(TiffImagePlugin.YCBCRSUBSAMPLING, (2, 2))) != (1, 1):
        raise ValueError("it is an uncompressed TIFF with subsampled YCbCr; save it as RGB")
    reference = tuple(map(float, tags.get(_REFERENCE_BLACK_WHITE, _FULL_RANGE)))
    coefficients = tuple(map(float, tags.get(_YCBCR_COEFFICIENTS, _BT_601)))
    if reference != _FULL_RANGE or not np.allclose(coefficients, _BT_601, atol=1e-3):
        raise ValueError("it is a TIFF with YCbCr of another range than JPEG's; save it as RGB")
    image.tile = [
        tile._replace(args=("RGB", *tile.args[1:]))
        if isinstance(tile.args, tuple) and tile.args[0] == "RGBX"
        else tile
        for tile in image.tile
    ]
    image.load()
    return Image.merge("YCbCr", image.split()).convert("RGB")
