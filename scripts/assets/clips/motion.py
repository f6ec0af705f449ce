"""What an object of a clip does, step by step, and which questions it allows.

A clip has `STEPS` steps of half a second: its sampled frames at two per second. An object changes
what it does at a step only, so that spans are exact on sampled and on native frames.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEPS = 6
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Motion:
    """An object's path, and what is true of it at which steps."""

    path: np.ndarray
    """Centre at every step and at the end of the last one, [STEPS + 1, 2], pixels."""
    sayings: tuple[tuple[str, int, int], ...]
    """What follows "the dog", and the first and last step for which it is true."""
    from_sight: bool = False
    """The sayings hold for the steps in which the object is visible; spans are computed later."""
    looks: tuple[str, ...] = ("plain",) * STEPS
    """plain, big or flipped, at every step."""


def turning(rng: random.Random, room: float) -> Motion:
    """One way, then another."""
    turn = rng.randint(2, STEPS - 2)
    first, second = rng.sample(sorted(DIRECTIONS), 2)
    path = _walk([first] * turn + [second] * (STEPS - turn), _speed(rng, room, turn), rng, room)
    order = (("before it turns", 0, turn - 1), ("after it turns", turn, STEPS - 1))
    ways = (
        (f"while it moves {first}", 0, turn - 1),
        (f"while it moves {second}", turn, STEPS - 1),
    )
    return Motion(path, order if rng.random() < 0.5 else ways)


def stopping(rng: random.Random, room: float) -> Motion:
    """Moves, then stands still."""
    stop = rng.randint(2, STEPS - 2)
    way = rng.choice(sorted(DIRECTIONS))
    path = _walk([way] * stop + [None] * (STEPS - stop), _speed(rng, room, stop), rng, room)
    return Motion(
        path,
        (
            ("while it moves", 0, stop - 1),
            ("while it stands still", stop, STEPS - 1),
        ),
    )


def starting(rng: random.Random, room: float) -> Motion:
    """Stands still, then moves."""
    go = rng.randint(2, STEPS - 2)
    way = rng.choice(sorted(DIRECTIONS))
    path = _walk([None] * go + [way] * (STEPS - go), _speed(rng, room, STEPS - go), rng, room)
    return Motion(
        path,
        (
            ("while it stands still", 0, go - 1),
            ("while it moves", go, STEPS - 1),
        ),
    )


def entering(rng: random.Random, room: float) -> Motion:
    """Out of sight at first, then in from one side."""
    return Motion(_through_the_edge(rng, room), (("after it enters", 0, 0),), from_sight=True)


def leaving(rng: random.Random, room: float) -> Motion:
    """In sight at first, then out at one side."""
    path = _through_the_edge(rng, room)[::-1]
    return Motion(path, (("before it leaves", 0, 0),), from_sight=True)


def growing(rng: random.Random, room: float) -> Motion:
    """Small, then big, or the other way round."""
    return _changing(rng, room, "big", "while it is big", "while it is small")


def flipping(rng: random.Random, room: float) -> Motion:
    """Upright, then upside down, or the other way round."""
    return _changing(rng, room, "flipped", "while it is upside down", "while it is upright")


def _changing(rng: random.Random, room: float, look: str, during: str, else_: str) -> Motion:
    """Moves slowly one way; looks different before and after a step."""
    change = rng.randint(2, STEPS - 2)
    way = rng.choice(sorted(DIRECTIONS))
    path = _walk([way] * STEPS, rng.uniform(0.0, 0.4) * _speed(rng, room, STEPS), rng, room)
    first, then = (during, else_) if rng.random() < 0.5 else (else_, during)
    looks = [look if first is during else "plain"] * change
    looks += [look if then is during else "plain"] * (STEPS - change)
    return Motion(path, ((first, 0, change - 1), (then, change, STEPS - 1)), looks=tuple(looks))


def idling(rng: random.Random, room: float) -> Motion:
    """Never moves: no question is about it."""
    return Motion(np.tile(_start(rng, room), (STEPS + 1, 1)), ())


SCRIPTS = (
    entering, entering, leaving, leaving, growing, growing, flipping, flipping,
    turning, turning, stopping, starting,
)  # fmt: skip
"""How often each is drawn: what one frame shows comes more often than what takes two."""


def native_path(path: np.ndarray, frames_a_step: int) -> np.ndarray:
    """Centres at every native frame, [STEPS x frames_a_step, 2]: linear within a step."""
    at = np.arange(STEPS * frames_a_step) / frames_a_step
    return np.stack([np.interp(at, np.arange(len(path)), path[:, k]) for k in range(2)], 1)


def _speed(rng: random.Random, room: float, longest: int) -> float:
    """Pixels per step, so that the longest path fits into the room."""
    return rng.uniform(0.6, 1.0) * min(13.0, room / max(longest, STEPS - longest))


def _start(rng: random.Random, room: float) -> np.ndarray:
    return np.array([rng.uniform(0, room), rng.uniform(0, room)])


def _walk(ways: Sequence[str | None], speed: float, rng: random.Random, room: float) -> np.ndarray:
    """A path inside [0, room]^2 with these moves, at a random place."""
    path = np.zeros((len(ways) + 1, 2))
    for step, way in enumerate(ways):
        move = (0, 0) if way is None else DIRECTIONS[way]
        path[step + 1] = path[step] + speed * np.array(move)
    low, high = path.min(0), path.max(0)
    shift = [rng.uniform(-low[k], max(-low[k], room - high[k])) for k in range(2)]
    return path + np.array(shift)


def _through_the_edge(rng: random.Random, room: float) -> np.ndarray:
    """From outside at a side, in at a drawn step, and on; also for the way out, backwards."""
    out = np.array(DIRECTIONS[rng.choice(sorted(DIRECTIONS))], dtype=float)
    first = rng.randint(2, STEPS - 2)
    speed = rng.uniform(8.0, 13.0)
    lane = rng.uniform(0.15, 0.85) * room
    # The centre crosses the edge of the room at step `first`; the margin is the object's own half.
    edge = np.where(out > 0, room, np.where(out < 0, 0.0, lane))
    along = (first - np.arange(STEPS + 1))[:, None] * speed
    inside = np.maximum(along, -0.75 * room)
    return edge + out * inside
