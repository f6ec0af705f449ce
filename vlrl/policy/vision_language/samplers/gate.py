"""Requests under way while weights are swapped: waited for, or interrupted and gone on with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from vlrl.errors import EngineError

RETRY_S = 0.02
"""Between interruptions: a request that was just sent may not have arrived yet."""


class Gate:
    """Counts drawings and their requests; while it is closed, no request begins."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = True
        self._is_over = False
        self.num_drawings = 0
        """Announced and not over: each is made of several requests."""
        self.num_requests = 0

    def announce(self) -> Callable[[], None]:
        """A drawing is to come; call the result when it is over."""
        self._count(drawings=1)
        return lambda: self._count(drawings=-1)

    def _count(self, *, drawings: int = 0, requests: int = 0) -> None:
        with self._changed:
            self.num_drawings += drawings
            self.num_requests += requests
            self._changed.notify_all()

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request; waits until the gate is open. EngineError once it has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._is_over)
            if self._is_over:
                raise EngineError("the run has ended, and its answers are given up")
            self.num_requests += 1
        try:
            yield
        finally:
            self._count(requests=-1)

    def end(self, interrupt: Callable[[], None]) -> None:
        """No request begins any more, and those under way are interrupted if the server answers."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        with suppress(EngineError), self.between_requests(interrupt):
            pass

    @contextmanager
    def after_drawings(self) -> Iterator[None]:
        """Inside, no drawing is under way: those that were announced have ended."""
        with self._changed:
            self._changed.wait_for(lambda: not self.num_drawings)
        with self._closed():
            yield

    @contextmanager
    def between_requests(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Inside, no request is under way: `interrupt` makes the engine answer all of them."""
        with self._closed():
            while True:
                with self._changed:
                    if not self.num_requests:
                        break
                interrupt()
                with self._changed:
                    self._changed.wait_for(lambda: not self.num_requests, RETRY_S)
            yield

    @contextmanager
    def _closed(self) -> Iterator[None]:
        with self._changed:
            self._is_open = False
        try:
            yield
        finally:
            with self._changed:
                self._is_open = True
                self._changed.notify_all()
