"""Cells weighted by the surface that they are near, and what a stage adds to the one before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers_voxels import boxes
from hypothesis import given
from hypothesis import strategies as st
from test_joining_nodes import answers, in_stages, node, values

from vlrl.errors import ConfigError, RewardError
from vlrl.mesh.boundary import boundary_weights, weighted_agreement, weighted_iou
from vlrl.mesh.voxels import iou, silhouette_iou
from vlrl.protocols import Reward
from vlrl.reward.tree import build_reward
from vlrl.types import Finish, Rollout, Sample

TABLE = boxes(16)


def with_block() -> np.ndarray:
    """A block on one thin leg of one cell: bulk beside a thin part."""
    grid = np.zeros((16, 16, 16), bool)
    grid[3:13, 3:13, 8:15] = True
    grid[8, 8, 1:8] = True
    return grid


def scored(grid: np.ndarray, reference: np.ndarray, **options: Any) -> float:
    target = SimpleNamespace(shape=SimpleNamespace(occupancy=reference))
    parsed = SimpleNamespace(occupancy=grid)
    rollout = Rollout(
        Sample("s", "t", (), target), 0, 0, "", Finish.STOP, 0, 0, parsed=parsed
    )  # fmt: skip
    (score,) = build_reward({"use": "boundary", **options})([rollout])
    assert score.value is not None
    return score.value


def test_weights_by_hand() -> None:
    """A line of 6 cells, three full: distances 2.5, 1.5, 0.5, 0.5, 1.5, 2.5."""
    line = np.array([1, 1, 1, 0, 0, 0], bool)
    weights = boundary_weights(line, width=1.0, bulk=0.2)
    wanted = [0.2 + 0.8 * math.exp(-(d**2) / 2) for d in (2.5, 1.5, 0.5, 0.5, 1.5, 2.5)]
    assert weights.tolist() == pytest.approx(wanted)
    other = np.array([0, 1, 1, 1, 0, 0], bool)
    shared, union = sum(wanted[1:3]), sum(wanted[:4])
    assert weighted_iou(other, line, weights) == pytest.approx(shared / union)
    agreed = sum(wanted) - wanted[0] - wanted[3]
    assert weighted_agreement(other, line, weights) == pytest.approx(agreed / sum(wanted))
    inside = boundary_weights(line, width=1.0, bulk=0.2, outside=False)
    assert inside.tolist() == pytest.approx([*wanted[:3], 1.0, 1.0, 1.0])
    assert boundary_weights(line, 1.0, 1.0).tolist() == [1.0] * 6
    assert boundary_weights(np.ones(6, bool), 1.0, 0.0).tolist() == [1.0] * 6  # no surface


@pytest.mark.parametrize("of", ["voxels", "silhouettes"])
def test_only_the_reference_itself_gets_one(of: str) -> None:
    rng = np.random.default_rng(0)
    assert scored(TABLE, TABLE, of=of) == 1.0
    assert scored(TABLE, TABLE, of=of, measure="agreement") == 1.0
    assert scored(np.zeros_like(TABLE), TABLE, of=of) == 0.0
    for _ in range(5):
        other = TABLE ^ (rng.random(TABLE.shape) < 0.05)
        assert scored(other, TABLE, of=of) < 1.0


def test_with_bulk_1_it_is_the_plain_overlap() -> None:
    other = np.roll(TABLE, 1, axis=0)
    assert scored(other, TABLE, bulk=1.0) == pytest.approx(iou(other, TABLE))


def test_a_thin_part_counts_more_than_under_the_plain_overlap() -> None:
    """A lost leg against as many cells lost inside the block, and a filled gap between legs."""
    whole = with_block()
    no_leg, hollow = whole.copy(), whole.copy()
    no_leg[8, 8, 1:8] = False
    hollow[5:12, 8, 11] = False
    assert (whole & ~no_leg).sum() == (whole & ~hollow).sum() == 7
    assert iou(no_leg, whole) == iou(hollow, whole)
    assert 1 - scored(no_leg, whole) > 5 * (1 - scored(hollow, whole))


def test_a_filled_gap_costs_more_than_under_plain_silhouettes() -> None:
    """The block that a table comes out as; so do legs that are lost."""
    block, thick = TABLE.copy(), with_block()
    block[4:12, 4:12, 4:12] = True
    no_leg = thick.copy()
    no_leg[:, :, :8] = False
    for other, reference in ((block, TABLE), (no_leg, thick)):
        plain = sum(silhouette_iou(other, reference)) / 3
        assert scored(other, reference, of="silhouettes") < plain - 0.01


def gain(form: str = "difference", of: str = "at") -> Reward:
    return build_reward({"gain": {"of": node(of), "form": form}})


@pytest.mark.parametrize(
    ("steps", "difference", "share"),
    [
        ((-0.5, 0.25), 0.75, 0.5),  # half of the 1.5 that were missing
        ((0.5, -0.25), -0.75, -0.5),  # half of the 1.5 that were there
        ((0.3, 0.3), 0.0, 0.0),
        ((-1.0, 1.0), 2.0, 1.0),
        ((0.9, 0.0, 0.5), 0.5, 0.5),  # only the last step
        ((0.5,), 1.5, 0.75),  # a first stage, from the low end
    ],
)
def test_a_gain_by_hand(steps: Sequence[float], difference: float, share: float) -> None:
    answer = in_stages([(step,) for step in steps])
    assert values(gain(), answer) == pytest.approx([difference])
    assert values(gain("share"), answer) == pytest.approx([share])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_gains_add_up_to_what_is_there_at_the_end(steps: list[float]) -> None:
    """Under `stages` each stage has its own gain; so no detour pays."""
    names = [f"s{i}" for i in range(len(steps))]
    tree = {"stages": {name: {"gain": {"of": node("share")}} for name in names}}
    (score,) = build_reward(tree)(in_stages([(step,) for step in steps]))
    assert score.value == pytest.approx(steps[-1])
    assert score.stages[0] == steps[0]
    assert score.stages[1] == pytest.approx(steps[1] - steps[0])


def test_a_gain_needs_stages_and_a_range() -> None:
    (rollout,) = answers([(0.5,)])
    assert values(gain("share", "share"), [rollout]) == [0.5]  # unread: as a first stage
    rollout.parsed = SimpleNamespace(output=(0.5,), stages=())
    with pytest.raises(RewardError, match="gain: the answer of sample 's0' has no stages"):
        gain()([rollout])
    unbounded = {"use": "test_shape_node:unbounded"}
    with pytest.raises(ConfigError, match=r"reward.gain: form: share needs a reward of finite"):
        build_reward({"gain": {"of": unbounded, "form": "share"}})
    assert build_reward({"gain": {"of": unbounded}}).range == (-math.inf, math.inf)
