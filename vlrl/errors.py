"""The errors that users see: each says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class VlrlError(Exception):
    """Base of every error that vlrl raises on purpose."""

    exit_status = 2
    """Of a program that ends with it."""


class ConfigError(VlrlError):
    """The configuration cannot be used as written."""


class DataError(VlrlError):
    """A file of the user's does not fit its format; names file, row and field."""


class RewardError(VlrlError):
    """A reward could not be computed; a broken judge is never a reward of 0."""


class EngineError(VlrlError):
    """An engine that draws rollouts is gone, answers otherwise than agreed, or has old weights."""


class NonFiniteError(VlrlError):
    """A loss or gradient is nan or inf; raised before the optimizer step."""


class CheckpointError(VlrlError):
    """A checkpoint is missing, incomplete or made by another set-up."""


class StoppedError(VlrlError):
    """A run was asked to stop by a signal, and what it has learnt is saved.

    Its status is 0: the scheduler that asked for it takes a machine back, and nothing failed. After
    Ctrl-C it is 130, as a shell expects.
    """

    def __init__(self, number: int, step: int) -> None:
        after = f"after step {step}, which is saved" if step else "before its first step"
        super().__init__(
            f"stopped by signal {number} {after}; the run is not finished: go on with --resume"
        )
        self.exit_status = 128 + number if number == signal.SIGINT else 0


class LostRankError(VlrlError):
    """Another rank is gone or all wait for each other; the run goes on from what it has saved."""

    exit_status = 75
    """EX_TEMPFAIL of sysexits.h: starting it again may well help."""


class MissingExtraError(VlrlError):
    """An optional dependency is needed; says how to install it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name, or the whole list when nothing is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "nothing is known here"


def first_line(error: BaseException) -> str:
    """The first line of an error's message; libraries write whole pages."""
    return str(error).strip().partition("\n")[0]


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Around a write: an OSError without a place, as of a full disk, gets this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def why_not_loaded(name: str, error: Exception) -> str:
    """Why a model did not load; libraries take a mistyped path for a name of the model hub."""
    if is_missing_path(name):
        return f"there is no file or folder {name!r}"
    return f"{type(error).__name__}: {first_line(error)}"


def is_missing_path(name: str) -> bool:
    """Whether a model's name is a path, not a name of the model hub, and nothing lies there."""
    path = Path(os.path.expanduser(name))
    # A prefix or a word may stand before a path: "local-dir:a/b/c", "ViT-B-32 a/b/c.pt".
    is_path = (
        name.startswith((".", "/", "~"))
        or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
        or (len(path.parts) > 2 and not {":", " "} & set(name))
    )
    return is_path and not path.exists()
