"""Every policy on CUDA tensors without data: no tensor on the wrong device, no wait for a value.

These take CUDA's own paths: half precision, fused decoding, varlen attention, steps to be recorded.
Images are left out: transformers' towers read the sizes of images on the host, which
tests/test_host_waits.py counts. Backward passes: tests/test_host_device.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import FAMILIES
from helpers_fake_cuda import CUDA, fake_cuda
from helpers_flow import make_flow, save_flux, save_sd3
from helpers_flow import samples as flow_samples
from helpers_janus import make_janus, save_janus
from helpers_janus import samples as janus_samples
from helpers_voxels import make_voxel_policy, save_voxel_model
from helpers_voxels import samples as voxel_samples
from test_policy import make_policy
from torch._subclasses.fake_tensor import DataDependentOutputException

from vlrl.build import read_parts
from vlrl.config.resolve import load_run_config
from vlrl.families.encoded import EncodedPrompt
from vlrl.plan.plan import planned_run
from vlrl.policy.image_tokens.decode import write_tokens
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language import layout
from vlrl.policy.vision_language.answers import Answers
from vlrl.policy.vision_language.packed import choice
from vlrl.policy.vision_language.planned import PlannedVisionLanguage
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.policy.vision_language.rows import prefill
from vlrl.policy.voxel_tokens.grammar import Grammar
from vlrl.types import Message, Sample, TextPart

EVERY = [
    pytest.param(name, marks=[] if name == "qwen3_vl" else pytest.mark.slow) for name in FAMILIES
]
LENGTHS = torch.tensor([3, 6, 1, 4])


def texts(num: int) -> list[EncodedPrompt]:
    """Prompts without an image, of 9, 10, ... tokens."""
    return [
        EncodedPrompt(torch.arange(n) + 5, torch.arange(n).expand(3, -1)) for n in range(9, 9 + num)
    ]


def answered() -> TokenTrajectory:
    mask = torch.arange(6) < LENGTHS[:, None]
    tokens, group = torch.ones(4, 6, dtype=torch.long), torch.tensor([0, 0, 1, 1])
    return TokenTrajectory(tokens, mask, torch.zeros(4, 6), group, tuple(texts(2)))


def text_policy(folder: Path, **options: object) -> VisionLanguagePolicy:
    policy = make_policy(folder, **options)
    policy.module.keeps_features = True  # a frozen tower: no blank image either
    policy.module.eval()
    return policy


def test_a_value_that_is_read_and_a_tensor_left_behind_are_errors() -> None:
    module = torch.nn.Linear(2, 3)
    with fake_cuda(module):
        out = module(torch.ones(4, 2).to(CUDA, torch.bfloat16))
        assert (out.shape, out.device, out.dtype) == ((4, 3), CUDA, torch.bfloat16)
        with pytest.raises(DataDependentOutputException):
            out.sum().item()
        with pytest.raises(RuntimeError, match="two different devices"):
            out + torch.ones(4, 3)
        assert torch.arange(3).tolist() == [0, 1, 2]  # the host's own are real


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("varlen", [False, True], ids=["masked", "varlen"])
def test_answers_are_scored(family: str, varlen: bool, checkpoints: dict[str, Path]) -> None:
    policy = text_policy(checkpoints[family], top_p=0.9)
    with fake_cuda(policy.module):
        choice.assume(*policy._one_query(None), varlen=varlen)
        found = policy.evaluate(answered())
        assert policy.device == found.logp.device == found.entropy.device == CUDA
        assert found.logp.shape == (4, 6)


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("num_stops", [1, 12])
def test_answers_are_written(family: str, num_stops: int, checkpoints: dict[str, Path]) -> None:
    """The prompts, and steps as they are recorded; no step reads a value, for one row either."""
    policy = text_policy(checkpoints[family], top_p=0.9, top_k=5)
    num_each = 1 if num_stops > 1 else 2
    with fake_cuda(policy.module):
        choice.assume(*policy._one_query(None), varlen=True)
        answers = Answers.empty(
            range(num_each), 8, CUDA,
            stop_tokens=torch.arange(num_stops), pad_id=0, greedy=False, rules=None,
        )  # fmt: skip
        rows = prefill(policy.module, texts(1), num_each, 0, share_prompt=True)
        answers.write(policy.module, rows.first, rows.rows)
        for _ in range(2):
            rows.reserve(8, fixed=True)
            hidden = rows.advance(policy.module, answers.newest(rows.rows))
            answers.write(policy.module, hidden, rows.rows)
        assert answers.tokens.device == rows.first.device == CUDA


@pytest.mark.slow
def test_objects_are_scored_and_written(tmp_path: Path) -> None:
    policy = make_voxel_policy(save_voxel_model(tmp_path))
    _, trajectory = policy.sample(voxel_samples(), 2, seed=1)
    with fake_cuda(policy.module):
        choice.assume(*policy._one_query(None), varlen=True)
        assert policy.evaluate(trajectory).logp.device == CUDA
        stops = policy.stop_tokens.to(CUDA)
        answers = Answers.empty(
            range(2), 8, CUDA, stop_tokens=stops, pad_id=0, greedy=False,
            rules=Grammar(policy.segments, policy.mesh, stops, 2),
        )  # fmt: skip
        rows = prefill(policy.module, texts(1), 2, 0, share_prompt=True)
        answers.write(policy.module, rows.first, rows.rows)
        rows.reserve(8, fixed=True)
        hidden = rows.advance(policy.module, answers.newest(rows.rows))
        answers.write(policy.module, hidden, rows.rows)


@pytest.mark.slow
def test_image_tokens_are_scored_and_written(tmp_path: Path) -> None:
    policy = make_janus(save_janus(tmp_path))
    _, trajectory = policy.sample(janus_samples(), 2, seed=1)
    with fake_cuda(policy.module):
        assert policy.evaluate(trajectory).logp.device == CUDA
        tokens, _ = write_tokens(policy.module, trajectory.prompts, range(3), 4)
        assert tokens.shape == (3, 4)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_denoising_is_scored_and_done(family: str, tmp_path: Path) -> None:
    if family == "sd3":
        policy = make_flow(save_sd3(tmp_path))
    else:
        policy = make_flow(save_flux(tmp_path), guidance="distilled")
    some = flow_samples()
    _, trajectory = policy.sample(some, 2, seed=1)
    with fake_cuda(policy.module):
        assert policy.evaluate(trajectory).logp.device == CUDA
        made = policy._denoise(some, trajectory.prompts, 2, 1, [1, 2], False)
        assert made.latents.device == CUDA


def test_a_recipe_at_its_true_size() -> None:
    """GUI-G2's 7B, one group of 18 thousand tokens."""
    parts = read_parts(load_run_config(["gui_grounding/gui_g2_qwen2_5_vl_7b"]))
    policy = parts.policy_options.planned(planned_run(parts.config, 8, flash=True))
    assert isinstance(policy, PlannedVisionLanguage)
    policy.has_images, policy.module.keeps_features = False, True
    with fake_cuda(policy.module):
        text = policy.module.core.config.get_text_config()
        heads = (text.num_attention_heads, text.num_key_value_heads)
        query, key = (torch.empty(1, n, 1, 128, device=CUDA, dtype=torch.bfloat16) for n in heads)
        choice.assume(query, key, varlen=True)
        rows = layout.shared(policy.trajectory(16_000, [[250] * 8]), pad_id=0)
        assert rows.num_tokens == 18_000
        given = (rows.input_ids, rows.positions, rows.predictor, rows.targets)
        ids, positions, predictor, targets = (x.to(CUDA) for x in given)
        found = policy.module(ids, positions, None, None, predictor, targets, rows.groups)
        assert [x.device for x in found] == [CUDA, CUDA]
        assert len(found[0]) == 2000


def test_samples_without_images_are_what_these_tests_take(checkpoints: dict[str, Path]) -> None:
    """The prompts above are as the encoder makes them."""
    policy = make_policy(checkpoints["qwen2_5_vl"])
    message = Message("user", (TextPart("Which colour is it?"),))
    made = policy.encoder.encode(Sample("s", "x", (message,), None))
    assert made.media is None
    assert made.positions.shape == texts(1)[0].positions.shape[:1] + made.input_ids.shape
