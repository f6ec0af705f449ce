"""A reward that a reward server computes (`vlrl serve-rewards`, docs/reward_server.md)."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from vlrl.config.section import OpenEnd, Section
from vlrl.errors import RewardError, did_you_mean
from vlrl.http.access import read_token
from vlrl.http.address import check_address_text
from vlrl.http.client import RETRIED, CallError, Client, Problem
from vlrl.protocols import Reward
from vlrl.reward.server.wire import (
    WIRE_VERSION,
    Health,
    check_servable,
    decode_scores,
    encode_request,
    read,
)
from vlrl.reward.server.wire_images import WireError
from vlrl.types import Rollout, Score

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger(__name__)

NUM_IDS_SHOWN = 8


class RemoteOptions(Section):
    """How a served reward is called."""

    url: Annotated[str, AfterValidator(check_address_text)] = Field(
        "http://127.0.0.1:8088", pattern="^https?://[^/]"
    )
    reward: str | None = None
    """Its name on the server; may be left out where the server has only one."""
    range: tuple[OpenEnd, OpenEnd] = (0.0, 1.0)
    """As the server declares it, null for an end without a limit; compared at the first call."""
    needs: tuple[str, ...] = ("image", "caption")
    """What is sent; must hold all that the served reward needs."""
    columns: tuple[str, ...] = ()
    """Columns of the data that are sent too, for TRL-style rewards and rewards on texts."""
    references: Literal["send", "path"] = "send"
    """Send reference images, or only their paths below the server's `references:` folder."""
    token_env: str | None = None
    """Environment variable that holds the server's token."""
    timeout_s: float = Field(300.0, gt=0)
    """Per try; the first call may have to wait for the server to load a model."""
    max_tries: PositiveInt = 4
    backoff_s: NonNegativeFloat = 1.0
    """Pause before the second try; doubled before each further one, give or take a half."""
    batch_size: PositiveInt = 32
    """Rollouts per request; a group is never split, so a larger group makes a larger request."""
    concurrency: PositiveInt = 4
    """Requests in flight at once."""
    failure_budget: NonNegativeInt = 0
    """Rollouts that this process may leave without a score ("does not apply") before it stops."""

    @field_validator("range", mode="before")
    @classmethod
    def _open_ends(cls, value: object) -> object:
        # JSON has no infinity: null is also what a saved config holds in its place.
        if isinstance(value, list | tuple) and len(value) == 2:
            ends = zip(value, (-math.inf, math.inf), strict=True)
            return tuple(limit if end is None else end for end, limit in ends)
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.range
        if not low < high:
            raise ValueError(f"range: the low end {low:g} is not below the high end {high:g}")
        check_servable(self.needs, "needs")
        return self


class NoScoreError(RewardError):
    """No score this time, though the request was right; counts against `failure_budget`."""


class Remote(Reward):
    """What a reward server says; a dead server stops the run and is never a reward of 0.

    Parts come back as `<label>/<the server's name>`. Requests hold whole groups.
    """

    Options = RemoteOptions
    options: RemoteOptions
    formula = "the served reward's value"
    units = "the served reward's"
    source = "own"
    waits = True
    noisy = True

    def __init__(
        self, options: RemoteOptions, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.options = options
        self.name = "remote"
        self.range = options.range
        self.needs = frozenset(options.needs)
        self.num_given_up = 0
        """Rollouts without a score so far, of this process."""
        self._client = Client(
            options.url,
            options.timeout_s,
            options.max_tries,
            options.backoff_s,
            key=read_token(options.token_env),
            name="reward server",
            problem_of=_problem_of,
            sleep=sleep,
        )
        self._lock = threading.Lock()
        self._served: tuple[str, Health] | None = None

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; raises RewardError that names the server and samples."""
        if not rollouts:
            return []
        try:
            name, health = self._known()
        except NoScoreError as problem:
            return [self._named(score) for score in self._give_up(rollouts, problem)]
        scores: dict[int, Score] = {}
        requests = list(_requests(rollouts, self.options.batch_size))
        pool = ThreadPoolExecutor(self.options.concurrency, thread_name_prefix="remote")
        try:
            answers = [
                pool.submit(self._score, name, health, [rollouts[i] for i in rows])
                for rows in requests
            ]
            for rows, answer in zip(requests, answers, strict=True):
                scores.update(zip(rows, answer.result(), strict=True))
        finally:
            # After an error the other requests are not awaited: the run is about to stop.
            pool.shutdown(wait=False, cancel_futures=True)
        return [self._named(scores[i]) for i in range(len(rollouts))]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _known(self) -> tuple[str, Health]:
        """The reward's name and the server's limits, fetched once; RewardError on a misfit."""
        if self._served is None:
            body = self._ask("GET", "/health")
            try:
                health = read(Health, body)
            except WireError as error:
                raise self._error(f"/health is not a reward server's: {error}") from None
            if health.wire != WIRE_VERSION:
                raise self._error(
                    f"it speaks version {health.wire} of the wire format and this program "
                    f"{WIRE_VERSION}; run the same vlrl on both sides"
                )
            self._served = self._fitting(health), health
        return self._served

    def _fitting(self, health: Health) -> str:
        name = self.options.reward
        if name is None and len(health.rewards) == 1:
            name = next(iter(health.rewards))
        if name is None:
            raise self._error(f"it serves {', '.join(sorted(health.rewards))}; choose: `reward:`")
        if name not in health.rewards:
            raise self._error(f"it has no reward {name!r}; {did_you_mean(name, health.rewards)}")
        served = health.rewards[name]
        low, high = (float(end) for end in served.range)
        if (low, high) != self.range:
            raise self._error(
                f"reward {name!r} has the range [{low:g}, {high:g}], but the config says "
                f"[{self.range[0]:g}, {self.range[1]:g}]; correct `range:`"
            )
        if not self.needs >= set(served.needs):
            raise self._error(
                f"reward {name!r} needs {', '.join(served.needs)}, but the config sends "
                f"{', '.join(sorted(self.needs))}; correct `needs:`"
            )
        return name

    def _score(self, name: str, health: Health, rollouts: list[Rollout]) -> list[Score]:
        options = self.options
        limits = health.limits
        if len(rollouts) > limits.max_rollouts:
            raise self._error(
                f"a request of {len(rollouts)} rollouts is over its limit of "
                f"{limits.max_rollouts}; lower `batch_size`, or raise the server's `max_rollouts`",
                rollouts,
            )
        body = encode_request(name, rollouts, self.needs, options.columns, options.references)
        if len(body) > limits.max_body_bytes:
            raise self._error(
                f"a request of {len(body)} bytes is over its limit of {limits.max_body_bytes}; "
                "lower `batch_size`, or raise the server's `max_body_mib`",
                rollouts,
            )
        try:
            answer = self._ask("POST", "/score", body, rollouts)
        except NoScoreError as problem:
            return self._give_up(rollouts, problem)
        try:
            return decode_scores(answer, rollouts, self.range)
        except WireError as error:
            raise self._error(f"unreadable scores: {error}", rollouts) from None

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        rollouts: Sequence[Rollout] = (),
    ) -> bytes:
        """The body of a 200; raises NoScoreError after the last try, RewardError on a refusal."""
        try:
            return self._client.call(method, path, content=body).content
        except CallError as error:
            failure = self._error(str(error), rollouts)
            if error.problem.is_final and error.problem.kind != "reward":
                raise failure from error
            raise NoScoreError(str(failure)) from error

    def _give_up(self, rollouts: Sequence[Rollout], problem: NoScoreError) -> list[Score]:
        """No scores for these, while the budget lasts; raises RewardError where it does not."""
        budget = self.options.failure_budget
        with self._lock:
            if self.num_given_up + len(rollouts) > budget:
                if budget == 0:
                    raise problem
                raise RewardError(
                    f"{problem}; {self.num_given_up} rollouts went without a score before, and "
                    f"failure_budget allows {budget}"
                ) from problem
            self.num_given_up += len(rollouts)
            log.warning(
                "%d rollouts get no score (%d of %d that failure_budget allows): %s",
                len(rollouts),
                self.num_given_up,
                budget,
                problem,
            )
        return [Score(None) for _ in rollouts]

    def _named(self, score: Score) -> Score:
        parts = {
            part if part == self.name else f"{self.name}/{part}": value
            for part, value in score.parts.items()
        }
        if self.options.failure_budget:
            parts[f"{self.name}/given_up"] = float(self.num_given_up)
        return Score(score.value, parts)

    def _error(self, message: str, rollouts: Sequence[Rollout] = ()) -> RewardError:
        ids = list(dict.fromkeys(rollout.sample.id for rollout in rollouts))
        shown = ", ".join(repr(one) for one in ids[:NUM_IDS_SHOWN])
        more = f" and {len(ids) - NUM_IDS_SHOWN} more" if len(ids) > NUM_IDS_SHOWN else ""
        whose = f" for {len(rollouts)} rollouts of samples {shown}{more}" if ids else ""
        return RewardError(f"reward server {self._client.url}{whose}: {message}")


def _requests(rollouts: Sequence[Rollout], batch_size: int) -> Iterator[list[int]]:
    """Rows of each request: whole groups, in order of their first rollout."""
    groups: dict[int, list[int]] = {}
    for row, rollout in enumerate(rollouts):
        groups.setdefault(rollout.group, []).append(row)
    rows: list[int] = []
    for members in groups.values():
        if rows and len(rows) + len(members) > batch_size:
            yield rows
            rows = []
        rows = rows + members
    if rows:
        yield rows


def _problem_of(response: httpx2.Response) -> Problem:
    """What an error response says; another program's response has no kind."""
    try:
        said: Any = response.json()["error"]
        kind, message = str(said["kind"]), str(said["message"])
    except (ValueError, LookupError, TypeError):
        kind, message = "", f"{response.text[:200]!r}; is that a reward server?"
    status = response.status_code
    if status == 500 and kind == "reward":
        return Problem(message, True, kind)
    text = f"HTTP {status} at {response.request.url.path}: {message}"
    return Problem(text, status not in RETRIED)
