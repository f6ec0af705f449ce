"""Servers that answer everything but what was agreed, asked by each of our clients."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import random
import re
import socket
import struct
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx2
from broken_media import HEIGHT, WIDTH, image_bytes
from helpers_listening import listening
from helpers_served import noise_groups
from helpers_server import running
from mutated_configs import mutated_tree
from trying import Case, Outcome

from vlrl.errors import RewardError
from vlrl.eval.endpoint import Endpoint, EndpointOptions
from vlrl.eval.gui.asking import Ask
from vlrl.eval.gui.items import Item
from vlrl.families.profiles import profile_named
from vlrl.geometry.boxes import Box, Frame
from vlrl.judge.endpoint import EndpointJudge, EndpointJudgeOptions
from vlrl.judge.question import Ask as JudgeAsk
from vlrl.judge.question import ImageBook, JudgeTemplate
from vlrl.judge.yes_token import spellings
from vlrl.reward.server.wire import encode_request
from vlrl.rewards.remote import Remote, RemoteOptions
from vlrl.types import Rollout

TIMEOUT_S = 0.5
MAX_TRIES = 2
MOST_S = MAX_TRIES * TIMEOUT_S + 2.0
"""Of a call with all its tries."""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
Say = Callable[[socket.socket], None]
CLIENTS = ("reward", "health", "evaluation", "judge")
STATUSES = (
    100, 101, 102, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403,
    404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 418, 422, 425, 426, 429, 431, 451, 500, 501,
    502, 503, 504, 505, 511, 599, 600, 999,
)  # fmt: skip
NUMBERS = (
    "NaN", "Infinity", "1e400", "true", '"0.5"', "1.5", "-0.1", "null", "[0.5]", "1e-400",
    "9" * 400,
)  # fmt: skip


# --- what a good server says --------------------------------------------------------------------


@cache
def rollouts() -> list[Rollout]:
    return noise_groups(1, 2)


@cache
def said_by_our_server() -> tuple[bytes, bytes]:
    """The bodies of /health and /score."""
    with running({"r": {"use": "helpers_served:Brightness"}}) as server:
        health = httpx2.get(f"{server.url}/health").content
        body = encode_request("r", rollouts(), frozenset({"image", "caption"}), (), "send")
        head = {"Content-Type": "application/json"}
        return health, httpx2.post(f"{server.url}/score", content=body, headers=head).content


def good_body(client: str) -> bytes:
    if client in ("reward", "health"):
        return said_by_our_server()[client == "reward"]
    token = {"token": "yes", "logprob": -0.4, "top_logprobs": [
        {"token": "yes", "logprob": -0.4}, {"token": " No", "logprob": -1.5},
        {"token": "maybe", "logprob": -3.0},
    ]}  # fmt: skip
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": "[10, 20]"}}
    choice |= {"index": 0, "finish_reason": "stop", "logprobs": {"content": [token]}}
    return json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}}).encode()


# --- what false ones say ------------------------------------------------------------------------


def raw(data: bytes, connection: socket.socket) -> None:
    connection.sendall(data)


def with_length(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def drip(before: bytes, connection: socket.socket) -> None:
    connection.sendall(before)
    for _ in range(80):
        connection.sendall(b" ")
        time.sleep(0.1)


def silent(connection: socket.socket) -> None:
    time.sleep(6)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def endless(before: bytes, piece: bytes, connection: socket.socket) -> None:
    connection.sendall(before)
    until = time.monotonic() + 8
    while time.monotonic() < until:
        connection.sendall(piece)


@cache
def transport(body: bytes) -> dict[str, Say]:
    """Answers that are no answer, or not the one that was agreed."""
    status = b"HTTP/1.1 %d Whatever\r\nConnection: close\r\nLocation: http://127.0.0.1:9/else\r\n"
    half, zipped = body[: len(body) // 2], gzip.compress(bytes(30 << 20))
    found: dict[str, Say] = {
        f"status {n}": partial(raw, with_length(status % n, body)) for n in STATUSES
    }
    for pause in (b"1e9", b"-5", b"99999999999999999999", b"Wed, 99 Foo 2026", b"\xff"):
        head = status % 503 + b"Retry-After: " + pause + b"\r\n"
        found[f"retry after {pause!r}"] = partial(raw, with_length(head, b""))
    pieces: dict[str, bytes] = {
        "closed at once": b"",
        "garbage": bytes(range(256)) * 4,
        "half a status line": b"HTTP/1.1 20",
        "old HTTP": b"HTTP/0.9 200 OK\r\n\r\n" + body,
        "new HTTP": b"HTTP/9.9 200 OK\r\n\r\n" + body,
        "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
        "no body": OK + b"Content-Length: 0\r\n\r\n",
        "half a body": OK + b"Content-Length: %d\r\n\r\n" % len(body) + half,
        "half a body, its length": with_length(OK, half),
        "longer than said": OK + b"Content-Length: %d\r\n\r\n" % len(half) + body,
        "negative length": OK + b"Content-Length: -1\r\n\r\n" + body,
        "length in words": OK + b"Content-Length: ten\r\n\r\n" + body,
        "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n" + body,
        "huge length": OK + b"Content-Length: 99999999999999\r\n\r\n" + body,
        "garbage in chunks": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
        "half a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + body,
        "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + body,
        "unknown coding": OK + b"Transfer-Encoding: rot13\r\n\r\n" + body,
        "gzip bomb": with_length(OK + b"Content-Encoding: gzip\r\n", zipped),
        "said to be gzip": with_length(OK + b"Content-Encoding: gzip\r\n", body),
        "said to be br": with_length(OK + b"Content-Encoding: br\r\n", body),
        "huge header": OK + b"X: " + b"a" * (2 << 20) + b"\r\n\r\n" + body,
        "many headers": OK + b"".join(b"X-%d: a\r\n" % i for i in range(20_000)) + b"\r\n" + body,
        "NUL in a header": OK + b"X: a\x00b\r\n\r\n" + body,
        "HTML": with_length(OK.replace(b"application/json", b"text/html"), b"<html>hello</html>"),
        "not UTF-8": with_length(OK, b'{"a": "\xff\xfe"}'),
        "UTF-16": with_length(OK, body.decode().encode("utf-16")),
        "twice": with_length(OK, body + body),
        "null": with_length(OK, b"null"),
        "a list": with_length(OK, b"[]"),
        "a text": with_length(OK, b'"ok"'),
        "a number": with_length(OK, b"1.0"),
        "an object": with_length(OK, b"{}"),
        "NaN": with_length(OK, b"NaN"),
        "deep": with_length(OK, b"[" * 100_000),
        "many digits": with_length(OK, b"9" * 10_000),
        "an error": with_length(OK, b'{"error": {"kind": "busy", "message": "no"}}'),
    }
    found |= {name: partial(raw, data) for name, data in pieces.items()}
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    return found | {
        "silent": silent,
        "reset": reset,
        "drip from the start": partial(drip, b""),
        "drip of headers": partial(drip, OK + b"X: "),
        "drip of the body": partial(drip, OK + b"Content-Length: 900\r\n\r\n"),
        "endless headers": partial(endless, OK, b"X: y\r\n" * 999),
        "endless body": partial(endless, OK + b"\r\n", b" " * (1 << 16)),
        "endless chunks": partial(endless, chunked, b"1\r\n \r\n" * 999),
        "informal for ever": partial(endless, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
    }


def altered(body: bytes, rng: random.Random) -> tuple[str, bytes]:
    """The good answer with other values in some places."""
    tree = json.loads(body)
    if rng.random() < 0.4:
        text, number = json.dumps(tree), rng.choice(NUMBERS)
        if places := [found.span() for found in re.finditer(r"-?[0-9]+\.[0-9]+", text)]:
            start, end = rng.choice(places)
            return f"the number {number[:12]}", (text[:start] + number + text[end:]).encode()
    how, tree = mutated_tree(tree, rng)
    with contextlib.suppress(TypeError):
        return how, json.dumps(tree, default=str).encode()
    return "an object", b"{}"


# --- our clients --------------------------------------------------------------------------------


def asked(folder: Path, client: str, url: str, body: bytes | None) -> Outcome:
    """What came of it; `body` is the only answer whose content may be taken."""
    if client in ("reward", "health"):
        return _reward(url, body)
    return _evaluation(folder, url, body) if client == "evaluation" else _judge(url, body)


def _said(body: bytes | None) -> Any:
    return None if body is None else json.loads(body)


def _reward(url: str, body: bytes | None) -> Outcome:
    options = RemoteOptions(url=url, reward="r", max_tries=MAX_TRIES, timeout_s=TIMEOUT_S)
    client = Remote(options, sleep=lambda _: None)
    try:
        values = [score.value for score in client(rollouts())]
    finally:
        client.close()
    said = _said(body)
    if not isinstance(said, Mapping) or "scores" not in said:
        said = json.loads(good_body("reward"))  # the fault was in /health
    wanted = [row["value"] for row in said["scores"]]
    fits = all(v is None or (type(v) in (int, float) and 0 <= v <= 1) for v in wanted)
    if not fits or values != wanted or len(values) != len(rollouts()):
        raise AssertionError(f"invented {values}")
    good = [row["value"] for row in json.loads(good_body("reward"))["scores"]]
    return "same" if values == good else "other"


def _evaluation(folder: Path, url: str, body: bytes | None) -> Outcome:
    path = folder / "picture.png"
    path.write_bytes(image_bytes("png"))
    frame = Frame(WIDTH, HEIGHT)
    item = Item("i", str(path), frame, "x", Box(1, 1, 2, 2, frame))
    options = EndpointOptions(url=url, model="m", question="{instruction}", max_tries=MAX_TRIES,
                              timeout_s=TIMEOUT_S)  # fmt: skip
    with Endpoint(options, profile_named("gui_g2"), sleep=lambda _: None) as model:
        (reply,) = model.answer([Ask(item)])
    if reply.output is None:
        return "refused" if reply.error else "unnamed"
    said = _said(body)["choices"][0]["message"].get("content")
    if isinstance(said, list):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in said]
        said = "".join(text for text in texts if isinstance(text, str))
    if reply.output != (said if isinstance(said, str) else "") and "\ud800" not in str(said):
        raise AssertionError(f"invented {reply.output!r}")
    if not 0 <= reply.num_tokens < 2**53 or type(reply.num_tokens) is not int:
        raise AssertionError(f"{reply.num_tokens!r} tokens")
    return "same" if reply.output == "[10, 20]" else "other"


def _judge(url: str, body: bytes | None) -> Outcome:
    options = EndpointJudgeOptions(
        url=url, model="m", max_tries=MAX_TRIES, timeout_s=TIMEOUT_S, backoff_s=0
    )
    template = JudgeTemplate()
    judge = EndpointJudge(options, template, sleep=lambda _: None)
    (reading,) = judge.ask(ImageBook(), [JudgeAsk(("yes?",), "a cat")])
    listed = _said(body)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    for found, words in ((reading.yes, template.yes), (reading.no, template.no)):
        own = [one["logprob"] for one in listed if one["token"] in spellings(words)]
        mass = sum(math.exp(min(logp, 0.0)) for logp in own)
        if not found <= 0.0 or not math.isclose(math.exp(found), mass, rel_tol=1e-6):
            raise AssertionError(f"invented {reading}")
    if math.exp(reading.yes) + math.exp(reading.no) > 1.001:
        raise AssertionError(f"above 1: {reading}")
    return "same" if math.isclose(reading.yes, -0.4) else "other"


def server(folder: Path, number: int, rng: random.Random) -> Case:
    """A false server and one of our clients."""
    client = CLIENTS[number % len(CLIENTS)]
    good = good_body(client)
    ways = transport(good)
    place = number // len(CLIENTS)
    body: bytes | None = None
    if place < len(ways):
        how, say = list(ways.items())[place]
        body = good if how not in ("half a body, its length",) else None
    else:
        how, body = altered(good, rng)
        say = partial(raw, with_length(OK, body))

    def answer(request: bytes, connection: socket.socket) -> None:
        if request.startswith(b"GET /health") and client != "health":
            connection.sendall(with_length(OK, said_by_our_server()[0]))
        elif not request.startswith(b"GET /health") and client == "health":
            connection.sendall(with_length(OK, good_body("reward")))
        else:
            say(connection)

    def run() -> Outcome:
        began = time.monotonic()
        with listening(answer) as url:
            try:
                return asked(folder, client, url, body)
            except RewardError as error:
                if url not in str(error):
                    return "unnamed"
                raise
            finally:
                if time.monotonic() - began > MOST_S:
                    raise TimeoutError(f"took {time.monotonic() - began:.1f} s")

    return Case(f"{client}: {how}", run)
