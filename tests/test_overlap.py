"""Scoring overlapped with sampling."""

from __future__ import annotations

import threading
import time
import traceback

import pytest
import torch

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward
from vlrl.reward.tree import build_reward
from vlrl.train.scoring import score_rollouts
from vlrl.train.scoring_queue import ScoringQueue, overlaps_sampling
from vlrl.types import Finish, Rollout, Sample, Score


class Words:
    """A task that uses answers unparsed."""

    def parse(self, sample, output):
        return output


class Recorder(Reward):
    """Scores an answer by its number; records where and how it is called."""

    name = "recorder"
    range = (0.0, 1000.0)
    needs = frozenset()

    def __init__(self, seconds: float = 0.0, gate: threading.Event | None = None) -> None:
        self.seconds, self.gate = seconds, gate
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.with_grad: list[bool] = []

    def __call__(self, rollouts):
        if self.gate is not None:
            assert self.gate.wait(30)
        time.sleep(self.seconds)
        self.batches.append([rollout.output for rollout in rollouts])
        self.threads.add(threading.current_thread().name)
        self.with_grad.append((torch.ones(1, requires_grad=True) * 2).requires_grad)
        return [self.one(rollout.output) for rollout in rollouts]

    def one(self, number):
        if number == 13:
            raise ValueError("thirteen")
        return Score(None if number == 7 else number / 4)


def batch(*numbers: int, G: int = 2) -> list[Rollout]:
    """Groups of G; every batch counts its groups from 0, as a policy does."""
    return [
        Rollout(Sample(f"s{n}", "words", (), None), i // G, i % G, n, Finish.STOP, 1, 0)
        for i, n in enumerate(numbers)
    ]


BATCHES = ([1, 2, 3, 7], [9, 8], [4, 4, 6, 5])


def test_as_scored_one_after_the_other():
    reward = Recorder()
    plain = [score_rollouts(Words(), Recorder(), batch(*numbers)) for numbers in BATCHES]
    mine = [batch(*numbers) for numbers in BATCHES]
    with ScoringQueue(Words(), reward, 2) as queue:
        for rollouts in mine:
            queue.add(rollouts)
        rewards = queue.result()
    torch.testing.assert_close(rewards, torch.cat(plain), equal_nan=True, rtol=0, atol=0)
    assert rewards.dtype == torch.float32
    assert rewards.isnan().nonzero().flatten().tolist() == [3]
    assert reward.batches == [list(numbers) for numbers in BATCHES]
    assert [r.score.value for r in mine[1]] == [2.25, 2.0]
    assert all(r.parsed == r.output for rollouts in mine for r in rollouts)


def test_after_sampling_all_at_once_and_on_the_callers_thread():
    reward = Recorder()
    with ScoringQueue(Words(), reward, 2, overlap=False) as queue:
        for numbers in BATCHES:
            queue.add(batch(*numbers))
        assert reward.batches == []
        rewards = queue.result()
    assert reward.batches == [[n for numbers in BATCHES for n in numbers]]
    assert reward.threads == {threading.current_thread().name}
    plain = [score_rollouts(Words(), Recorder(), batch(*numbers)) for numbers in BATCHES]
    torch.testing.assert_close(rewards, torch.cat(plain), equal_nan=True, rtol=0, atol=0)


def test_only_rewards_that_wait_are_asked_meanwhile_and_none_beside_one_that_learns():
    def parts(*leaves):
        return build_reward({"sum": list(leaves)})

    box, far = {"use": "gaussian_point"}, {"use": "remote"}
    learns = {"use": "adversarial_dino"}
    assert not overlaps_sampling(parts(box), "auto", 8)
    assert overlaps_sampling(parts(box, far), "auto", 8)
    assert not overlaps_sampling(parts(box, far), "off", 8)
    assert overlaps_sampling(parts(box), "on", 8)
    assert not overlaps_sampling(parts(far, learns), "auto", 2)
    assert overlaps_sampling(parts(far, learns), "auto", 1)
    with pytest.raises(ConfigError, match="leave it on auto"):
        overlaps_sampling(parts(learns), "on", 2)


def test_one_thread_of_its_own_without_gradients():
    reward = Recorder()
    assert torch.is_grad_enabled()
    with ScoringQueue(Words(), reward, 2) as queue:
        for numbers in BATCHES:
            queue.add(batch(*numbers))
        queue.result()
    assert reward.with_grad == [False] * 3
    assert len(reward.threads) == 1
    assert threading.current_thread().name not in reward.threads
    assert not [t for t in threading.enumerate() if t.name in reward.threads]


def test_sampling_goes_on_meanwhile():
    gate = threading.Event()
    reward = Recorder(gate=gate)
    with ScoringQueue(Words(), reward, 2) as queue:
        for numbers in BATCHES:
            queue.add(batch(*numbers))
        # All are accepted before any is scored.
        assert reward.batches == []
        gate.set()
        assert len(queue.result()) == 10


def test_seconds_of_scoring_and_of_waiting():
    with ScoringQueue(Words(), Recorder(seconds=0.2), 2) as queue:
        queue.add(batch(1, 2))
        queue.add(batch(3, 4))
        queue.result()
        assert queue.scoring_s >= 0.4
        assert 0.3 <= queue.waited_s <= queue.scoring_s + 1.0
    with ScoringQueue(Words(), Recorder(seconds=0.1), 2) as queue:
        queue.add(batch(1, 2))
        while not queue._batches[0].done():
            time.sleep(0.01)
        queue.result()
        assert queue.scoring_s >= 0.1
        assert queue.waited_s < 0.1


def test_nothing_to_score():
    with ScoringQueue(Words(), Recorder(), 2) as queue:
        assert queue.result().shape == (0,)
        assert queue.scoring_s == 0.0
    with ScoringQueue(Words(), Recorder(), 2) as queue:
        queue.add([])
        queue.add(batch(1, 2))
        assert queue.result().tolist() == [0.25, 0.5]


def test_the_first_exception_comes_back_as_it_was():
    reward = Recorder()
    with ScoringQueue(Words(), reward, 2) as queue:
        queue.add(batch(1, 2))
        queue.add(batch(13, 2))
        queue.add(batch(3, 4))
        with pytest.raises(RewardError, match="ValueError: thirteen") as caught:
            queue.result()
    # Its traceback reaches the line that raised it, and nothing was scored after it.
    cause = caught.value.__cause__
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "score_rollouts" in frames
    assert traceback.extract_tb(cause.__traceback__)[-1].name == "one"
    assert reward.batches == [[1, 2], [13, 2]]


def test_only_whole_groups():
    with ScoringQueue(Words(), Recorder(), 3) as queue:
        with pytest.raises(ValueError, match="group 1 has 1 of 3 rollouts"):
            queue.add(batch(1, 2, 3, 4, G=3))
        queue.add(batch(1, 2, 3, G=3))
        assert len(queue.result()) == 3


def test_an_error_of_the_sampler_ends_the_thread():
    gate = threading.Event()
    reward = Recorder(gate=gate)
    threading.Timer(0.1, gate.set).start()

    def sample() -> None:
        with ScoringQueue(Words(), reward, 2) as queue:
            for numbers in BATCHES:
                queue.add(batch(*numbers))
            raise KeyError("out of memory")

    with pytest.raises(KeyError):
        sample()
    assert len(reward.batches) <= 1  # the queue was dropped with the step
