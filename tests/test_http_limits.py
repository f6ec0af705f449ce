"""What a slow, endless or packed answer costs a client, and what an address may hold."""

from __future__ import annotations

import gzip
import socket
import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from helpers_listening import listening

from vlrl.config.resolve import check
from vlrl.errors import ConfigError
from vlrl.eval.endpoint import host_of
from vlrl.http.address import shown
from vlrl.http.client import CallError, Client
from vlrl.judge.endpoint import EndpointJudgeOptions
from vlrl.rewards.remote import RemoteOptions

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SECRET = "s3cret"


def speaking(say: Callable[[socket.socket], None]) -> AbstractContextManager[str]:
    """A server that does with every connection what `say` does, after reading the request."""
    return listening(lambda request, connection: say(connection))


def drip(before: bytes) -> Callable[[socket.socket], None]:
    """A byte every tenth of a second, well within any limit of one read."""

    def say(connection: socket.socket) -> None:
        connection.sendall(before)
        for _ in range(300):
            connection.sendall(b"x")
            time.sleep(0.1)

    return say


def called(url: str, **options: object) -> bytes:
    given = {"timeout_s": 0.6, "max_tries": 1, "backoff_s": 0.0, **options}
    client = Client(url, **given)  # type: ignore[arg-type]
    try:
        return client.call("POST", "/v1", json={}).content
    finally:
        client.close()


@pytest.mark.parametrize(
    "before",
    [b"", HEAD, HEAD + b"Content-Length: 300\r\n\r\n"],
    ids=["status line", "headers", "body"],
)
def test_a_byte_at_a_time_ends_with_the_time_limit(before: bytes) -> None:
    with speaking(drip(before)) as url:
        began = time.monotonic()
        with pytest.raises(CallError, match=r"^ReadTimeout: .*after 1 try"):
            called(url)
        assert 0.5 < time.monotonic() - began < 5


def test_a_limit_holds_for_each_call_not_for_the_first_alone() -> None:
    answer = HEAD + b"Content-Length: 2\r\n\r\n{}"
    with speaking(lambda connection: connection.sendall(answer)) as url:
        client = Client(url, 0.5, 2, 0.0)
        for _ in range(3):
            assert client.call("GET", "/").content == b"{}"
            time.sleep(0.3)
        client.close()


def test_an_endless_answer_is_cut_off() -> None:
    def say(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"\r\n")
        while True:
            connection.sendall(b" " * (1 << 16))

    with speaking(say) as url, pytest.raises(CallError, match="more than 1000000 bytes"):
        called(url, timeout_s=30.0, max_answer_bytes=1_000_000)


def test_headers_may_hold_any_bytes() -> None:
    rest = b"\r\nX: \xff\r\nRetry-After: \xfe\r\nContent-Length: 2\r\n\r\n{}"
    with speaking(lambda connection: connection.sendall(b"HTTP/1.1 200 OK" + rest)) as url:
        assert called(url) == b"{}"
    with (
        speaking(lambda connection: connection.sendall(b"HTTP/1.1 503 Oops" + rest)) as url,
        pytest.raises(CallError, match=r"HTTP 503: \{\}"),
    ):
        called(url)


@pytest.mark.parametrize("status", [b"200 OK", b"500 Oops"])
def test_a_gzip_bomb_is_not_unpacked(status: bytes) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    head = b"HTTP/1.1 " + status + b"\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    with speaking(lambda connection: connection.sendall(head % len(bomb) + bomb)) as url:
        tracemalloc.start()
        with pytest.raises(CallError, match=r"compressed|HTTP 500"):
            called(url, timeout_s=30.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (f"http://me:{SECRET}@host:1/v1", "http://***@host:1/v1"),
        (f"http://me:{SECRET}/x@host/v1", "http://***@host/v1"),
        (f"https://{SECRET}@host", "https://***@host"),
        (f"http://host/v1#{SECRET}", "http://host/v1#***"),
        (f"me:{SECRET}@host/v1", "***@host/v1"),
        (f"https:/me:{SECRET}@host", "***@host"),
        ("http://host:1/v1", "http://host:1/v1"),
    ],
)
def test_passwords_are_masked_and_refused(url: str, masked: str) -> None:
    assert shown(url) == masked
    if masked == url:
        return
    for refused in (
        lambda: check(RemoteOptions, {"url": url}),
        lambda: check(EndpointJudgeOptions, {"url": url, "model": "m"}),
        lambda: host_of(url),
    ):
        with pytest.raises(ConfigError, match=r"environment variable|text that matches") as error:
            refused()
        assert SECRET not in str(error.value)


def test_a_key_in_the_query_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="query") as error:
        host_of(f"http://host/v1?key={SECRET}")
    assert SECRET not in str(error.value)
