"""Rewards of video grounding: the paper's values, its loophole, and what closes it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers_released_video import answered
from helpers_tubes import PICTURE, answer_of, rollout_of, still, track_of, tube
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reward_contract import NODES, values

from vlrl.errors import ConfigError, RewardError
from vlrl.geometry.boxes import Box
from vlrl.reward.tree import build_reward
from vlrl.tasks.video_grounding import VideoGrounding
from vlrl.video.tubes import Track
from vlrl.video.video_answers import TimedBoxes

ROOT = Path(__file__).parent.parent
STVG_O1 = yaml.safe_load((ROOT / "configs/rewards/stvg_o1.yaml").read_text())["reward"]
SPATIAL = ("track_spatial", "track_improvement")
PUBLISHED = {
    "sum": [
        {**node, "published": True} if node["use"] in SPATIAL else node for node in STVG_O1["sum"]
    ]
}
VIDEO_NODES = {
    name: node
    for name, node in {
        **NODES,
        "stvg_o1 published": PUBLISHED,
        "tube_iou think": {"use": "tube_iou", "track": "think"},
        "timed_boxes published": {"use": "timed_boxes", "published": True},
    }.items()
    if (needs := build_reward(node).needs) and needs <= set(VideoGrounding.provides)
}
TRUE = still(3, 6)
FULL = (0.0, 0.0, 200.0, 100.0)


def one(node, answer, true=TRUE) -> float:
    (score,) = build_reward(node)([rollout_of(true, answer)])
    return score.value


def spatial(track: str = "final", **options) -> dict:
    return {"use": "track_spatial", "track": track, **options}


def perfect(true=TRUE):
    return answer_of(true.span, track_of(true), track_of(true))


# ---------------------------------------------------------------- the paper's numbers


def test_a_perfect_answer_has_the_papers_maximum():
    assert one(STVG_O1, perfect()) == pytest.approx(5.0)
    assert one(PUBLISHED, perfect()) == pytest.approx(5.0)
    assert one({"use": "tube_iou"}, perfect()) == 1.0
    assert one({"use": "temporal_iou"}, perfect()) == 1.0


def test_the_published_loophole_and_the_floor_that_closes_it():
    """In the paper's form, missing in time beats a bad box."""
    missed = answer_of((10, 13), *[track_of(still(10, 13))] * 2)
    # Half the span right, but boxes as large as the image around a small target.
    small = still(3, 6, (20, 20, 40, 30))
    full = Track(dict.fromkeys(range(3, 5), FULL), PICTURE)
    tried = answer_of((3, 4), full, full)
    assert one(PUBLISHED, missed, small) == pytest.approx(2.0)
    assert one(PUBLISHED, tried, small) < 2.0
    assert one(STVG_O1, missed, small) < one(STVG_O1, tried, small)
    assert one(spatial(), missed, small) == -2.0
    assert one(spatial(published=True), missed, small) == 0.0


edge = st.floats(0, 1).map(lambda v: round(v, 4))
boxes = st.tuples(edge, edge, edge, edge).map(
    lambda v: (
        200 * min(v[0], v[2]),
        100 * min(v[1], v[3]),
        200 * min(v[0], v[2]) + 2 + 100 * abs(v[2] - v[0]),
        100 * min(v[1], v[3]) + 1 + 50 * abs(v[3] - v[1]),
    )
)


@given(st.lists(boxes, min_size=1, max_size=5), st.integers(0, 8), st.data())
def test_no_answer_in_time_scores_less_than_one_that_misses(found, first, data):
    """With the floor, any boxes in any overlapping span score at least what a miss does."""
    true = still(3, 6)
    last = first + len(found) - 1
    track = Track({first + k: box for k, box in enumerate(found)}, PICTURE)
    answer = answer_of((first, last), track, track)
    missed = answer_of((12, 14), *[track_of(still(12, 14))] * 2)
    assert one(STVG_O1, answer, true) >= one(STVG_O1, missed, true) - 1e-9


def test_spoiled_thinking_never_pays_below_the_bound():
    """(think, final) = (0.6, 0.6) against (-0.6, 0.6)."""
    good, bad = 0.6, -0.6
    for weight, pays in ((0.5, False), (1.0, False), (1.5, True)):
        honest = good + good + weight * max(good - good, 0)
        spoiled = bad + good + weight * max(good - bad, 0)
        assert (spoiled > honest + 1e-9) is pays


@given(boxes, boxes, st.just(0.0) | st.floats(1e-6, 0.99))
def test_better_thinking_never_lowers_the_reward(think, final, weight):
    true = tube(3, (20, 20, 60, 60))
    node = {
        "sum": [
            spatial("think"),
            spatial("final"),
            {"use": "track_improvement", "weight": weight},
        ]
    }

    def scored(box):
        final_track = Track({3: final}, PICTURE)
        return one(node, answer_of((3, 3), Track({3: box}, PICTURE), final_track), true)

    target = true.boxes[0]
    nearer = tuple(a + 0.5 * (b - a) for a, b in zip(think, target, strict=True))
    better = one(spatial("think"), answer_of((3, 3), Track({3: nearer}, PICTURE), None), true)
    worse = one(spatial("think"), answer_of((3, 3), Track({3: think}, PICTURE), None), true)
    if better >= worse:
        assert scored(nearer) >= scored(think) - 1e-9


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([spatial("think"), {"use": "track_improvement", "weight": 1.0}], "must be\\s+below"),
        ([spatial("think"), {"use": "track_improvement", "weight": 1.5}], "weight 1.5"),
        ([spatial("final"), {"use": "track_improvement", "weight": 0.5}], "track_spatial 0"),
        (
            [{**spatial("think"), "weight": 0.4}, {"use": "track_improvement", "weight": 0.5}],
            "track_spatial 0.4",
        ),
    ],
)
def test_a_weight_that_makes_bad_thinking_pay_is_refused(nodes, message):
    with pytest.raises(ConfigError, match=message):
        build_reward({"sum": nodes})
    build_reward({"sum": [spatial("think"), {"use": "track_improvement", "weight": 0.99}]})


def test_improvement_is_the_gain_alone():
    think = Track(dict.fromkeys(range(3, 7), (20.0, 20.0, 60.0, 40.0)), PICTURE)
    node = {"use": "track_improvement"}
    gained = one(node, answer_of((3, 6), think, track_of(TRUE)))
    # GIoU 0.5 and an edge off by a fifth of the height: 0.3 against 1.
    assert gained == pytest.approx(0.7)
    assert one(node, answer_of((3, 6), track_of(TRUE), think)) == 0.0


# ---------------------------------------------------------------- spans and indices


@pytest.mark.parametrize(
    ("span", "wanted"), [((3, 6), 1), ((3, 4), 0.5), ((5, 8), 2 / 6), ((7, 9), 0), ((6, 3), 0)]
)
def test_temporal_iou_by_hand(span, wanted):
    assert one({"use": "temporal_iou"}, answer_of(span, None, None)) == pytest.approx(wanted)
    assert one({"use": "temporal_iou", "hull": True}, answer_of(span, None, None)) == (
        pytest.approx(wanted)
    )


def test_a_one_frame_span_is_one():
    lone = still(4, 4)
    assert one({"use": "temporal_iou"}, answer_of((4, 4), None, None), lone) == 1.0
    assert one(spatial(), perfect(lone), lone) == pytest.approx(1.0)


def test_missing_boxes_cost_the_floor_and_nothing_in_the_published_form():
    gap = Track({3: tuple(TRUE.boxes[0]), 6: tuple(TRUE.boxes[0])}, PICTURE)
    answer = answer_of((3, 6), gap, gap)
    assert one(spatial(), answer) == pytest.approx((1 + 1 - 2 - 2) / 4)
    assert one(spatial(published=True), answer) == pytest.approx(1.0)
    assert one({"use": "tube_iou"}, answer) == pytest.approx(0.5)


def test_the_ablations_of_the_paper():
    half = Track(dict.fromkeys(range(3, 7), (20.0, 20.0, 60.0, 40.0)), PICTURE)
    answer = answer_of((3, 6), half, half)
    assert one(spatial(l1=0), answer) == pytest.approx(0.5)
    assert one(spatial(giou=0), answer) == pytest.approx(-0.2)


def test_unreadable_answers_get_the_least():
    assert one(STVG_O1, None) == pytest.approx(-4.0)
    assert one(PUBLISHED, None) == 0.0
    assert one(STVG_O1, answer_of(None, None, None, good=False)) == pytest.approx(-4.0)


def test_a_bad_true_box_is_an_error():
    with pytest.raises(RewardError, match=r"'s0'.*frame 3"):
        one(spatial(), perfect(), still(3, 4, (60, 20, 20, 60)))


# ---------------------------------------------------------------- other rewards


def test_tracking_of_videochat_r1():
    eight = still(0, 7)
    node = {"use": "track_mean_iou"}
    assert one(node, perfect(eight), eight) == 1.0
    seven = Track({k: tuple(eight.boxes[0]) for k in range(7)}, PICTURE)
    assert one(node, answer_of((0, 6), None, seven), eight) == 0.0
    assert one({**node, "exact_count": False}, answer_of((0, 6), None, seven), eight) == (
        pytest.approx(7 / 8)
    )
    nine = Track({k: tuple(eight.boxes[0]) for k in range(9)}, PICTURE)
    assert one(node, answer_of((0, 8), None, nine), eight) == 0.0
    assert one({**node, "exact_count": False}, answer_of((0, 8), None, nine), eight) == 1.0


def test_timed_boxes_of_open_o3():
    """Sampled frames are 0.5 s apart; the truth is at 1.5 to 3 s."""
    node = {"use": "timed_boxes"}
    assert one(node, perfect()) == pytest.approx(1.0)
    late = Track({8: tuple(TRUE.boxes[0])}, PICTURE)  # 4 s: one second after the last true box
    assert one(node, answer_of((8, 8), None, late)) == pytest.approx(2.718281828 ** (-0.5))
    # The released code passes any earlier true box, however far.
    far = Track({18: tuple(TRUE.boxes[0])}, PICTURE)
    assert one({**node, "published": True}, answer_of((18, 18), None, far)) == pytest.approx(1.0)
    assert one(node, answer_of((18, 18), None, far)) < 1e-6
    early = Track({0: tuple(TRUE.boxes[0])}, PICTURE)  # 1.5 s before the first true box
    assert one({**node, "published": True}, answer_of((0, 0), None, early)) == 0.0


def test_a_claim_of_several_boxes_and_a_time_of_several_objects():
    """The best of each; a claim counts once however many boxes it has (Open-o3 Video)."""

    def value(*claims, published=True):
        rollout = rollout_of(TRUE, answer_of(None, None, None))
        objects = tuple(Box(*box, PICTURE) for box in ((0, 0, 10, 10), (20, 20, 60, 60)))
        timed = (TimedBoxes(2.0, objects),)
        rollout.sample = replace(rollout.sample, target=replace(rollout.sample.target, timed=timed))
        said = tuple(TimedBoxes(t, tuple(Box(*b, PICTURE) for b in boxes)) for t, boxes in claims)
        times = tuple(one.time_s for one in said)
        rollout.parsed = replace(rollout.parsed, timed=said, times=(*times, 5.0))
        both = [{"use": "timed_boxes", "published": published}, {"use": "time_proximity"}]
        return [build_reward(node)([rollout])[0].value for node in both]

    right, off = (20, 20, 60, 60), (20, 20, 60, 40)
    assert value((2.0, [off, right]))[0] == 1.0
    assert value((2.0, [right]), (2.0, [off]))[0] == pytest.approx(0.75)
    assert value((2.0, []), (2.0, [right]))[0] == 0.5
    # A time without a box counts for nearness: exp(-9 / 2) at three seconds.
    assert value((2.0, [right]))[1] == pytest.approx((1 + 2.718281828**-4.5) / 2)


def test_no_interval_against_no_true_one_is_right():
    true = answered("", "intervals").sample
    for listed, wanted in (("[]", 1.0), ("[(1, 2)]", 0.0), ("[(3, 1)]", 0.0), ("", 0.0)):
        text = f"<think>t</think><answer>A</answer><glue>{listed}</glue>"
        rollout = answered(text, "intervals")
        assert rollout.sample.target.spans == true.target.spans == ()
        assert build_reward({"use": "temporal_iou"})([rollout])[0].value == wanted


def test_sigma_shrinks_with_the_policys_version():
    late = Track({8: tuple(TRUE.boxes[0])}, PICTURE)
    reward = build_reward({"use": "time_proximity", "num_steps": 100})
    found = []
    for version in (0, 50, 75, 100, 200):
        rollout = rollout_of(TRUE, answer_of((8, 8), None, late))
        rollout.policy_version = version
        found.append(reward([rollout])[0].value)
    sigmas = (4.0, 2.0, 1.0, 1.0, 1.0)
    assert found == pytest.approx([2.718281828 ** (-0.5 / s**2) for s in sigmas])


# ---------------------------------------------------------------- the contract, on any answer

numbers = st.one_of(
    st.integers(-50, 250).map(float), st.floats(allow_nan=True, allow_infinity=True)
)
tracks = st.none() | st.dictionaries(
    st.integers(-1, 25), st.tuples(numbers, numbers, numbers, numbers), max_size=6
).map(lambda found: Track(found, PICTURE))
times = st.tuples(st.integers(-2, 25), st.integers(-2, 25)).map(
    lambda s: (float(s[0]), float(s[1]))
)
answers = st.none() | st.builds(answer_of, st.none() | times, tracks, tracks, st.booleans())
GROUPS = st.lists(st.lists(answers, min_size=1, max_size=3), min_size=1, max_size=3)


def rollouts_of(groups):
    out = []
    for number, group in enumerate(groups):
        true = still(number, number + 3, (20.0 + number, 20, 60.0, 60))
        out += [rollout_of(true, answer, number, index) for index, answer in enumerate(group)]
    return out


def test_every_video_reward_is_covered():
    assert {"track_spatial", "track_improvement", "tube_iou", "timed_boxes"} <= set(VIDEO_NODES)
    assert "configs/stvg_o1" in VIDEO_NODES


@pytest.mark.parametrize("name", VIDEO_NODES)
@settings(max_examples=25)
@given(groups=GROUPS, seed=st.integers(0, 99))
def test_video_rewards_stand_the_contract_on_any_tracks(name, groups, seed):
    reward = build_reward(VIDEO_NODES[name])
    rollouts = rollouts_of(groups)
    found = values(reward, rollouts)
    low, high = reward.range
    assert all(v is None or low - 1e-9 <= v <= high + 1e-9 for v in found)
    order = list(range(len(rollouts)))
    random.Random(seed).shuffle(order)
    assert values(reward, [rollouts[i] for i in order]) == [found[i] for i in order]
    for number in range(len(groups)):
        own = [i for i, r in enumerate(rollouts) if r.group == number]
        assert values(reward, [rollouts[i] for i in own]) == [found[i] for i in own]


@pytest.mark.parametrize("name", VIDEO_NODES)
def test_empty_answers_and_perfect_ones(name):
    reward = build_reward(VIDEO_NODES[name])
    low, high = reward.range
    for value in values(reward, rollouts_of([[None, answer_of(None, None, None, good=False)]])):
        assert value is None or low <= value <= high
    assert reward([]) == []
    (score,) = reward(rollouts_of([[perfect(still(0, 3))]]))
    assert score.parts
    (best,) = reward([rollout_of(TRUE, perfect())])
    tops = dict.fromkeys((n for n in VIDEO_NODES if "stvg_o1" in n), 5.0)
    tops |= {"configs/stvg_o1_credit": 7.0, "track_improvement": 0.0}
    assert best.value == pytest.approx(tops.get(name, high))
