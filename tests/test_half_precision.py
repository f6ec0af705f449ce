"""Rounding in half precision: decoding beside sdpa, and logits beside the float32 product."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_runs import ROOT, small_run
from pydantic import ValidationError
from test_policy import make_policy, problems
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from vlrl.build import check_plugins
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.config.section import LoraSection
from vlrl.errors import ConfigError
from vlrl.policy.vision_language import head, quantized
from vlrl.policy.vision_language.fused import _plain, attend, merged
from vlrl.policy.vision_language.group_attention import SharedPrompts, group_attention
from vlrl.policy.vision_language.head import LanguageHead
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup

P, G, HEADS, KEY_HEADS, L, T, D = 2, 4, 14, 2, 200, 60, 64


def drawn(spread: float) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A query per row, the prompts' and the answers' keys and values, in bfloat16."""
    make = torch.Generator().manual_seed(0)

    def values(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make).bfloat16()

    query = (spread * values(P * G, HEADS, 1, D)).bfloat16()
    prompts = (values(P, KEY_HEADS, L, D), values(P, KEY_HEADS, L, D))
    return query, prompts, (values(P * G, KEY_HEADS, T, D), values(P * G, KEY_HEADS, T, D))


def whole(prompts: Tensor, own: Tensor, dtype: torch.dtype) -> Tensor:
    """The keys of full rows, repeated for the query heads."""
    rows = torch.cat([prompts.repeat_interleave(G, 0), own], 2)
    return rows.repeat_interleave(HEADS // KEY_HEADS, 1).to(dtype)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_decoding_rounds_no_more_than_sdpa(spread: float) -> None:
    """Against float64. Each of the two parts is rounded once: sqrt 2 at most."""
    query, prompts, own = drawn(spread)
    plan = SharedPrompts([prompts], None, G)
    layer = nn.Module()
    layer.layer_idx = 0
    found, _ = group_attention(layer, query, *own, None, groups=plan)
    sides = [whole(p, o, torch.float64) for p, o in zip(prompts, own, strict=True)]
    exact = scaled_dot_product_attention(query.double(), *sides)
    halves = [side.bfloat16() for side in sides]
    sdpa = scaled_dot_product_attention(query, *halves)
    assert error(found.transpose(1, 2), exact) < 1.5 * error(sdpa, exact)


def test_a_device_without_a_fused_kernel_gets_the_same() -> None:
    query, _, own = drawn(1.0)
    bias = torch.zeros(P * G, 1, 1, T, dtype=torch.bfloat16)
    bias[..., 40:] = -torch.inf
    rows = query.reshape(P * G, KEY_HEADS, -1, D)
    out, lse = attend(rows, *own, bias, 0.125)
    plain, plain_lse = _plain(rows, *own, bias, 0.125)
    assert torch.allclose(out, plain, atol=4e-3)
    assert torch.allclose(lse, plain_lse, atol=1e-3)
    cut, _ = attend(rows, *(x[:, :, :40] for x in own), None, 0.125)
    assert torch.allclose(out, cut, atol=4e-3)
    assert torch.equal(merged((out, lse), (out, lse)), out), "twice the same keys"


@pytest.mark.parametrize("num_rows", [1, 70])
def test_logits_are_float32_and_their_gradients_those_of_the_product(
    num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "SLICE_ROWS", 100)
    make = torch.Generator().manual_seed(0)
    layer = nn.Linear(32, 333, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(333, 32, generator=make))
    head.use_in(layer)
    assert isinstance(layer, LanguageHead)
    hidden = torch.randn(num_rows, 32, generator=make).bfloat16().requires_grad_()
    logits = layer(hidden)
    assert logits.dtype == torch.float32
    wide = [x.detach().float().requires_grad_() for x in (hidden, layer.weight)]
    exact = linear(*wide)
    assert torch.allclose(logits, exact, atol=1e-5)
    assert not torch.allclose(linear(hidden, layer.weight).float(), exact, atol=1e-3), "as it was"
    weight = torch.randn(logits.shape, generator=make)
    (logits * weight).sum().backward()
    (exact * weight).sum().backward()
    for found, wanted in zip((hidden.grad, layer.weight.grad), wide, strict=True):
        assert found is not None
        assert wanted.grad is not None
        assert float((found.float() - wanted.grad).norm() / wanted.grad.norm()) < 0.01


def test_the_embedded_models_sampling_gap_is_that_of_rounding_alone(screens: Path) -> None:
    """Mean |log-prob sampled - evaluated|: merged calls round each part once, plain rows once.

    With scores and logits rounded to bfloat16 it was 7.5e-3 shared and 4.5e-3 plain.
    """
    gaps = {}
    for share in ("on", "off"):
        policy = make_policy(
            ROOT / "assets/models/tiny_qwen2_5_vl", share_prompt=share, max_new_tokens=24,
            temperature=1.5,
        )  # fmt: skip
        policy.module.to(torch.bfloat16)
        _, traj = policy.sample(problems(screens, 4), 8, seed=1)
        with torch.no_grad():
            now = policy.evaluate(traj).logp
        gaps[share] = float((now - traj.logp)[traj.mask].abs().mean())
    assert gaps["on"] < 5e-3, gaps
    assert gaps["on"] < 1.6 * gaps["off"], gaps


def test_the_heads_chunks_follow_the_number_of_actions(
    checkpoints: dict[str, Path], screens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call of the head in a pass, which is what ZeRO-3 gathers; chunks of at most the limit."""
    from vlrl.policy.vision_language import module as module_file

    policy = make_policy(checkpoints["qwen2_5_vl"], max_new_tokens=24)
    _, traj = policy.sample(problems(screens, 4), 8, seed=1)
    whole = policy.evaluate(traj).logp.detach()
    monkeypatch.setattr(module_file, "HEAD_CHUNK_TOKENS", 50)
    calls: list[int] = []
    policy.module.core.lm_head.register_forward_hook(lambda *_: calls.append(1))
    sizes: list[int] = []
    logits = LanguageHead.logits
    monkeypatch.setattr(
        LanguageHead, "logits", lambda self, rows: (sizes.append(len(rows)), logits(self, rows))[1]
    )
    assert torch.allclose(policy.evaluate(traj).logp, whole, atol=1e-5)
    assert len(calls) == 1
    assert sum(sizes) == int(traj.mask.sum())
    assert len(sizes) == -(-sum(sizes) // 50)
    assert max(sizes) <= 50


def test_scorers_alone_may_use_tf32_and_on_the_main_thread_alone() -> None:
    """The switch is the process's: a scoring thread must not move the policy's positions."""
    from vlrl.reward.tf32 import tf32_products

    matmul = torch.backends.cuda.matmul
    assert not matmul.allow_tf32

    def inside() -> bool:
        with tf32_products():
            return matmul.allow_tf32

    assert inside()
    assert not matmul.allow_tf32
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(inside).result()


@pytest.mark.parametrize(
    "steps", [{"num_epochs": 2}, {"num_minibatches": 2}, {"old_logp": "rollout"}]
)
def test_dropout_is_refused_where_a_ratio_compares_two_passes(
    steps: dict[str, Any], checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    lora = {"rank": 2, "alpha": 4, "dropout": 0.1}
    over = {"policy__lora": lora, "policy__train_vision": False}
    job = small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, "drop", **over)
    job["algo"] = {**job["algo"], "num_minibatches": 1}
    check_plugins(check(RunConfig, job))
    job["algo"] |= steps
    with pytest.raises(ConfigError, match="dropout"):
        check_plugins(check(RunConfig, job))


def test_four_bits_are_refused_where_they_cannot_work(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = LoraSection(rank=2, alpha=4)
    model = str(checkpoints["qwen2_5_vl"])
    for lacking in ({"train_vision": False}, {"lora": lora}):
        with pytest.raises(ValidationError, match="add lora, and train_vision: false"):
            VisionLanguageConfig(model=model, quantize="nf4", **lacking)
    options = VisionLanguageConfig(model=model, quantize="nf4", lora=lora, train_vision=False)
    with pytest.raises(ConfigError, match="needs the package bitsandbytes"):
        VisionLanguagePolicy(options, PolicySetup(torch.bfloat16, 64))
    monkeypatch.setattr(quantized, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        VisionLanguagePolicy(options, PolicySetup(torch.bfloat16, 64))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="does not work under ZeRO-3"):
        VisionLanguagePolicy(options, PolicySetup(torch.bfloat16, 64, zero_stage=3))
