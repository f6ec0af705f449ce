"""Images inside a table: bytes that are written out once, and the paths of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlrl.data.fields import shown
from vlrl.data.stored_images import stored_image
from vlrl.errors import DataError


def image_path_of(value: object, where: str) -> Any:
    """The path of a row's image: of a path, bytes, a table's {bytes, path}, or a list of one.

    Bytes inside a table are written out once. Raises DataError for several images.
    """
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise DataError(
                f"{where}: field 'image' is a list of {len(value)} images; a row has one: split "
                "the row, or map `image` to a column with one"
            )
        return image_path_of(value[0], where)
    if isinstance(value, bytes):
        return stored_image(value)
    if not isinstance(value, Mapping):
        return value
    data, path = value.get("bytes"), value.get("path")
    if data is not None:
        if not isinstance(data, bytes):
            raise DataError(f"{where}: field 'image' holds {type(data).__name__}, not bytes")
        return stored_image(data)
    if not isinstance(path, str) or not path:
        raise DataError(f"{where}: field 'image' has neither bytes nor a path: {shown(value)}")
    return path
