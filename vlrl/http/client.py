"""One HTTP client for model and reward servers: retries, time limits, a bearer key."""

from __future__ import annotations

import logging
import random
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from vlrl.http.access import is_loopback
from vlrl.http.address import shown

if TYPE_CHECKING:
    import httpx2

    from vlrl.http.deadline import Deadline

log = logging.getLogger(__name__)

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses worth retrying; any other is the request's own fault."""
MAX_PAUSE_S = 120.0
CONNECT_TIMEOUT_S = 20.0
"""A host that is down is noticed within seconds, however long an answer may take."""
MAX_ANSWER_BYTES = 64 << 20
"""Far above any answer with log-probs or scores; beyond it the other side is not such a server."""
MAX_KEPT = 20
"""Connections that stay open between calls."""
MAX_PROBLEM_BYTES = 1 << 16
"""Of an answer other than 200; messages show its beginning only."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a response whose status is not 200."""

    text: str
    is_final: bool
    """A retry would get the same response."""
    kind: str = ""
    """The server's name for it, for callers that tell kinds of problems apart."""


class CallError(Exception):
    """A call that failed for good; its text says why and after how many tries."""

    def __init__(self, problem: Problem, num_tries: int) -> None:
        count = "1 try" if num_tries == 1 else f"{num_tries} tries"
        super().__init__(problem.text if problem.is_final else f"{problem.text} (after {count})")
        self.problem = problem


class _FailedTryError(Exception):
    def __init__(self, problem: Problem, asked_s: float = 0.0) -> None:
        super().__init__(problem.text)
        self.problem, self.asked_s = problem, asked_s


def status_problem(response: httpx2.Response) -> Problem:
    """The status and the beginning of the body."""
    text = f"HTTP {response.status_code}: {response.text[:200]}"
    return Problem(text, response.status_code not in RETRIED)


@dataclass(eq=False)
class Client:
    """A client of one server, for many threads; connects at the first call."""

    url: str
    """Base address; calls append their path."""
    timeout_s: float
    """For one try as a whole, from connecting to the last byte of the answer."""
    max_tries: int
    backoff_s: float
    """Pause before the second try; doubled before each further one."""
    key: str | None = None
    """Sent as `Authorization: Bearer <key>`."""
    jitter: float = 0.5
    """Pauses vary by this fraction, so that many clients do not retry at once."""
    name: str = "server"
    """Its name in log lines."""
    problem_of: Callable[[httpx2.Response], Problem] = status_problem
    sleep: Callable[[float], None] = time.sleep
    max_answer_bytes: int = MAX_ANSWER_BYTES
    _http: httpx2.Client | None = field(default=None, init=False, repr=False)
    _deadline: Deadline = field(init=False, repr=False)
    _random: random.Random = field(default_factory=random.Random, init=False, repr=False)
    """A generator of its own: pauses must not change what a run draws."""

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")

    def connect(self) -> None:
        """Open the connection pool; once, before calls from several threads."""
        if self._http is not None:
            return
        import httpx2

        from vlrl.http.deadline import Deadline, limit_calls

        # Nothing is compressed, so that a small answer cannot unpack to a huge one.
        headers = {"Accept-Encoding": "identity"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        limit = httpx2.Timeout(self.timeout_s, connect=min(self.timeout_s, CONNECT_TIMEOUT_S))
        # A proxy from the environment is not used for this machine's own address.
        local = is_loopback(httpx2.URL(self.url).host)
        # Callers bound their threads; a call must not wait for the answers to others.
        pool = httpx2.Limits(max_connections=None, max_keepalive_connections=MAX_KEPT)
        self._http = httpx2.Client(timeout=limit, limits=pool, headers=headers, trust_env=not local)
        self._deadline = Deadline()
        limit_calls(self._http, self._deadline)
        weakref.finalize(self, self._http.close)

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def call(
        self, method: str, path: str, *, json: object = None, content: bytes | None = None
    ) -> httpx2.Response:
        """The response, status 200; raises CallError. `content` is already JSON."""
        retrying = Retrying(
            stop=stop_after_attempt(self.max_tries),
            wait=self._pause_s,
            retry=retry_if_exception(_may_pass),
            sleep=self.sleep,
            before_sleep=self._warn,
            reraise=True,
        )
        try:
            return retrying(self._try, method, path, json, content)
        except _FailedTryError as error:
            raise CallError(error.problem, self.max_tries) from error.__cause__

    def _try(self, method: str, path: str, json: object, content: bytes | None) -> httpx2.Response:
        import httpx2

        self.connect()
        assert self._http is not None
        headers = {} if content is None else {"Content-Type": "application/json"}
        passing = (
            httpx2.TimeoutException,
            httpx2.NetworkError,
            httpx2.ProxyError,
            httpx2.RemoteProtocolError,
        )
        request = self._http.build_request(
            method, self.url + path, json=json, content=content, headers=headers
        )
        try:
            with self._deadline.within(self.timeout_s):
                response = self._read(self._http.send(request, stream=True))
        except httpx2.HTTPError as error:
            text = f"{type(error).__name__}: {error}"
            raise _FailedTryError(Problem(text, not isinstance(error, passing))) from error
        if response.status_code != 200:
            raise _FailedTryError(self.problem_of(response), retry_after_s(response))
        return response

    def _read(self, answer: httpx2.Response) -> httpx2.Response:
        """The whole answer; raises _FailedTryError where it is too long or compressed."""
        import httpx2

        is_good = answer.status_code == 200
        limit = self.max_answer_bytes if is_good else MAX_PROBLEM_BYTES
        body = bytearray()
        try:
            packing = answer.headers.get("content-encoding", "identity").strip().lower()
            if packing not in ("", "identity"):
                if is_good:
                    text = f"the answer is compressed ({packing[:20]!r}), which was not asked for"
                    raise _FailedTryError(Problem(text, True))
                limit = 0
            for chunk in answer.iter_raw():
                body += chunk[: limit + 1 - len(body)]
                if len(body) > limit:
                    break
        finally:
            answer.close()
        if is_good and len(body) > limit:
            text = f"the answer has more than {limit} bytes"
            raise _FailedTryError(Problem(text, True))
        # As bytes: a server may send what is no ASCII. Its charset is not believed: Python has
        # codecs by that name that decode no text, such as zlib, and all our servers speak UTF-8.
        left_out = (b"content-encoding", b"content-type")
        kept = [(k, v) for k, v in answer.headers.raw if k.lower() not in left_out]
        return httpx2.Response(
            answer.status_code, headers=kept, content=bytes(body[:limit]), request=answer.request
        )

    def _pause_s(self, state: RetryCallState) -> float:
        own_s = self.backoff_s * 2.0 ** (state.attempt_number - 1)
        own_s *= self._random.uniform(1 - self.jitter, 1 + self.jitter)
        return min(max(_failure(state).asked_s, own_s), MAX_PAUSE_S)

    def _warn(self, state: RetryCallState) -> None:
        log.warning(
            "%s %s, try %d of %d: %s; retrying in %.1f s",
            self.name,
            shown(self.url),
            state.attempt_number,
            self.max_tries,
            _failure(state),
            state.upcoming_sleep,
        )


def retry_after_s(response: httpx2.Response) -> float:
    """Seconds of the Retry-After header, a number or a date; 0 without one."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, _FailedTryError) and not error.problem.is_final


def _failure(state: RetryCallState) -> _FailedTryError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _FailedTryError)
    return error
