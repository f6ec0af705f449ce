"""The errors that users see: each says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VlrlError(Exception):
    """Base of every error that vlrl raises on purpose."""


class ConfigError(VlrlError):
    """The configuration cannot be used as it is written."""


class DataError(VlrlError):
    """A file of the user's does not fit its format; names file, row and field."""


class RewardError(VlrlError):
    """A reward could not be computed; a broken judge is never a reward of 0."""


class NonFiniteError(VlrlError):
    """A loss or gradient is nan or inf; raised before the optimizer step."""


class CheckpointError(VlrlError):
    """A checkpoint is missing, incomplete or made by another set-up."""


class MissingExtraError(VlrlError):
    """An optional dependency is needed; says how to install it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name, or the whole list when nothing is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "nothing is known here"
