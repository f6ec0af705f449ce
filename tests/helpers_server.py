"""A reward server in a thread of the test's process, and clients that do not sleep."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import numpy as np
from helpers_served import noise_image
from PIL import Image

from vlrl.http.serving import listen, make_server
from vlrl.reward.server.app import RewardApp
from vlrl.reward.server.settings import ServeConfig, build_rewards
from vlrl.reward.tree import build_reward, score
from vlrl.rewards.remote import Remote, RemoteOptions
from vlrl.types import Rollout

EVERYTHING = ("image", "caption", "written", "scene", "references")
NODES = {
    "brightness": {"use": "helpers_served:Brightness"},
    "fingerprint": {"use": "helpers_served:Fingerprint"},
    "moody": {"use": "helpers_served:Moody"},
    "place": {"use": "helpers_served:PlaceInGroup"},
    "brevity": {"use": "helpers_served:brevity", "per_word": 2.0},
    "solved": {"use": "helpers_served:solved"},
    "sneaky": {"use": "helpers_served:sneaky"},
    "nan": {"use": "helpers_served:not_a_number"},
    "tree": {
        "sum": [
            {"use": "helpers_served:Brightness", "weight": 0.5},
            {"gate": {"if": {"use": "helpers_served:Fingerprint"}, "at_least": 0.5,
                      "then": {"use": "helpers_served:Brightness"}}},
        ]
    },
}  # fmt: skip


class Running:
    """A server in a thread of this process; `.batchers` shows what it did."""

    def __init__(self, config: ServeConfig, token: str | None = None) -> None:
        self.rewards = RewardApp(build_rewards(config.rewards), config, "1.2.3", token)
        self.server = make_server(self.rewards.app)
        self.socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True
        )
        self.thread.start()
        until = time.monotonic() + 60
        while not self.server.started:
            assert self.thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        self.socket.close()


@contextmanager
def running(nodes: dict, token: str | None = None, **options) -> Iterator[Running]:
    server = Running(ServeConfig(rewards=nodes, **options), token)
    try:
        yield server
    finally:
        server.stop()


def remote(url: str, reward: str | None, waits: list[float] | None = None, **options) -> Remote:
    """A client that records its pauses instead of sleeping."""
    waits = [] if waits is None else waits
    return Remote(RemoteOptions(url=url, reward=reward, **options), sleep=waits.append)


def local_values(name: str, rollouts: list[Rollout]) -> list[float | None]:
    return [one.value for one in score(build_reward(NODES[name]), rollouts)]


def values(reward: Remote, rollouts: list[Rollout]) -> list[float | None]:
    return [one.value for one in score(reward, rollouts)]


def png(image: np.ndarray | Image.Image, format: str = "PNG") -> str:
    buffer = io.BytesIO()
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(buffer, format=format)
    return base64.b64encode(buffer.getvalue()).decode()


def post(server: Running, body: object, kind: str = "application/json") -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(f"{server.url}/score", content=content, headers={"Content-Type": kind})


def one(**fields: object) -> dict:
    row = {
        "id": "s",
        "group": 0,
        "image": png(noise_image(1)),
        "target": {"caption": "c"},
        **fields,
    }
    return {"reward": "moody", "rollouts": [row]}
