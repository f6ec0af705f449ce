"""One thread per reward: requests that arrive together are scored together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from vlrl.errors import RewardError
from vlrl.protocols import Reward
from vlrl.reward.server.wire_images import WireError
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

CLOSE_S = 30.0


@dataclass(eq=False)
class _Job:
    """One request's rollouts, whole groups."""

    rollouts: list[Rollout]
    future: Future[list[Score]] = field(default_factory=Future)
    arrived_s: float = field(default_factory=time.monotonic)


class Batcher:
    """Feeds a reward from many requests, one call at a time, as a GPU wants it.

    Groups of different requests stay apart: they are renumbered before they meet.
    """

    def __init__(
        self, name: str, reward: Reward, *, gather_s: float, max_batch: int, max_waiting: int
    ) -> None:
        self.name, self.reward = name, reward
        self.gather_s, self.max_batch, self.max_waiting = gather_s, max_batch, max_waiting
        self.num_calls = 0
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._lock = threading.Lock()
        self._num_waiting = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"reward-{name}", daemon=True)
        self._thread.start()

    def submit(self, rollouts: list[Rollout]) -> Future[list[Score]]:
        """Queue whole groups; raises WireError (503) where too many wait or the server ends."""
        job = _Job(rollouts)
        with self._lock:
            if self._closed:
                raise WireError("the server is shutting down", status=503, kind="busy")
            # A single request always fits, or the largest ones would never be served.
            if self._num_waiting and self._num_waiting + len(rollouts) > self.max_waiting:
                raise WireError(
                    f"{self._num_waiting} rollouts wait for reward {self.name!r} already",
                    status=503,
                    kind="busy",
                )
            self._num_waiting += len(rollouts)
            self._queue.put(job)
        return job.future

    def close(self) -> None:
        """Stop scoring; waiting requests get an error. The current call gets CLOSE_S to end."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        self._thread.join(CLOSE_S)

    def _work(self) -> None:
        held: _Job | None = None
        while True:
            first = self._queue.get() if held is None else held
            if first is None or self._closed:
                break
            batch, held = self._gather(first)
            self._run(batch)
            with self._lock:
                self._num_waiting -= sum(len(job.rollouts) for job in batch)
        waiting = [first, *self._drain()]
        for job in waiting:
            if job is not None and job.future.set_running_or_notify_cancel():
                error = WireError("the server is shutting down", status=503, kind="busy")
                job.future.set_exception(error)

    def _drain(self) -> list[_Job | None]:
        left = []
        while not self._queue.empty():
            left.append(self._queue.get_nowait())
        return left

    def _gather(self, first: _Job) -> tuple[list[_Job], _Job | None]:
        """The jobs of the next call, and one that no longer fitted in."""
        batch, total = [first], len(first.rollouts)
        deadline = first.arrived_s + self.gather_s
        while total < self.max_batch:
            try:
                left_s = deadline - time.monotonic()
                job = self._queue.get(left_s > 0, max(left_s, 1e-6))
            except queue.Empty:
                break
            if job is None:  # the end: `_closed` is set, so the next turn stops
                self._queue.put(None)
                break
            if total + len(job.rollouts) > self.max_batch:
                return batch, job
            batch.append(job)
            total += len(job.rollouts)
        return batch, None

    def _run(self, batch: Sequence[_Job]) -> None:
        jobs = [job for job in batch if job.future.set_running_or_notify_cancel()]
        if not jobs:
            return
        rollouts = _merged(jobs)
        try:
            self.num_calls += 1
            scores = score(self.reward, rollouts)
        except BaseException as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(_as_failure(error))
                return
            # One client's bad rollout must not cost the others their scores.
            for job in jobs:
                self._run_alone(job)
            return
        start = 0
        for job in jobs:
            job.future.set_result(scores[start : start + len(job.rollouts)])
            start += len(job.rollouts)

    def _run_alone(self, job: _Job) -> None:
        try:
            self.num_calls += 1
            scores = score(self.reward, job.rollouts)
        except BaseException as error:
            job.future.set_exception(_as_failure(error))
        else:
            job.future.set_result(scores)


def _as_failure(error: BaseException) -> Exception:
    """`error`, but never one that would end the server's event loop."""
    if isinstance(error, Exception):
        return error
    failure = RewardError(f"the reward ended with {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _merged(jobs: Sequence[_Job]) -> list[Rollout]:
    """All rollouts in order; every client counts its groups from 0, here each has its own."""
    numbers: dict[tuple[int, int], int] = {}
    merged = []
    for place, job in enumerate(jobs):
        for rollout in job.rollouts:
            rollout.group = numbers.setdefault((place, rollout.group), len(numbers))
            merged.append(rollout)
    return merged
