"""What all servers share: token, body limits, JSON errors, socket, shutdown. Needs starlette.

A handler returns a response or raises RequestError; it handles nothing else of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from vlrl.errors import ConfigError, RewardError
from vlrl.http.access import RequestError, is_loopback
from vlrl.http.connections import GuardedProtocol

log = logging.getLogger(__name__)
MAX_HEADER_BYTES = 32 << 10
BODY_TIMEOUT_S = 120.0
"""For the whole body of a request."""
Handler = Callable[[Request], Awaitable[Response]]


class Shell:
    """What the requests of one server share."""

    def __init__(
        self,
        token: str | None,
        max_body_bytes: int,
        describe: Callable[[RequestError], Mapping[str, Any]],
        *,
        too_large: str = "",
        hosts: Sequence[str] = (),
        max_requests: int = 128,
    ) -> None:
        """describe: makes the `error` object of a response; too_large: advice on long bodies.

        hosts: names that clients may call the server by, besides those of this machine's own
        address. max_requests: requests handled at once; more are answered with 503.
        """
        self.token, self.max_body_bytes = token, max_body_bytes
        self.describe, self.too_large = describe, too_large
        self.hosts, self.max_requests = frozenset(map(str.lower, hosts)), max_requests
        self.num_requests = 0

    def route(self, method: str, path: str, handler: Handler, *, is_open: bool = False) -> Route:
        """`handler` behind the token, unless `is_open`, its errors as JSON."""

        async def answer(request: Request) -> Response:
            try:
                self._check_head(request)
                if not is_open:
                    self._authorise(request)
                with self._counted():
                    return await handler(request)
            except RequestError as error:
                return self._problem(error)
            except ClientDisconnect:
                return self._problem(RequestError("the connection ended"))
            except RewardError as error:
                # Final: a retry would fail in the same way.
                log.exception("a reward failed")
                return self._problem(RequestError(str(error), 500, "reward"))
            except Exception as error:
                log.exception("the server failed")
                text = f"{type(error).__name__}: {error}"
                return self._problem(RequestError(text, 500, "server"))

        return Route(path, answer, methods=[method])

    async def json_body(self, request: Request) -> bytes:
        """The body of a JSON request, not parsed; raises RequestError (413, 415)."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" or "content-encoding" in request.headers:
            # A page in a browser cannot send this type to another origin without a preflight.
            raise RequestError("send plain application/json", 415, field="content-type")
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._body(request)
        except TimeoutError:
            raise RequestError(f"the body took more than {BODY_TIMEOUT_S:g} s", 408) from None

    async def _body(self, request: Request) -> bytes:
        limit = self.max_body_bytes
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                chunks.append(chunk)
            else:
                chunks.clear()
            # A slightly too long body is read to its end, so that the client gets the reason and
            # not just a broken connection.
            if size > 4 * limit:
                break
        if size > limit:
            raise RequestError(f"the body has more than {limit} bytes{self.too_large}", 413)
        return b"".join(chunks)

    def _check_head(self, request: Request) -> None:
        """Raises RequestError for too long headers, and for a name that is not this server's.

        A page in a browser may let its own name point here (DNS rebinding); it does not know the
        token, so with one any name is right unless `hosts` says otherwise.
        """
        if sum(len(name) + len(value) for name, value in request.headers.raw) > MAX_HEADER_BYTES:
            raise RequestError(f"the headers have more than {MAX_HEADER_BYTES} bytes", 431)
        if self.token is not None and not self.hosts:
            return
        name = host_name(request.headers.get("host", ""))
        if not is_loopback(name) and name not in self.hosts:
            raise RequestError(
                f"this server is not called {name[:80]!r}; if it is, start it with --hosts",
                400,
                field="host",
            )

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self.num_requests >= self.max_requests:
            raise RequestError(f"{self.num_requests} requests are under way", 503, "busy")
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1

    def _authorise(self, request: Request) -> None:
        if self.token is None:
            return
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode("ascii")):
            raise RequestError(
                "send the server's token as `Authorization: Bearer <token>`",
                401,
                field="authorization",
            )

    def _problem(self, error: RequestError) -> Response:
        extra = {503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}
        body = json.dumps({"error": self.describe(error)})
        return Response(body, error.status, extra.get(error.status), "application/json")


def host_name(header: str) -> str:
    """The name in a Host header, without its port, in small letters."""
    name = header.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].rstrip(".")


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 picks a free one. Raises ConfigError where it cannot be bound."""
    if not 0 <= port <= 65_535:
        raise ConfigError(f"cannot listen on port {port}: ports go from 0 (a free one) to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Checked first: create_server leaves its socket open on a name that it cannot encode.
        host.encode("idna")
        return socket.create_server((host.strip("[]"), port), family=family)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no host name: {error}"
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}") from error


def make_server(app: Starlette) -> uvicorn.Server:
    """The HTTP server; run it with `.run(sockets=[...])`.

    Silent connections are closed and do not count; how many requests run at once is the Shell's.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            # h11 has a limit for headers that are under way.
            http=GuardedProtocol,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            timeout_graceful_shutdown=30,
        )
    )


def serve(server: uvicorn.Server, host: str, port: int, what: str, path: str = "") -> None:
    """Serve until interrupted; prints the address once the socket is bound."""
    listener = listen(host, port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {what} on http://{shown}:{port}{path}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
