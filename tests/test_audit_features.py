"""Probes, known features and likeness of representations, and the node that filters by them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlrl.audit.features import (
    alikeness,
    dissimilarities,
    geo_topological,
    labels_as_numbers,
    probe,
    ranks,
    rho_a,
)
from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward
from vlrl.reward.combinators.confidence import Confidence
from vlrl.reward.known_features import KnownFeatures, load_known, save_known
from vlrl.reward.tree import build_reward, score
from vlrl.types import Finish, Rollout, Sample, Score

RNG = np.random.default_rng(0)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


# --- probes ------------------------------------------------------------------------------------


def labelled(num: int = 60) -> tuple[np.ndarray, list[str], list[str]]:
    """Features of which the first one tells the label, and prompts of three answers each."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(num, 5))
    labels = ["icon" if x > 0 else "text" for x in features[:, 0]]
    return features, labels, [f"p{i // 3}" for i in range(num)]


def test_a_probe_finds_what_is_linear_in_the_features() -> None:
    features, labels, prompts = labelled()
    before = features.copy()
    found = probe(features, labels, prompts)
    assert found is not None
    assert found.accuracy > 0.9 > 0.7 > found.majority
    assert found.values == ("icon", "text")
    assert np.array_equal(features, before)


def test_shuffled_labels_are_told_no_better_than_the_most_frequent_value() -> None:
    features, _, prompts = labelled(300)
    labels = ["yes" if x < 0.7 else "no" for x in np.random.default_rng(2).random(300)]
    found = probe(features, labels, prompts)
    assert found is not None
    assert abs(found.accuracy - found.majority) < 0.06


def test_a_probe_learns_nothing_from_the_prompts_that_it_is_tested_on() -> None:
    """With one prompt per label value, knowing the prompt is no knowledge of the label."""
    features = np.eye(12).repeat(3, 0)
    labels = [f"v{i % 2}" for i in range(12) for _ in range(3)]
    found = probe(features, labels, [f"p{i}" for i in range(12) for _ in range(3)])
    assert found is not None
    assert found.accuracy <= 0.6


@pytest.mark.parametrize(
    ("labels", "prompts"),
    [(["a", "a", "a"], ["p", "q", "r"]), (["a", "b", None], ["p", "p", "q"]), ([None] * 3, "pqr")],
)
def test_nothing_to_probe(labels: list[str | None], prompts: list[str]) -> None:
    assert probe(RNG.normal(size=(3, 2)), labels, list(prompts)) is None


def test_more_features_than_answers_are_probed_the_same_way() -> None:
    features, labels, prompts = labelled(24)
    wide = np.concatenate([features] * 8, 1)
    found, again = probe(features, labels, prompts), probe(wide, labels, prompts, ridge=8.0)
    assert found is not None
    assert again is not None
    assert found.accuracy == again.accuracy


# --- likeness ----------------------------------------------------------------------------------


def test_ranks_and_rho_a_by_hand() -> None:
    assert list(ranks(column(3, 1, 1, 9))) == [3, 1.5, 1.5, 4]
    assert rho_a(column(1, 2, 3), column(10, 20, 30)) == pytest.approx(1)
    assert rho_a(column(1, 2, 3), column(3, 2, 1)) == pytest.approx(-1)
    # Ranks 1, 2, 3 and 1.5, 1.5, 3: 12 (-1 * -0.5 + 0 + 1 * 1) / (27 - 3) = 0.75. Spearman's own
    # would divide by the smaller spread of tied ranks and give 0.866.
    assert rho_a(column(1, 2, 3), column(5, 5, 6)) == pytest.approx(0.75)
    assert math.isnan(rho_a(column(1), column(2)))


def test_the_geo_topological_transform_by_hand() -> None:
    values = column(0, 1, 2, 3, 4)
    assert list(geo_topological(values, 0.25, 0.75)) == [0, 0, 0.5, 1, 1]
    assert list(geo_topological(values, 0.5, 0.5)) == [0, 0, 0, 1, 1]
    assert list(geo_topological(values, 0, 1)) == [0, 0.25, 0.5, 0.75, 1]


def test_dissimilarities_are_distances_of_pairs() -> None:
    features = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    assert dissimilarities(features) == pytest.approx(column(5, 1, math.sqrt(18)))


@given(arrays(np.float64, (8, 3), elements=st.floats(-5, 5)), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_turned_scaled_and_shifted_features_are_alike(features: np.ndarray, scale: float) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    pairs = np.sort(dissimilarities(features))
    if np.diff(pairs).min() < 1e-3:  # near ties may be rounded into another order
        return
    assert alikeness(features, scale * features @ turn + 7) == pytest.approx(1)
    both = alikeness(features, scale * features @ turn, 0.25, 0.75)
    assert both == pytest.approx(alikeness(features, features, 0.25, 0.75))


def test_unrelated_features_are_not_alike() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(60, 4)), rng.normal(size=(60, 9))
    assert abs(alikeness(one, other)) < 0.1
    assert math.isnan(alikeness(one[:2], other[:2]))


def test_the_topological_variant_forgives_bent_distances() -> None:
    """Two clusters far apart: what is near and what is far stays, distances inside them do not."""
    rng = np.random.default_rng(4)
    near = rng.normal(size=(20, 3)) * 0.1
    one = np.concatenate([near, near + 5])
    other = np.concatenate([rng.permutation(near), rng.permutation(near) + 50])
    # 380 of the 780 pairs are near.
    cut = 379.5 / 779
    assert alikeness(one, other) < 0.9
    assert alikeness(one, other, cut, cut) == alikeness(one, one, cut, cut)


def test_labels_become_numbers() -> None:
    assert list(labels_as_numbers(["b", None, "a", "b"])) == [1, -1, 0, 1]


# --- known features ----------------------------------------------------------------------------

LINE = np.array([[0.0], [1.0], [2.0], [10.0]])
"""Each one's distance to the nearest other: 1, 1, 1, 8."""


def test_confidence_by_hand() -> None:
    known = KnownFeatures(LINE)
    assert list(known.own_distances) == [1, 1, 1, 8]
    new = np.array([[0.5], [2.5], [4.0], [30.0]])
    assert list(known.distances(new)) == [0.5, 0.5, 2, 20]
    assert list(known.confidence(new)) == [1, 1, 0.25, 0]


def test_with_labels_distances_are_to_centroids() -> None:
    labels = np.array([0, 0, 0, 1, -1])
    known = KnownFeatures(np.array([[0.0], [1.0], [2.0], [10.0], [99.0]]), labels)
    assert list(known.distances(np.array([[1.0], [9.0]]))) == [0, 1]
    # Without itself: |0 - 1.5|, |1 - 1|, |2 - 0.5|; the only one of its label goes to the other.
    assert list(known.own_distances) == pytest.approx([0, 1.5, 1.5, 9])


def test_too_few_known_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        KnownFeatures(LINE[:1])
    with pytest.raises(ValueError, match="at least 2"):
        KnownFeatures(LINE, np.array([0, -1, -1, -1]))


class Plain(Reward):
    """The output is the feature, and the reward."""

    name, range = "plain", (-100.0, 100.0)
    has_features = True

    def __call__(self, rollouts: list[Rollout]) -> list[Score]:
        values = [0.0 if one.parsed is None else float(one.parsed) for one in rollouts]
        return [Score(value, {self.name: value}) for value in values]

    def answer_features(self, rollouts: list[Rollout]) -> np.ndarray | None:
        if not self.has_features:
            return None
        return np.array([[math.nan if one.parsed is None else one.parsed] for one in rollouts])


def numbers(*values: float | None) -> list[Rollout]:
    sample = Sample("s", "t", (), None)
    return [Rollout(sample, 0, i, v, Finish.STOP, 0, 0, parsed=v) for i, v in enumerate(values)]


@pytest.fixture
def line(tmp_path: Path) -> str:
    save_known(tmp_path / "line.safetensors", LINE)
    return str(tmp_path / "line.safetensors")


def test_answers_far_from_known_ones_do_not_count(line: str) -> None:
    node = Confidence(Plain(), line, keep=0.75)
    found = score(node, numbers(0.5, 4.0, 30.0, None))
    assert [one.value for one in found] == [0.5, 4.0, None, 0.0]
    assert [one.parts.get("confidence") for one in found] == [1, 0.25, 0, None]
    assert [one.parts["plain"] for one in found] == [0.5, 4.0, 30.0, 0.0]


@given(st.lists(st.floats(-90, 90), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_a_filter_that_keeps_all_drops_nothing(values: list[float]) -> None:
    node = Confidence(Plain(), "unused", keep=1.0)
    node.__dict__["_known"] = KnownFeatures(LINE)
    assert [one.value for one in score(node, numbers(*values))] == values


def test_a_filter_without_its_file_or_its_features_says_so(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"reward\.confidence\.known: there is no file"):
        build_reward({"confidence": {"of": {"use": "box_iou"}, "known": "nowhere.safetensors"}})
    with pytest.raises(ConfigError, match="keep"):
        build_reward({"confidence": {"of": {"use": "box_iou"}, "known": line, "keep": 0}})
    blind = Plain()
    blind.has_features = False
    with pytest.raises(RewardError, match="no reward below it has features"):
        Confidence(blind, line)(numbers(1.0))
    save_known(tmp_path / "wide.safetensors", np.zeros((3, 2)))
    with pytest.raises(RewardError, match="features of 2 numbers, the reward's model gives 1"):
        Confidence(Plain(), str(tmp_path / "wide.safetensors"))(numbers(1.0))
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(RewardError, match=r"broken\.safetensors"):
        load_known(tmp_path / "broken.safetensors")


def test_saved_features_come_back_with_their_labels(tmp_path: Path) -> None:
    path = tmp_path / "labelled.safetensors"
    save_known(path, LINE, np.array([0, 0, 1, 1]))
    found = load_known(path)
    assert np.array_equal(found.features, LINE)
    assert found.labels is not None
    assert list(found.labels) == [0, 0, 1, 1]
