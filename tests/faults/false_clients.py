"""What strangers send to our servers; a good client is served all the while."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from damage import TEXTS
from false_servers import altered
from helpers_judge import noise_image
from helpers_served import noise_groups
from helpers_server import Running, local_values, one, remote, values
from trying import Case, Outcome

from vlrl.http.serving import MAX_HEADER_BYTES, listen, make_server
from vlrl.judge.endpoint import EndpointJudge, EndpointJudgeOptions
from vlrl.judge.local import LocalJudge
from vlrl.judge.question import ImageBook, JudgeTemplate, Questions
from vlrl.judge.server import JudgeApp
from vlrl.reward.server.settings import ServeConfig

TOKEN = "t" * 32
JUDGE = "judge"
"""The folder of the judge, which the test puts there."""
NUM_SILENT = 130
LIMIT_S = 5.0
"""Of an answer to a whole request."""
SERVERS = ("reward server", "judge's server")


class Seen(logging.Handler):
    """Errors that a server logs: what it did not expect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


SEEN = Seen()


@cache
def reward_server() -> str:
    logging.getLogger().addHandler(SEEN)
    nodes = {"brightness": {"use": "helpers_served:Brightness"}}
    return Running(ServeConfig(rewards=nodes, max_connections=8, hosts=("gpu7",)), TOKEN).url


@cache
def judge_server(folder: Path) -> str:
    logging.getLogger().addHandler(SEEN)
    judge = LocalJudge.load(str(folder / JUDGE), JudgeTemplate(), device="cpu")
    running = make_server(JudgeApp(judge, "tiny", TOKEN, hosts=("gpu7",)).app)
    listener = listen("127.0.0.1", 0)
    threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def good_reward() -> None:
    client = remote(reward_server(), "brightness", max_tries=1, timeout_s=LIMIT_S,
                    token_env="FAULT_TOKEN")  # fmt: skip
    rollouts = noise_groups(1, 2)
    try:
        assert values(client, rollouts) == local_values("brightness", rollouts)
    finally:
        client.close()


@cache
def first_reading(folder: Path) -> Any:
    return _reading(folder)


def _reading(folder: Path) -> Any:
    options = EndpointJudgeOptions(
        url=f"{judge_server(folder)}/v1", model="tiny", max_tries=1, timeout_s=LIMIT_S,
        backoff_s=0, top_logprobs=768, api_key_env="FAULT_TOKEN",
    )  # fmt: skip
    questions, book = Questions(JudgeTemplate()), ImageBook()
    ask = questions.single(book, "a cat", noise_image(1))
    return EndpointJudge(options, JudgeTemplate()).ask(book, [ask])


def good_judge(folder: Path) -> None:
    assert _reading(folder) == first_reading(folder)


def request(
    path: str, body: bytes, *, method: bytes = b"POST", host: bytes = b"Host: localhost\r\n",
    token: bytes = TOKEN.encode(), kind: bytes = b"application/json", more: bytes = b"",
    length: bytes | None = None, version: bytes = b"HTTP/1.1",
) -> bytes:  # fmt: skip
    size = b"%d" % len(body) if length is None else length
    head = method + b" " + path.encode() + b" " + version + b"\r\n" + host + more
    head += b"Authorization: Bearer " + token + b"\r\n" if token else b""
    head += b"Content-Type: " + kind + b"\r\nContent-Length: " + size + b"\r\n\r\n"
    return head + body


def whole_requests(path: str, body: bytes) -> dict[str, bytes]:
    """Requests that are complete, so that an answer is due."""
    host = {name: b"Host: " + name.encode("latin-1") + b"\r\n" for name in (
        "evil.example", "localhost.evil.example", "", "a b", "[::2",
        "\xff", "x" * 3000)}  # fmt: skip
    found = {f"host {name[:20]!r}": request(path, body, host=own) for name, own in host.items()}
    found["no host"] = request(path, body, host=b"")
    found["two hosts"] = request(path, body, host=b"Host: localhost\r\nHost: evil.example\r\n")
    for token in (b"", b"x", TOKEN.encode() + b"t", b"\xff" * 32, b"t" * 9000, b"Basic"):
        found[f"token {token[:9]!r}"] = request(path, body, token=token)
    for method in (b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"HEAD", b"TRACE", b"FOO"):
        found[method.decode()] = request(path, body, method=method)
    odd_paths = (
        "/", "/../../etc/passwd", "/%00", "/%ff%fe", "//", "/score/", "http://evil.example/", "*",
        "/" + "a" * 30_000, "/docs", "/openapi.json", "/score?x=" + "y" * 5000,
    )  # fmt: skip
    for odd in odd_paths:
        found[f"path {odd[:20]}"] = request(odd, body)
    for kind in (b"text/plain", b"application/x-www-form-urlencoded", b"", b"\xff",
                 b"application/json; charset=utf-7"):  # fmt: skip
        found[f"type {kind!r}"] = request(path, body, kind=kind)
    for name, more in {
        "gzip": b"Content-Encoding: gzip\r\n", "fold": b"X: a\r\n b\r\n", "no colon": b"X\r\n",
        "NUL": b"X: a\x00\r\n", "huge header": b"X: " + b"a" * (MAX_HEADER_BYTES + 9) + b"\r\n",
        "many headers": b"X: y\r\n" * 20_000, "expect": b"Expect: 200-maybe\r\n",
        "upgrade": b"Upgrade: h2c\r\n",
        "rot13": b"Transfer-Encoding: rot13\r\n", "empty name": b": x\r\n",
        "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    }.items():  # fmt: skip
        found[name] = request(path, body, more=more)
    for length in (b"-1", b"ten", b"+5", b"1e3", b"9" * 40, b"0", b"2, 3"):
        found[f"length {length[:9]!r}"] = request(path, body, length=length)
    for version in (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTPS/1.1", b""):
        found[f"version {version!r}"] = request(path, body, version=version)
    deep = {"[" * 200_000: "lists", '{"a":' * 50_000: "objects", "9" * 50_000: "digits"}
    bodies = {name: text.encode() for text, name in deep.items()} | {
        "empty": b"", "brace": b"{", "null": b"null", "list": b"[]", "text": b'"x"', "NaN": b"NaN",
        "not UTF-8": b'{"a": "\xff"}', "BOM": b"\xef\xbb\xbf" + body,
        "UTF-16": body.decode().encode("utf-16"),
        "twice": body + body, "half": body[: len(body) // 2], "junk": bytes(5 << 20),
    }  # fmt: skip
    return found | {f"body {name}": request(path, data) for name, data in bodies.items()}


def part_requests(path: str, body: bytes) -> dict[str, bytes]:
    """Requests that never end."""
    head = request(path, body, length=b"900000000")
    return {
        "chunked too": request(path, body, more=b"Transfer-Encoding: chunked\r\n"),
        "nothing": b"", "garbage": bytes(range(256)), "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "half a line": b"POST /sc",
        "half a head": b"POST /score HTTP/1.1\r\nHost: loc", "half a body": head,
        "half a chunk": request(path, b"ffff\r\nabc", more=b"Transfer-Encoding: chunked\r\n")
        .replace(b"Content-Length: 9\r\n", b""),
        "long line": b"GET /" + b"a" * (4 << 20),
        "endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * (4 << 20),
    }  # fmt: skip


def connected(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT_S)


def answer_to(url: str, data: bytes) -> int:
    """The status; 0 where the connection just ends. TimeoutError where nothing comes."""
    with connected(url) as line:
        with contextlib.suppress(ConnectionError):
            line.sendall(data)
        said = b""
        with contextlib.suppress(ConnectionError):
            while b"\r\n" not in said and (piece := line.recv(1 << 16)):
                said += piece
        return int(said.split()[1]) if said.startswith(b"HTTP/") else 0


def client(folder: Path, number: int, rng: random.Random) -> Case:
    """A stranger at one of our servers."""
    is_judge = number % 2 == 1
    if is_judge:
        url, path = judge_server(folder), "/v1/chat/completions"
        content = [{"type": "text", "text": "Is it a cat? yes or no"}]
        sent: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": content}],
                                "max_tokens": 1, "logprobs": True, "top_logprobs": 5}  # fmt: skip
    else:
        url, path, sent = reward_server(), "/score", {**one(), "reward": "brightness"}
    body = json.dumps(sent).encode()
    whole, part = whole_requests(path, body), part_requests(path, body)
    place = number // 2
    done: Callable[[], Outcome]
    if place < len(whole):
        how, data = list(whole.items())[place]
        done = lambda: outcome_of(answer_to(url, data))  # noqa: E731
    elif place < len(whole) + len(part):
        how, data = list(part.items())[place - len(whole)]
        done = lambda: unfinished(url, data)  # noqa: E731
    elif place == len(whole) + len(part):
        how = f"{NUM_SILENT} silent connections"
        done = lambda: many_silent(url, good)  # noqa: E731
    elif place == len(whole) + len(part) + 1:
        how = "slow headers"
        done = lambda: dripping(url, good)  # noqa: E731
    elif rng.random() < 0.3:
        text = rng.choice(TEXTS)
        spot = rng.randrange(len(body))
        how, data = f"text at {spot}", request(path, body[:spot] + text + body[spot:])
        done = lambda: outcome_of(answer_to(url, data))  # noqa: E731
    else:
        how, changed = altered(body, rng)
        data = request(path, changed)
        done = lambda: outcome_of(answer_to(url, data))  # noqa: E731

    def good() -> None:
        if is_judge:
            good_judge(folder)
        else:
            good_reward()

    def run() -> Outcome:
        if is_judge:
            first_reading(folder)
        SEEN.records.clear()
        found = done()
        good()
        if how.startswith(("host", "two hosts", "token")) and found != "refused":
            return "wrong"
        if SEEN.records:
            raise AssertionError("\n".join(SEEN.records))
        return found

    return Case(f"{SERVERS[is_judge]}: {how}", run)


def outcome_of(status: int) -> Outcome:
    """4xx or an ended connection refuses; 5xx would say that the server is at fault."""
    if status >= 500 and status not in (501, 505):
        raise AssertionError(f"status {status}")
    return "refused" if status == 0 or status >= 400 else "same"


def unfinished(url: str, data: bytes) -> Outcome:
    with connected(url) as line, contextlib.suppress(ConnectionError):
        line.sendall(data)
        line.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            said = line.recv(1 << 16)
            return outcome_of(int(said.split()[1]) if said.startswith(b"HTTP/") else 0)
    return "refused"


def many_silent(url: str, good: Callable[[], None]) -> Outcome:
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connected(url)) for _ in range(NUM_SILENT)]
        for line in lines[::2]:
            line.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\n")
        good()
    return "same"


def dripping(url: str, good: Callable[[], None]) -> Outcome:
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connected(url)) for _ in range(20)]
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            for line in lines:
                with contextlib.suppress(OSError):
                    line.sendall(b"P")
            time.sleep(0.05)
        good()
    return "same"
