"""What is asked of a model and what it replies; the same for a local model and an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vlrl.eval.gui.items import Item
from vlrl.geometry.boxes import Frame

Crop = tuple[int, int, int, int]
"""A window of the original image: left, top, right, bottom in whole pixels."""


@dataclass(frozen=True)
class Ask:
    """One call: an item's image, or a window of it enlarged to the whole image's size."""

    item: Item
    crop: Crop | None = None
    seed: int = 0
    greedy: bool = True

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the image that is sent, before the model's own resizing."""
        return int(self.item.frame.width), int(self.item.frame.height)


@dataclass(frozen=True)
class Reply:
    """What came back: a text, or the reason why there is none."""

    output: str | None
    resized: Frame
    """The image's size as the model saw it, in pixels."""
    error: str | None = None
    seconds: float = 0.0
    num_tokens: int = 0


class Model(Protocol):
    """Something that answers questions about images."""

    def answer(self, asks: Sequence[Ask]) -> list[Reply]:
        """One reply per ask, in order; a call that fails is a reply with an error."""
