"""A question as a layout gives it, under our names and not yet checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RawQuestion:
    """One question; `None` = the file does not say."""

    where: str
    """File and row, for messages."""
    id: str
    turns: tuple[tuple[str, str], ...]
    """(role, text) in order; the last one asks. `<image>` in a text is where an image goes."""
    images: tuple[Any, ...]
    """Paths, bytes, {bytes, path}, or base64 text."""
    answer: Any
    kind: Any = None
    choices: Any = None
    boxes: Any = None
    """xyxy in pixels of the first image."""
    salience: Any = None
    unit: Any = None
    tolerance: Any = None
    relative_tolerance: Any = None
    ordered: Any = None
    lines: Any = None
    """Of a route: line -> stations in order."""
    start: Any = None
    end: Any = None
    num_transfers: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further columns."""
