"""Any OpenAI-compatible endpoint (vLLM, SGLang, ...) as the model to evaluate.

The image is resized here as the profile says, so that the server's own resizing changes nothing
and coordinates are in a known frame. A call that fails for good is a reply with its error.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
from PIL import Image

from vlrl.errors import ConfigError, DataError
from vlrl.eval.gui.asking import Ask, Reply
from vlrl.eval.gui.completion import read_completion
from vlrl.families.literal import literal
from vlrl.families.profiles import Profile
from vlrl.geometry.boxes import Frame
from vlrl.http.address import check_address_text, shown
from vlrl.http.client import CallError, Client
from vlrl.media.images import open_image


@dataclass(frozen=True)
class EndpointOptions:
    """How an endpoint is called."""

    url: str
    """Base address, e.g. http://127.0.0.1:8000/v1."""
    model: str
    question: str
    """The prompt, with {instruction}."""
    max_tokens: int = 256
    temperature: float = 0.7
    """Temperature of sampled answers (votes); greedy ones have 0."""
    concurrency: int = 8
    timeout_s: float = 120.0
    max_tries: int = 4
    wait_s: float = 1.0
    """Pause before the second try; doubled before each further one."""
    api_key: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


class Endpoint:
    """A model over HTTP, several calls at once; close it, or use it as a context manager."""

    def __init__(
        self,
        options: EndpointOptions,
        profile: Profile,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        host_of(options.url)
        self.options, self.profile = options, profile
        self._client = Client(
            options.url,
            options.timeout_s,
            options.max_tries,
            options.wait_s,
            key=options.api_key,
            jitter=0.0,
            name="endpoint",
            sleep=sleep,
        )
        self._client.connect()
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="ask")

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the calls and the connections."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def answer(self, asks: Sequence[Ask]) -> list[Reply]:
        """One reply per ask, in order; up to `concurrency` calls are in flight at once."""
        return list(self._pool.map(self._answer, asks))

    def _answer(self, ask: Ask) -> Reply:
        width, height = ask.size_px
        limits = (self.options.min_pixels, self.options.max_pixels)
        resized = self.profile.resized(width, height, *limits)
        started = time.monotonic()
        try:
            body = self._body(ask, resized)
        except DataError as error:
            return Reply(None, resized, f"cannot read the image: {error}")
        text, num_tokens, error_text = self._post(body)
        return Reply(text, resized, error_text, time.monotonic() - started, num_tokens)

    def _body(self, ask: Ask, resized: Frame) -> dict[str, Any]:
        question = self.options.question.replace("{instruction}", literal(ask.item.instruction))
        content = [
            {"type": "image_url", "image_url": {"url": data_url(ask, resized)}},
            {"type": "text", "text": question},
        ]
        return {
            "model": self.options.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.options.max_tokens,
            "temperature": 0.0 if ask.greedy else self.options.temperature,
            "seed": ask.seed,
        }

    def _post(self, body: dict[str, Any]) -> tuple[str | None, int, str | None]:
        """(text, tokens written, error)"""
        try:
            response = self._client.call("POST", "/chat/completions", json=body)
        except CallError as error:
            return None, 0, str(error)
        return read_completion(response, self.profile)


def host_of(url: str) -> str:
    """The host of an endpoint's address; raises ConfigError for an unusable one."""
    try:
        check_address_text(url)
        address = httpx2.URL(url)
        host, port = address.host, address.port
        # The resolver would refuse an empty or too long part of a name with a UnicodeError.
        host.encode("idna")
    except (httpx2.InvalidURL, ValueError) as error:
        raise ConfigError(f"--endpoint {shown(url)!r} is not an http address: {error}") from error
    if address.scheme not in ("http", "https") or not host:
        raise ConfigError(
            f"--endpoint is an http address such as http://127.0.0.1:8000/v1, not {shown(url)!r}"
        )
    if port is not None and not 0 < port < 65_536:
        raise ConfigError(f"--endpoint {shown(url)!r}: ports go from 1 to 65535, not {port}")
    return host


def data_url(ask: Ask, resized: Frame) -> str:
    """The image, or its window, as the model is to see it: a PNG in a data URL."""
    image = open_image(ask.item.image)
    if ask.crop is not None:
        image = image.crop(ask.crop)
    size = (int(resized.width), int(resized.height))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
