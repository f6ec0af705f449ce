"""The reward that learns: the formulas, the head's training, its state."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_images import save_dinov2
from helpers_learnt import equal, plain, save_stripes
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrl.image.adversarial_losses import LOSSES, gradient_penalty, hinge, pair_preference
from vlrl.image.networks.discriminator import Discriminator
from vlrl.protocols import TrainableReward
from vlrl.reward.tree import build_reward
from vlrl.rewards.image.adversarial_dino import AdversarialDino
from vlrl.tasks.text_to_image import ImageTarget
from vlrl.types import Sample

logits = st.lists(st.floats(-5, 5), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_dinov2(tmp_path_factory.mktemp("dino")))


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_stripes(tmp_path_factory.mktemp("references"))


def make(backbone: str, **options: object) -> AdversarialDino:
    settings = {"lr": 2e-3, "width": 16, "num_patches": 2, "device": "cpu", **options}
    reward = build_reward({"use": "adversarial_dino", "model": backbone, **settings})
    assert isinstance(reward, AdversarialDino)
    assert isinstance(reward, TrainableReward)
    return reward


@given(real=logits, fake=logits)
def test_losses_are_the_plain_means(real: list[float], fake: list[float]) -> None:
    r, f = torch.tensor(real), torch.tensor(fake)
    expected = 0.5 * (
        np.mean([max(0, 1 - x) for x in real]) + np.mean([max(0, 1 + x) for x in fake])
    )
    assert float(hinge(r, f, len(real), len(fake))) == pytest.approx(expected, abs=1e-5)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    both = 0.5 * (bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f)))
    assert float(LOSSES["logistic"](r, f, len(real), len(fake))) == pytest.approx(
        float(both), abs=1e-5
    )
    two = torch.stack([r, r + 1]).t()
    cross = torch.nn.functional.cross_entropy(two, torch.ones(len(real), dtype=torch.long))
    assert float(pair_preference(r + 1, r).mean()) == pytest.approx(float(cross), abs=1e-5)


def test_gradient_penalty_is_the_squared_gradient() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    w = torch.tensor([1.0, -2.0, 0.5])
    assert float(gradient_penalty((x @ w) * 2, x)) == pytest.approx(4 * 4 * float(w @ w), rel=1e-5)


@pytest.mark.parametrize("regularise", ["none", "spectral", "penalty"])
@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_the_head_learns_to_tell(
    backbone: str, references: list[str], loss: str, regularise: str
) -> None:
    reward = make(backbone, loss=loss, regularise=regularise, penalty_weight=0.01, lr=1e-2)
    rollouts = plain(references)
    first = reward.update(rollouts)
    for seed in range(40):
        last = reward.update(plain(references, seed=seed))
    assert last["gap"] > first["gap"] + 0.1
    assert last["accuracy"] > 0.9
    low, high = reward.range
    assert all(low <= score.value <= high for score in reward(rollouts))


def test_the_head_rests_while_the_policy_learns(backbone: str, references: list[str]) -> None:
    """Scoring changes nothing, leaves no gradient, and one image keeps its reward."""
    reward = make(backbone)
    rollouts = plain(references)
    before = [s.value for s in reward(rollouts)]
    state = copy.deepcopy(reward.state_dict()["head"])
    assert [s.value for s in reward(rollouts)] == before
    assert equal(state, reward.head.state_dict())
    assert not any(p.requires_grad for p in reward.head.parameters())
    reward.update(rollouts)
    assert [s.value for s in reward(rollouts)] != before
    assert not any(p.requires_grad for p in [*reward.head.parameters()])


def test_training_and_reward_see_the_same_features(backbone: str, references: list[str]) -> None:
    reward = make(backbone, image_weight=1.0, patch_weight=0.0, bound=1e6)
    rollouts = plain(references)
    scores = reward(rollouts)
    cls, patches = reward.backbone.features([r.parsed.image for r in rollouts])
    with torch.no_grad():
        image, patch = reward.head(cls, patches)
    assert [s.value for s in scores] == pytest.approx(image.tolist(), abs=1e-4)
    assert [s.parts["adversarial_dino_patches"] for s in scores] == pytest.approx(
        patch.mean(1).tolist(), abs=1e-5
    )


def test_rollouts_are_looked_at_once(backbone: str, references: list[str]) -> None:
    reward = make(backbone, num_updates=3)
    rollouts = plain(references)
    reward(rollouts)
    seen: list[int] = []
    features = reward.backbone.features

    def counted(images):
        seen.append(len(images))
        return features(images)

    reward.backbone.features = counted
    reward.update(rollouts)
    assert sum(seen) <= len(references)  # references alone, each once
    seen.clear()
    reward.update(plain(references, seed=3))
    assert seen == [6]


def test_with_policy_every_ten_the_policy_is_paid_in_every_tenth_round(
    backbone: str, references: list[str]
) -> None:
    """Nine rounds for the head, one for the policy; the head learns in all of them."""
    reward = make(backbone, policy_every=10)
    scored = []
    for _ in range(20):
        rollouts = plain(references)
        scored.append(reward(rollouts)[0].value is not None)
        reward.update(rollouts)
    assert scored == ([False] * 9 + [True]) * 2
    late = make(backbone, warmup_rounds=2)
    for expected in (False, False, True, True):
        assert (late(plain(references))[0].value is not None) is expected
        late.update(plain(references))


def test_a_reward_that_stops_learning_is_fixed(backbone: str, references: list[str]) -> None:
    reward = make(backbone, learn_rounds=2, lr=1e-2)
    heads = []
    for seed in range(4):
        metrics = reward.update(plain(references, seed=seed))
        heads.append(copy.deepcopy(reward.state_dict()["head"]))
        assert metrics["skipped"] == float(seed >= 2)
    assert not equal(heads[0], heads[1])
    assert equal(heads[1], heads[3])


def test_a_head_that_is_too_good_rests(backbone: str, references: list[str]) -> None:
    reward = make(backbone, max_accuracy=0.75, lr=1e-2)
    for seed in range(60):
        last = reward.update(plain(references, seed=seed))
    assert last["skipped"] == 1.0
    frozen = copy.deepcopy(reward.state_dict()["head"])
    reward.update(plain(references))
    assert equal(frozen, reward.state_dict()["head"])


@pytest.mark.parametrize("regularise", ["none", "spectral"])
def test_a_resumed_head_goes_on_to_the_bit(
    backbone: str, references: list[str], tmp_path: Path, regularise: str
) -> None:
    options = {"replay_size": 8, "num_updates": 2, "regularise": regularise}
    whole, first = make(backbone, **options), make(backbone, **options)
    for seed in range(3):
        whole.update(plain(references, seed=seed, each=3))
        first.update(plain(references, seed=seed, each=3))
    torch.save([first.state_dict()], tmp_path / "rewards.pt")
    resumed = make(backbone, **options)
    resumed.load_state_dict(torch.load(tmp_path / "rewards.pt", weights_only=True)[0])
    for seed in range(3, 6):
        assert whole.update(plain(references, seed=seed, each=3)) == resumed.update(
            plain(references, seed=seed, each=3)
        )
    assert [s.value for s in whole(plain(references))] == [
        s.value for s in resumed(plain(references))
    ]
    other = make(backbone, width=8)
    with pytest.raises(Exception, match="does not fit"):
        other.load_state_dict(first.state_dict())


def test_replay_keeps_its_size(backbone: str, references: list[str]) -> None:
    reward = make(backbone, replay_size=10)
    sizes = [reward.update(plain(references, seed=s))["replayed"] for s in range(4)]
    assert sizes == [6, 10, 10, 10]


def test_no_reference_no_reward(backbone: str, references: list[str]) -> None:
    reward = make(backbone)
    rollouts = plain(references, num=2)
    rollouts[0].sample = Sample("x", "text_to_image", (), ImageTarget("plain"))
    first, second = reward(rollouts)
    assert first.value is None
    assert second.value is not None
    assert reward.update(rollouts[:1])["skipped"] == 1.0
    rollouts[1].parsed = None
    assert reward(rollouts)[1].value == reward.range[0]


def test_reference_features_are_kept_on_disk(
    backbone: str, references: list[str], tmp_path: Path
) -> None:
    first, second = (make(backbone, cache=str(tmp_path)) for _ in range(2))
    first.update(plain(references))
    assert 0 < len(list(tmp_path.rglob("*.safetensors"))) == first._references.num_computed
    second.update(plain(references))
    assert second._references.num_computed == 0


@settings(max_examples=20)
@given(seed=st.integers(0, 50))
def test_one_shared_head_is_one(seed: int) -> None:
    torch.manual_seed(seed)
    head = Discriminator(8, 4, shared=True, spectral=False)
    cls = torch.randn(3, 8)
    image, patch = head(cls, cls[:, None])
    torch.testing.assert_close(image[:, None], patch)
    assert len(list(head.parameters())) == 4
