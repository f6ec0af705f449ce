"""What only a GPU can show: its kernels, its half precision, DeepSpeed on it.

    DS_ACCELERATOR=cuda python -m pytest -m slow tests/test_cuda.py
    VLRL_SECOND_DEVICE=cuda python -m pytest -m slow tests/test_host_device.py

The second command runs every policy, objective and learning reward there, step by step against
the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_runs import ROOT, curve, run_job, small_run
from test_decoding import move, raise_logit
from test_group_attention import WAYS, dense_mask, plan_of
from test_half_precision import drawn
from test_policy import FAMILIES, gradients, make_policy, problems
from test_recorded_steps import assert_same, written_by
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vlrl.policy.vision_language.group_attention import SharedPrompts, group_attention
from vlrl.policy.vision_language.packed import choice
from vlrl.policy.vision_language.recorded import GraphRecorder, Recorder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
STAGES = ("zero0", "zero1", "zero2", "zero3")


@pytest.fixture(autouse=True)
def full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions are in TF32 by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_and_plain_layouts_are_one_function(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    """Samples, log-probs, entropies and gradients, and all of them those of the CPU."""
    found, drawn = [], []
    for device in ("cpu", "cuda"):
        policy = make_policy(checkpoints[family])
        policy.module.to(device)
        for policy.share_prompt in (True, False):
            _, traj = policy.sample(problems(screens, 3), 4, seed=1)
            drawn.append(traj)
            found.append([x.cpu() for x in gradients(policy, drawn[0])])
    first = found[0]
    for traj, (logp, entropies, grad) in zip(drawn, found, strict=True):
        assert torch.equal(traj.tokens, drawn[0].tokens)
        assert torch.allclose(traj.logp, drawn[0].logp, atol=1e-5)
        assert torch.allclose(logp, first[0], atol=1e-5)
        assert torch.allclose(entropies, first[1], atol=1e-5)
        assert float((grad - first[2]).abs().max() / first[2].abs().max()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [64, 80, 128])
def test_the_trial_passes(dtype: torch.dtype, width: int) -> None:
    query, key = (torch.zeros(1, n, 1, width, dtype=dtype, device="cuda") for n in (16, 2))
    assert choice.agrees(query, key)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_varlen_calls_are_as_near_as_masked_ones(dtype: torch.dtype) -> None:
    """Values and gradients of both against float64 on the same rounded inputs."""
    groups = [(300, [40, 7, 64]), (90, [33, 1, 128, 5]), (17, [2])]
    plan = plan_of(groups)
    end = plan.num_tokens
    make = torch.Generator().manual_seed(0)
    shapes = [(1, heads, end, 128) for heads in (4, 2, 2)]
    inputs = [torch.randn(s, generator=make).to("cuda", dtype).requires_grad_() for s in shapes]
    weight = torch.randn(1, 4, end, 128, generator=make).cuda()

    def with_gradients(out: Tensor, of: list[Tensor]) -> list[Tensor]:
        grads = torch.autograd.grad((out.double() * weight).sum(), of)
        return [out.detach().double(), *(g.double() for g in grads)]

    exact = [x.detach().double().requires_grad_() for x in inputs]
    mask = dense_mask(groups).cuda()
    key, value = (x.repeat_interleave(2, 1) for x in exact[1:])
    wanted = with_gradients(
        scaled_dot_product_attention(exact[0], key, value, attn_mask=mask), exact
    )
    errors = {}
    for way, attend in WAYS.items():
        found = with_gradients(attend(*inputs, plan), inputs)
        errors[way] = [
            float((ours - exactly).norm() / exactly.norm())
            for ours, exactly in zip(found, wanted, strict=True)
        ]
    for ours, masked in zip(errors["varlen"], errors["masked"], strict=True):
        assert ours < 1.5 * masked, errors
        assert ours < 0.01, errors


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_steps_write_what_plain_steps_write(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    """CUDA graphs, recorded anew when rows leave, columns are added or weights have changed."""
    policy = make_policy(checkpoints[family])
    policy.module.to("cuda")
    raise_logit(policy, policy.processor.tokenizer.eos_token_id, 2.5)
    for _ in range(2):
        graphs = GraphRecorder()
        found = written_by(policy, screens, num_tokens=80, recorder=graphs)
        assert graphs.graph is not None
        assert not graphs.has_failed
        assert_same(found, written_by(policy, screens, num_tokens=80, recorder=Recorder()))
        move(policy, 0.05)


def test_fused_decoding_in_half_precision_is_that_of_the_cpu() -> None:
    """Both calls of a decoding step with masks, and their merging."""
    query, prompts, own = drawn(1.0)
    padding = torch.zeros(len(prompts[0]), 1, 1, prompts[0].shape[2], dtype=query.dtype)
    padding[1, ..., 120:] = -torch.inf
    found = {}
    for device in ("cpu", "cuda"):
        kept = tuple(x.to(device) for x in prompts)
        plan = SharedPrompts([kept], padding.to(device), len(query) // len(padding))
        plan = plan.reading(torch.tensor([40], device=device), own[0].shape[2], query.dtype)
        layer = torch.nn.Module()
        layer.layer_idx = 0
        rows = (x.to(device) for x in (query, *own))
        found[device], _ = group_attention(layer, *rows, None, groups=plan)
    assert torch.allclose(found["cuda"].cpu(), found["cpu"], atol=1e-2)


@pytest.mark.parametrize("share", ["on", "off"])
def test_deepspeed_trains_there(
    share: str, checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    """Every ZeRO stage: equal in float32, and close to it in bf16."""
    curves = {}
    for precision in ("fp32", "bf16"):
        for stage in STAGES:
            over: dict[str, Any] = {
                "policy__share_prompt": share,
                "dist__precision": precision,
                "dist__deepspeed": str(ROOT / f"deepspeed_configs/{stage}.json"),
                "optim__eps": 0.1,
                "optim__lr": 0.01,
            }
            name = f"{precision}-{stage}"
            job = small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, name, **over)
            run_job({"config": job})
            curves[name] = curve(job)
    wanted = curves["fp32-zero0"]
    for name, rows in curves.items():
        exact = name.startswith("fp32")
        assert len(rows) == 3
        for key in ("update/entropy", "update/kl", "reward/mean"):
            near = {"rel": 1e-3, "abs": 1e-4} if exact else {"rel": 0.2, "abs": 0.1}
            assert rows[0][key] == pytest.approx(wanted[0][key], **near), (name, key)
            if exact:
                assert rows[2][key] == pytest.approx(wanted[2][key], rel=0.05, abs=1e-3), name
        assert rows[2]["update/kl"] > 0, f"{name} did not move"
