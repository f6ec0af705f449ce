"""Rewards of objects: their formulas, the contract on any answer, views and stages."""

from __future__ import annotations

import itertools
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_judge import with_words
from helpers_voxels import boxes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlrl.build import provided
from vlrl.errors import ConfigError, RewardError
from vlrl.mesh.answer import VoxelStage
from vlrl.mesh.colour_names import colours_in
from vlrl.mesh.parts import parts_in
from vlrl.mesh.store import save_shapes
from vlrl.mesh.voxelise import Voxels
from vlrl.registry import REGISTRY
from vlrl.reward.functions import reward_function
from vlrl.reward.tree import build_reward
from vlrl.reward.tree import score as run_tree
from vlrl.tasks.text_to_3d import ShapeTarget, TextTo3D
from vlrl.tasks.text_to_image import ImageAnswer, ImageTarget
from vlrl.types import Finish, Rollout, Sample

SHAPE_NEEDS = {"shape", "views", "image", "caption", "format", "stages"}
OWN = [
    "voxel_iou", "boundary", "silhouette_iou", "chamfer", "surface_f_score", "part_counts",
    "colour_match", "symmetry", "no_floaters",
]  # fmt: skip
NODES = {
    **{name: {"use": name} for name in OWN},
    "format": {"use": "format"},
    "jpeg": {"use": "jpeg_compressibility"},
    "views": {"views": {"pool": "min", "of": {"use": "jpeg_compressibility"}}},
    "stage": {"stage": {"index": 0, "of": {"use": "voxel_iou"}}},
    "stages": {"stages": {"coarse": {"use": "silhouette_iou"}, "refined": {"sum": [
        {"use": "colour_match"}, {"use": "part_counts", "weight": 0.5}]}}},
}  # fmt: skip
TASK = TextTo3D(TextTo3D.Options(data={}, view_px=16, num_views=3))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("shapes") / "s.npz"
    colours = np.full((16, 16, 16, 3), 100, np.uint8)
    save_shapes(path, {"table": Voxels(boxes(), colours)})
    return f"{path}#table"


def rollout(
    grid: np.ndarray | None,
    reference: str | None,
    caption: str = "a red table with four legs",
    words: str = "red",
    group: int = 0,
    index: int = 0,
    fault: str = "",
    first: np.ndarray | None = None,
) -> Rollout:
    """One answer of two stages; without a grid it could not be read."""
    target = ShapeTarget(caption, reference, None, parts_in(caption), tuple(colours_in(caption)))
    sample = Sample(f"s{group}", "text_to_3d", (), target)
    output = None
    if grid is not None:
        coarse = VoxelStage("plan", (0,), grid if first is None else first, fault)
        output = (coarse, VoxelStage(words, (1,), grid, fault))
    parsed = TASK.parse(sample, output)
    return Rollout(sample, group, index, output, Finish.STOP, 0, 0, parsed=parsed)


def value(node: dict | str, one: Rollout) -> float | None:
    reward = build_reward({"use": node} if isinstance(node, str) else node)
    return reward([one])[0].value


EMPTY = np.zeros((16, 16, 16), bool)


def test_a_perfect_answer_scores_the_top_and_none_the_bottom(reference: str) -> None:
    for name in OWN:
        reward = build_reward({"use": name})
        assert value(name, rollout(boxes(), reference)) == pytest.approx(reward.range[1]), name
        for bad in (None, EMPTY):
            assert value(name, rollout(bad, reference)) == reward.range[0], name


def test_what_does_not_apply_is_none() -> None:
    bare = rollout(boxes(), None, caption="a table")
    for name in ("voxel_iou", "silhouette_iou", "chamfer", "surface_f_score", "part_counts",
                 "colour_match"):  # fmt: skip
        assert value(name, bare) is None
    assert value("symmetry", bare) == 1


def test_geometry_by_hand(reference: str) -> None:
    # Moved by one voxel along y.
    moved = np.roll(boxes(), 1, axis=1)
    a, b = boxes(), moved
    assert value("voxel_iou", rollout(moved, reference)) == (a & b).sum() / (a | b).sum()
    along = [(a.any(k) & b.any(k)).sum() / (a.any(k) | b.any(k)).sum() for k in range(3)]
    assert value("silhouette_iou", rollout(moved, reference)) == pytest.approx(np.mean(along))
    lowest = {"use": "silhouette_iou", "pool": "min"}
    assert value(lowest, rollout(moved, reference)) == pytest.approx(min(along))
    assert value("surface_f_score", rollout(moved, reference)) == 1, "one voxel is near enough"
    strict = {"use": "surface_f_score", "threshold": 0.5}
    assert value(strict, rollout(moved, reference)) == pytest.approx((a & b).sum() / a.sum())
    far = value("chamfer", rollout(moved, reference))
    assert 0.3 < far < 1
    assert value({"use": "chamfer", "scale": 1.0}, rollout(moved, reference)) > far


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a table with four legs", 1.0),
        ("a table with three legs", (1 + 2 / 3) / 2),
        ("a table with two legs", (1 + 0) / 2),
        ("a table with five legs", (1 + 4 / 5) / 2),
        ("one object with four legs", 1.0),
        ("two objects", (1 + 0.5) / 2),
    ],
)
def test_parts_are_counted(caption: str, expected: float) -> None:
    assert value("part_counts", rollout(boxes(), None, caption)) == pytest.approx(expected)


def test_parts_depend_on_the_stated_connectivity() -> None:
    grid = np.zeros((16, 16, 16), bool)
    grid[2:4, 2:4, 2:4] = grid[4:6, 4:6, 2:4] = True
    two = {"use": "part_counts", "connectivity": 6}
    one = rollout(grid, None, "two objects")
    assert value(two, one) == 1
    assert value("part_counts", one) == pytest.approx(0.75)
    with pytest.raises(ConfigError):
        build_reward({"use": "part_counts", "connectivity": 8})


def test_colours_by_hand() -> None:
    assert value("colour_match", rollout(boxes(), None, words="a red one")) == 1
    assert value("colour_match", rollout(boxes(), None, words="blue")) == 0
    assert value("colour_match", rollout(boxes(), None, words="")) == 0, "grey"
    both = rollout(boxes(), None, caption="a red and blue table", words="red")
    assert value("colour_match", both) == 0.5, "one colour alone is half of two"


def test_floaters_and_symmetry_by_hand() -> None:
    grid = boxes()
    grid[0, 0, 0] = True
    assert value("no_floaters", rollout(grid, None)) == pytest.approx(-1 / grid.sum())
    lopsided = boxes()
    lopsided[:6] = False
    assert 0 < value("symmetry", rollout(lopsided, None)) <= 1
    assert value("symmetry", rollout(boxes(), None)) == 1
    assert value({"use": "symmetry", "axis": "z"}, rollout(boxes(), None)) < 0.5


grids = st.integers(0, 2**32 - 1).map(
    lambda seed: (lambda r: r.random((16, 16, 16)) < r.random() ** 3)(np.random.default_rng(seed))
)
answers = st.none() | st.just(EMPTY) | st.just(np.ones((16, 16, 16), bool)) | grids
GROUPS = st.lists(st.lists(answers, min_size=1, max_size=2), min_size=1, max_size=2)


@pytest.mark.parametrize("name", NODES)
@settings(
    max_examples=6, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(groups=GROUPS, seed=st.integers(0, 99))
def test_voxel_rewards_stand_the_contract_on_any_object(
    name: str, reference: str, groups: list, seed: int
) -> None:
    """Finite or None, in range, independent of order, of its own group alone."""
    reward = build_reward(NODES[name])
    assert reward.needs <= set(provided())
    assert reward.needs <= set(TextTo3D.provides)
    captions = ("a red table with four legs", "a thing")
    rollouts = [
        rollout(grid, reference if number else None, captions[number % 2], group=number, index=i)
        for number, group in enumerate(groups)
        for i, grid in enumerate(group)
    ]
    found = reward(rollouts)
    low, high = reward.range
    for score in found:
        assert score.value is None or low - 1e-9 <= score.value <= high + 1e-9
        assert all(math.isfinite(part) for part in score.parts.values())
    order = list(range(len(rollouts)))
    random.Random(seed).shuffle(order)
    again = reward([rollouts[i] for i in order])
    assert [s.value for s in again] == [found[i].value for i in order]
    for number in range(len(groups)):
        own = [i for i, one in enumerate(rollouts) if one.group == number]
        alone = reward([rollouts[i] for i in own])
        assert [s.value for s in alone] == [found[i].value for i in own]
    assert reward([]) == []


def test_every_reward_of_objects_is_tested_here() -> None:
    mine = {
        name for name in REGISTRY["reward"]
        if "shape" in build_reward({"use": name}).needs
    }  # fmt: skip
    assert mine == set(OWN)


# Views


@reward_function(range=(0.0, 255.0), formula="mean brightness", needs=("image", "caption"))
def bright(rollout: Rollout) -> float:
    """What an image reward is, in one line."""
    return 0.0 if rollout.parsed is None else float(rollout.parsed.image.mean())


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "this_test", sys.modules[__name__])


def test_views_are_pooled() -> None:
    one = rollout(boxes(), None)
    each = [view.mean() for view in one.parsed.views]
    for pool, expected in (("max", max(each)), ("min", min(each)), ("mean", np.mean(each))):
        node = {"views": {"pool": pool, "of": {"use": "this_test:bright"}, }}  # fmt: skip
        score = build_reward(node)([one])[0]
        assert score.value == pytest.approx(expected)
        assert score.parts == {"bright": pytest.approx(expected)}
    assert value({"views": {"of": {"use": "this_test:bright"}}}, rollout(None, None)) == 0


def test_the_order_of_views_changes_nothing() -> None:
    for pool in ("max", "min", "mean"):
        reward = build_reward({"views": {"pool": pool, "of": {"use": "this_test:bright"}}})
        found = set()
        for order in itertools.permutations(range(3)):
            one = rollout(boxes(), None)
            one.parsed.__dict__["views"] = one.parsed.views[list(order)]
            found.add(round(reward([one])[0].value, 9))
        assert len(found) == 1


def test_a_lucky_side_wins_under_max_alone() -> None:
    """How the published pooling can be hacked."""
    plain, lucky = rollout(boxes(), None), rollout(boxes(), None)
    views = plain.parsed.views.copy()
    views[int(views.mean((1, 2, 3)).argmax())] = 255
    lucky.parsed.__dict__["views"] = views
    gain = {}
    for pool in ("max", "min", "mean"):
        reward = build_reward({"views": {"pool": pool, "of": {"use": "this_test:bright"}}})
        before, after = (score.value for score in reward([plain, lucky]))
        gain[pool] = after - before
    assert gain["max"] > 0
    assert gain["min"] == 0
    assert gain["max"] > 2.9 * gain["mean"] > 0


def test_views_refuse_what_looks_at_no_image() -> None:
    with pytest.raises(ConfigError, match="does not look at images"):
        build_reward({"views": {"pool": "max", "of": {"use": "voxel_iou"}}})
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        build_reward({"views": {"pool": "maen", "of": {"use": "this_test:bright"}}})
    with pytest.raises(ConfigError, match="did you mean 'pool'"):
        build_reward({"views": {"pol": "max", "of": {"use": "this_test:bright"}}})


# Stages


def test_stages_are_scored_by_themselves(reference: str) -> None:
    one = rollout(boxes(), reference, first=EMPTY)
    reward = build_reward(
        {"stages": {"coarse": {"use": "voxel_iou"}, "refined": {"use": "voxel_iou"}}}
    )
    score = reward([one])[0]
    assert score.stages == (0.0, 1.0)
    assert score.value == 1.0
    assert score.parts == {
        "coarse_voxel_iou": 0, "coarse": 0, "refined_voxel_iou": 1, "refined": 1
    }  # fmt: skip
    assert value({"stage": {"index": 0, "of": {"use": "voxel_iou"}}}, one) == 0
    assert value({"stage": {"index": 1, "of": {"use": "voxel_iou"}}}, one) == 1
    assert value("voxel_iou", one) == 1, "the answer is its last stage"
    with pytest.raises(RewardError, match="has 2 stages"):
        value({"stage": {"index": 2, "of": {"use": "voxel_iou"}}}, one)


def test_a_judge_reads_the_sheet_of_all_views(
    checkpoints: dict[str, Path], reference: str, tmp_path: Path
) -> None:
    """The yes-token judge, on the sheet of the last stage, and on each stage by itself."""
    judge = with_words(checkpoints["qwen2_5_vl"], tmp_path / "judge")
    node = {"use": "yes_token", "judge": str(judge), "device": "cpu", "value": "odds"}
    task = TextTo3D(TextTo3D.Options(data={}, view_px=64, num_views=3))
    one = rollout(boxes(), reference, first=np.roll(boxes(), 3, 2))
    one.parsed = task.parse(one.sample, one.output)
    value_of_sheet = build_reward(node)([one])[0].value
    assert value_of_sheet is not None
    assert 0 < value_of_sheet < 1
    # The same sheet as the image of a text-to-image answer is judged alike.
    target = ImageTarget(one.sample.target.caption)
    image = Rollout(Sample("p", "text_to_image", (), target), 0, 0, None, Finish.STOP, 0, 0)
    image.parsed = ImageAnswer(one.parsed.image)
    assert build_reward(node)([image])[0].value == pytest.approx(value_of_sheet, abs=1e-5)
    stages = build_reward({"stages": {"coarse": node, "refined": node}})([one])[0].stages
    assert stages is not None
    assert stages[1] == pytest.approx(value_of_sheet, abs=1e-5)
    assert stages[0] != pytest.approx(stages[1], abs=1e-7)


def test_the_same_codes_give_the_same_images() -> None:
    one, two = rollout(boxes(), None), rollout(boxes(), None)
    assert np.array_equal(one.parsed.image, two.parsed.image)
    assert one.parsed.image.shape == (16, 48, 3)
    assert one.parsed.views.shape == (3, 16, 16, 3)


def test_a_judge_that_says_nan_stops_the_run() -> None:
    sys.modules["this_test"].confused = lambda rollout: math.nan
    with pytest.raises(RewardError, match="gave nan"):
        run_tree(build_reward({"use": "this_test:confused"}), [rollout(boxes(), None)])
