"""The scorer that learns: its score, training and state; both learning rewards on two ranks."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_images import noise_image, save_clip, save_dinov2
from helpers_learnt import equal, learn, on_ranks, plain, save_stripes
from PIL import Image

from vlrl.errors import RewardError
from vlrl.protocols import TrainableReward
from vlrl.reward.tree import build_reward
from vlrl.rewards.image.adversarial_scorer import AdversarialScorer
from vlrl.tasks.text_to_image import ImageAnswer, ImageTarget
from vlrl.types import Rollout, Sample


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return str(save_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_stripes(tmp_path_factory.mktemp("references"))


def node(clip: str, **options: object) -> dict:
    checkpoint = {"model": clip, "processor": clip, "device": "cpu"}
    settings = {"lr": 1e-3, "num_layers": 1, "trigger": "always", **options}
    return {"use": "adversarial_scorer", **checkpoint, **settings}


def make(clip: str, **options: object) -> AdversarialScorer:
    reward = build_reward(node(clip, **options))
    assert isinstance(reward, AdversarialScorer)
    assert isinstance(reward, TrainableReward)
    return reward


def values(reward: AdversarialScorer, rollouts: list[Rollout]) -> list[float | None]:
    return [score.value for score in reward(rollouts)]


def exchanged(rollouts: list[Rollout], folder: Path) -> list[Rollout]:
    """References and generated images swapped."""
    out = []
    for i, rollout in enumerate(copy.deepcopy(rollouts)):
        path = folder / f"generated{i}.png"
        Image.fromarray(rollout.parsed.image).save(path)
        with Image.open(rollout.sample.target.references[0]) as image:
            rollout.parsed = ImageAnswer(np.array(image))
        target = ImageTarget(rollout.sample.target.caption, (str(path),))
        rollout.sample = Sample(rollout.sample.id, "text_to_image", (), target)
        out.append(rollout)
    return out


def gap(clip: str, rollouts: list[Rollout]) -> float:
    """References' mean minus generated images', before anything is learnt."""
    return make(clip).update(rollouts)["gap"]


@pytest.mark.parametrize("num_layers", [1, 2])
def test_before_its_first_step_it_is_pick_score(
    clip: str, references: list[str], num_layers: int
) -> None:
    fixed = build_reward({"use": "pick_score", "model": clip, "processor": clip, "device": "cpu"})
    rollouts = plain(references)
    for i, rollout in enumerate(rollouts):
        rollout.parsed = ImageAnswer(noise_image(i, 30 + i, 60))
    reward = make(clip, num_layers=num_layers, trigger="generated_ahead")
    assert reward.range == fixed.range
    expected = [score.value for score in fixed(rollouts)]
    assert max(expected) - min(expected) > 1e-3
    assert values(reward, rollouts) == pytest.approx(expected, abs=1e-6)
    reward.update(rollouts)
    small = make(clip, divide_by=1.0)
    assert values(small, rollouts) == pytest.approx([26 * x for x in expected], abs=1e-5)
    assert small.range == (-100, 100)


def test_it_refuses_what_the_checkpoint_cannot_be(clip: str, references: list[str]) -> None:
    with pytest.raises(RewardError, match="set logit_scale"):
        make(clip, logit_scale=10.0)(plain(references))  # the tiny model has 14.3
    with pytest.raises(RewardError, match="has 2 vision layers; num_layers is 3"):
        make(clip, num_layers=3)(plain(references))


@pytest.mark.parametrize("num_layers", [1, 2])
def test_only_the_last_layers_learn(clip: str, references: list[str], num_layers: int) -> None:
    reward = make(clip, num_layers=num_layers)
    reward(plain(references))
    before = copy.deepcopy(reward.clip.model.state_dict())
    assert all(tensor.dtype == torch.float32 for tensor in reward.learner.state_dict().values())
    reward.update(plain(references))
    after = reward.clip.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name
        for name in before
        for i in range(2 - num_layers, 2)
        if name.startswith(f"vision_model.encoder.layers.{i}.")
    }
    saved = reward.state_dict()["layers"]
    assert len(saved) == len(changed) == 16 * num_layers


def test_the_scorer_learns_to_prefer_references(
    clip: str, references: list[str], tmp_path: Path
) -> None:
    """From either side: stripes over plain images, and plain images over stripes."""
    for rollouts in (plain(references), exchanged(plain(references), tmp_path)):
        reward = make(clip)
        first = reward.update(rollouts)
        for _ in range(30):
            last = reward.update(rollouts)
        assert last["gap"] > first["gap"] + 0.02
        assert last["loss"] < first["loss"]
        assert last["accuracy"] == 1.0
        low, high = reward.range
        assert all(low <= value <= high for value in values(reward, rollouts))


def test_metrics_are_those_of_the_pairs(clip: str, references: list[str], tmp_path: Path) -> None:
    rollouts = plain(references)
    reward = make(clip, divide_by=2.0, batch_size=4)
    made = np.array(values(reward, rollouts))
    true = np.array(values(make(clip, divide_by=2.0), exchanged(rollouts, tmp_path)))
    found = reward.update(rollouts)
    assert found["loss"] == pytest.approx(np.log1p(np.exp(2 * (made - true))).mean(), abs=1e-5)
    assert found["accuracy"] == (true > made).mean()
    assert found["reference"] == pytest.approx(true.mean(), abs=1e-5)
    assert found["generated"] == pytest.approx(made.mean(), abs=1e-5)
    assert found["gap"] == pytest.approx((true - made).mean(), abs=1e-5)
    assert (found["skipped"], found["steps"]) == (0.0, 1.0)


def test_it_learns_only_while_generated_images_are_ahead(
    clip: str, references: list[str], tmp_path: Path
) -> None:
    behind, ahead = plain(references), exchanged(plain(references), tmp_path)
    if gap(clip, behind) < 0:
        behind, ahead = ahead, behind
    reward = make(clip, trigger="generated_ahead", lr=1e-3, max_updates=3)
    before = values(reward, behind)
    rested = reward.update(behind)
    assert (rested["skipped"], rested["steps"]) == (1.0, 0.0)
    assert rested["gap"] > 0
    assert values(reward, behind) == before
    first = reward.update(ahead)
    assert (first["skipped"], first["steps"]) == (0.0, 3.0)
    assert first["gap"] < 0
    rounds = [reward.update(ahead) for _ in range(40)]
    assert rounds[-1]["gap"] > 0
    assert rounds[-1]["skipped"] == 1.0
    # Once it skips on these images it keeps skipping: the first skipped step ends a round.
    steps = [found["steps"] for found in rounds]
    assert steps == sorted(steps, reverse=True)


def test_kept_states_give_the_score_of_the_whole_model(clip: str, references: list[str]) -> None:
    reward = make(clip, max_updates=2)
    rollouts = plain(references)
    captions = [rollout.sample.target.caption for rollout in rollouts]
    images = [rollout.parsed.image for rollout in rollouts]
    for _ in range(3):
        first = values(reward, rollouts)
        kept = values(reward, rollouts)
        whole = reward.scale / 26 * reward.clip.cosines(images, captions)
        assert kept == first
        assert kept == pytest.approx(whole.tolist(), abs=1e-6)
        reward.update(rollouts)


def test_every_image_goes_through_the_lower_layers_once(clip: str, references: list[str]) -> None:
    reward = make(clip, max_updates=3, batch_size=4)
    rollouts = plain(references, each=3)
    seen: list[int] = []
    reward.load()
    reward._loaded = True
    pixels = reward.clip.pixels

    def counted(images: list[np.ndarray]) -> torch.Tensor:
        seen.append(len(images))
        return pixels(images)

    reward.clip.pixels = counted
    reward(rollouts)
    assert seen == [4, 2]
    seen.clear()
    for _ in range(5):
        reward.update(rollouts)
    # The rollouts again in each of the four later rounds, every reference once and alone.
    assert sorted(seen) == [1] * len(references) + [2] * 4 + [4] * 4
    assert reward._reference.cache_info().currsize == len(references)
    few = make(clip, kept_references=2)
    few.update(rollouts)
    assert few._reference.cache_info().currsize == 2
    assert reward._text.cache_info().misses == 3  # captions


def test_between_updates_nothing_moves(clip: str, references: list[str]) -> None:
    """One image keeps its reward to the bit, and no gradient is left on."""
    reward = make(clip)
    rollouts, others = plain(references), plain(references, seed=1)
    before = values(reward, rollouts)
    values(reward, others)
    assert values(reward, rollouts) == before
    assert values(reward, copy.deepcopy(rollouts)) == before
    for _ in range(2):
        assert not any(p.requires_grad for p in reward.clip.model.parameters())
        assert all(p.grad is None for p in reward.clip.model.parameters())
        reward.update(rollouts)
    assert values(reward, rollouts) != before


def test_the_batch_changes_no_step(clip: str, references: list[str]) -> None:
    whole, cut = make(clip, batch_size=32), make(clip, batch_size=4)
    for seed in range(3):
        a, b = (reward.update(plain(references, seed=seed)) for reward in (whole, cut))
        assert a == pytest.approx(b, abs=1e-5)
    assert values(whole, plain(references)) == pytest.approx(
        values(cut, plain(references)), abs=1e-5
    )


def test_scoring_in_inference_mode_leaves_states_to_learn_on(
    clip: str, references: list[str]
) -> None:
    reward, other = make(clip), make(clip)
    rollouts = plain(references)
    with torch.inference_mode():
        reward(rollouts)
    assert reward.update(rollouts) == other.update(plain(references))


def test_a_resumed_scorer_goes_on_to_the_bit(
    clip: str, references: list[str], tmp_path: Path
) -> None:
    """Three references per caption: the resumed one computes others first."""
    whole, first = (make(clip, max_updates=2) for _ in range(2))
    for seed in range(3):
        whole.update(plain(references, seed=seed, each=3))
        first.update(plain(references, seed=seed, each=3))
    torch.save([first.state_dict()], tmp_path / "rewards.pt")
    resumed = make(clip, max_updates=2)
    resumed.load_state_dict(torch.load(tmp_path / "rewards.pt", weights_only=True)[0])
    for seed in range(3, 6):
        assert whole.update(plain(references, seed=seed, each=3)) == resumed.update(
            plain(references, seed=seed, each=3)
        )
    assert equal(whole.state_dict()["layers"], resumed.state_dict()["layers"])
    assert values(whole, plain(references)) == values(resumed, plain(references))
    with pytest.raises(RewardError, match="does not fit"):
        make(clip, num_layers=2).load_state_dict(first.state_dict())
    fresh = make(clip)
    fresh.load_state_dict(make(clip).state_dict())
    assert fresh.round == 0


def test_no_reference_no_reward(clip: str, references: list[str]) -> None:
    reward = make(clip)
    rollouts = plain(references, num=2)
    rollouts[0].sample = Sample("x", "text_to_image", (), ImageTarget("plain"))
    first, second = values(reward, rollouts)
    assert first is None
    assert second is not None
    assert reward.update(rollouts[:1]) == {"skipped": 1.0, "steps": 0.0}
    rollouts[1].parsed = None
    assert values(reward, rollouts)[1] == reward.range[0]
    assert reward.update(rollouts) == {"skipped": 1.0, "steps": 0.0}
    assert reward.update([]) == {"skipped": 1.0, "steps": 0.0}


def test_warm_up_and_turns(clip: str, references: list[str]) -> None:
    reward = make(clip, warmup_rounds=1, policy_every=2)
    scored = []
    for _ in range(5):
        rollouts = plain(references, num=2)
        scored.append(values(reward, rollouts)[0] is not None)
        assert reward.update(rollouts)["steps"] == 1.0
    assert scored == [False, False, True, False, True]


def test_a_gradient_that_is_not_finite_stops(clip: str, references: list[str]) -> None:
    reward = make(clip)
    reward(plain(references))
    with torch.no_grad():
        reward.learner[0].mlp.fc1.weight[0, 0] = torch.nan
    with pytest.raises(RewardError, match=r"round 0 the gradient of 0\.\S+ is not finite"):
        reward.update(plain(references))


# --- on two ranks ------------------------------------------------------------------------------


@pytest.mark.ranks
def test_two_ranks_take_the_step_of_one(clip: str, references: list[str], tmp_path: Path) -> None:
    """With unequal shares, a rank without images, a round without any, and ranks that differ
    on whether generated images are ahead."""
    dino = str(save_dinov2(tmp_path / "dino"))
    head = {"use": "adversarial_dino", "model": dino, "device": "cpu", "num_patches": 0}
    nodes = {
        "scorer": node(clip, max_updates=2),
        "trigger": node(clip, trigger="generated_ahead", batch_size=2),
        "spectral": {**head, "regularise": "spectral", "lr": 2e-3},
        "penalty": {**head, "regularise": "penalty", "lr": 2e-3},
    }
    mixed = [*plain(references), *exchanged(plain(references, seed=1), tmp_path)]
    mixed.sort(key=lambda rollout: gap(clip, [rollout]))
    half = len(mixed) // 2
    assert gap(clip, mixed[:half]) < 0 < gap(clip, mixed[half:])
    few = [plain(references, seed=seed) for seed in (2, 3)]
    shares = [
        [mixed[:half], few[0][:1], [], few[1]],
        [mixed[half:], few[0][1:], [], []],
    ]
    joint = [[*one, *other] for one, other in zip(*shares, strict=True)]
    one, other = on_ranks(tmp_path, nodes, shares)
    for name, made in nodes.items():
        single = learn(made, joint)
        key = "layers" if "layers" in single["state"] else "head"
        assert one[name]["figures"] == other[name]["figures"], name
        assert equal(one[name]["state"][key], other[name]["state"][key]), name
        for a, b in zip(one[name]["figures"], single["figures"], strict=True):
            assert a == pytest.approx(b, abs=2e-5), name
        for tensor, weight in single["state"][key].items():
            # Attention does not depend on the bias of its keys: that gradient is rounding error,
            # which Adam amplifies.
            if not tensor.endswith("k_proj.bias"):
                found = one[name]["state"][key][tensor]
                torch.testing.assert_close(found, weight, atol=2e-5, rtol=1e-4)
        assert other[name]["values"] == []
        assert one[name]["values"] == pytest.approx(single["values"], abs=2e-5), name
    metrics = one["trigger"]["figures"]
    assert {found["skipped"] for found in metrics if "gap" in found} == {0.0, 1.0}
    assert metrics[2] == {"skipped": 1.0, "steps": 0.0}
