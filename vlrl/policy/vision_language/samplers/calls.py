"""Calls of a rollout server: JSON there and back, and what to do where one fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vlrl.errors import EngineError
from vlrl.http.client import CallError, Client, Problem, status_problem
from vlrl.policy.vision_language.options import EngineOptions

if TYPE_CHECKING:
    import httpx2

MAX_ANSWER_BYTES = 4 << 30
"""A rendered picture comes back as its patches in base64: up to 32 bytes a pixel (fp32, two
frames), 253 MiB for a screen of 3840 x 2160, and a prompt may have several."""
NOT_OFFERED = (404, 405)


class Calls:
    """One rollout server, for many threads."""

    def __init__(self, options: EngineOptions, url: str, how_to_start: str) -> None:
        """how_to_start: a command, for servers that lack what is asked of them."""
        self.url, self.how_to_start = url, how_to_start
        self.client = Client(
            url,
            options.timeout_s,
            options.max_tries,
            options.backoff_s,
            key=options.key,
            name="rollout server",
            problem_of=self._problem,
            max_answer_bytes=MAX_ANSWER_BYTES,
        )

    def _problem(self, response: httpx2.Response) -> Problem:
        found = status_problem(response)
        if response.status_code not in NOT_OFFERED:
            return found
        return Problem(f"{found.text}; start it by {self.how_to_start}", found.is_final)

    def __call__(self, method: str, path: str, body: object = None) -> Mapping[str, Any]:
        """What the server answers; a list or a number as {"value": ...}. Raises EngineError."""
        where = f"rollout server {self.url}, {method} {path}"
        try:
            response = self.client.call(method, path, json=body)
        except CallError as error:
            # A refusal says itself what is wrong.
            hint = "" if error.problem.is_final else "; if it has ended, start it again"
            raise EngineError(f"{where}: {error}{hint}") from error
        if not response.content:
            return {}
        try:
            found = response.json()
        except ValueError as error:
            raise EngineError(f"{where}: not JSON: {error}") from error
        return found if isinstance(found, Mapping) else {"value": found}

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Inside, what the server answered is taken apart; raises EngineError where that fails."""
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"rollout server {self.url}, {path}: an answer of another form "
                f"({type(error).__name__}: {error}); start it by {self.how_to_start}"
            ) from error
