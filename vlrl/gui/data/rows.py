"""The row that every reader returns, the box conventions, and the checks on the way there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from vlrl.data.collect import LeftOutError
from vlrl.data.fields import check_length, shown
from vlrl.data.paths import path_below
from vlrl.errors import DataError
from vlrl.families.resize import smart_resize
from vlrl.geometry.boxes import UNIT, Box, Frame
from vlrl.media.images import checked_size

Convention = Literal[
    "xyxy_px", "xywh_px", "xyxy_unit", "xywh_unit", "xyxy_thousand", "xywh_thousand"
]

FRAMES = {"unit": UNIT, "thousand": Frame(1000, 1000)}
"""Of conventions whose numbers are not pixels."""


@dataclass(frozen=True)
class RawRow:
    """A row as a file has it, under our names; nothing is checked yet."""

    where: str
    """File and row, for messages."""
    id: str
    image: str
    """Path, relative to the image folder or absolute."""
    image_size: Any
    """[width, height] in pixels; None to read it from the image file."""
    instruction: Any
    box: Any
    """Four numbers in the reader's convention."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """kind, app, element_type, platform and anything else that the file has."""
    polygon: Any = None
    """x1, y1, x2, y2, ... in pixels, where the target is not a rectangle; `box` is then unused."""
    refusal: bool = False
    """The target is not on the image: there is no box, and saying so is the right answer."""
    id_in_file: str | None = None
    """Where the file only numbers its rows: the id for a row whose number another file has too."""

    point: Any = None
    """Two numbers in the reader's convention, where the row has no box."""
    frame: Any = None
    """[width, height] that pixels are counted in; None: the image's own."""
    resize: tuple[int, int, int] | None = None
    """Pixels are those of the image resized by `smart_resize` with these limits."""
    convention: Convention | None = None
    """The row's own, where rows of one set differ."""

    def apart(self, taken: dict[str, str], stem: str) -> RawRow:
        """The row with an id that no other file has; `taken`: the files of the ids so far."""
        if taken.setdefault(self.id, stem) == stem or self.id_in_file is None:
            return self
        return replace(self, id=self.id_in_file)


@dataclass(frozen=True)
class GroundingRow:
    """One checked problem: an instruction and the box that it means, in original pixels."""

    where: str
    id: str
    image: str
    width_px: int
    height_px: int
    instruction: str
    box: tuple[float, float, float, float]
    """xyxy, pixels of the original image."""
    fields: Mapping[str, Any] = field(default_factory=dict)


def check_row(
    raw: RawRow,
    convention: Convention,
    image_root: Path,
    *,
    check_images: bool = True,
    clip_px: float = 0.0,
    within_root: bool = False,
    point_side_px: float | None = None,
) -> GroundingRow:
    """The row in pixels; raises DataError that names file, row and field.

    within_root: the image's path must not lead out of `image_root`.
    point_side_px: of the square around the point of a row without a box; None: LeftOutError.

    `clip_px` lets a box reach that far outside the image, in pixels, and clips it to the image:
    published sets have such boxes. An inverted, empty or otherwise outside box is an error.
    """
    if raw.box is None and raw.point is not None and point_side_px is None:
        raise LeftOutError("a point and no box; `point_side_px` would make it a square")
    if not isinstance(raw.instruction, str) or not raw.instruction.strip():
        raise DataError(
            f"{raw.where}: field 'instruction' must be a non-empty string, "
            f"not {shown(raw.instruction)}"
        )
    check_length(raw.instruction, "instruction", raw.where)
    if not isinstance(raw.image, str) or not raw.image:
        raise DataError(f"{raw.where}: field 'image' must be a path, not {shown(raw.image)}")
    if raw.refusal or raw.polygon is not None:
        kind = "a refusal" if raw.refusal else "a polygon"
        raise DataError(
            f"{raw.where}: {kind} has no box to train on; leave such rows out with "
            "`on_bad_row: skip`"
        )
    path = path_below(image_root, raw.image, raw.where, within=within_root)
    if check_images and not path.is_file():
        raise DataError(f"{raw.where}: there is no image {path}; check `image_root`")
    width, height = image_size_of(raw, path, compare=check_images)
    box = box_of(raw, convention, width, height, point_side_px)
    return GroundingRow(
        where=raw.where,
        id=raw.id,
        image=str(path),
        width_px=width,
        height_px=height,
        instruction=raw.instruction.strip(),
        box=_inside(raw.where, box, width, height, clip_px),
        fields=raw.fields,
    )


def box_of(
    raw: RawRow, convention: Convention, width: int, height: int, point_side_px: float | None
) -> tuple[float, float, float, float]:
    """The row's box as xyxy in pixels of its image, or the square around its point."""
    counted = counted_in(raw, width, height)
    scale = (width / counted[0], height / counted[1])
    if raw.box is not None or raw.point is None:
        x1, y1, x2, y2 = in_pixels(four_numbers(raw), convention, *counted)
        if scale == (1.0, 1.0):
            return x1, y1, x2, y2
        return x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]
    point = raw.point
    if not isinstance(point, list | tuple) or len(point) != 2 or not all(map(_is_number, point)):
        raise DataError(f"{raw.where}: the point must be two finite numbers, not {shown(point)}")
    x, y = float(point[0]), float(point[1])
    x, y, _, _ = in_pixels((x, y, x, y), convention, *counted)
    x, y, half = x * scale[0], y * scale[1], (point_side_px or 0) / 2
    if not (0 <= x <= width and 0 <= y <= height):
        raise DataError(
            f"{raw.where}: the point ({x:g}, {y:g}) is outside its image of {width} x {height}"
        )
    return max(0.0, x - half), max(0.0, y - half), min(width, x + half), min(height, y + half)


def counted_in(raw: RawRow, width: int, height: int) -> tuple[int, int]:
    """Width and height of the image in whose pixels the row's numbers are."""
    if raw.frame is not None:
        return stated_size(replace(raw, image_size=raw.frame)) or (width, height)
    if raw.resize is None:
        return width, height
    resized_height, resized_width = smart_resize(height, width, *raw.resize)
    return resized_width, resized_height


def image_size_of(raw: RawRow, path: Path, *, compare: bool) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the row or else from its file.

    compare: read the file too, and raise DataError where it is damaged or the row says another
    size.
    """
    stated = stated_size(raw)
    if stated is not None and not compare:
        return stated
    if not path.is_file():
        raise DataError(
            f"{raw.where}: the row has no image size and there is no image {path} to read it "
            "from; add `image_size: [width, height]` to the row or the images to `image_root`"
        )
    try:
        found = checked_size(path)
    except DataError as error:
        raise DataError(f"{raw.where}: {error}") from error
    if stated is not None and stated != found:
        raise DataError(
            f"{raw.where}: field 'image_size' says {stated[0]} x {stated[1]}, the image {path} is "
            f"{found[0]} x {found[1]}: its boxes would be taken for other places; correct the row "
            "or the image"
        )
    return found


def stated_size(raw: RawRow) -> tuple[int, int] | None:
    """Width and height as the row gives them; None where it does not."""
    size = raw.image_size
    if size is None:
        return None
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(_is_number(side) and side > 0 and side == int(side) for side in size)
    ):
        raise DataError(
            f"{raw.where}: field 'image_size' must be [width, height] in px, not {shown(size)}"
        )
    return int(size[0]), int(size[1])


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 1e9
        and math.isfinite(value)
    )


def four_numbers(raw: RawRow) -> tuple[float, float, float, float]:
    """The row's box as written; raises DataError."""
    box = raw.box
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(_is_number, box)):
        raise DataError(f"{raw.where}: field 'bbox' must be four finite numbers, not {shown(box)}")
    return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def written_box(
    box: tuple[float, float, float, float], convention: Convention, width: int, height: int
) -> Box:
    """A box in some convention as xyxy, in the frame in which its numbers are written."""
    corners, _, scale = convention.partition("_")
    x1, y1, x2, y2 = box
    if corners == "xywh":
        x2, y2 = float(_decimal(x1) + _decimal(x2)), float(_decimal(y1) + _decimal(y2))
    return Box(x1, y1, x2, y2, FRAMES.get(scale, Frame(width, height)))


def in_pixels(
    box: tuple[float, float, float, float], convention: Convention, width: int, height: int
) -> tuple[float, float, float, float]:
    """A box in some convention as xyxy in pixels: what its decimals say, rounded once."""
    own = written_box(box, convention, width, height)
    if own.frame == Frame(width, height):
        return own.xyxy
    x1, y1, x2, y2 = (
        float(_decimal(edge) * side / Fraction(whole))
        for edge, side, whole in zip(
            own.xyxy, (width, height) * 2, own.frame.extent * 2, strict=True
        )
    )
    return (x1, y1, x2, y2)


def _decimal(number: float) -> Fraction:
    """The number as it is written: 0.093 is 93 / 1000, which no float is."""
    return Fraction(repr(float(number)))


def _inside(
    where: str, box: tuple[float, float, float, float], width: int, height: int, clip_px: float
) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        raise DataError(
            f"{where}: field 'bbox' {box} is inverted (x2 < x1 or y2 < y1); check the convention "
            "(`box:`, xyxy or xywh) or correct the row"
        )
    excess = max(-x1, -y1, x2 - width, y2 - height)
    # Scaling from the unit frame rounds: a box to the very edge must not count as outside.
    if excess > clip_px + 1e-6 * max(width, height):
        raise DataError(
            f"{where}: field 'bbox' {box} is {excess:g} px outside its image of {width} x "
            f"{height}; check the convention (`box:`) or allow it with `clip_px`"
        )
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if x1 >= x2 or y1 >= y2:
        raise DataError(f"{where}: field 'bbox' {box} has no area")
    return (x1, y1, x2, y2)
