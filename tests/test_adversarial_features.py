"""Cached features: which ones are dropped, where they come from, in which precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from helpers_images import noise_image, save_dinov2
from helpers_learnt import plain, save_stripes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlrl.errors import RewardError
from vlrl.image.networks.backbone import Backbone
from vlrl.image.networks.features import ReferenceFeatures, RoundedFeatures, read_image
from vlrl.reward.tree import build_reward
from vlrl.rewards.image.adversarial_dino import AdversarialDino

DTYPES = ("fp32", "fp16")
NUM_BYTES = {"fp32": 4 * 17 * 16, "fp16": 2 * 17 * 16}
"""Of one image: CLS and 4 x 4 patches of 16 numbers."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return str(save_dinov2(tmp_path_factory.mktemp("dino")))


@pytest.fixture(scope="module")
def backbone(model: str) -> Backbone:
    return Backbone(model, device="cpu")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    names = [str(folder / f"{i}.png") for i in range(5)]
    for i, name in enumerate(names):
        Image.fromarray(noise_image(i)).save(name)
    return names


def make(model: str, **options: object) -> AdversarialDino:
    node = {"use": "adversarial_dino", "model": model, "device": "cpu", "width": 16, "lr": 2e-3}
    reward = build_reward({**node, **options})
    assert isinstance(reward, AdversarialDino)
    return reward


def kept(
    backbone: Backbone, dtype: str = "fp32", folder: Path | None = None, num: float = 100
) -> ReferenceFeatures:
    """With room for this many images."""
    limit = int(num * NUM_BYTES[dtype])
    return ReferenceFeatures(
        RoundedFeatures(backbone, dtype), None if folder is None else str(folder), limit
    )


def alone(backbone: Backbone, path: str, dtype: str) -> tuple[Tensor, Tensor]:
    """cls [D], patches [P, D] of one image, not cached."""
    cls, patches = backbone.features([read_image(path)])
    if dtype == "fp16":
        cls, patches = cls.half(), patches.half()
    return cls[0], patches[0]


def check(
    found: tuple[Tensor, Tensor], backbone: Backbone, paths: Sequence[str], dtype: str
) -> None:
    """Rows in order, to the bit."""
    assert [len(part) for part in found] == [len(paths)] * 2
    for path, cls, patches in zip(paths, *found, strict=True):
        expected = alone(backbone, path, dtype)
        assert cls.dtype == expected[0].dtype
        assert torch.equal(cls, expected[0])
        assert torch.equal(patches, expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_kept_features_are_the_computed_ones_in_order(
    backbone: Backbone, paths: list[str], tmp_path: Path, dtype: str
) -> None:
    """Computed, from memory and from disk; with repetitions, and with room for none."""
    order = [paths[i] for i in (2, 0, 2, 4, 1, 0)]
    first = kept(backbone, dtype, tmp_path)
    for _ in range(2):
        check(first.of(order), backbone, order, dtype)
    assert first.num_computed == 4
    assert first.num_bytes == 4 * NUM_BYTES[dtype]
    second = kept(backbone, dtype, tmp_path, num=0)
    check(second.of(order[::-1]), backbone, order[::-1], dtype)
    assert (second.num_computed, second.num_bytes) == (0, 0)
    third = kept(backbone, dtype, num=0)
    check(third.of(order), backbone, order, dtype)
    assert (third.num_computed, third.num_bytes) == (4, 0)


@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), max_size=6),
    room=st.sampled_from([0, 0.9, 1, 2, 3.5, 5]),
)
def test_the_least_recently_used_make_room(
    backbone: Backbone, paths: list[str], batches: list[list[int]], room: float
) -> None:
    """A plain list, oldest first, gives what has to be computed."""
    features, recent, num_computed = kept(backbone, num=room), [], 0
    for batch in batches:
        names = [paths[i] for i in batch]
        for name in dict.fromkeys(names):
            num_computed += name not in recent
            recent = [one for one in recent if one != name] + [name]
            recent = recent[-int(room) :] if room >= 1 else []
        check(features.of(names), backbone, names, "fp32")
        assert features.num_computed == num_computed
        assert features.num_bytes == len(recent) * NUM_BYTES["fp32"] <= room * NUM_BYTES["fp32"]


def test_one_that_is_used_again_stays(backbone: Backbone, paths: list[str]) -> None:
    features = kept(backbone, num=2)
    for i, num_computed in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4), (0, 4), (2, 5)):
        features.of([paths[i]])
        assert features.num_computed == num_computed


def test_other_files_are_not_read(backbone: Backbone, paths: list[str], tmp_path: Path) -> None:
    """Neither those of the first format, nor those of another dtype or backbone."""
    fresh = kept(backbone, "fp16", tmp_path)
    fresh.of(paths[:1])
    (file,) = tmp_path.rglob("*.safetensors")
    right = load_file(file)
    assert right["patches"].dtype == torch.float16
    wrong = {name: torch.zeros_like(part, dtype=torch.float32) for name, part in right.items()}
    (tmp_path / backbone.fingerprint).mkdir()
    save_file(wrong, tmp_path / backbone.fingerprint / file.name)
    again = kept(backbone, "fp32", tmp_path)
    check(again.of(paths[:1]), backbone, paths[:1], "fp32")
    assert again.num_computed == 1
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    larger = Backbone(backbone.name, device="cpu", size_px=70)
    assert kept(larger, "fp32", tmp_path).of(paths[:1])[1].shape == (1, 25, 16)


def test_a_broken_file_is_named(backbone: Backbone, paths: list[str], tmp_path: Path) -> None:
    kept(backbone, folder=tmp_path).of(paths[:1])
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(RewardError, match=f"{file.name}.*delete the file"):
        kept(backbone, folder=tmp_path).of(paths[:1])


def test_features_beyond_fp16_are_refused(model: str) -> None:
    large = Backbone(model, device="cpu")
    with torch.no_grad():
        large._loaded.module.layernorm.weight.fill_(1e6)
    assert RoundedFeatures(large, "fp32").features([noise_image(0)])[0].abs().max() > 65504
    with pytest.raises(RewardError, match="set feature_dtype: fp32"):
        RoundedFeatures(large, "fp16").features([noise_image(0)])


# --- in the reward -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_head_learns_the_same_with_room_for_few(model: str, tmp_path: Path, dtype: str) -> None:
    """With the default limit, with two images' worth of it, and from disk."""
    references = save_stripes(tmp_path)
    few = {"cache_gib": 2.5 * NUM_BYTES[dtype] / 2**30}
    cases = ({}, few, {**few, "cache": str(tmp_path / "kept")}, {"cache": str(tmp_path / "kept")})
    found = []
    for case in cases:
        reward = make(model, feature_dtype=dtype, **case)
        metrics = [reward.update(plain(references, seed=seed, each=3)) for seed in range(4)]
        values = [score.value for score in reward(plain(references))]
        found.append((metrics, values))
        limit = reward._references.limit_bytes
        assert 0 < reward._references.num_bytes <= limit
        assert limit == (2 * 2**30 if "cache_gib" not in case else int(2.5 * NUM_BYTES[dtype]))
    assert found[1:] == found[:1] * 3


def test_scoring_in_inference_mode_leaves_features_to_learn_on(model: str, tmp_path: Path) -> None:
    rollouts = plain(save_stripes(tmp_path))
    reward, other = (make(model, feature_dtype="fp16") for _ in range(2))
    with torch.inference_mode():
        reward(rollouts)
        features = reward._features.features([noise_image(0)])
    assert not any(part.is_inference() for part in features)
    assert reward.update(rollouts) == other.update(rollouts)


def test_replay_is_kept_in_the_same_precision(model: str, tmp_path: Path) -> None:
    """And goes on from its state to the bit."""
    references = save_stripes(tmp_path)
    options = {"feature_dtype": "fp16", "replay_size": 8}
    whole, first = make(model, **options), make(model, **options)
    for seed in range(3):
        whole.update(plain(references, seed=seed, each=3))
        first.update(plain(references, seed=seed, each=3))
    state = first.state_dict()
    assert {part.dtype for part in state["replay_patches"]} == {torch.float16}
    resumed = make(model, **options)
    resumed.load_state_dict(state)
    for seed in range(3, 5):
        rollouts = plain(references, seed=seed, each=3)
        assert whole.update(rollouts) == resumed.update(rollouts)
