"""Parts that a caption counts, and where on an object they can be counted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vlrl.mesh.number_words import number_of

PLACES = {
    "leg": "bottom",
    "foot": "bottom",
    "wheel": "bottom",
    "piece": "whole",
    "object": "whole",
    "part": "whole",
    "horn": "top",
    "antenna": "top",
    "prong": "top",
}
"""Where a part is, by its name; other parts cannot be counted in voxels."""
_PLURALS = {"legs": "leg", "feet": "foot", "wheels": "wheel", "pieces": "piece",
            "objects": "object", "parts": "part", "horns": "horn", "antennas": "antenna",
            "prongs": "prong"}  # fmt: skip
_COUNTED = re.compile(r"\b([a-z]+|\d+)\s+([a-z]+)\b")


@dataclass(frozen=True)
class Part:
    """A number of equal parts, and where they are."""

    name: str
    count: int
    where: str
    """`bottom`, `top` or `whole`."""


def parts_in(caption: str) -> tuple[Part, ...]:
    """The counted parts of a caption: "a chair with four legs" -> (Part("leg", 4, "bottom"),)."""
    found: dict[str, Part] = {}
    text = caption.lower()
    for place in range(len(text)):
        match = _COUNTED.match(text, place)
        if match is None or (place and text[place - 1].isalnum()):
            continue
        name = _PLURALS.get(match[2], match[2])
        count = number_of(match[1])
        if name in PLACES and count is not None and count > 0:
            found.setdefault(name, Part(name, count, PLACES[name]))
    return tuple(found.values())
