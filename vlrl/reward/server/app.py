"""The HTTP side of the reward server: POST /score, GET /health. Needs starlette."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from vlrl.errors import did_you_mean
from vlrl.http.access import RequestError
from vlrl.http.serving import Shell
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


class RewardApp:
    """The two requests and what they share; `app` is the ASGI application."""

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        config: ServeConfig,
        version: str,
        token: str | None = None,
    ) -> None:
        self.rewards, self.config, self.version = dict(rewards), config, version
        self.limits = config.limits
        self._root = config.references_folder()
        self.batchers: dict[str, Batcher] = {}
        self.references: ReferenceStore
        self.shell = Shell(
            token,
            self.limits.max_body_bytes,
            _described,
            too_large="; send fewer rollouts",
            hosts=config.hosts,
            max_requests=config.max_connections,
        )
        routes = [
            self.shell.route("POST", "/score", self.score),
            self.shell.route("GET", "/health", self.health),
        ]
        self.app = Starlette(routes=routes, lifespan=self._lifespan)

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
        body = await self.shell.json_body(request)
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


async def _scored(request: Request, future: Future[list[Score]]) -> list[Score]:
    """The scores once they are ready; raises ClientDisconnect where the client has gone."""
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


def _described(error: RequestError) -> dict[str, str]:
    return {"kind": error.kind, "message": str(error), "field": error.field}
