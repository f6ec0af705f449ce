"""The HTTP side of the reward server: POST /score, GET /health. Needs starlette and uvicorn."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vlrl.errors import ConfigError, RewardError, did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.server.batcher import Batcher
from vlrl.reward.server.references import Lease, ReferenceStore
from vlrl.reward.server.settings import ServeConfig
from vlrl.reward.server.wire import (
    WIRE_VERSION,
    Health,
    ScoreRequest,
    WireReward,
    decode_rollouts,
    encode_scores,
    read,
    to_wire,
)
from vlrl.reward.server.wire_images import WireError
from vlrl.types import Rollout, Score

log = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


class RewardApp:
    """The two requests and what they share; `app` is the ASGI application."""

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        config: ServeConfig,
        version: str,
        token: str | None = None,
    ) -> None:
        self.rewards, self.config, self.token = dict(rewards), config, token
        self.version = version
        self.limits = config.limits
        self._root = config.references_folder()
        self.batchers: dict[str, Batcher] = {}
        self.references: ReferenceStore
        self.app = Starlette(
            routes=[
                Route("/score", self._answered(self.score), methods=["POST"]),
                Route("/health", self._answered(self.health), methods=["GET"]),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        config = self.config
        with tempfile.TemporaryDirectory(prefix="vlrl-references-") as folder:
            self.references = ReferenceStore(
                Path(folder), self._root, config.max_reference_mib << 20, config.max_pixels
            )
            self.batchers = {
                name: Batcher(
                    name,
                    reward,
                    gather_s=config.gather_ms / 1000,
                    max_batch=config.max_batch,
                    max_waiting=config.max_waiting,
                )
                for name, reward in self.rewards.items()
            }
            try:
                yield
            finally:
                for batcher in self.batchers.values():
                    await run_in_threadpool(batcher.close)

    async def health(self, request: Request) -> Response:
        """What is served, and within which limits."""
        rewards = {
            name: WireReward(
                range=[to_wire(end) for end in reward.range], needs=sorted(reward.needs)
            )
            for name, reward in self.rewards.items()
        }
        health = Health(
            status="ok",
            version=self.version,
            wire=WIRE_VERSION,
            rewards=rewards,
            limits=self.limits,
        )
        return JSONResponse(health.model_dump())

    async def score(self, request: Request) -> Response:
        """Scores for whole groups."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" or "content-encoding" in request.headers:
            # A page in a browser cannot send this type here without being asked for leave.
            raise WireError("send plain application/json", "content-type", 415)
        body = await _body(request, self.limits.max_body_bytes)
        message = await run_in_threadpool(read, ScoreRequest, body)
        reward = self.rewards.get(message.reward)
        if reward is None:
            hint = did_you_mean(message.reward, self.rewards)
            raise WireError(f"no reward {message.reward!r} is served; {hint}", "reward", 404)
        with self.references.lease(message.files) as lease:
            rollouts = await run_in_threadpool(self._decode, message, reward, lease)
            scores = await _scored(request, self.batchers[message.reward].submit(rollouts))
        return Response(
            encode_scores(scores, rollouts, reward.range), media_type="application/json"
        )

    def _decode(self, message: ScoreRequest, reward: Reward, lease: Lease) -> list[Rollout]:
        return decode_rollouts(message, reward.needs, self.limits, lease.path_of)

    def _answered(self, handler: Handler) -> Handler:
        """`handler` behind the token, its errors as JSON."""

        async def answer(request: Request) -> Response:
            try:
                self._authorise(request)
                return await handler(request)
            except WireError as error:
                return _problem(error.status, error.kind, str(error), error.field)
            except ClientDisconnect:
                return _problem(400, "request", "the connection ended")
            except RewardError as error:
                # Final: a client that tried again would hear the same.
                log.exception("a reward failed")
                return _problem(500, "reward", str(error))
            except Exception as error:
                log.exception("the server failed")
                return _problem(500, "server", f"{type(error).__name__}: {error}")

        return answer

    def _authorise(self, request: Request) -> None:
        if self.token is None:
            return
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode("ascii")):
            raise WireError(
                "send the server's token as `Authorization: Bearer <token>`",
                "authorization",
                401,
            )


async def _scored(request: Request, future: Future[list[Score]]) -> list[Score]:
    """The scores when they come; raises ClientDisconnect where nobody waits for them any more."""
    answer = asyncio.wrap_future(future)
    # The body has been read, so the next message can only be the end of the connection.
    gone = asyncio.ensure_future(request.receive())
    try:
        either: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        # A reward at work is not stopped, and its reference images must stay until its end.
        if not answer.done() and future.cancel():
            raise ClientDisconnect
        return await answer
    finally:
        gone.cancel()


async def _body(request: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes; raises WireError (413)."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
        # A little too much is read to its end, so that the client hears the reason and not only
        # a broken connection.
        if size > 4 * limit:
            break
    if size > limit:
        raise WireError(f"the body has more than {limit} bytes; send fewer rollouts", "", 413)
    return b"".join(chunks)


def _problem(status: int, kind: str, message: str, field: str = "") -> Response:
    headers = {}
    if status == 503:
        headers["Retry-After"] = "1"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = {"error": {"kind": kind, "message": message, "field": field}}
    return Response(json.dumps(body), status, headers, "application/json")


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises ConfigError where it cannot be had."""
    if not 0 <= port <= 65_535:
        raise ConfigError(f"cannot listen on port {port}: ports go from 0 (a free one) to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # The socket would be left open by a name that it cannot encode.
        host.encode("idna")
        return socket.create_server((host.strip("[]"), port), family=family)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no host name: {error}"
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}") from error


def make_server(rewards: RewardApp) -> uvicorn.Server:
    """The HTTP server; run it with `.run(sockets=[...])`."""
    return uvicorn.Server(
        uvicorn.Config(
            rewards.app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            limit_concurrency=rewards.config.max_connections,
            timeout_graceful_shutdown=30,
        )
    )
