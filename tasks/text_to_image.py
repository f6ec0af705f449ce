"""Text to image: a caption in, a picture out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ImageTarget:
    """What the picture should show."""

    caption: str
    references: tuple[str, ...] = ()
    """Paths of pictures of the same caption."""
    written: str | None = None
    """The text that should stand in the picture."""
    scene: Mapping[str, Any] | None = None
    """GenEval's description: `tag`, `include` and `exclude`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What reports group by, e.g. {"concept": "apple"}."""


@dataclass(frozen=True)
class ImageAnswer:
    """A generated picture."""

    image: np.ndarray
    """uint8 [H, W, 3], sRGB."""
