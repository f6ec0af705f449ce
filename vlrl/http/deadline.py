"""A limit on the time of a whole call, where an HTTP library only limits each read."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore2
import httpx2


class Deadline(threading.local):
    """The end of the call that runs in this thread."""

    end: float | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What this thread sends and receives inside must be done in time, or it times out."""
        self.end = time.monotonic() + seconds
        try:
            yield
        finally:
            self.end = None

    def left(self, timeout: float | None, error: type[httpcore2.TimeoutException]) -> float | None:
        """Seconds for the next step, at most `timeout`; raises `error` where none are left."""
        if self.end is None:
            return timeout
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise error("the whole call took too long")
        return seconds if timeout is None else min(timeout, seconds)


class DeadlineBackend(httpcore2.NetworkBackend):
    """Connections whose every step ends with the deadline of the call."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline, self.inner = deadline, httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection, made before the deadline."""
        left = self.deadline.left(timeout, httpcore2.ConnectTimeout)
        stream = self.inner.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(stream, self.deadline)

    def sleep(self, seconds: float) -> None:
        """As the library's own."""
        self.inner.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self.inner, self.deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, self.deadline.left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces: the library's limit is one for each send, and a reader may be slow.
        view = memoryview(buffer)
        for start in range(0, len(view), _PIECE_BYTES):
            left = self.deadline.left(timeout, httpcore2.WriteTimeout)
            self.inner.write(bytes(view[start : start + _PIECE_BYTES]), left)

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = self.deadline.left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self.inner.start_tls(ssl_context, server_hostname, left), self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


_PIECE_BYTES = 1 << 16


def limit_calls(client: httpx2.Client, deadline: Deadline) -> None:
    """Let every new connection of a client, also through proxies, end with the deadline."""
    backend = DeadlineBackend(deadline)
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx2.HTTPTransport):
            # httpx2 has no argument for it, its pools of httpcore2 do.
            transport._pool._network_backend = backend
