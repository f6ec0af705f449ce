"""A policy's ties to the engine that trains it: before, and without, there is the bare module."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any


class Bound:
    """Where a policy's updates, its sampling and its reference log-probs are sent."""

    def __init__(self, module: Callable[..., Any]) -> None:
        self._call: Callable[..., Any] = module
        self._serving: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._reference: Callable[..., Any] | None = None
        self.version = 0

    def bind(
        self, call: Callable[..., Any], serving: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Send updates through the engine, and sample inside its `serving` context."""
        self._call, self._serving = call, serving

    def bind_reference(self, call: Callable[..., Any] | None) -> None:
        """The frozen reference's engine; None = this policy with its adapter off."""
        self._reference = call
