"""The one HTTP client, against a real server that follows a script."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vlrl.http.client import CallError, Client

Answer = tuple[int, dict[str, str], bytes]


class Script:
    """Answers in order; records what it was sent."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.seen: list[tuple[str, str, str | None, bytes]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                key = self.headers.get("Authorization")
                script.seen.append((self.command, self.path, key, self.rfile.read(length)))
                status, headers, body = script.answers.pop(0)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.http.shutdown()
    made.http.server_close()


def client(url: str, waits: list[float], **options: object) -> Client:
    given = {"timeout_s": 5.0, "max_tries": 3, "backoff_s": 1.0, "jitter": 0.0, **options}
    return Client(url, sleep=waits.append, **given)  # type: ignore[arg-type]


def test_pauses_double_and_the_key_is_sent_each_time(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    script.answers = [(503, {}, b"busy"), (429, {"Retry-After": "7"}, b""), (200, {}, b"yes")]
    asked = client(script.url + "/", waits, key="secret", name="oracle")
    with caplog.at_level(logging.WARNING):
        assert asked.call("POST", "/v1", json={"a": 1}).content == b"yes"
    assert waits == [1.0, 7.0]
    assert script.seen == [("POST", "/v1", "Bearer secret", b'{"a":1}')] * 3
    assert f"oracle {script.url}, try 1 of 3: HTTP 503: busy; retrying in 1.0 s" in caplog.text


def test_a_call_does_not_wait_for_the_answers_to_others() -> None:
    """Aborting what is under way reaches a server that works on hundreds of requests."""
    num, arrived, aborted = 120, threading.Semaphore(0), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/abort":
                aborted.set()
            else:
                arrived.release()
                aborted.wait(10)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = num

    http = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    asked = client(f"http://127.0.0.1:{http.server_address[1]}", [], max_tries=1)
    asked.connect()
    with ThreadPoolExecutor(num) as pool:
        calls = [pool.submit(asked.call, "GET", "/draw") for _ in range(num)]
        try:
            assert all(arrived.acquire(timeout=4) for _ in range(num))
        finally:
            asked.call("GET", "/abort")
        assert all(call.result().status_code == 200 for call in calls)
    http.shutdown()
    http.server_close()


def test_a_refusal_is_final_and_the_last_try_says_how_many(script: Script) -> None:
    waits: list[float] = []
    asked = client(script.url, waits)
    script.answers = [(404, {}, b"nothing here")]
    with pytest.raises(CallError, match=r"^HTTP 404: nothing here$") as refused:
        asked.call("GET", "/x")
    assert (refused.value.problem.is_final, waits) == (True, [])
    script.answers = [(500, {}, b"")] * 3
    with pytest.raises(CallError, match=r"^HTTP 500:  \(after 3 tries\)$") as failed:
        asked.call("GET", "/x")
    assert (failed.value.problem.is_final, waits) == (False, [1.0, 2.0])


def test_nobody_there_is_tried_again(script: Script) -> None:
    waits: list[float] = []
    with pytest.raises(CallError, match=r"^ConnectError: .*\(after 1 try\)$"):
        client("http://127.0.0.1:9", waits, max_tries=1).call("GET", "/")
    assert waits == []


def test_jitter_stays_in_its_share_and_leaves_the_runs_random_numbers_alone() -> None:
    waits: list[float] = []
    random.seed(3)
    before = random.getstate()
    with pytest.raises(CallError, match="after 5 tries"):
        client("http://127.0.0.1:9", waits, max_tries=5, jitter=0.5).call("GET", "/")
    assert random.getstate() == before
    for number, wait_s in enumerate(waits):
        assert 0.5 * 2**number <= wait_s <= 1.5 * 2**number


def test_this_machine_is_reached_without_the_environments_proxy(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    script.answers = [(200, {}, b"direct")]
    assert client(script.url, []).call("GET", "/").content == b"direct"


@pytest.mark.parametrize("charset", ["zlib", "base64", "idna", "undefined", "rot13", "utf-7", "x"])
def test_a_servers_charset_is_not_believed(script: Script, charset: str) -> None:
    """Python has codecs by these names, which decode no text or raise."""
    kind = {"Content-Type": f"text/plain; charset={charset}"}
    script.answers = [(400, kind, b"no \xc3\xa4"), (200, kind, b'{"a": "\xc3\xa4"}')]
    with pytest.raises(CallError, match="HTTP 400: no ä"):
        client(script.url, []).call("GET", "/a")
    assert client(script.url, []).call("GET", "/a").json() == {"a": "ä"}
