"""Whether this process waits for other ranks, and in what; the watchdog's threads read it.

A rank that waits and a rank that is busy look alike from outside. So what needs all ranks at once
says so, and anything else (sampling, a slow reward, a long evaluation) is work that others may wait
for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_inside: list[str | None] = []
_moves = 0


@contextmanager
def waiting(what: str | None) -> Iterator[None]:
    """Around a collective, or code that makes progress only where all ranks do; may be nested.

    what: None = work of this process's own again; see `busy`.
    """
    global _moves
    _inside.append(what)
    _moves += 1
    try:
        yield
    finally:
        _inside.pop()
        _moves += 1


@contextmanager
def busy() -> Iterator[None]:
    """Around work of this process's own inside a `waiting`, such as writing a large file."""
    with waiting(None):
        yield


def waits_in() -> str | None:
    """The innermost `waiting` that this process is in; None while it does work of its own."""
    # One read: the main thread may leave between a test and a second one.
    inside = _inside[-1:]
    return inside[0] if inside else None


def num_moves() -> int:
    """Grows with every `waiting` that begins or ends."""
    return _moves
