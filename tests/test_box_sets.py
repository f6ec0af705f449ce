"""Answers with several boxes: one-to-one matching, weights, and distractors that never pay."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrl.errors import ConfigError, DataError, RewardError
from vlrl.geometry.box_sets import iou_table, matched
from vlrl.geometry.boxes import Box, Frame
from vlrl.reward.tree import build_reward
from vlrl.tasks.gui_grounding import GuiAnswer, GuiGrounding, GuiTarget
from vlrl.types import Finish, Rollout, Sample

FRAME = Frame(100, 100)
A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)
HALF_A = (0, 0, 10, 5)
FAR = (80, 80, 90, 90)
Edges = tuple[float, float, float, float]
side = st.integers(0, 60)
some_box = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), side, side,
                     st.integers(1, 40), st.integers(1, 40))  # fmt: skip


def rollout(
    given: Sequence[Edges] | None, true: Sequence[Edges], salience: Sequence[float] = ()
) -> Rollout:
    boxes = tuple(Box(*edges, FRAME) for edges in true)
    target = GuiTarget(boxes[0], all_boxes=boxes, salience=tuple(salience))
    parsed = None
    if given is not None:
        found = tuple(Box(*edges, FRAME) for edges in given)
        parsed = GuiAnswer(next(iter(found), None), (), True, found)
    return Rollout(Sample("s", "t", (), target), 0, 0, "", Finish.STOP, 0, 0, parsed=parsed)


def value(name: str, *case: Any, **options: Any) -> float:
    (score,) = build_reward({"use": name, **options})([rollout(*case)])
    assert score.value is not None
    return score.value


@pytest.mark.parametrize(
    ("given", "true", "wanted", "weighted"),
    [
        ([A, B], [B, A], 1.0, 1.0),  # the order does not matter
        ([HALF_A], [A], 0.5, 0.5),
        ([A], [A, B], 0.5, 0.75),  # one is missing; A has weight 3, B 1
        ([A, A], [A], 0.5, 1.0 - 0.5 * 0.5),  # each true box is matched once
        ([A, FAR], [A, B], 0.5, 0.75 - 0.25),
        ([HALF_A, A], [A, B], 0.5, 0.75 - 0.25),  # the better of the two is matched
        ([], [A, B], 0.0, 0.0),
        (None, [A, B], 0.0, -0.5),
        ([(10, 10, 0, 0), A], [A, B], 0.5, 0.75 - 0.25),  # an inverted box is one too many
    ],
)
def test_by_hand(given: Any, true: Any, wanted: float, weighted: float) -> None:
    assert value("set_iou", given, true) == pytest.approx(wanted)
    salience = (3.0, 1.0) if true == [A, B] else ()
    assert value("salience_iou", given, true, salience, extra=0.5) == pytest.approx(weighted)


@given(st.lists(some_box, min_size=1, max_size=4), st.lists(some_box, min_size=1, max_size=4))
def test_the_matching_is_the_best_there_is(a: list[Edges], b: list[Edges]) -> None:
    """Against every permutation."""
    small, large = sorted((np.array(a, float), np.array(b, float)), key=len)
    table = iou_table(small, large)
    rows = range(len(small))
    best = max(
        sum(table[i, order[i]] for i in rows)
        for order in permutations(range(len(large)), len(small))
    )
    assert sum(overlap for *_, overlap in matched(small, large)) == pytest.approx(best)


boxes_in_left_half = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), st.integers(0, 30),
                               side, st.integers(1, 15), st.integers(1, 40))  # fmt: skip


@given(
    st.lists(boxes_in_left_half, max_size=4),
    st.lists(boxes_in_left_half, min_size=1, max_size=3),
    st.integers(0, 9),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_a_distractor_never_pays(
    given_boxes: list[Edges], true: list[Edges], seed: int, extra: float
) -> None:
    """A box that is on none of the objects; nor does the order, nor the scale of the weights."""
    rng = random.Random(seed)
    weights = [rng.random() + 0.1 for _ in true]
    for name, options in (("set_iou", {}), ("salience_iou", {"extra": extra})):
        before = value(name, given_boxes, true, weights, **options)
        assert value(name, [*given_boxes, FAR], true, weights, **options) <= before + 1e-12
        shuffled = rng.sample(given_boxes, len(given_boxes))
        assert value(name, shuffled, true, weights, **options) == pytest.approx(before)
        double = [2 * weight for weight in weights]
        assert value(name, given_boxes, true, double, **options) == pytest.approx(before)


def test_what_matters_more_counts_more() -> None:
    """A half seen and B whole, against A whole and B half seen; A matters more."""
    half_b = (20, 0, 30, 5)
    worse = value("salience_iou", [HALF_A, B], [A, B], (3.0, 1.0))
    assert value("salience_iou", [A, half_b], [A, B], (3.0, 1.0)) > worse


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(RewardError, match="the weights of sample 's' are all 0"):
        value("salience_iou", [A], [A, B], (0.0, 0.0))
    with pytest.raises(ConfigError, match="'salience_iou', option 'extra'"):
        build_reward({"use": "salience_iou", "extra": 2.0})


def samples(folder: Path, several: bool = True, **fields: Any) -> Sequence[Sample]:
    from PIL import Image

    Image.new("RGB", (112, 56)).save(folder / "a.png")
    row = {"image": "a.png", "instruction": "all rows", "bbox": [0, 0, 10, 10], "id": "r", **fields}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    source = {"path": str(folder / "rows.jsonl"), "format": "rows", "box": "xyxy_px"}
    options: Any = {"data": {"train": source}, "several_boxes": several}
    return GuiGrounding(GuiGrounding.Options(**options)).samples("train")


def test_a_row_may_have_several_boxes(tmp_path: Path) -> None:
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10]]
    (sample,) = samples(tmp_path, boxes=boxes, salience=[2, 1])
    assert [box.xyxy for box in sample.target.boxes] == [tuple(map(float, box)) for box in boxes]
    assert sample.target.salience == (2.0, 1.0)
    (single,) = samples(tmp_path, several=False, boxes="anything else")
    assert single.target.boxes == (single.target.box,)
    task = GuiGrounding(GuiGrounding.Options(data={}, profile="qwen2_5_vl"))
    answer = task.parse(sample, '[{"bbox_2d": [0, 0, 10, 10]}, {"bbox_2d": [20, 0, 30, 10]}]')
    assert answer is not None
    assert len(answer.boxes) == 2
    (score,) = build_reward({"use": "set_iou"})([
        Rollout(sample, 0, 0, "", Finish.STOP, 0, 0, parsed=answer)
    ])  # fmt: skip
    assert score.value == pytest.approx(1.0, abs=0.2)  # the model's pixels are not the image's


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"salience": [1]}, "field 'salience' needs field 'boxes'"),
        ({"boxes": []}, "field 'boxes' must be a list of boxes"),
        ({"boxes": [[0, 0, 10]]}, r"field 'boxes', place 0: must be \[x1, y1, x2, y2\]"),
        ({"boxes": [[10, 0, 0, 10]]}, "place 0: must be"),
        ({"boxes": [[0, 0, 9, 9]], "salience": [1, 2]}, "a weight of 0 or more for each of the 1"),
        ({"boxes": [[0, 0, 9, 9]], "salience": [0]}, "one of them above 0"),
    ],
)
def test_a_wrong_row_is_refused_with_its_field(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        samples(tmp_path, **fields)
