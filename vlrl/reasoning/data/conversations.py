"""Conversations in data: ms-swift's and LLaVA's turns, TRL's prompts, and what answers them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vlrl.data.fields import shown
from vlrl.errors import DataError

IMAGE = "<image>"
IMAGE_PARTS = ("image", "image_url")
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant",
          "system": "system"}  # fmt: skip
Turns = tuple[tuple[str, str], ...]


def turns_of(value: Any, name: str, where: str) -> Turns:
    """(role, text) of every turn: {role, content} or {from, value}, a list or its JSON.

    Parts of a content ({type: image}, {type: image_url} and {type: text}) become one text with
    `<image>` in it. Raises DataError.
    """
    listed = _listed(value, name, where)
    return tuple(
        _turn(one, f"{where}, field {name!r}, turn {i}") for i, one in enumerate(listed, 1)
    )


def images_in(value: Any, name: str, where: str) -> list[Any]:
    """The images that parts of contents hold themselves, in order: `image` or `image_url: {url}`.

    Parts that only say where an image goes hold none.
    """
    found = []
    for turn in _listed(value, name, where):
        content = turn.get("content") if isinstance(turn, Mapping) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and part.get("type") in IMAGE_PARTS:
                image = part.get(part["type"])
                found.append(image.get("url") if isinstance(image, Mapping) else image)
    return [image for image in found if image is not None]


def _listed(value: Any, name: str, where: str) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: field {name!r} must be JSON of turns: {error}") from error
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: field {name!r} must be a list of turns, not {shown(value)}")
    return value


def split_answer(turns: Turns, name: str, where: str) -> tuple[Turns, str | None]:
    """The turns up to the last question, and the assistant's answer to it if there is one."""
    answer = turns[-1][1] if turns[-1][0] == "assistant" else None
    asked = turns if answer is None else turns[:-1]
    if not asked or asked[-1][0] != "user":
        raise DataError(
            f"{where}: field {name!r} must end with a question of the user's, or with the answer "
            "to one"
        )
    return asked, answer


def _turn(value: Any, where: str) -> tuple[str, str]:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: must be {{role, content}}, not {shown(value)}")
    role = _ROLES.get(str(value.get("role", value.get("from"))))
    if role is None:
        raise DataError(
            f"{where}: its role must be one of {', '.join(_ROLES)}, not "
            f"{shown(value.get('role', value.get('from')))}"
        )
    return role, _text(value.get("content", value.get("value")), where)


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise DataError(f"{where}: its content must be text or parts, not {shown(content)}")
    pieces = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in IMAGE_PARTS:
            pieces.append(IMAGE)
        elif kind == "text" and isinstance(part.get("text"), str):
            pieces.append(part["text"])
        else:
            raise DataError(f"{where}: a part must be an image or a text, not {shown(part)}")
    return "".join(pieces)
