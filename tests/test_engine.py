"""Rollouts by a server with vLLM's protocol, here over real HTTP by the trainer's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_engine import EngineServer
from helpers_runs import run_config
from safetensors.torch import load_file
from test_policy import make_policy, problems

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.errors import DataError, EngineError
from vlrl.families.encoded import EncodedPrompt
from vlrl.http.client import MAX_ANSWER_BYTES
from vlrl.policy.vision_language.decode import Decoded
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.policy.vision_language.samplers.checked import CheckedSampler
from vlrl.policy.vision_language.samplers.exported import whole_weights
from vlrl.policy.vision_language.samplers.servable import HEAD, HEAD_FILE
from vlrl.policy.vision_language.samplers.server import ServerSampler, num_at_once
from vlrl.policy.vision_language.samplers.stale import Trial, files_of, head_of
from vlrl.types import Sample

DRAW: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 7}


@pytest.fixture
def server(checkpoints: dict[str, Path], tmp_path: Path) -> Iterator[EngineServer]:
    made = EngineServer(checkpoints["qwen2_5_vl"], tmp_path, **DRAW)
    yield made
    made.stop()


def policy_of(server: EngineServer, **options: Any) -> VisionLanguagePolicy:
    engine = {"use": "vllm", "urls": [server.url], "max_tries": 2, "backoff_s": 0.0}
    engine |= options.pop("engine", {})
    return make_policy(server.model, engine=engine, **DRAW, **options)


def move(policy: VisionLanguagePolicy) -> None:
    """As an optimizer step does."""
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter) * parameter.std())
    policy.version += 1


def test_answers_and_log_probs_are_the_trainers(server: EngineServer, screens: Path) -> None:
    policy = policy_of(server)
    samples = problems(screens, 3)
    for _ in range(3):
        rollouts, traj = policy.sample(samples, 4, seed=1)
        gap = (policy.score(traj) - traj.logp)[traj.mask].abs().max()
        assert float(gap) < 1e-4
        assert len(rollouts) == 12
        assert [r.policy_version for r in rollouts] == [policy.version] * 12
        assert policy.facts()["engine/gap"] < 1e-4
        move(policy)
    for cache in ("/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"):
        assert server.calls.count(cache) == 3
    renders = server.calls.count("/v1/chat/completions/render")
    assert renders == server.calls.count("/inference/v1/generate") == 9, "a picture once a group"
    sampler = policy.sampler
    assert isinstance(sampler, CheckedSampler)
    assert len(list(sampler.inner.folder.iterdir())) == 1, "old weights are deleted"  # type: ignore[attr-defined]


LOOKS = {
    "sync lost": "all of its weights look stale: it draws what it drew before$",
    "stale head": r"its head looks stale.*\(tied embeddings are",
    "stale tower": r"its vision tower looks stale.*text without pictures agree \(.*e-0\d nats\)$",
    "stale embeddings": r"some of its weights look stale \(answers to a text alone differ by 0\.",
    "raw log-probs": r"some of its weights look stale .*--logprobs-mode processed_logprobs\)$",
}


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("fault", list(LOOKS))
def test_the_canary_catches(server: EngineServer, screens: Path, fault: str, greedy: bool) -> None:
    policy = policy_of(server, engine={"max_gap": 0.02})
    policy.sample(problems(screens, 3), 4, seed=1)
    move(policy)
    server.faults.add(fault)
    with pytest.raises(EngineError, match=f"after version 1 was published.*{LOOKS[fault]}"):
        policy.sample(problems(screens, 3), 4, seed=1, greedy=greedy)


def test_a_checkpoint_is_found_where_it_is(server: EngineServer) -> None:
    assert files_of(str(server.model), None) == server.model
    assert files_of("nobody/nothing", None) is None
    head = head_of(server.model)
    assert head is not None
    assert torch.equal(head, server.policy.module.core.get_output_embeddings().weight)


def test_a_repeated_group_is_known_without_the_padding_of_others() -> None:
    def made(rows: list[list[float]], width: int) -> Decoded:
        logp = torch.zeros(len(rows), width)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for row, own in enumerate(rows):
            logp[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = True
        return Decoded(mask.long(), mask, logp, [], [])

    group, other = [[-0.1, -0.2], [-0.3]], [[-0.5] * 5]
    trial = Trial.of(Sample("a", "x", (), None), (0, 1), made(group + other, 5))
    assert trial.is_repeated(made(group, 2), 1e-6)
    assert not trial.is_repeated(made([[-0.1, -0.2], [-0.4]], 2), 1e-3)
    assert not trial.is_repeated(made([[-0.1], [-0.3]], 1), 1.0)


def test_weights_are_tried_once_before_greedy_answers(server: EngineServer, screens: Path) -> None:
    policy, some = policy_of(server), problems(screens, 3)

    def num_drawn(*, greedy: bool) -> int:
        before = server.calls.count("/inference/v1/generate")
        policy.sample(some, 1, seed=1, greedy=greedy)
        return server.calls.count("/inference/v1/generate") - before

    assert [num_drawn(greedy=True) for _ in range(2)] == [6, 3]
    assert 0 < policy.facts()["engine/gap"] < 1e-4
    policy.weights_swapped()
    assert [num_drawn(greedy=greedy) for greedy in (True, False, True)] == [6, 3, 3]
    move(policy)
    assert [num_drawn(greedy=greedy) for greedy in (False, True)] == [3, 3]


def test_pictures_of_any_size_come_back(server: EngineServer, screens: Path) -> None:
    """vLLM sends 253 MiB for a screen of 3840 x 2160."""
    server.payload = "A" * (MAX_ANSWER_BYTES + 1)
    rollouts, _ = policy_of(server).sample(problems(screens, 1), 2, seed=1)
    assert len(rollouts) == 2
    sizes = [(1000, 1000), (3840, 2160), (12_000, 12_000)]
    nothing = torch.zeros(0, dtype=torch.long)
    prompts = [EncodedPrompt(nothing, nothing, None, 0, image_sizes_px=(s,)) for s in sizes]
    assert [num_at_once([one] * 99) for one in prompts] == [32, 8, 1], "by the largest"
    assert num_at_once(prompts[:1] * 3) == 3


def test_each_publication_has_a_folder_of_its_own(
    server: EngineServer, checkpoints: dict[str, Path]
) -> None:
    """Averaged weights have the version of the others, and their head must be their own."""
    policy = policy_of(server)
    assert isinstance(policy.sampler, CheckedSampler)
    engine = policy.sampler.inner
    assert isinstance(engine, ServerSampler)
    engine.needs_head = True
    for _ in range(2):
        engine.publish(policy.sampler.export, 0)
        (folder,) = engine.folder.iterdir()
        head = load_file(folder / HEAD_FILE)[HEAD]
        assert torch.equal(head, policy.module.core.get_output_embeddings().weight)
        move(policy)


def test_a_prompt_without_room_for_its_answer_is_named(server: EngineServer, screens: Path) -> None:
    """vLLM would end its answer early."""
    some = problems(screens, 2)
    longest = max(server.policy.encoder.encode(one).num_tokens for one in some)
    server.context_tokens = longest + DRAW["max_new_tokens"]
    assert len(policy_of(server).sample(some, 1, seed=1)[0]) == 2
    server.context_tokens -= 1
    policy = policy_of(server)
    for ask in (lambda: policy.sample(some, 1, seed=1), lambda: policy.begin(some, 1, seed=1)):
        with pytest.raises(DataError, match=r"context holds \d+: start .* larger --max-model-len"):
            ask()
    longer = max(some, key=lambda one: policy.encoder.encode(one).num_tokens)
    with pytest.raises(DataError, match="context holds"):
        policy.check_sample(longer)


def test_rounded_weights_pass_below_the_gap_that_is_allowed(
    server: EngineServer, screens: Path
) -> None:
    """fp8 on the engine: its drift is logged, corrected, and stopped where it is too large."""
    server.faults.add("eight bits")
    policy = policy_of(server, engine={"max_gap": 1.0})
    policy.sample(problems(screens, 3), 4, seed=1)
    gap = policy.facts()["engine/gap"]
    assert 1e-3 < gap < 0.5
    with pytest.raises(EngineError, match=f"by {gap:.3g} nats a token on average"):
        policy_of(server, engine={"max_gap": 0.9 * gap}).sample(problems(screens, 3), 4, seed=1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("other prompt", r"differ at token 2.*bounds of pixels"),
        ("no log-probs", "--logprobs-mode processed_logprobs"),
        ("one missing", "3 answers came back for n = 4"),
        ("other form", r"/generate: an answer of another form \(KeyError: 'logprob'\)"),
        ("no number", "a token's log-prob is not finite"),
        ("image token", "it sampled a token of images"),
        ("dead", r"HTTP 503.*\(after 2 tries\); if it has ended, start it again$"),
    ],
)
def test_a_server_that_answers_otherwise_is_named(
    server: EngineServer, screens: Path, fault: str, message: str
) -> None:
    policy = policy_of(server)
    server.faults.add(fault)
    with pytest.raises(EngineError, match=message):
        policy.sample(problems(screens, 2), 4, seed=1)


def test_adapters_are_merged_into_copies(server: EngineServer, screens: Path) -> None:
    policy = policy_of(server, lora={"rank": 2, "alpha": 4}, train_vision=False)
    before = {n: x.clone() for n, x in policy.module.state_dict().items()}
    move(policy)
    own = whole_weights(policy.module.model)
    assert own.keys() == server.policy.module.core.state_dict().keys()
    _, traj = policy.sample(problems(screens, 2), 4, seed=1)
    assert float((policy.score(traj) - traj.logp)[traj.mask].abs().max()) < 1e-4
    after = policy.module.state_dict()
    base = [n for n in before if "lora_" not in n]
    assert all(torch.equal(before[n], after[n]) for n in base), "the base does not drift"


def test_a_run_saves_what_it_learnt_when_the_server_dies(
    server: EngineServer, screens: Path, tmp_path: Path
) -> None:
    parts = {
        "task": {
            "use": "gui_grounding",
            "prompt": "Click: {instruction}",
            "data": {"train": {"path": str(screens)}},
        },
        "policy": {
            "use": "vision_language",
            "model": str(server.model),
            **DRAW,
            "min_pixels": 3136,
            "max_pixels": 1003520,
            "engine": {"use": "vllm", "urls": [server.url], "max_tries": 1},
        },
        "reward": {"use": "helpers_runs:letters"},
        "algo": {
            "num_prompts": 2,
            "group_size": 4,
            "rollout_correction": {"level": "token", "mode": "truncate", "limit": 2.0},
        },
    }
    config = check(RunConfig, run_config(tmp_path, "run", parts, {"num_steps": 3}))
    trainer = build_trainer(config, None)
    metrics = trainer.train_step()
    assert metrics["update/ratio"] == 1.0, "the clipped ratio stays the update's own"
    assert metrics["correction/weight"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["correction/effective_share"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["engine/gap"] < 1e-4
    server.faults.add("dead")
    with pytest.raises(EngineError, match=r"Stopped after step 1, which is saved"):
        trainer.train()
    server.faults.clear()
    again = build_trainer(config, "auto")
    assert again.step == 1
    again.train()
    assert again.step == 3


def test_averaged_weights_are_published_for_an_evaluation_and_the_others_after_it(
    server: EngineServer, screens: Path, tmp_path: Path
) -> None:
    parts = {
        "task": {
            "use": "gui_grounding",
            "prompt": "Click: {instruction}",
            "data": {"train": {"path": str(screens)}, "held": {"path": str(screens)}},
        },
        "policy": {
            "use": "vision_language",
            "model": str(server.model),
            **DRAW,
            "engine": {"use": "vllm", "urls": [server.url], "max_tries": 1},
        },
        "reward": {"use": "helpers_runs:letters"},
        "algo": {"num_prompts": 2, "group_size": 4},
        "optim": {"lr": 1e-2, "ema_decay": 0.9},
        "eval": {"splits": ["held"], "limit": 2},
    }
    trainer = build_trainer(check(RunConfig, run_config(tmp_path, "run", parts, {})), None)
    trainer.train_step()
    own = server.policy.module.state_dict
    with trainer.engine.averaged():
        averaged = {
            name: x.clone() for name, x in whole_weights(trainer.policy.module.model).items()
        }
    trainer.evaluate("after")
    assert all(torch.equal(own()[f"model.{name}"], x) for name, x in averaged.items())
    trainer.policy.publish(trainer.drawing.samples[0])
    now = whole_weights(trainer.policy.module.model)
    assert all(torch.equal(own()[f"model.{name}"], x) for name, x in now.items())
    assert any(not torch.equal(now[name], x) for name, x in averaged.items())
