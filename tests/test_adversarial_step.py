"""The DINO head's step and reward, against the same sums written out in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pytest
import torch
from helpers_images import save_dinov2
from helpers_learnt import equal, plain, save_stripes
from PIL import Image
from torch import Tensor

from vlrl.cli.describe import describe
from vlrl.reward.tree import build_reward
from vlrl.rewards.image.adversarial_dino import AdversarialDino, AdversarialDinoOptions
from vlrl.tasks.text_to_image import ImageAnswer
from vlrl.types import Rollout

Pair = tuple[Tensor, Tensor]
Weights = Mapping[str, Tensor]
LR = 0.1


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return str(save_dinov2(tmp_path_factory.mktemp("dino")))


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_stripes(tmp_path_factory.mktemp("references"))


def make(backbone: str, **options: object) -> AdversarialDino:
    """With logits on both sides of the hinge's margin; SGD, whose steps show the gradient."""
    settings = {"width": 16, "num_patches": 0, "device": "cpu", **options}
    reward = build_reward({"use": "adversarial_dino", "model": backbone, **settings})
    assert isinstance(reward, AdversarialDino)
    reward.load()
    reward._loaded = True
    with torch.no_grad():
        for parameter in reward.head.parameters():
            parameter.mul_(2.5)
    reward.optimizer = torch.optim.SGD(reward.head.parameters(), lr=LR)
    return reward


# --- plain float64 -------------------------------------------------------------------------------


@lru_cache
def loaded(backbone: str) -> torch.nn.Module:
    from transformers import Dinov2Model

    return Dinov2Model.from_pretrained(backbone).eval()


@torch.no_grad()
def raw_features(backbone: str, images: Sequence[np.ndarray], dtype: str = "fp32") -> Pair:
    """The last tokens of images resized to 56 x 56, rounded to the dtype, float64."""
    pixels = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]) / 255
    pixels = torch.nn.functional.interpolate(pixels, (56, 56), mode="bicubic", antialias=True)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    tokens = loaded(backbone)((pixels.clamp(0, 1) - mean) / std).last_hidden_state
    tokens = (tokens.half() if dtype == "fp16" else tokens).double()
    return tokens[:, 0], tokens[:, 1:]


def features_of(
    backbone: str, rollouts: Sequence[Rollout], dtype: str = "fp32"
) -> tuple[Pair, Pair]:
    """References' and generated images'."""
    paths = [rollout.sample.target.references[0] for rollout in rollouts]
    real = [np.array(Image.open(path)) for path in paths]
    made = [rollout.parsed.image for rollout in rollouts]
    return raw_features(backbone, real, dtype), raw_features(backbone, made, dtype)


def weights_of(reward: AdversarialDino) -> dict[str, Tensor]:
    return {name: t.detach().double().clone() for name, t in reward.head.state_dict().items()}


def logit(weights: Weights, head: str, x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    hidden = x @ weights[f"{head}.0.weight"].T + weights[f"{head}.0.bias"]
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    return (hidden @ weights[f"{head}.2.weight"].T + weights[f"{head}.2.bias"])[..., 0]


def two_sides(loss: str, real: Tensor, fake: Tensor) -> Tensor:
    if loss == "hinge":
        return (torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + fake, min=0).mean()) / 2
    return (torch.log1p((-real).exp()).mean() + torch.log1p(fake.exp()).mean()) / 2


def squared_gradient(weights: Weights, head: str, rows: Tensor) -> Tensor:
    """Mean over rows [N, D], one at a time."""
    norms = []
    for row in rows:
        x = row.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(logit(weights, head, x), x, create_graph=True)
        norms.append((gradient * gradient).sum())
    return torch.stack(norms).mean()


def stepped(
    before: Weights, real: Pair, fake: Pair, o: AdversarialDinoOptions
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The weights after one step of SGD, and the metrics before it."""
    weights = {name: tensor.clone().requires_grad_() for name, tensor in before.items()}
    patch_head = "image" if o.shared_head else "patch"
    cls = [logit(weights, "image", pair[0]) for pair in (real, fake)]
    patches = [logit(weights, patch_head, pair[1]) for pair in (real, fake)]
    loss = two_sides(o.loss, *cls) + o.patch_loss * two_sides(o.loss, *patches)
    if o.regularise == "penalty":
        penalty = squared_gradient(weights, "image", real[0])
        if o.patch_loss > 0:
            penalty = penalty + squared_gradient(weights, patch_head, real[1].flatten(0, 1))
        loss = loss + o.penalty_weight * penalty
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    after = {
        name: before[name] if gradient is None else before[name] - LR * gradient
        for name, gradient in zip(weights, gradients, strict=True)
    }
    if o.shared_head:
        after |= {f"patch{name[5:]}": after[name] for name in after if name.startswith("image")}
    cls, patches = [part.detach() for part in cls], [part.detach() for part in patches]
    metrics = {
        "loss": float(loss.detach()),
        "accuracy": float(((cls[0] > 0).double().mean() + (cls[1] < 0).double().mean()) / 2),
        "reference": float(cls[0].mean()),
        "generated": float(cls[1].mean()),
        "gap": float(cls[0].mean() - cls[1].mean()),
        "patch_gap": float(patches[0].mean() - patches[1].mean()),
    }
    return after, metrics


def same(found: Weights, expected: Weights, before: Weights) -> None:
    """Steps agree much more closely than their own length."""
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        step = float((expected[name] - before[name]).abs().max())
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-3 * step + 1e-6)


# --- the step ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "logistic"},
        {"patch_loss": 0.0},
        {"patch_loss": 1.7},
        {"patch_loss": 1.7, "loss": "logistic", "shared_head": True},
        {"regularise": "penalty", "patch_loss": 0.0},
        {"regularise": "penalty", "penalty_weight": 0.2, "patch_loss": 1.7},
        {"regularise": "penalty", "shared_head": True},
        {"feature_dtype": "fp16"},
    ],
    ids=str,
)
def test_the_step_is_the_plain_gradient(
    backbone: str, references: list[str], options: dict[str, object]
) -> None:
    """Raw features in, hinge or logistic, patch_loss, penalty: two hand-computed steps of SGD."""
    reward = make(backbone, **options)
    rollouts = plain(references)
    real, fake = features_of(backbone, rollouts, str(options.get("feature_dtype", "fp32")))
    for _ in range(2):
        before = weights_of(reward)
        found = reward.update(rollouts)
        after, metrics = stepped(before, real, fake, reward.options)
        same(weights_of(reward), after, before)
        assert {name: found[name] for name in metrics} == pytest.approx(metrics, abs=1e-4)
    assert not equal(before, after)


def test_the_cases_differ(backbone: str, references: list[str]) -> None:
    """The comparison above is sensitive to each option: some logits are past the margin,
    and a penalty and a patch loss move their heads by more than the tolerance."""
    rollouts = plain(references)
    real, fake = features_of(backbone, rollouts)
    weights = weights_of(make(backbone))
    logits = torch.stack([logit(weights, "image", pair[0]) for pair in (real, fake)])
    assert float(logits.max()) > 1 or float(logits.min()) < -1
    assert float(logits.abs().min()) < 1
    penalty = AdversarialDinoOptions(regularise="penalty", patch_loss=1.7)
    none = AdversarialDinoOptions(patch_loss=1.7)
    one, other = (stepped(weights, real, fake, o)[0] for o in (penalty, none))
    for head in ("image", "patch"):
        name = f"{head}.0.weight"
        moved = (one[name] - weights[name]).abs().max()
        assert float((one[name] - other[name]).abs().max()) > 0.1 * float(moved)


def test_it_learns_from_its_own_optimizer(backbone: str) -> None:
    reward = build_reward(
        {"use": "adversarial_dino", "model": backbone, "device": "cpu", "lr": 0.02}
    )
    reward.load()
    assert type(reward.optimizer) is torch.optim.Adam
    settings = reward.optimizer.defaults
    assert (settings["lr"], settings["betas"]) == (0.02, (0.5, 0.999))


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_reward_and_step_hand_the_same_features_to_the_head(
    backbone: str, references: list[str], dtype: str
) -> None:
    """To the bit, for generated images; references come the same way."""
    reward = make(backbone, feature_dtype=dtype)
    rollouts = plain(references)
    calls: list[Pair] = []
    reward.head.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    reward(rollouts)
    reward.update(rollouts)
    scored, real, fake = calls
    by_hand = features_of(backbone, rollouts)
    for part in range(2):
        assert torch.equal(scored[part], fake[part])
        for found, expected in zip((real, fake), by_hand, strict=True):
            near = 1e-5 if dtype == "fp32" else 1e-3
            torch.testing.assert_close(found[part].double(), expected[part], rtol=near, atol=near)
            rounded = torch.equal(found[part].half().float(), found[part])
            assert rounded == (dtype == "fp16")


def test_some_patches_of_each_image(backbone: str, references: list[str]) -> None:
    """Drawn again for each step, without repetition, for both sides; the step is that of these."""
    reward = make(backbone, num_patches=5, num_updates=2, regularise="penalty")
    rollouts = plain(references)
    before = weights_of(reward)
    calls: list[Pair] = []
    reward.head.register_forward_pre_hook(
        lambda _, inputs: calls.append((inputs[0].detach().double(), inputs[1].detach().double()))
    )
    reward.update(rollouts)
    picked = []
    for pair, whole in zip(calls, features_of(backbone, rollouts) * 2, strict=True):
        far = torch.cdist(pair[1], whole[1])
        assert pair[1].shape[1] == 5
        assert float(far.min(2).values.max()) < 1e-4
        picked.append(far.argmin(2).sort(1).values)
        assert bool((picked[-1].diff(dim=1) > 0).all())
    assert not torch.equal(picked[0], picked[2])
    assert not torch.equal(picked[1], picked[3])
    assert not torch.equal(picked[0], picked[1])
    middle, _ = stepped(before, *calls[:2], reward.options)
    after, _ = stepped(middle, *calls[2:], reward.options)
    same(weights_of(reward), after, before)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_replayed_images_take_part_in_the_step(
    backbone: str, references: list[str], share: float
) -> None:
    """One old image, six new ones that are alike, so that it does not matter which it replaces."""
    reward = make(backbone, replay_size=4, replay_share=share)
    rollouts, old = plain(references), plain(references, num=1, seed=7)
    for rollout in rollouts:
        rollout.parsed = ImageAnswer(rollouts[0].parsed.image)
    first = weights_of(reward)
    assert reward.update(old)["replayed"] == 1
    before = weights_of(reward)
    same(before, stepped(first, *features_of(backbone, old), reward.options)[0], first)
    found = reward.update(rollouts)
    real, fake = features_of(backbone, rollouts)
    earlier = features_of(backbone, old)[1]
    num = int(6 * share)
    cls, patches = (
        torch.cat([old_one.expand(6, *old_one.shape[1:])[:num], new[num:]])
        for old_one, new in zip(earlier, fake, strict=True)
    )
    after, metrics = stepped(before, real, (cls, patches), reward.options)
    same(weights_of(reward), after, before)
    assert {name: found[name] for name in metrics} == pytest.approx(metrics, abs=1e-4)
    _, without = stepped(before, real, fake, reward.options)
    assert (abs(without["generated"] - metrics["generated"]) > 0.01) == (share > 0)


def test_spectral_norm_takes_the_size_out_of_the_layers(
    backbone: str, references: list[str]
) -> None:
    """Matrices ten times as large do not change the reward: each is over its spectral norm."""
    reward = make(backbone, regularise="spectral", bound=1e6)
    rollouts = plain(references)
    for seed in range(20):
        reward.update(plain(references, seed=seed))
    values = [score.value for score in reward(rollouts)]
    matrices = [p for p in reward.head.parameters() if p.dim() == 2]
    assert len(matrices) == 4
    with torch.no_grad():
        for matrix in matrices:
            matrix.mul_(10)
    assert [score.value for score in reward(rollouts)] == pytest.approx(values, abs=1e-4)
    weights = {
        f"{head}.{i}.{kind}": getattr(getattr(reward.head, head)[i], kind).detach().double()
        for head in ("image", "patch")
        for i in (0, 2)
        for kind in ("weight", "bias")
    }
    originals = iter(matrices)
    for name in [name for name in weights if name.endswith("weight")]:
        raw = next(originals).detach().double()
        weights[name] = raw / torch.linalg.svdvals(raw)[0]
    cls, patches = features_of(backbone, rollouts)[1]
    expected = 0.7 * logit(weights, "image", cls) + 0.3 * logit(weights, "patch", patches).mean(1)
    assert values == pytest.approx(expected.tolist(), abs=0.02)


def test_the_cap_on_accuracy_ends_the_steps(backbone: str, references: list[str]) -> None:
    """At the first CLS accuracy above it; the head then equals that of as many uncapped steps."""
    capped = make(backbone, max_accuracy=0.8, num_updates=200)
    rollouts = plain(references)
    real, fake = features_of(backbone, rollouts)
    start = weights_of(capped)
    expected, taken = start, 0
    after, metrics = stepped(start, real, fake, capped.options)
    while metrics["accuracy"] <= 0.8:
        expected, taken = after, taken + 1
        after, metrics = stepped(expected, real, fake, capped.options)
    assert 0 < taken < 200
    found = capped.update(rollouts)
    assert (found["steps"], found["skipped"]) == (taken, 0.0)
    same(weights_of(capped), expected, start)
    free = make(backbone, num_updates=taken)
    free.update(rollouts)
    assert equal(free.state_dict()["head"], capped.state_dict()["head"])
    again = capped.update(rollouts)
    assert (again["steps"], again["skipped"]) == (0.0, 1.0)
    assert again["accuracy"] == pytest.approx(metrics["accuracy"])
    assert equal(free.state_dict()["head"], capped.state_dict()["head"])
    free.update(rollouts)
    assert not equal(free.state_dict()["head"], capped.state_dict()["head"])


# --- the reward --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image_weight": 0.2, "patch_weight": 1.5, "bound": 0.7},
        {"num_patches": 2, "shared_head": True, "feature_dtype": "fp16"},
    ],
    ids=str,
)
def test_the_reward_is_cls_and_the_mean_of_all_patches(
    backbone: str, references: list[str], options: dict[str, object]
) -> None:
    reward = make(backbone, **options)
    rollouts = plain(references)
    _, (cls, patches) = features_of(backbone, rollouts, str(options.get("feature_dtype", "fp32")))
    weights = weights_of(reward)
    image, patch = (
        logit(weights, "image", cls).numpy(),
        logit(weights, "patch", patches).numpy(),
    )
    assert patch.shape == (6, 16)
    patch = patch.mean(1)
    a, b = options.get("image_weight", 0.7), options.get("patch_weight", 0.3)
    bound = options.get("bound", 10.0)
    scores = reward(rollouts)
    expected = bound * np.tanh((a * image + b * patch) / bound)
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-4)
    parts = [score.parts for score in scores]
    assert [p["adversarial_dino_image"] for p in parts] == pytest.approx(image, abs=1e-4)
    assert [p["adversarial_dino_patches"] for p in parts] == pytest.approx(patch, abs=1e-4)
    assert np.abs(patch).max() > 0.1  # so that the reward without them is another one


@pytest.mark.parametrize(
    ("name", "line"), [("adversarial_dino", "[-10, 10]"), ("adversarial_scorer", "[-3.84615, 3")]
)
def test_describe_says_the_range(name: str, line: str) -> None:
    """That of the default options."""
    (found,) = [row for row in describe("reward", name).splitlines() if row.startswith("range")]
    low, high = build_reward({"use": name}).range
    assert found.split(maxsplit=1)[1] == f"[{low:g}, {high:g}]"
    assert line in found
