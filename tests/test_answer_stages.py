"""Stages of an answer that is text: where they end, and the advantage that their tokens get."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))
import itertools

from helpers_tubes import answer_of, rollout_of, still, track_of
from test_policy import make_policy, problems

from vlrl.policy.answer_stages import stages_of
from vlrl.policy.trajectory import TokenTrajectory
from vlrl.reward.tree import build_reward

ENDS = ("</a>", "</b>")


@given(st.text("<>/ab1", max_size=30), st.data())
def test_the_stage_of_a_token_does_not_depend_on_the_cuts_before_it(text, data):
    """Characters as tokens are the plain reference; any other cut agrees at each token's start."""
    single = stages_of(list(text), ENDS)
    for place in range(len(text)):
        before, num_ended = text[:place], 0
        for end in ENDS:
            _, found, before = before.partition(end)
            if not found:
                break
            num_ended += 1
        assert single[place] == num_ended
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)) | {0, len(text)})
    pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
    assert stages_of(pieces, ENDS) == [single[cut] for cut in cuts[: len(pieces)]]


def test_ends_count_in_their_order_only():
    assert stages_of(["x</b>", "y", "</a>", "z</b>w", "v"], ENDS) == [0, 0, 0, 1, 2]
    assert stages_of([], ENDS) == []
    assert stages_of(["a", "b"], ()) == [0, 0]
    # One token may end two stages; what it holds belongs to the first of them.
    assert stages_of(["1</a>2</b>", "3"], ENDS) == [0, 2]


def test_a_policy_names_the_stage_of_its_tokens(checkpoints: dict[str, Path], screens: Path):
    samples = problems(screens, 2)
    plain = make_policy(checkpoints["qwen2_5_vl"])
    rollouts, trajectory = plain.sample(samples, 3, seed=1)
    assert trajectory.stage is None
    tokenizer = plain.processor.tokenizer
    end = tokenizer.decode(trajectory.tokens[0, 2:4].tolist())
    assert end in rollouts[0].output
    staged = make_policy(checkpoints["qwen2_5_vl"], stage_ends=(end,))
    again, trajectory = staged.sample(samples, 3, seed=1)
    assert [one.output for one in again] == [one.output for one in rollouts]
    assert trajectory.stage is not None
    first = trajectory.stage[0, trajectory.mask[0]].tolist()
    begin = rollouts[0].output.index(end) + len(end)
    texts = [tokenizer.decode([t]) for t in trajectory.tokens[0, trajectory.mask[0]].tolist()]
    starts = [sum(map(len, texts[:k])) for k in range(len(texts))]
    assert first == [int(start >= begin) for start in starts]
    assert 1 in first
    part = trajectory.select([2, 0])
    assert torch.equal(part.stage, trajectory.stage[[2, 0]])
    joined = TokenTrajectory.join([trajectory.only_group(1), trajectory.only_group(0)])
    assert torch.equal(joined.stage, trajectory.stage[[3, 4, 5, 0, 1, 2]])


def test_each_part_of_a_track_is_paid_for_itself():
    reward = build_reward(
        {
            "stages": {
                "span": {"use": "temporal_iou"},
                "thinking": {"use": "track_spatial", "track": "think", "missed": "skip"},
                "prediction": {"use": "track_spatial", "track": "final", "missed": "skip"},
            }
        }
    )
    true = still(3, 6)
    right = answer_of(true.span, track_of(true), track_of(true))
    boxless = answer_of(true.span, None, track_of(true))
    late = answer_of((90, 95), track_of(true), track_of(true))
    scores = reward([rollout_of(true, answer) for answer in (right, boxless, late)])
    assert scores[0].stages == pytest.approx((1.0, 1.0, 1.0))
    assert scores[1].stages == pytest.approx((1.0, -2.0, 1.0)), "thinking left out is no miss"
    assert scores[2].stages == (0.0, None, None)
