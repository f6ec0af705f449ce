"""Scoring overlapped with sampling: answers are scored while the next group is sampled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Literal

import torch
from torch import Tensor

from vlrl.errors import ConfigError
from vlrl.protocols import Ready, Reward, Task, TrainableReward
from vlrl.reward.parts import walk
from vlrl.train.scoring import score_rollouts
from vlrl.types import Rollout


def overlaps_sampling(reward: Reward, choice: Literal["auto", "on", "off"], num_ranks: int) -> bool:
    """Whether to score while sampling; raises ConfigError where `on` could hang.

    auto: where a part of the reward waits for another machine. Rewards that learn talk to other
    ranks when they load and learn: with two threads the order of such calls is undefined.
    """
    nodes = list(walk(reward))
    learns = any(isinstance(node, TrainableReward) for node in nodes) and num_ranks > 1
    if choice == "on" and learns:
        raise ConfigError(
            "scoring.overlap_sampling: on, but a part of the reward learns and there are several "
            "ranks; leave it on auto"
        )
    waits = any(node.waits for node in nodes)
    return choice == "on" or (choice == "auto" and waits and not learns)


class ScoringQueue:
    """Scores batches of whole groups in order, on one thread of its own; use it as a context.

    with ScoringQueue(task, reward, group_size) as queue:
        policy.sample(samples, group_size, seed, ready=queue.add)
        rewards = queue.result()

    Each batch is parsed and scored in place, by itself. With `overlap=False` all of them together,
    in `result` and on the caller's thread: models like large batches.

    The thread runs without gradients and on the caller's GPU: torch keeps both for each thread,
    and a new thread has neither. It shares torch's global random generator, so neither sampling
    nor a reward should draw from that.
    """

    def __init__(
        self,
        task: Task,
        reward: Reward,
        group_size: int,
        *,
        overlap: bool = True,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        """turn: held while scoring, by queues that share a reward."""
        self.task, self.reward, self.group_size = task, reward, group_size
        self._turn = nullcontext() if turn is None else turn
        self.overlap = overlap
        self._waiting: list[Rollout] = []
        self.scoring_s = 0.0
        """Seconds that the thread was busy."""
        self.waited_s = 0.0
        """Seconds that `result` had to wait for it: what overlapping did not hide."""
        self._device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._batches: list[Future[Tensor]] = []
        self._failed = False

    def __enter__(self) -> ScoringQueue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Score nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def begin(self) -> Ready:
        """What takes the groups of a drawing that starts, or starts anew."""
        self._waiting, self._batches, self._failed = [], [], False
        return self.add

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """Queue a batch; raises ValueError where a group is not whole. Does not wait."""
        for group, count in Counter(rollout.group for rollout in rollouts).items():
            if count != self.group_size:
                raise ValueError(
                    f"group {group} has {count} of {self.group_size} rollouts; rewards see whole "
                    "groups only"
                )
        if self.overlap:
            self._batches.append(self._pool.submit(self._score, list(rollouts)))
        else:
            self._waiting += rollouts

    def result(self) -> Tensor:
        """All rewards, float32 [B], in the order of `add`; nan where the reward does not apply.

        Raises the first exception of a reward as it was raised; what came after is not scored.
        """
        if not self.overlap:
            return score_rollouts(self.task, self.reward, self._waiting)
        start = time.perf_counter()
        try:
            rewards = [batch.result() for batch in self._batches]
        finally:
            self.waited_s += time.perf_counter() - start
        return torch.cat(rewards) if rewards else torch.empty(0)

    def _score(self, rollouts: list[Rollout]) -> Tensor:
        if self._failed:
            return torch.empty(0)  # never seen: `result` raises at an earlier batch
        if self._device is not None:
            torch.cuda.set_device(self._device)
        start = time.perf_counter()
        try:
            with self._turn, torch.no_grad():
                return score_rollouts(self.task, self.reward, rollouts)
        except BaseException:
            self._failed = True
            raise
        finally:
            self.scoring_s += time.perf_counter() - start
