"""Connections that say nothing, or say it too slowly, are closed. Needs uvicorn and h11."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 15.0
"""From connecting, or from the last answer, to the end of a request's headers."""
MAX_SILENT = 256
"""Connections without a request under way; beyond it the one that is silent longest is closed."""


class GuardedProtocol(H11Protocol):
    """uvicorn's connection, which by itself waits for a first request for ever."""

    silent_since: float
    _watch: asyncio.TimerHandle

    @property
    def is_silent(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch it; make room for it."""
        super().connection_made(transport)
        self.silent_since = self.loop.time()
        self._watch = self.loop.call_later(HEAD_TIMEOUT_S, self._check)
        silent = [
            one
            for one in self.connections
            if isinstance(one, GuardedProtocol) and one.is_silent and not one.is_closing
        ]
        if len(silent) > MAX_SILENT:
            min(silent, key=lambda one: one.silent_since).transport.abort()

    @property
    def is_closing(self) -> bool:
        """Whether its end has begun."""
        return self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        self._watch.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """The silence begins anew."""
        self.silent_since = self.loop.time()
        super().on_response_complete()

    def _check(self) -> None:
        if self.is_closing:
            return
        left_s = HEAD_TIMEOUT_S
        if self.is_silent:
            left_s = self.silent_since + HEAD_TIMEOUT_S - self.loop.time()
        if left_s <= 0:
            self.transport.abort()
            return
        self._watch = self.loop.call_later(left_s, self._check)
