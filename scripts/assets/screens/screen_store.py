"""Rendered screens kept between runs of make_screens.py: images as PNG, the rest as JSON."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter
from scripts.assets.screens.screen_choice import Found

from vlrl.gui.capture.capture import Shot
from vlrl.gui.capture.dataset import save_image
from vlrl.gui.capture.instructions import Instruction
from vlrl.gui.capture.records import Element, Screen


@dataclass
class Stored:
    """A shot without its image, and its screen."""

    screen: Screen
    elements: list[Element]
    instructions: list[Instruction]
    height: int


@dataclass
class Contents:
    """All of one application; the image of screen number 7 is 0007.png."""

    screens: list[Stored]
    dropped: dict[str, int]


CONTENTS = TypeAdapter(Contents)


def save_found(folder: Path, found: list[Found], dropped: Counter[str]) -> None:
    """Writes the screens of one application."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (shot, _) in enumerate(found):
        save_image(shot.image, folder / f"{number:04d}.png")
    screens = [Stored(screen, s.elements, s.instructions, s.height) for s, screen in found]
    # Last, since it marks the folder as complete.
    contents = CONTENTS.dump_json(Contents(screens, dict(dropped)))
    (folder / "screens.json").write_bytes(contents)


def load_found(folder: Path) -> tuple[list[Found], Counter[str]] | None:
    """What `save_found` wrote; None where there is nothing."""
    file = folder / "screens.json"
    if not file.is_file():
        return None
    contents = CONTENTS.validate_json(file.read_bytes())
    found: list[Found] = []
    for number, kept in enumerate(contents.screens):
        with Image.open(folder / f"{number:04d}.png") as opened:
            picture = opened.convert("RGB")
        shot = Shot(picture, kept.elements, kept.instructions, kept.screen.scroll, kept.height)
        found.append((shot, kept.screen))
    return found, Counter(contents.dropped)
