"""Rollouts by a server with SGLang's native interface, over real HTTP by the trainer's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_sglang import SglangServer
from test_engine import move
from test_policy import make_policy, problems

from vlrl.errors import ConfigError, EngineError
from vlrl.policy.vision_language.options import RESERVED
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.policy.vision_language.samplers.checked import CheckedSampler
from vlrl.policy.vision_language.samplers.sglang import SglangSampler

DRAW: dict[str, Any] = {"temperature": 0.7, "max_new_tokens": 7}


@pytest.fixture
def server(checkpoints: dict[str, Path], tmp_path: Path) -> Iterator[SglangServer]:
    made = SglangServer(checkpoints["qwen2_5_vl"], tmp_path, **DRAW)
    yield made
    made.stop()


def policy_of(server: SglangServer, **options: Any) -> VisionLanguagePolicy:
    engine = {"use": "sglang", "urls": [server.url], "max_tries": 2, "backoff_s": 0.0}
    engine |= options.pop("engine", {})
    return make_policy(server.model, engine=engine, **{**DRAW, **options})


@pytest.mark.parametrize("num_each", [1, 4])
def test_answers_and_log_probs_are_the_trainers(
    server: SglangServer, screens: Path, num_each: int
) -> None:
    policy = policy_of(server)
    for step in range(3):
        rollouts, traj = policy.sample(problems(screens, 3), num_each, seed=1)
        assert float((policy.score(traj) - traj.logp)[traj.mask].abs().max()) < 1e-4
        assert len(rollouts) == 3 * num_each
        assert server.weight_version == str(step + 1)
        move(policy)
    assert server.calls.count("/generate") == 9, "a picture once a group"


def test_greedy_answers_are_the_own_loops(server: SglangServer, screens: Path) -> None:
    own = make_policy(server.model, **DRAW)
    some = problems(screens, 3)
    expected = [r.output for r in own.sample(some, 1, seed=0, greedy=True)[0]]
    found = policy_of(server).sample(some, 1, seed=0, greedy=True)[0]
    assert [r.output for r in found] == expected


@pytest.mark.parametrize("fault", ["sync lost", "stale embeddings", "raw log-probs"])
def test_the_canary_catches(server: SglangServer, screens: Path, fault: str) -> None:
    policy = policy_of(server, engine={"max_gap": 0.02})
    policy.sample(problems(screens, 3), 4, seed=1)
    move(policy)
    server.faults.add(fault)
    with pytest.raises(EngineError, match=r"after version 1 .* look stale"):
        policy.sample(problems(screens, 3), 4, seed=1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("other prompt", r"differ at token 2.*bounds of pixels"),
        ("no log-probs", "without a log-prob of each token"),
        ("one missing", "3 answers came back for n = 4"),
        ("other form", r"/generate: an answer of another form \(IndexError.*sglang\.launch_server"),
        ("no number", "a token's log-prob is not finite"),
        ("image token", "it sampled a token of images"),
        ("aborted", "an answer ended by .*abort"),
        ("old", r"no prompt_token_ids.*0\.5\.13"),
        ("no such folder", "Failed to get weights iterator"),
        ("another trainer", "does someone else update this server"),
        ("dead", r"HTTP 503.*\(after 2 tries\); if it has ended, start it again$"),
    ],
)
def test_a_server_that_answers_otherwise_is_named(
    server: SglangServer, screens: Path, fault: str, message: str
) -> None:
    policy = policy_of(server)
    server.faults.add(fault)
    with pytest.raises(EngineError, match=message):
        policy.sample(problems(screens, 2), 4, seed=1)


@pytest.mark.parametrize(
    ("options", "facts", "message"),
    [
        ({"top_p": 0.9}, {}, "top_p and top_k must be off"),
        ({"top_k": 5}, {}, "top_p and top_k must be off"),
        ({"engine": {"swap": "middle"}}, {}, "swap: middle needs use: vllm"),
        ({}, {"context_length": 7}, "larger --context-length"),
        ({}, {"enable_deterministic_inference": True}, "the same random numbers"),
        ({}, {"preferred_sampling_params": {"min_p": 0.1}}, "--preferred-sampling-params"),
    ],
)
def test_start_refuses_what_would_not_be_exact(
    server: SglangServer, options: dict[str, Any], facts: dict[str, Any], message: str
) -> None:
    server.facts = facts
    with pytest.raises((ConfigError, EngineError), match=message):
        policy_of(server, **options)


def test_what_a_request_says_cannot_be_overridden(server: SglangServer) -> None:
    policy = policy_of(server, engine={"sampling_params": {"min_p": 0.1}})
    assert isinstance(policy.sampler, CheckedSampler)
    engine = policy.sampler.inner
    assert isinstance(engine, SglangSampler)
    asked = engine._params(2, 1, False, 5)
    assert asked.pop("min_p") == 0.1
    assert asked.keys() <= RESERVED


def test_answers_of_a_group_differ(server: SglangServer, screens: Path) -> None:
    """No seed goes along, which all answers of a group would share."""
    _, traj = policy_of(server).sample(problems(screens, 1), 4, seed=1)
    assert len({tuple(row.tolist()) for row in traj.tokens}) > 1
