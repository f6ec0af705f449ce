"""Stages of an answer that is text: where they begin, and the advantage that their tokens get."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers_tubes import answer_of, rollout_of, still, track_of
from hypothesis import given
from hypothesis import strategies as st
from test_policy import make_policy, problems

from vlrl.errors import ConfigError
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.answer_stages import stages_of
from vlrl.reward.tree import build_reward
from vlrl.rewards.video.track_credit import beyond_preceding
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.tasks.video_grounding import VideoGrounding
from vlrl.train.credit import in_stages
from vlrl.video.track_answers import part_starts, write_track

BOXES = [[1, 2, 30, 40], [5, 6, 70, 80], [9, 10, 90, 95]]


@given(st.text("ab", max_size=20), st.data())
def test_a_token_is_in_the_stage_of_its_first_character(text, data):
    places = sorted(data.draw(st.sets(st.integers(0, 20), max_size=5)))
    starts = [(place, 1 + k) for k, place in enumerate(places)]
    single = [sum(place <= here for place in places) for here in range(len(text))]
    assert stages_of(list(text), starts) == single
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)) | {0, len(text)})
    pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
    assert stages_of(pieces, starts) == [single[cut] for cut in cuts[: len(pieces)]]


@pytest.mark.parametrize("compact", [True, False])
def test_the_parts_of_a_track(compact: bool) -> None:
    text = write_track(4, 6, BOXES, BOXES[::-1], compact=compact)
    seen = {}
    for (begin, stage), (end, _) in itertools.pairwise([*part_starts(text, 6), (len(text), 0)]):
        seen.setdefault(stage, []).append(text[begin:end].strip(" ,"))
    space = "" if compact else " "
    listed = [f"[{f',{space}'.join(map(str, box))}]" for box in BOXES]
    # Frames 4, 5, 6 modulo 6 are the slots 4, 5, 0; the prediction's come six later.
    assert [seen[stage] for stage in (5, 6, 1)] == [
        [f"{k}.{space}{box}"] for k, box in zip((4, 5, 6), listed, strict=True)
    ]
    assert [seen[stage] for stage in (11, 12, 7)] == [
        [f"{k}.{space}{box}"] for k, box in zip((4, 5, 6), listed[::-1], strict=True)
    ]
    assert {stage for _, stage in part_starts(text, 1)} == {0, 1, 2}
    only = write_track(4, 6, None, BOXES)
    assert {stage for _, stage in part_starts(only, 1)} == {0, 2}
    assert part_starts("nothing", 6) == []
    cut_off = text[: text.rindex("[") + 3]
    assert part_starts(cut_off, 6)[-1] == (len(cut_off), 0)


def test_a_policy_names_the_stage_of_its_tokens(checkpoints: dict[str, Path], screens: Path):
    policy = make_policy(checkpoints["qwen2_5_vl"])
    rollouts, trajectory = policy.sample(problems(screens, 2), 3, seed=1)
    assert trajectory.stage is None
    half = len(rollouts[0].output) // 2
    staged = policy.in_stages(trajectory, lambda text: [(half, 1)])
    assert staged.stage.shape == trajectory.tokens.shape
    texts = [
        policy.processor.tokenizer.decode([token])
        for token in trajectory.tokens[0, trajectory.mask[0]].tolist()
    ]
    begins = [sum(map(len, texts[:k])) for k in range(len(texts))]
    first = staged.stage[0, trajectory.mask[0]].tolist()
    assert first == [int(begin >= half) for begin in begins]
    assert {0, 1} <= set(first)
    assert torch.equal(staged.select([2, 0]).stage, staged.stage[[2, 0]])
    joined = TokenTrajectory.join([staged.only_group(1), staged.only_group(0)])
    assert torch.equal(joined.stage, staged.stage[[3, 4, 5, 0, 1, 2]])


def test_every_box_is_paid_for_itself():
    reward = build_reward({"use": "track_credit", "num_boxes": 6})
    assert reward.num_stages == 13
    true = still(3, 6)
    perfect = answer_of(true.span, track_of(true), track_of(true))
    (best,) = reward([rollout_of(true, perfect)])
    assert best.value == pytest.approx(5.0)
    # Frames 3 to 6 are the slots 3, 4, 5, 0 of each list; the others have no box.
    think = (3.0, None, None, 3.0, 3.0, 3.0)
    assert best.stages == pytest.approx((3.0, *think, *think))
    missing = answer_of(true.span, None, track_of(true), good=False)
    late = answer_of((90, 95), track_of(true), track_of(true))
    empty, off, none = reward([rollout_of(true, one) for one in (missing, late, None)])
    assert empty.stages[1:7] == (None,) * 6
    assert off.stages[1:] == (None,) * 12, "a span that misses says nothing about boxes"
    assert off.stages[0] == pytest.approx(2.0)
    assert none.stages == (0.0, *[None] * 12)
    assert none.value == pytest.approx(-4.0)
    whole = build_reward({"use": "track_credit"})
    assert whole([rollout_of(true, perfect)])[0].stages == pytest.approx((3.0, 3.0, 3.0))
    short = build_reward({"use": "track_credit", "thinking": False})
    assert short([rollout_of(true, perfect)])[0].stages == pytest.approx((3.0, None, 3.0))


def test_a_box_is_not_paid_for_what_it_copies():
    """Hand-worked: the scores of a list are 1, 0.5, 0.5, those of the next one 1, 1, 0."""
    think, final = {3: 1.0, 4: 0.5, 5: 0.5}, {3: 1.0, 4: 1.0, 6: 0.0}
    assert beyond_preceding([think, final], 0.0, 9.0) == [think, final]
    assert beyond_preceding([think, final], 1.0, 0.25) == [
        {3: 0.75, 4: -0.5, 5: 0.0},
        {3: 0.0, 4: 0.5, 6: -1.0},  # 6 has no thinking box: the last of its own list
    ]
    assert beyond_preceding([think], 0.5, 0.0) == [{3: 1.0, 4: 0.0, 5: 0.25}]
    assert beyond_preceding([{}, {5: 2.0}], 1.0, 0.5) == [{}, {5: 1.5}]

    true = still(3, 6)
    bad = still(3, 6, (0.0, 0.0, 30.0, 30.0))
    rollouts = [
        rollout_of(true, answer_of(true.span, track_of(think), track_of(final)))
        for think, final in ((true, true), (bad, bad), (bad, true))
    ]
    plain = build_reward({"use": "track_credit", "num_boxes": 6})
    paid = build_reward({"use": "track_credit", "num_boxes": 6, "preceding": 1.0})
    good, copied, mended = paid(rollouts)
    one, two, three = plain(rollouts)
    assert [s.value for s in (good, copied, mended)] == [s.value for s in (one, two, three)]
    low = two.stages[4] - 2.0
    usual = (1.0 + 2 * low) / 3  # of the group's first boxes, those of frame 3, slot 3
    assert good.stages[4] == pytest.approx(3.0 - usual)
    assert copied.stages[4] == pytest.approx(2.0 + low - usual)
    later = [1, 5, 6, 7, 10, 11, 12]
    assert [good.stages[k] for k in later] == pytest.approx([2.0] * 7)
    assert [copied.stages[k] for k in later] == pytest.approx([2.0] * 7)
    assert [mended.stages[k] for k in (7, 10, 11, 12)] == pytest.approx([3.0 - low] * 4)


def test_a_span_may_be_paid_for_its_tube():
    """Hand-worked: four true frames, a span of eight with their boxes right: vIoU = tIoU = 1/2."""
    true = still(3, 6)
    rollouts = [
        rollout_of(true, answer_of(span, track_of(true), track_of(true)))
        for span in (true.span, (0, 7))
    ]
    reward = build_reward({"use": "track_credit", "num_boxes": 8, "tube": 2.0})
    best, long = reward(rollouts)
    assert (best.stages[0], long.stages[0]) == pytest.approx((5.0, 3.5))
    assert (best.value, long.value) == pytest.approx((7.0, 5.5))
    plain = build_reward({"use": "track_credit", "num_boxes": 8})(rollouts)
    assert [s.stages[1:] for s in plain] == [best.stages[1:], long.stages[1:]]
    assert reward.range[1] == plain[0].value + 2.0


def test_its_sum_is_stvg_o1_without_improvement():
    true = still(3, 6)
    wrong = still(2, 5, (0.0, 0.0, 50.0, 50.0))
    terms = ["track_format", "track_consistency", "temporal_iou"]
    flat = [{"use": name} for name in terms]
    flat += [
        {"use": "track_spatial", "track": which, "label": which} for which in ("think", "final")
    ]
    for answer in (
        answer_of(true.span, track_of(wrong), track_of(true)),
        answer_of((2, 9), track_of(true), track_of(wrong)),
        answer_of((9, 12), None, track_of(true), good=False),
        None,
    ):
        one = [rollout_of(true, answer)]
        (by_box,) = build_reward({"use": "track_credit", "num_boxes": 4})(one)
        (plain,) = build_reward({"sum": flat})(one)
        assert by_box.value == pytest.approx(plain.value)


def test_answers_without_stages_are_refused(checkpoints: dict[str, Path], screens: Path):
    policy = make_policy(checkpoints["qwen2_5_vl"])
    samples = problems(screens, 1)
    _, trajectory = policy.sample(samples, 2, seed=1)
    options = {"data": {"train": {"path": "x.jsonl"}}}
    plain = GuiGrounding(GuiGrounding.Options(**options))
    with pytest.raises(ConfigError, match=r"needs answers that have stages"):
        in_stages(policy, plain, trajectory, 3)
    task = VideoGrounding(
        VideoGrounding.Options(data={"train": {"path": "x.jsonl"}}, answer="seconds_csv")
    )
    with pytest.raises(ConfigError, match=r"'seconds_csv'.*stvg_o1 or stvg"):
        in_stages(policy, task, trajectory, 3)
    assert partial(part_starts, num_boxes=1)("") == []
