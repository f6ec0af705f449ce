"""Images on the wire: sent losslessly, and checked before they are decoded."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from vlrl.errors import DataError, RewardError
from vlrl.http.access import RequestError
from vlrl.media.images import image_size, open_image, whole_format

FILE_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
"""What a reference image may be, and the ending it gets."""


class WireError(RewardError, RequestError):
    """A message that does not fit the wire format; `field` says where."""

    def __init__(
        self, message: str, field: str = "", status: int = 400, kind: str = "request"
    ) -> None:
        RequestError.__init__(self, message, status, kind, field)


class PixelBudget:
    """Counts the pixels that a request unpacks to; few bytes can hold very many."""

    def __init__(self, max_each: int, max_total: int) -> None:
        self.max_each, self.max_total = max_each, max_total
        self.total = 0

    def take(self, size: tuple[int, int], field: str) -> None:
        """Raises WireError (413) where an image, or all of them together, are too large."""
        num = size[0] * size[1]
        if num > self.max_each:
            raise WireError(
                f"{size[0]} x {size[1]} pixels; at most {self.max_each} per image", field, 413
            )
        self.total += num
        if self.total > self.max_total:
            raise WireError(f"more than {self.max_total} pixels in one request", field, 413)


def png_of(image: object, where: str) -> str:
    """Base64 of the PNG of a uint8 [H, W, 3] array; raises RewardError for anything else."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise RewardError(
            f"{where}: an image must be a uint8 array [H, W, 3], not {array.dtype} {array.shape}"
        )
    buffer = io.BytesIO()
    # Level 1: the network is faster than the compression of generated images.
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def image_of(text: str, field: str, budget: PixelBudget) -> np.ndarray:
    """The uint8 [H, W, 3] array of a base64 PNG; raises WireError."""
    data = _bytes_of(text, field)
    # A PNG begins with its size (bytes 16 to 23), its bits per channel and its colour type. Pillow
    # would quietly cut 16 bits to 8.
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24:26] != b"\x08\x02":
        raise WireError("an image must be an 8-bit RGB PNG without alpha or palette", field)
    size: tuple[int, int] = struct.unpack(">II", data[16:24])
    budget.take(size, field)
    try:
        whole_format(data, formats=("PNG",))
        image = open_image(data, formats=("PNG",))
    except DataError as error:
        raise WireError(f"not a readable PNG: {error}", field) from None
    if image.size != size:
        raise WireError("an image is an RGB PNG with one header", field)
    return np.array(image)


def file_of(path: str, where: str) -> tuple[str, str]:
    """(SHA-256 in hex, base64) of an image file, unchanged; raises RewardError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RewardError(f"{where}: cannot read the reference image {path!r}: {error}") from None
    return hashlib.sha256(data).hexdigest(), base64.b64encode(data).decode("ascii")


def checked_file(digest: str, text: str, field: str, max_pixels: int) -> tuple[bytes, str]:
    """The bytes of a sent image file and its ending; raises WireError."""
    data = _bytes_of(text, field)
    if hashlib.sha256(data).hexdigest() != digest:
        raise WireError("the bytes have another SHA-256", field)
    try:
        size = image_size(data, formats=tuple(FILE_FORMATS))
        PixelBudget(max_pixels, max_pixels).take(size, field)
        return data, FILE_FORMATS[whole_format(data, formats=tuple(FILE_FORMATS))]
    except DataError as error:
        raise WireError(f"not a readable PNG, JPEG or WebP: {error}", field) from None


def _bytes_of(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"not base64: {error}", field) from None
