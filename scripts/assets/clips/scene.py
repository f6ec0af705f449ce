"""Random scenes: actors, what they do, the questions, and the true tubes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.assets.clips.motion import SCRIPTS, STEPS, Motion, growing, idling, native_path
from scripts.assets.clips.render import SIDE_PX, Actor, Rendered, render

FPS = 8
FRAMES_A_STEP = 4
NUM_FRAMES = STEPS * FRAMES_A_STEP
CONCEPTS = (
    "bee", "car", "cat", "cow", "crab", "dog", "duck", "owl", "rocket", "star", "taxi", "turtle",
)  # fmt: skip
NEW_CONCEPTS = (
    "bell", "bus", "camel", "chair", "drum", "kite", "lobster", "snail", "spider", "tiger",
    "tractor", "whale",
)  # fmt: skip
"""Kinds that the embedded video model has never seen."""
OCCLUDERS = ("cactus", "door", "tent", "tree")
STYLES = ("noto", "fluent")
KINDS = {
    "entering": "enter", "leaving": "leave", "growing": "grow", "flipping": "flip",
    "turning": "turn", "stopping": "stop", "starting": "start",
}  # fmt: skip
BIG = 1.6
"""How much larger a big object is."""
Script = Callable[[random.Random, float], Motion]
TWIN_TOO = ("stands still", "is upright", "is small")
"""What is always true of a twin."""
LEAST_VISIBLE = 0.3
"""An object is in sight if at least this share of it is visible."""


@dataclass(frozen=True)
class Question:
    """A sentence, and the tube that it refers to."""

    sentence: str
    concept: str
    first: int
    """First native frame of the tube."""
    boxes: np.ndarray
    """One box per native frame from `first` on, xyxy pixels, [n, 4]."""
    kind: str
    """enter, leave, grow, flip, turn, stop or start."""
    twin: bool
    """Whether another object of the same class is in the clip."""
    occluded: bool
    """Whether something covers part of the object in the tube."""

    @property
    def last(self) -> int:
        """Last native frame of the tube."""
        return self.first + len(self.boxes) - 1


@dataclass(frozen=True)
class Scene:
    """A clip before it is rendered."""

    background: np.ndarray
    actors: tuple[Actor, ...]
    motions: tuple[Motion | None, ...]
    """What is true of each actor; None for twins and occluders."""
    kinds: tuple[str, ...]
    twin: bool


@dataclass
class Pool:
    """Sprites by name and photographs, read once."""

    concepts: tuple[str, ...] = CONCEPTS
    """The objects that a scene may be about."""
    sprites: dict[str, list[Image.Image]] = field(default_factory=dict)
    photographs: list[Image.Image] = field(default_factory=list)

    @staticmethod
    def load(
        sprites: Path, photographs: Sequence[Path], concepts: tuple[str, ...] = CONCEPTS
    ) -> Pool:
        """Sprites of both styles from `sprites`, and the photographs that may be shown."""
        pool = Pool(concepts)
        for name in (*concepts, *OCCLUDERS):
            pool.sprites[name] = [
                Image.open(sprites / style / f"{name}.png").convert("RGBA") for style in STYLES
            ]
        pool.photographs = [Image.open(path).convert("RGB") for path in photographs]
        return pool


def draw_scene(pool: Pool, rng: random.Random) -> Scene:
    """Two acting objects, in half of the scenes a twin, in a third an occluder."""
    names = rng.sample(pool.concepts, 2)
    twin = rng.random() < 0.5
    actors: list[Actor] = []
    motions: list[Motion | None] = []
    kinds: list[str] = []
    for name in names:
        script = rng.choice(SCRIPTS)
        actor, motion = _actor(pool, rng, name, script)
        actors.append(actor)
        motions.append(motion)
        kinds.append(KINDS[script.__name__])
    if twin:
        # A twin does not move, or moves in one direction that no sentence about the other one names.
        actor, _ = _actor(pool, rng, names[0], idling)
        actors.insert(0, actor)
        motions.insert(0, None)
        kinds.insert(0, "")
    if rng.random() < 0.35:
        actor, _ = _actor(pool, rng, rng.choice(OCCLUDERS), idling)
        actors.append(actor)
        motions.append(None)
        kinds.append("")
    return Scene(_background(pool, rng), tuple(actors), tuple(motions), tuple(kinds), twin)


def questions_of(scene: Scene, drawn: Rendered) -> list[Question]:
    """All questions that a scene rendered at every native frame allows; possibly none."""
    questions = []
    for number, motion in enumerate(scene.motions):
        if motion is None:
            continue
        seen = drawn.visible[:, number] >= LEAST_VISIBLE
        twin = scene.twin and scene.actors[number].name == scene.actors[0].name
        for text, start, end in motion.sayings:
            first, last = start * FRAMES_A_STEP, (end + 1) * FRAMES_A_STEP - 1
            if motion.from_sight:
                steps = np.nonzero(seen.reshape(STEPS, FRAMES_A_STEP)[:, 0])[0]
                # From the first sampled frame that shows it to the last one.
                if len(steps) < 2 or len(steps) == STEPS or steps[-1] - steps[0] >= len(steps):
                    continue
                first = int(steps[0]) * FRAMES_A_STEP
                last = (int(steps[-1]) + 1) * FRAMES_A_STEP - 1
                inside = np.nonzero(seen[first : last + 1])[0]
                last = first + int(inside[-1])
            if twin and text.removeprefix("while it ") in TWIN_TOO:
                continue
            span = slice(first, last + 1)
            boxes = drawn.boxes[span, number]
            if not seen[span].all() or (boxes[:, 2:] - boxes[:, :2]).min() < 8:
                continue
            whole = drawn.visible[span, number].min() > 0.95
            name = scene.actors[number].name
            questions.append(
                Question(
                    f"the {name} {text}", name, first, boxes, scene.kinds[number], twin, not whole
                )
            )
    return questions


def _actor(pool: Pool, rng: random.Random, name: str, script: Script) -> tuple[Actor, Motion]:
    size = rng.randint(28, 42)
    image = rng.choice(pool.sprites[name])
    big = round(size * BIG)
    room = SIDE_PX - (big if script is growing else size)
    motion = script(rng, float(room))
    looks = {
        "plain": _pixels(image, size),
        "flipped": _pixels(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), size),
        "big": _pixels(image, big),
    }
    centres = native_path(motion.path, FRAMES_A_STEP) + (SIDE_PX - room) / 2
    shown = tuple(looks[motion.looks[frame // FRAMES_A_STEP]] for frame in range(NUM_FRAMES))
    return Actor(name, shown, centres), motion


def _pixels(image: Image.Image, size: int) -> np.ndarray:
    resized = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(resized, dtype=np.float32) / 255


def _background(pool: Pool, rng: random.Random) -> np.ndarray:
    """A square window of a photograph, a little darker or lighter."""
    photograph = rng.choice(pool.photographs)
    side = rng.randint(SIDE_PX, min(photograph.size))
    left = rng.randint(0, photograph.width - side)
    top = rng.randint(0, photograph.height - side)
    window = photograph.crop((left, top, left + side, top + side))
    window = window.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    pixels = np.asarray(window, dtype=np.float32) / 255
    strength = rng.uniform(0.35, 0.75)
    return pixels * strength + rng.uniform(0.0, 1.0 - strength)


def all_frames(scene: Scene) -> Rendered:
    """Every native frame of a scene."""
    return render(scene.background, scene.actors, range(NUM_FRAMES))
