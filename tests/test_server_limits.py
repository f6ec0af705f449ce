"""What strangers can do to a server: stay silent, send too much, call it by another name."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from helpers_served import noise_groups
from helpers_server import NODES, one, post, remote, running, values

from vlrl.http import connections, serving
from vlrl.http.serving import MAX_HEADER_BYTES, host_name

TOKEN = "t" * 32


def connected(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def said(url: str, *pieces: bytes) -> bytes:
    """What a server answers to raw bytes, up to its end of the connection or a pause."""
    with connected(url) as line:
        line.settimeout(5)
        answer = b""
        with contextlib.suppress(OSError):
            for piece in pieces:
                line.sendall(piece)
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in answer and (data := line.recv(1 << 16)):
                answer += data
        return answer


@pytest.mark.parametrize("num", [130, 400])
def test_silent_connections_stop_nobody(num: int) -> None:
    with running(NODES, max_connections=8) as server, contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connected(server.url)) for _ in range(num)]
        for line in lines[::2]:
            line.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\n")
        client = remote(server.url, "brightness", max_tries=1, timeout_s=20)
        assert len(values(client, noise_groups(1, 2))) == 2
        client.close()
        deadline = time.monotonic() + 20
        while len(server.server.server_state.connections) > connections.MAX_SILENT:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("words", [b"", b"GET /health HTTP/1.1\r\nX-A: b\r\n"])
def test_a_silent_connection_ends(monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.3)
    with running(NODES) as server, connected(server.url) as line:
        line.sendall(words)
        for letter in words:  # a drip does not help
            time.sleep(0.02)
            with contextlib.suppress(OSError):
                line.sendall(bytes([letter]))
        with contextlib.suppress(ConnectionError):
            while line.recv(1 << 16):
                pass
        deadline = time.monotonic() + 10
        while server.server.server_state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_slow_reward_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.2)
    node = {"place": {**NODES["place"], "seconds": 1.0}}
    with running(node) as server:
        client = remote(server.url, "place", max_tries=1)
        assert len(values(client, noise_groups(1, 2))) == 2
        client.close()


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "BODY_TIMEOUT_S", 0.3)
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with running(NODES) as server:
        assert b" 408 " in said(server.url, head + b"Content-Length: 100\r\n\r\n{")


def test_the_token_is_checked_before_the_body_comes() -> None:
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with running(NODES, TOKEN) as server:
        assert b" 401 " in said(server.url, head + b"Content-Length: 200000000\r\n\r\n")
        assert b" 401 " in said(server.url, head + b"Transfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize("size", [MAX_HEADER_BYTES + 1, 5 << 20])
@pytest.mark.parametrize("end", [b"\r\n\r\n", b""])
def test_long_headers_are_refused(size: int, end: bytes) -> None:
    lines = b"X-%d: " + b"a" * 1000 + b"\r\n"
    many = b"".join(lines % i for i in range(size // 1000 + 1))
    for text in (b"X: " + b"a" * size, many):
        with running(NODES, TOKEN) as server:
            answer = said(server.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n", text, end)
            # Beyond what is read the connection just ends.
            assert not answer or answer[9:12] in (b"400", b"431")
            key = {"Authorization": f"Bearer {TOKEN}"}
            assert httpx2.get(f"{server.url}/health", headers=key).status_code == 200


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:80", "localhost"), ("[::1]:80", "[::1]"), ("A.b.", "a.b"), ("", ""),
     ("[::1", "[::1]"), ("127.0.0.1", "127.0.0.1")],
)  # fmt: skip
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("host", "token", "hosts", "status"),
    [
        ("localhost", None, (), 200), ("127.0.0.1:99", None, (), 200), ("[::1]:9", None, (), 200),
        ("evil.example", None, (), 400), ("evil.example:80", None, (), 400),
        ("localhost.evil.example", None, (), 400), ("127.0.0.1.evil.example", None, (), 400),
        ("gpu7:8088", None, ("GPU7",), 200), ("evil.example", None, ("gpu7",), 400),
        ("gpu7:8088", TOKEN, (), 200), ("evil.example", TOKEN, ("gpu7",), 400),
    ],
)  # fmt: skip
def test_another_name_is_refused(
    host: str, token: str | None, hosts: tuple[str, ...], status: int
) -> None:
    with running(NODES, token, hosts=hosts) as server:
        headers = {"Host": host, "Authorization": f"Bearer {token}"}
        answer = httpx2.get(f"{server.url}/health", headers=headers)
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["error"]["field"] == "host"
            scored = httpx2.post(f"{server.url}/score", json=one(), headers=headers)
            assert scored.status_code == 400


def test_more_requests_than_allowed_are_told_to_come_back() -> None:
    node = {"place": {**NODES["place"], "seconds": 1.0}}
    with running(node, max_connections=1) as server, ThreadPoolExecutor(1) as pool:
        body = {**one(), "reward": "place"}
        first = pool.submit(post, server, body)
        while not server.rewards.shell.num_requests:
            time.sleep(0.01)
        second = post(server, body)
        assert (second.status_code, second.json()["error"]["kind"]) == (503, "busy")
        assert second.headers["retry-after"] == "1"
        assert first.result().status_code == 200
        assert post(server, body).status_code == 200
