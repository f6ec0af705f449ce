"""A plan before a run: what is counted on the meta device, what ZeRO keeps, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from helpers_janus import save_janus
from helpers_runs import ROOT
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vlrl.build import RunParts, read_parts
from vlrl.cli.main import main
from vlrl.cli.plan import plan_of, planned_text
from vlrl.config.architectures import shipped_architecture
from vlrl.config.resolve import load_run_config
from vlrl.config.schema import GpuKind
from vlrl.config.shipped import shipped_files
from vlrl.errors import ConfigError
from vlrl.plan.fit import Plan
from vlrl.plan.gpus import GIB, GPUS
from vlrl.plan.measure import inference_cost, sampling_costs, training_cost
from vlrl.plan.memory import Line, weights_of
from vlrl.plan.plan import planned_run
from vlrl.plan.sharding import (
    Sharding,
    Weights,
    bucket_bytes,
    gathered_bytes,
    gradient_bytes,
    live_bytes,
    optimizer_bytes,
    weight_bytes,
)
from vlrl.protocols import PolicyOptions
from vlrl.protocols.planned import Pass, PlannedPolicy

LONG = [
    name
    for name in shipped_files("configs")
    if "\nplan:" in (ROOT / f"configs/{name}.yaml").read_text(encoding="utf-8")
]
WEIGHTS = Weights(num_trained=600, num_frozen=400, largest=100)


def planned(*words: str) -> tuple[RunParts, PlannedPolicy]:
    files = [word for word in words if "=" not in word]
    parts = read_parts(load_run_config(files, [word for word in words if "=" in word]))
    policy = parts.policy_options.planned(planned_run(parts.config, 1, flash=False))
    assert policy is not None
    return parts, policy


# --- counting --------------------------------------------------------------------------------


def on_meta(*sizes: int, bias: bool = False) -> nn.Sequential:
    with torch.device("meta"):
        layers = [nn.Linear(a, b, bias=bias) for a, b in pairwise(sizes)]
        return nn.Sequential(*layers)


def test_a_product_is_counted_by_hand() -> None:
    module = on_meta(8, 16)
    x = torch.empty(32, 8, device="meta")
    cost = inference_cost([module], lambda: module(x))
    assert cost.flops == 2 * 32 * 8 * 16
    assert cost.moved_bytes == 4 * (32 * 8 + 8 * 16 + 32 * 16)
    assert (cost.peak_bytes, cost.kept_bytes, cost.num_kernels) == (4 * 32 * 16, 0, 1)


def test_what_autograd_keeps_is_counted_and_gradients_leave() -> None:
    module = on_meta(8, 16, 4)
    x = torch.empty(32, 8, device="meta")
    cost = training_cost([module], lambda: module(x).sum())
    hidden, out, grad = 4 * 32 * 16, 4 * 32 * 4, 4 * 32 * 16
    assert hidden + out <= cost.peak_bytes <= hidden + out + grad + 4 * (16 * 4 + 16 * 8) + 64
    assert cost.kept_bytes == 0
    assert cost.flops == 2 * 32 * (8 * 16 + 16 * 4) * 2 + 2 * 32 * 16 * 4  # no gradient of x
    assert all(p.grad is None for p in module.parameters())


def test_what_a_pass_returns_stays_until_the_last() -> None:
    module = on_meta(8, 16)
    x = torch.empty(32, 8, device="meta")
    one, other = sampling_costs(
        [module], [Pass("a", lambda: module(x)), Pass("b", lambda: module(x).relu())]
    )
    size = 4 * 32 * 16
    assert (one.kept_bytes, other.kept_bytes, other.peak_bytes) == (size, 2 * size, 3 * size)


def test_attention_is_fused_in_the_backward_pass_too() -> None:
    """As a kernel keeps it: no scores, [L, L], and 2 + 5 products of [L, L, D]."""
    module = on_meta(64, 64)
    x = torch.empty(1, 2, 4096, 64, device="meta")

    def forward() -> torch.Tensor:
        query = module(x)
        return scaled_dot_product_attention(query, query, query, is_causal=True).sum()

    cost = training_cost([module], forward)
    rows = 4 * 2 * 4096 * 64
    assert cost.peak_bytes < 8 * rows < 4 * 2 * 4096**2
    linear = 2 * 2 * 4096 * 64 * 64 * 2
    attention = 0.5 * 2 * 4096**2 * 2 * (64 + 64)
    assert cost.flops == pytest.approx(linear + 3.5 * attention)
    original = torch.nn.functional.scaled_dot_product_attention
    assert scaled_dot_product_attention is original  # put back


def test_whole_numbers_stay_real_beside_fractions_without_data() -> None:
    module = on_meta(8, 8)
    x, rows = torch.empty(6, 8, device="meta"), torch.tensor([1, 4])

    def run() -> list[int]:
        picked = module(x)[rows.to(x.device)]
        assert picked.shape == (2, 8)
        assert picked.cpu().device.type == "meta"
        return rows.to(x.device).tolist()

    seen: list[list[int]] = []
    inference_cost([module], lambda: seen.append(run()))
    assert seen == [[1, 4]]


def test_a_mask_of_known_places_picks_rows_of_a_known_number() -> None:
    """As Qwen3-VL adds features to the places of an image."""
    module = on_meta(8, 8)
    x, shown = torch.empty(6, 8, device="meta"), torch.tensor([0, 1, 1, 0, 0, 1]).bool()

    def run() -> Tensor:
        hidden = module(x).clone()
        hidden[shown.to(x.device), :] = hidden[shown, :] + torch.empty(3, 8, device="meta")
        return hidden

    assert inference_cost([module], run).num_kernels > 0


# --- sharding --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer", "gathered"),
    [
        # bf16: 2 bytes a weight; 12 bytes a trained one, float32 copy and Adam's two averages.
        (0, 2000, 600 * 6, 600 * 12, 0),
        (1, 2000, 600 * 2 + 300, 600 * 3, 0),
        (2, 2000, 600, 600 * 3, 0),
        (3, 500, 600, 600 * 3, 2000),
    ],
)
def test_bytes_by_stage(
    stage: int, weights: float, gradients: float, optimizer: float, gathered: float
) -> None:
    sharding = Sharding(stage, 50, 300, False, False, False)
    assert weight_bytes(WEIGHTS, sharding, 2, 4) == weights
    assert gradient_bytes(WEIGHTS, sharding, 2, 4) == gradients
    assert optimizer_bytes(WEIGHTS, sharding, 2, 4) == optimizer
    assert gathered_bytes(WEIGHTS, sharding, 2, 4) == gathered
    assert bucket_bytes(WEIGHTS, sharding, 2) == (100 if stage > 1 else 0)
    assert live_bytes(WEIGHTS, sharding, 2) == (600 if stage == 3 else 0)


def test_offloading_leaves_weights_and_optimizer_to_the_host() -> None:
    sharding = Sharding.read("zero3_offload")
    assert sharding.offloads_optimizer
    assert sharding.offloads_weights
    held = (weight_bytes, gradient_bytes, optimizer_bytes)
    assert [f(WEIGHTS, sharding, 2, 4) for f in held] == [0, 0, 0]


def test_the_largest_setting_lies_on_the_line() -> None:
    line = Line.through((10, 150.0), (20, 250.0))
    assert (line.start, line.slope, line.largest(1050)) == (50, 10, 100)
    assert Line.through((20, 200.0), (20, 200.0)).largest(100) == 10


# --- policies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (("gui_grounding/tiny",), "tiny_qwen2_5_vl/model.safetensors"),
        (("image_generation/tiny",), "tiny_sd3/transformer/diffusion_pytorch_model.safetensors"),
        (("text_to_3d/tiny",), "tiny_voxel/model.safetensors"),
    ],
    ids=["vision_language", "flow", "voxel_tokens"],
)
def test_a_planned_policy_has_the_weights_of_its_checkpoint(
    words: tuple[str, ...], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import safe_open

    monkeypatch.chdir(ROOT)
    _, policy = planned(*words)
    with safe_open(ROOT / "assets/models" / model, framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    stored = sum(torch.Size(shape).numel() for shape in shapes)
    names = {name for name, _ in policy.module.named_parameters(remove_duplicate=False)}
    kept = [x for name, x in policy.module.state_dict().items() if name not in names]
    assert weights_of(policy).num + sum(x.numel() for x in kept) == stored
    assert all(p.is_meta for p in policy.module.parameters())


def test_image_tokens_are_planned(tmp_path: Path) -> None:
    folder = save_janus(tmp_path / "janus")
    _, policy = planned(
        "image_generation/janus_pro_1b", f"policy.model={folder}", "dist.precision=fp32"
    )
    assert policy.num_step_tokens(largest=True) == 128 * 2 * (
        64 + 16
    )  # rows, with guidance, prompt and image
    chunk = policy.chunk(1000, largest=True)
    assert chunk.num_tokens == 6 * 160
    assert training_cost([policy.module], chunk.forward).flops > 0
    caches, token, images = sampling_costs(
        [policy.module, *policy.others], policy.sampling(8, largest=True)
    )
    # Layers x keys and values x rows with guidance x columns x width of one head.
    assert caches.kept_bytes == 2 * 2 * 16 * (64 + 16 - 2) * 16 * 4
    assert min(token.flops, images.flops) > 0


def test_an_adapter_has_the_type_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, policy = planned("gui_grounding/tiny", "policy.lora={rank: 4, alpha: 8}")
    assert {p.dtype for p in policy.module.parameters()} == {torch.bfloat16}
    weights = weights_of(policy)
    assert 0 < weights.num_trained < weights.num_frozen


def test_a_quantised_base_takes_four_bits_a_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lora = ("gui_grounding/tiny", "policy.lora={rank: 4, alpha: 8}")
    _, policy = planned(*lora, "policy.quantize=nf4")
    weights, plain = weights_of(policy), weights_of(planned(*lora)[1])
    assert 0 < weights.num_packed < weights.num_frozen == plain.num_frozen
    saved = plain.bytes(2) - weights.bytes(2)
    assert saved == pytest.approx(weights.num_packed * (16 - 4.127) / 8, rel=1e-3)


def test_chunks_keep_to_the_budget_and_never_cut_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lengths = ("plan.max_prompt_tokens=300", "plan.mean_answer_tokens=10")
    _, policy = planned("gui_grounding/tiny", *lengths)
    for budget in (400, 1000, 4096):
        assert policy.chunk(budget, largest=True).num_tokens == budget
    assert policy.chunk(1, largest=True).num_tokens == 320  # the longest prompt and answer
    assert policy.num_step_tokens(largest=False) == 32 * (300 + 16 * 10)


def test_models_that_are_not_here_have_their_sizes_at_hand() -> None:
    """Billions of weights, of the published checkpoints."""
    known = {
        "Qwen/Qwen2.5-VL-3B-Instruct": 3.75,
        "Qwen/Qwen2.5-VL-7B-Instruct": 8.29,
        "stabilityai/stable-diffusion-3.5-medium": 2.24,
        "black-forest-labs/FLUX.1-dev": 11.9,
    }
    recipes = {
        "Qwen": "gui_grounding/gui_g2_qwen2_5_vl_7b",
        "stabilityai": "image_generation/sd3_5_medium_ocr",
        "black-forest-labs": "image_generation/flux_1_dev_pickscore",
    }
    for model, billions in known.items():
        _, policy = planned(recipes[model.partition("/")[0]], f"policy.model={model}")
        weights = weights_of(policy)
        base = weights.num_frozen if weights.num_frozen else weights.num_trained
        assert base / 1e9 == pytest.approx(billions, rel=0.01), model
    for name in LONG:
        assert shipped_architecture(load_run_config([name]).policy["model"]), name


# --- what is said ----------------------------------------------------------------------------


PLAN = Plan(
    gpu="h100_80gb",
    num_gpus=8,
    usable=70 * GIB,
    weights=Weights(10, 90, 5),
    always={"weights": 10 * GIB},
    sampling={"caches": 61 * GIB},
    update={"activations and logits": 65 * GIB},
    seconds={"sampling": 1.0},
    chunk_tokens=40_000,
    num_chunks=2,
    rows_at_once=64,
    smallest_chunk=5_000,
    largest_chunk=32_768,
    largest_batch=50,
)


def test_what_does_not_fit_names_the_keys_to_change() -> None:
    config = load_run_config(["gui_grounding/tiny"])
    with pytest.raises(ConfigError) as error:
        PLAN.check(config)
    sampling, update = str(error.value).splitlines()
    assert "71.0 GiB, of 70.0" in sampling
    assert "policy.sample_batch_size to at most 48" in sampling  # whole groups of 16
    assert "dist.max_tokens_per_chunk to at most 32768" in update
    assert "dist.gradient_checkpointing: true" in update
    dataclasses.replace(PLAN, usable=80 * GIB).check(config)


def test_where_no_setting_helps_the_plan_says_what_would() -> None:
    config = load_run_config(["gui_grounding/tiny"], ["dist.gradient_checkpointing=true"])
    hopeless = dataclasses.replace(PLAN, largest_chunk=4_000, weights=Weights(100, 0, 5))
    with pytest.raises(ConfigError, match=r"update .*zero3.*policy\.lora.*plan\.gpu"):
        hopeless.check(config)


def test_a_policy_that_says_nothing_has_no_plan() -> None:
    parts = read_parts(load_run_config(["gui_grounding/tiny"]))
    unknown = dataclasses.replace(parts, policy_options=PolicyOptions())
    plan = plan_of(unknown, "h100_80gb")
    assert plan is None
    assert "does not say what it takes" in planned_text(unknown, plan)


def test_the_schema_lists_the_kinds() -> None:
    assert set(get_args(GpuKind)) == set(GPUS)


def test_a_plan_is_printed_and_a_dry_run_stays_a_config(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["train", "--config", "gui_grounding/tiny", "plan.gpu=l40s_48gb", "plan.num_gpus=2"]
    assert main([*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out)["plan"]["num_gpus"] == 2
    assert "# plan for 2 x l40s_48gb" in out
    assert "#   usable" in out
    assert main([*words, "--plan", "--gpus", "3"]) == 2
    assert "plan.num_gpus (3) must divide algo.num_prompts (32)" in capsys.readouterr().err
    assert main(["train", "--config", "gui_grounding/tiny", "--plan"]) == 2
    assert "plan.gpu: no kind of GPU is stated" in capsys.readouterr().err


# --- the shipped recipes ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_a_shipped_recipe_fits_its_gpus(name: str) -> None:
    parts = read_parts(load_run_config([name]))
    plan = plan_of(parts)
    assert plan is not None
    plan.check(parts.config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "screens, frozen tower",
        "screens, all weights",
        "screens, adapter, checkpointing",
        "images, all weights",
        "images, adapter, guidance",
        "image tokens, all weights",
        "voxels, ZeRO-3",
    ],
)
def test_plans_agree_with_torchs_own_count(case: str) -> None:
    import subprocess
    import sys

    program = ROOT / "benchmarks/plan_against_measured.py"
    done = subprocess.run(
        [sys.executable, str(program), "--case", case],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
    lasting, update = json.loads(line.removeprefix("RESULT "))
    assert lasting[0] == pytest.approx(lasting[1], rel=0.02)
    assert update[0] == pytest.approx(update[1], rel=0.15)
