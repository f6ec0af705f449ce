"""A checked question: images that exist, a true answer of its kind, boxes on the image."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vlrl.data.box_fields import boxes_on, weights_for
from vlrl.data.fields import check_length, id_of, shown
from vlrl.data.paths import path_below
from vlrl.data.stored_images import stored_image
from vlrl.errors import DataError
from vlrl.geometry.boxes import Box, Frame
from vlrl.media.images import checked_size, image_size
from vlrl.reasoning.choices import LETTERS
from vlrl.reasoning.data.options import ReasoningSource
from vlrl.reasoning.data.raw import RawQuestion
from vlrl.reasoning.data.true_answers import true_answer
from vlrl.reasoning.truths import Truth

MAX_PATH_CHARS = 1000
"""A longer text in the place of an image is its content in base64."""


@dataclass(frozen=True)
class ImageFile:
    """An image of a question, and its size in pixels."""

    path: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class ReasoningRow:
    """One checked question."""

    where: str
    id: str
    turns: tuple[tuple[str, str], ...]
    images: tuple[ImageFile, ...]
    truth: Truth
    choices: tuple[str, ...] = ()
    boxes: tuple[Box, ...] | None = None
    """Evidence, or the answer; in pixels of the first image."""
    salience: tuple[float, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


def check_question(raw: RawQuestion, source: ReasoningSource) -> ReasoningRow:
    """The checked row; raises DataError that names the row and the field."""
    images = tuple(_image(one, raw.where, source) for one in raw.images)
    if not images:
        raise DataError(f"{raw.where}: field 'images' is empty; a question needs an image")
    marks = sum(text.count("<image>") for role, text in raw.turns)
    if marks not in (0, len(images)):
        raise DataError(
            f"{raw.where}: the question has {marks} marks <image> and the row {len(images)} "
            "images; it must have as many, or none (the images then come first)"
        )
    for _, text in raw.turns:
        check_length(text, "question", raw.where)
    choices = _choices(raw)
    boxes = _boxes(raw, images[0])
    truth = true_answer(raw, source, choices, boxes)
    return ReasoningRow(
        where=raw.where,
        id=id_of(raw.id, raw.where),
        turns=raw.turns,
        images=images,
        truth=truth,
        choices=choices,
        boxes=boxes,
        salience=_salience(raw, boxes),
        fields=raw.fields,
    )


def _image(value: Any, where: str, source: ReasoningSource) -> ImageFile:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and (len(value) > MAX_PATH_CHARS or value.startswith("data:image")):
        try:
            value = base64.b64decode(value.rpartition(",")[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{where}: field 'images' holds no base64: {error}") from error
    if isinstance(value, bytes):
        path = stored_image(value)
    elif isinstance(value, str) and value.strip():
        file = path_below(source.folder(), value, where, within=source.within_root)
        if not file.is_file():
            raise DataError(f"{where}: field 'images': there is no image {file}; set image_root")
        path = str(file)
    else:
        raise DataError(
            f"{where}: field 'images' must hold paths, bytes or base64 text, not {shown(value)}"
        )
    try:
        width, height = checked_size(path) if source.check_images else image_size(path)
    except DataError as error:
        raise DataError(f"{where}: field 'images': {error}") from error
    return ImageFile(path, width, height)


def _choices(raw: RawQuestion) -> tuple[str, ...]:
    if raw.choices is None:
        return ()
    if not isinstance(raw.choices, list | tuple) or not 2 <= len(raw.choices) <= 26:
        raise DataError(
            f"{raw.where}: field 'choices' must be a list of 2 to 26 texts, not "
            f"{shown(raw.choices)}"
        )
    texts = [str(one).strip() for one in raw.choices]
    marked = [
        re.match(rf"\(?{letter}[).:]\s+(?=\S)", text)
        for letter, text in zip(LETTERS, texts, strict=False)
    ]
    # "A. red" is the letter and the text.
    return tuple(
        text[mark.end() :] if mark is not None and all(marked) else text
        for text, mark in zip(texts, marked, strict=True)
    )


def _boxes(raw: RawQuestion, image: ImageFile) -> tuple[Box, ...] | None:
    if raw.boxes is None:
        return None
    frame = Frame(image.width_px, image.height_px)
    if not isinstance(raw.boxes, list | tuple):
        raise DataError(
            f"{raw.where}: field 'boxes' must be a list of boxes, not {shown(raw.boxes)}"
        )
    return boxes_on(raw.boxes, frame, raw.where)


def _salience(raw: RawQuestion, boxes: tuple[Box, ...] | None) -> tuple[float, ...]:
    if raw.salience is None:
        return ()
    return weights_for(len(boxes or ()), raw.salience, raw.where)
