"""How the embedded voxel models are trained."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_clock import Counted
from helpers_voxels import NUM_CODES, SHAPE, boxes, make_voxel_policy, save_voxel_model

from scripts.assets.models.voxel.codec import (
    Follower,
    coarse,
    occupancy_loss,
    perplexity,
    reconstruction_iou,
    train_codec,
)
from scripts.assets.models.voxel.lessons import Writer, batch_of, detail_words, lessons, plan_words
from scripts.assets.models.voxel.writer import loss_of
from vlrl.mesh.store import save_shapes
from vlrl.mesh.voxelise import Voxels
from vlrl.policy.voxel_tokens.codec import VoxelCodec
from vlrl.policy.voxel_tokens.policy import further_turn


def test_coarse_shapes_are_blocks_that_cover_the_fine_ones() -> None:
    fine = torch.from_numpy(boxes())[None].float()
    rough = coarse(fine)
    assert rough.shape == fine.shape
    assert (rough >= fine).all()
    blocks = rough.view(1, 8, 2, 8, 2, 8, 2)
    assert (blocks.amax((2, 4, 6)) == blocks.amin((2, 4, 6))).all()


def test_losses_and_perplexity_by_hand() -> None:
    x = torch.from_numpy(boxes())[None].float()
    sure = (2 * x - 1) * 30
    assert float(occupancy_loss(sure, x)) < 1e-3
    assert float(occupancy_loss(-sure, x)) > 20
    assert perplexity(torch.arange(8), 16) == pytest.approx(8)
    assert perplexity(torch.zeros(5, dtype=torch.long), 16) == pytest.approx(1)


def test_codes_follow_their_latents_and_none_stays_dead() -> None:
    torch.manual_seed(0)
    codec = VoxelCodec(SHAPE)
    latents = torch.randn(200, SHAPE.code_width) + 3
    follower = Follower(codec, latents)
    for _ in range(200):
        codes = codec.vq(latents)
        follower.step(latents, codes)
    used = torch.bincount(codec.vq(latents), minlength=NUM_CODES)
    assert (used > 0).float().mean() > 0.8
    error = (latents - codec.vq.embeddings(codec.vq(latents))).square().mean()
    assert error < latents.var(0).mean()


@pytest.mark.slow
def test_a_codec_learns_a_shape() -> None:
    torch.manual_seed(0)
    codec = VoxelCodec(SHAPE)
    shapes = torch.from_numpy(np.stack([boxes(), np.roll(boxes(), 2, 0)]))
    before = reconstruction_iou(codec, shapes)
    log = io.StringIO()
    train_codec(codec, shapes, Counted(60), batch=4, lr=5e-3, log=log)
    assert reconstruction_iou(codec, shapes) > before
    assert not codec.training
    assert all(p.requires_grad for p in codec.parameters())
    for line in log.getvalue().splitlines():
        assert json.loads(line)["part"] == "codec"


def test_lessons_are_answers_that_the_policy_reads(tmp_path: Path) -> None:
    """The layout: words, codes, the forced turn, words, codes."""
    policy = make_voxel_policy(save_voxel_model(tmp_path / "m"))
    colours = np.zeros((16, 16, 16, 3), np.uint8)
    save_shapes(tmp_path / "s.npz", {"a": Voxels(boxes(), colours)})
    row = {"caption": "a table", "extent": [7, 7, 6], "colour": "red", "num_legs": 4,
           "reference": "s.npz#a"}  # fmt: skip
    (lesson,) = lessons(tmp_path, [row], policy.codec)
    turn = further_turn(policy.processor, "Now the details.")
    writer = Writer(policy.processor, turn, policy.mesh.first, NUM_CODES)
    assert (writer.start, writer.end) == (policy.mesh.start, policy.mesh.end)
    for mirrored in range(2):
        tokens, learnt = writer.row(lesson, mirrored)
        ends = [i for i, token in enumerate(tokens) if token == policy.mesh.end]
        head = learnt.index(True)
        first, second = tokens[head : ends[0] + 1], tokens[ends[0] + 1 :]
        words, codes = policy.read_stage(first)
        assert (words, codes.fault) == (plan_words(row), "")
        assert list(codes.values) == lesson.rough[mirrored].tolist()
        words, codes = policy.read_stage(second)
        assert (words, codes.fault) == (detail_words(row), "")
        assert list(codes.values) == lesson.fine[mirrored].tolist()
        assert second[: len(turn)] == turn
        assert not any(learnt[ends[0] : ends[0] + 1 + len(turn)])
    grid = torch.from_numpy(boxes())[None].float()
    assert torch.equal(policy.codec.encode(grid.flip(1))[0], lesson.fine[1])


def test_the_loss_counts_what_is_learnt_alone(tmp_path: Path) -> None:
    policy = make_voxel_policy(save_voxel_model(tmp_path / "m"))
    rows = [([5, 6, 7, 8], [False, True, True, False]), ([5, 6], [False, True])]
    ids, mask, labels = batch_of(rows, 0)
    assert ids.tolist() == [[5, 6, 7, 8], [5, 6, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert labels.tolist() == [[-100, 6, 7, -100], [-100, 6, -100, -100]]
    model = policy.module.core
    with torch.no_grad():
        found = float(loss_of(model, rows, 0))
        logits = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    expected = -(logits[0, 0, 6] + logits[0, 1, 7] + logits[1, 0, 6]) / 3
    assert found == pytest.approx(float(expected), rel=0.02), "bfloat16"


def test_misread_codes_change_what_is_read_and_not_what_is_learnt(tmp_path: Path) -> None:
    """With all codes replaced, rows that differ only in input codes have the same loss."""
    policy = make_voxel_policy(save_voxel_model(tmp_path / "m"))
    first, num = policy.mesh.first, NUM_CODES
    rows = lambda code: [([5, 6, first + code, 7], [False, False, False, True])]  # noqa: E731
    model = policy.module.core

    def loss(code: int, share: float) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return float(loss_of(model, rows(code), 0, (first, num, share)))

    assert loss(1, 0.0) != loss(2, 0.0)
    assert loss(1, 1.0) == loss(2, 1.0)
    learnt = [([5, first + 1], [False, True])]
    with torch.no_grad():
        plain, noisy = (float(loss_of(model, learnt, 0, (first, num, s))) for s in (0.0, 1.0))
    assert plain == noisy
