"""Flow policies on tiny pipelines of the real classes: SD3 and FLUX."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from helpers_flow import CAPTIONS, make_flow, samples, save_flux, save_sd3
from torch.distributions import Normal, kl_divergence

from vlrl.algo.flow import euler
from vlrl.errors import ConfigError
from vlrl.policy.flow.captions import CaptionStore
from vlrl.policy.flow.options import FlowConfig
from vlrl.policy.flow.policy import FlowPolicy, _generator
from vlrl.policy.flow.schedule import trained_steps

KINDS = ("sd3", "flux")
WINDOW = {"num_steps": 2, "start": 1}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return {"sd3": save_sd3(root / "sd3"), "flux": save_flux(root / "flux")}


def make(folders: dict[str, Path], kind: str, **options: object) -> FlowPolicy:
    return make_flow(
        folders[kind], **{"guidance": "distilled" if kind == "flux" else "cfg", **options}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_pipelines_own_image(folders: dict[str, Path], kind: str) -> None:
    policy = make(folders, kind)
    problem = samples(CAPTIONS[1])
    (mine,), _ = policy.sample(problem, 1, seed=3, greedy=True)
    pipeline = DiffusionPipeline.from_pretrained(folders[kind])
    pipeline.set_progress_bar_config(disable=True)
    start = policy._noise([_start(problem[0].id)])
    if kind == "flux":
        start = pipeline._pack_latents(start, 1, *policy.latent_shape)
    theirs = pipeline(
        CAPTIONS[1],
        num_inference_steps=6,
        guidance_scale=3.0,
        height=32,
        width=32,
        latents=start,
        max_sequence_length=12,
        output_type="np",
    ).images[0]
    assert mine.output.shape == (32, 32, 3)
    assert np.abs(mine.output / 255 - theirs).max() <= 0.5 / 255 + 1e-4


def _start(name: str) -> torch.Generator:
    return _generator(3, f"{name}/start", 0)


@pytest.mark.parametrize("dynamics", ["flow_sde", "cps", "dance_sde"])
@pytest.mark.parametrize("kind", KINDS)
def test_log_probs_are_those_of_the_steps_taken(
    folders: dict[str, Path], kind: str, dynamics: str
) -> None:
    policy = make(folders, kind, dynamics=dynamics, logp_scale="one", window=WINDOW)
    _, trajectory = policy.sample(samples(), 2, seed=0)
    assert trajectory.logp.shape == (6, 2)
    assert trajectory.steps == (1, 2)
    v = policy._velocities(policy.module, trajectory).view(trajectory.before.shape)
    for t, i in enumerate(trajectory.steps):
        step = policy._steps[i]
        normal = Normal(step.mean(trajectory.before[:, t], v[:, t]).double(), step.std)
        expected = normal.log_prob(trajectory.after[:, t].double()).flatten(1).sum(1)
        torch.testing.assert_close(
            trajectory.logp[:, t].double(), expected.detach(), rtol=1e-4, atol=1e-3
        )


@pytest.mark.parametrize("latent", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_ratio_starts_at_one(folders: dict[str, Path], dtype: torch.dtype, latent: str) -> None:
    """The stored latents are those that were used: they give the same log-probs again."""
    policy = make(
        folders, "sd3", dtype=dtype, latent_dtype=latent, stack_steps=False, window=WINDOW
    )
    _, trajectory = policy.sample(samples(), 4, seed=0)
    now = policy.evaluate(trajectory)
    ratio = (now.logp - trajectory.logp).exp()
    assert float((ratio - 1).abs().max()) < 1e-6


def test_stacked_steps_and_chunks_change_nothing(folders: dict[str, Path]) -> None:
    gradients = []
    for options in ({}, {"stack_steps": False}, {"max_tokens_per_chunk": 1}):
        policy = make(folders, "sd3", window=WINDOW, **options)
        _, trajectory = policy.sample(samples(), 2, seed=0)
        chunks = policy.plan(trajectory, range(6))
        assert sorted(row for chunk in chunks for row in chunk) == list(range(6))
        assert (len(chunks) == 6) is ("max_tokens_per_chunk" in options)
        weights = torch.linspace(-1, 1, 12).view(6, 2)
        for chunk in chunks:
            now = policy.evaluate(trajectory.select(chunk))
            (now.logp * weights[chunk]).sum().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in policy.module.parameters() if p.grad is not None])
        )
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-4, atol=1e-6)


def test_a_image_does_not_depend_on_its_batch(folders: dict[str, Path]) -> None:
    policy = make(folders, "sd3")
    together, _ = policy.sample(samples(), 2, seed=5)
    for i, sample in enumerate(samples()):
        alone, _ = policy.sample([sample], 2, seed=5)
        for a, b in zip(alone, together[2 * i : 2 * i + 2], strict=True):
            assert np.abs(a.output.astype(int) - b.output.astype(int)).max() <= 1
    other, _ = policy.sample(samples(), 2, seed=6)
    assert any((a.output != b.output).any() for a, b in zip(together, other, strict=True))


def test_one_noise_a_group_is_denoised_once_until_it_branches(folders: dict[str, Path]) -> None:
    """The shared first steps equal the same rows computed one by one."""
    window = {"num_steps": 1, "start": 2}
    policy = make(folders, "sd3", same_noise=True, window=window)
    _, shared = policy.sample(samples(), 3, seed=1)
    first = shared.before[:, 0].view(3, 3, *policy.latent_shape)
    assert bool((first == first[:, :1]).all())
    assert not bool((shared.after[0] == shared.after[1]).all())
    plain = make(folders, "sd3", same_noise=True, window={"num_steps": 1, "start": 0})
    _, unshared = plain.sample(samples(), 3, seed=1)
    start = unshared.before[:, 0]
    steps = policy._steps[:2]
    field = policy._with([policy.captions[" ".join(s.texts)] for s in samples()], 3)
    with torch.no_grad():
        x = start
        for i in range(len(steps)):
            step = euler(policy.sigmas[i], policy.sigmas[i + 1])
            x = step.mean(x, field(x, policy.sigmas[i]))
    torch.testing.assert_close(shared.before[:, 0], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kl", ["exact", "without_dt", "mean_distance", "velocity"])
@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}])
def test_kl_to_the_start(folders: dict[str, Path], kl: str, lora: dict | None) -> None:
    policy = make(folders, "sd3", kl=kl, lora=lora, window=WINDOW)
    frozen = policy.reference_module(torch.float32)
    assert (frozen is None) is (lora is not None)
    policy.bind_reference(frozen)
    _, trajectory = policy.sample(samples(), 2, seed=0)
    known = dataclasses.replace(trajectory, reference=policy.reference(trajectory))
    start = policy.evaluate(known).kl
    assert start is not None
    assert float(start.detach().abs().max()) < 1e-9
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    again = dataclasses.replace(trajectory, reference=policy.reference(trajectory))
    torch.testing.assert_close(again.reference, known.reference)
    kl_now = policy.evaluate(again).kl
    assert float(kl_now.min()) > 0
    kl_now.sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in policy.module.parameters())


@pytest.mark.parametrize(("kind", "feed_forward"), [("sd3", False), ("flux", True)])
def test_adapters_lie_where_the_published_ones_do(
    folders: dict[str, Path], kind: str, feed_forward: bool
) -> None:
    policy = make(folders, kind, lora={"rank": 4, "alpha": 8})
    names = {n.split(".lora_A")[0] for n, p in policy.module.named_parameters() if p.requires_grad}
    names = {name for name in names if "lora_B" not in name}
    joint = [name for name in names if ".transformer_blocks.0." in name]
    attention = ["add_k_proj", "add_q_proj", "add_v_proj", "to_add_out", "to_k", "to_out.0",
                 "to_q", "to_v"]  # fmt: skip
    wanted = [f"attn.{name}" for name in attention]
    if feed_forward:
        wanted += [f"{part}.net.{one}" for part in ("ff", "ff_context") for one in ("0.proj", "2")]
    assert sorted(n.split(".transformer_blocks.0.")[1] for n in joint) == sorted(wanted)


@pytest.mark.parametrize(
    ("kl", "scale"),
    [
        *((kl, "dims") for kl in ("exact", "without_dt", "mean_distance", "velocity")),
        ("exact", "one"),
        ("exact", "cps_published"),
    ],
)
def test_kl_is_its_convention_of_the_two_steps(
    folders: dict[str, Path], kl: str, scale: str
) -> None:
    """The exact one on the scale of the log-densities; the others as published."""
    dynamics = {"dynamics": "cps", "noise_level": 0.6} if scale == "cps_published" else {}
    policy = make(folders, "sd3", kl=kl, logp_scale=scale, window=WINDOW, **dynamics)
    policy.bind_reference(policy.reference_module(torch.float32))
    _, trajectory = policy.sample(samples(), 2, seed=0)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    known = dataclasses.replace(trajectory, reference=policy.reference(trajectory))
    found = policy.evaluate(known).kl
    now = policy.regression_target(trajectory)
    for t, i in enumerate(trajectory.steps):
        step, x = policy._steps[i], trajectory.before[:, t]
        here, there = step.mean(x, now[:, t]), step.mean(x, known.reference[:, t])
        exact = kl_divergence(Normal(here, step.std), Normal(there, step.std)).flatten(1)
        wanted = {
            ("exact", "dims"): exact.mean(1),
            ("exact", "one"): exact.sum(1),
            ("exact", "cps_published"): exact.mean(1) * 2 * step.std**2,
            ("without_dt", "dims"): exact.mean(1) * -step.dt,
            ("mean_distance", "dims"): (here - there).square().flatten(1).mean(1),
            ("velocity", "dims"): (now[:, t] - known.reference[:, t]).square().flatten(1).mean(1),
        }[kl, scale]
        torch.testing.assert_close(found[:, t].detach(), wanted, rtol=2e-3, atol=0)


def test_guarded_ratio_starts_at_one_and_weighs_steps(folders: dict[str, Path]) -> None:
    policy = make(folders, "sd3", ratio="guard", guard_by_dt=True, stack_steps=False, window=WINDOW)
    _, trajectory = policy.sample(samples(), 2, seed=0)
    now = policy.evaluate(trajectory)
    std = torch.tensor([policy._steps[i].std for i in trajectory.steps])
    torch.testing.assert_close(now.logp.detach(), trajectory.logp, rtol=1e-5, atol=1e-6)
    plain = make(folders, "sd3", stack_steps=False, window=WINDOW)
    _, same = plain.sample(samples(), 2, seed=0)
    torch.testing.assert_close(trajectory.logp, same.logp * std, rtol=1e-5, atol=1e-6)
    sigmas = policy.sigmas
    expected = [1 / (sigmas[i] - sigmas[i + 1]) for i in trajectory.steps]
    assert now.action_weight[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_guidance_off_is_scale_one(folders: dict[str, Path]) -> None:
    """And half of the batch: there is no unconditional pass."""
    off = make(folders, "sd3", guidance="off", window=WINDOW)
    on = make(folders, "sd3", guidance_scale=1.0, window=WINDOW)
    _, a = off.sample(samples(), 2, seed=0)
    _, b = on.sample(samples(), 2, seed=0)
    torch.testing.assert_close(a.after, b.after, rtol=1e-4, atol=1e-5)


def test_the_unconditional_half_may_go_without_gradient(folders: dict[str, Path]) -> None:
    found = {}
    for detach in (False, True):
        policy = make(folders, "sd3", detach_unconditional=detach, window=WINDOW)
        _, trajectory = policy.sample(samples(), 2, seed=0)
        now = policy.evaluate(trajectory)
        now.logp.sum().backward()
        grads = [p.grad for p in policy.module.parameters() if p.grad is not None]
        found[detach] = (now.logp.detach(), torch.cat([g.flatten() for g in grads]))
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[True][1], found[False][1], rtol=1e-2)


def test_a_window_chooses_the_trained_steps() -> None:
    def steps(version: int = 0, **window: object) -> list[int]:
        options = FlowConfig(model="m", width_px=64, height_px=64, num_steps=10, window=window)
        return trained_steps(options, version)

    assert steps(num_steps=2) == [0, 1]
    assert steps(num_steps=2, start=3) == [3, 4]
    drawn = {tuple(steps(version=v, num_steps=2, placement="random", stop=5)) for v in range(200)}
    assert drawn == {(0, 1), (1, 2), (2, 3), (3, 4)}
    slid = [
        steps(version=v, num_steps=4, placement="sliding", slide_every=25)[0]
        for v in (0, 24, 25, 149, 150)
    ]
    assert slid == [0, 0, 1, 5, 0]
    every = FlowConfig(model="m", width_px=64, height_px=64, num_steps=10)
    assert trained_steps(every, 0) == list(range(9))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"window": {"num_steps": 3, "start": 8}}, "do not fit"),
        ({"window": {"num_steps": 2, "stop": 10}}, "never trained"),
        ({"dynamics": "cps", "noise_level": 1.2}, "at most 1"),
        ({"guard_by_dt": True}, "ratio: guard"),
        ({"ratio": "guard", "logp_scale": "one"}, "logp_scale: dims"),
    ],
)
def test_bad_options_say_what_is_wrong(bad: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FlowConfig(model="m", width_px=64, height_px=64, **bad)


def test_wrong_models_say_what_is_wrong(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="distilled"):
        make_flow(folders["flux"])
    with pytest.raises(ConfigError, match="no guidance input"):
        make_flow(folders["sd3"], guidance="distilled")
    with pytest.raises(ConfigError, match="multiples of 4"):
        make_flow(folders["sd3"], width_px=33)
    with pytest.raises(ConfigError, match="closed form"):
        make_flow(folders["sd3"], kl_estimator="k3")
    policy = make(folders, "sd3")
    with pytest.raises(ConfigError, match="was not encoded"):
        policy.sample(samples("a green elephant"), 1, seed=0)


def test_prompts_are_encoded_once_and_encoders_freed(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    policy = make(folders, "sd3", prompt_cache=str(tmp_path))
    assert policy.pipeline.text_encoder is None
    assert len(list(tmp_path.rglob("*.safetensors"))) == len(CAPTIONS) + 1

    def never(batch: object) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("encoded again")

    store = CaptionStore(str(tmp_path), f"{folders['sd3']}@None/12")
    assert store.fill(CAPTIONS, never) == 0
    memory = make(folders, "sd3")
    torch.testing.assert_close(store[CAPTIONS[0]].context, memory.captions[CAPTIONS[0]].context)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}])
def test_saved_weights_load_in_diffusers(
    folders: dict[str, Path], tmp_path: Path, kind: str, lora: dict | None
) -> None:
    policy = make(folders, kind, lora=lora)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    weights = {n: p.detach() for n, p in policy.module.named_parameters()}
    policy.save_pretrained(str(tmp_path / "out"), weights)
    problem = samples(CAPTIONS[1])
    (mine,), _ = policy.sample(problem, 1, seed=3, greedy=True)
    if lora is None:
        pipeline = DiffusionPipeline.from_pretrained(tmp_path / "out")
    else:
        pipeline = DiffusionPipeline.from_pretrained(folders[kind])
        pipeline.load_lora_weights(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    start = policy._noise([_start(problem[0].id)])
    if kind == "flux":
        start = pipeline._pack_latents(start, 1, *policy.latent_shape)
    theirs = pipeline(
        CAPTIONS[1],
        num_inference_steps=6,
        guidance_scale=3.0,
        height=32,
        width=32,
        latents=start,
        max_sequence_length=12,
        output_type="np",
    ).images[0]
    assert np.abs(mine.output / 255 - theirs).max() <= 0.5 / 255 + 1e-3


def test_trajectories_join_and_split(folders: dict[str, Path]) -> None:
    policy = make(folders, "sd3", window=WINDOW, sample_batch_size=2)
    rollouts, whole = policy.sample(samples(), 2, seed=0)
    assert [r.group for r in rollouts] == [0, 0, 1, 1, 2, 2]
    assert whole.group.tolist() == [0, 0, 1, 1, 2, 2]
    parts = [whole.only_group(g) for g in range(3)]
    again = type(whole).join(parts)
    torch.testing.assert_close(again.before, whole.before)
    assert again.group.tolist() == whole.group.tolist()
    now = policy.evaluate(parts[1])
    torch.testing.assert_close(now.logp.detach(), whole.logp[2:4], rtol=1e-4, atol=1e-5)
