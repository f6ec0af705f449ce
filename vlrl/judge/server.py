"""A judge behind OpenAI's chat completions, log-probs included: POST /v1/chat/completions.

For other machines' `yes_token: {endpoint: ...}`, and to test that path against a real server. It
supports what judges need: one user message of text and images, answered with a few tokens and
their log-probs. These are the model's own, before temperature and filters, whatever sampling the
request asks for.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vlrl.data.fields import shown
from vlrl.data.json_file import clean_text
from vlrl.errors import DataError, RewardError
from vlrl.families.literal import literal
from vlrl.families.resize import why_unfit
from vlrl.http.access import RequestError
from vlrl.http.serving import Shell
from vlrl.judge.interfaces import Tokenizer
from vlrl.judge.local import LocalJudge
from vlrl.judge.question import Ask, ImageBook
from vlrl.media.images import image_size, open_image

MAX_BODY_BYTES = 64 << 20
MAX_PIXELS = 16_777_216
MAX_REQUEST_PIXELS = 4 * MAX_PIXELS
"""Of all images of one request; a few kilobytes can unpack to fifty megabytes."""
MAX_NEW_TOKENS = 2048
MAX_TOP_LOGPROBS = 1024
MAX_CHARS_PER_TOKEN = 16
"""Far more than a text has, so that what is refused before it is tokenised is too long."""


class JudgeApp:
    """The routes and the one model; `app` is the ASGI application."""

    def __init__(
        self,
        judge: LocalJudge,
        name: str,
        token: str | None = None,
        *,
        hosts: Sequence[str] = (),
        max_tokens: int = 16_384,
    ) -> None:
        self.judge, self.name = judge, name
        context = judge.context_tokens
        self.max_tokens = max_tokens if context is None else min(max_tokens, context)
        self._lock = threading.Lock()
        self.shell = Shell(token, MAX_BODY_BYTES, _described, hosts=hosts)
        self.app = Starlette(
            routes=[
                self.shell.route("POST", "/v1/chat/completions", self.complete),
                self.shell.route("GET", "/v1/models", self.models),
                self.shell.route("GET", "/health", self.health, is_open=True),
            ]
        )

    async def health(self, request: Request) -> Response:
        """Whether the server is up."""
        return JSONResponse({"status": "ok", "model": self.name})

    async def models(self, request: Request) -> Response:
        """The one model's name."""
        return JSONResponse({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    async def complete(self, request: Request) -> Response:
        """One completion."""
        body = await self.shell.json_body(request)
        try:
            asked = json.loads(body)
        except ValueError as error:
            raise RequestError(f"not valid JSON: {error}") from None
        except RecursionError:
            # Final like other bad requests: clients retry a 500.
            raise RequestError("not valid JSON: it is nested too deeply") from None
        try:
            return JSONResponse(await run_in_threadpool(self.answer, asked))
        except (RewardError, ValueError) as error:
            raise RequestError(f"the request cannot be answered: {error}") from error

    def answer(self, asked: object) -> dict[str, Any]:
        """The completion of a request body; raises RequestError."""
        if not isinstance(asked, Mapping):
            raise RequestError("the body must be a JSON object")
        if asked.get("model") not in (None, self.name):
            raise RequestError(
                f"this server has the model {self.name!r}, not {shown(asked['model'])}"
            )
        if asked.get("stream") or asked.get("n", 1) != 1:
            raise RequestError("one completion per request, without `stream`")
        num_tokens = _integer(asked, "max_tokens", 16, 1, MAX_NEW_TOKENS)
        num_listed = _integer(asked, "top_logprobs", 0, 0, MAX_TOP_LOGPROBS)
        book = ImageBook()
        ask = Ask(_parts(asked.get("messages"), book))
        # Counted without the lock, so that a text of megabytes holds nobody up.
        num_chars = sum(len(part) for part in ask.parts if isinstance(part, str))
        if num_chars > MAX_CHARS_PER_TOKEN * self.max_tokens:
            raise RequestError(
                f"a text of {num_chars} characters; at most {self.max_tokens} tokens a question"
            )
        try:
            with self._lock, torch.no_grad():
                tokens, rows = self.judge.greedy(ask, book, num_tokens, self.max_tokens)
        except RewardError as error:
            raise RequestError(str(error)) from error
        tokenizer = self.judge.processor.tokenizer
        content = [
            _listed(tokenizer, token, row, num_listed)
            for token, row in zip(tokens, rows, strict=True)
        ]
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        stopped = tokens[-1] == tokenizer.eos_token_id
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop" if stopped else "length",
            "logprobs": {"content": content} if asked.get("logprobs") else None,
        }
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.name,
            "choices": [choice],
            "usage": {"completion_tokens": len(tokens)},
        }


def _parts(messages: object, book: ImageBook) -> tuple[str | int, ...]:
    """The one user message as text and indices of images; raises RequestError."""
    if (
        not isinstance(messages, list)
        or len(messages) != 1
        or not isinstance(messages[0], Mapping)
        or messages[0].get("role") != "user"
    ):
        raise RequestError("`messages` must hold a single user message")
    content = messages[0].get("content")
    if isinstance(content, str):
        return (literal(clean_text(content)),)
    if not isinstance(content, list) or not content:
        raise RequestError("a message's content must be a string or a list of parts")
    parts: list[str | int] = []
    num_pixels = 0
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append(literal(clean_text(part["text"])))
        elif kind == "image_url" and isinstance(part.get("image_url"), Mapping):
            image = _image(part["image_url"].get("url"), MAX_REQUEST_PIXELS - num_pixels)
            num_pixels += image.width * image.height
            parts.append(book.add(image))
        else:
            raise RequestError("a part must be {type: text, text} or {type: image_url, image_url}")
    return tuple(parts)


def _image(url: object, pixels_left: int = MAX_REQUEST_PIXELS) -> Image.Image:
    """The image in a data URL; nothing is fetched and no file is opened for a client.

    pixels_left: of the request; counted before anything is decoded.
    """
    if not isinstance(url, str) or not url.startswith("data:image/") or ";base64," not in url:
        raise RequestError("an image must be a data URL: data:image/png;base64,...")
    try:
        raw = base64.b64decode(url.partition(";base64,")[2], validate=True)
        width, height = image_size(raw, max_pixels=MAX_PIXELS)
        if width * height > pixels_left:
            raise RequestError(
                f"the images have more than {MAX_REQUEST_PIXELS:,} pixels together", 413
            )
        image = open_image(raw, max_pixels=MAX_PIXELS)
    except (binascii.Error, ValueError, DataError) as error:
        raise RequestError(f"an image cannot be read: {error}") from error
    why = why_unfit(image.height, image.width)
    if why is not None:
        raise RequestError(f"an image cannot be judged: {why}")
    return image


def _listed(tokenizer: Tokenizer, token: int, logp: torch.Tensor, count: int) -> dict[str, Any]:
    top = logp.topk(min(count, len(logp)))
    listed = [
        {"token": tokenizer.decode([int(i)]), "logprob": float(value)}
        for value, i in zip(top.values, top.indices, strict=True)
    ]
    own = {"token": tokenizer.decode([token]), "logprob": float(logp[token])}
    return {**own, "top_logprobs": listed}


def _integer(asked: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = asked.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(
            f"{name!r} must be a whole number from {low} to {high}, not {shown(value)}"
        )
    return value


def _described(error: RequestError) -> dict[str, Any]:
    """As OpenAI's API writes errors."""
    return {"message": str(error), "type": "invalid_request_error", "code": error.status}
