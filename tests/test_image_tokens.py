"""Policies that write image tokens, on a tiny Janus of the real classes; and whole runs."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from helpers_janus import (
    CAPTIONS,
    janus_run,
    make_janus,
    samples,
    save_janus,
    theirs,
    write_captions,
)
from helpers_ranks import Ranks, zero
from helpers_runs import curve, run_job

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, DataError
from vlrl.policy.image_tokens.decode import write_tokens
from vlrl.policy.image_tokens.policy import ImageTokenPolicy
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.protocols import PolicySetup
from vlrl.types import ImagePart, Message

LORA = {"rank": 4, "alpha": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_janus(tmp_path_factory.mktemp("janus") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captions(tmp_path_factory.mktemp("captions"))


def stir(policy: ImageTokenPolicy, size: float = 0.05) -> None:
    """Move every trained weight."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn_like(parameter))


@pytest.mark.parametrize("caption", CAPTIONS[:2])
def test_greedy_is_transformers_own_image(folder: Path, caption: str) -> None:
    """Also in a padded batch, with a longer prompt."""
    policy = make_janus(folder, guidance_scale=3.0)
    made, trajectory = policy.sample(samples(*CAPTIONS), 1, seed=0, greedy=True)
    row = CAPTIONS.index(caption)
    tokens, image = theirs(folder, caption, 3.0)
    assert trajectory.tokens[row].tolist() == tokens.tolist()
    assert made[row].output.shape == (16, 16, 3)
    assert made[row].output.dtype == np.uint8
    assert np.abs(made[row].output - image).max() <= 0.5 + 1e-2
    unguided = make_janus(folder, guidance_scale=1.0)
    _, plain = unguided.sample(samples(caption), 1, seed=0, greedy=True)
    assert plain.tokens[0].tolist() != tokens.tolist()


def by_hand(policy: ImageTokenPolicy, trajectory: TokenTrajectory, row: int) -> torch.Tensor:
    """Log-probs of all codes at every step of one row, from the whole model, unpadded; [T, V]."""
    model = transformers.JanusForConditionalGeneration.from_pretrained(policy.options.model)
    prompt = trajectory.prompts[int(trajectory.group[row])].input_ids
    empty = prompt.clone()
    empty[1:-1] = policy.processor.tokenizer.pad_token_id
    codes = model.prepare_embeddings_for_image_generation(trajectory.tokens[row])
    logits = []
    for ids in (prompt, empty):
        embeds = torch.cat([model.get_input_embeddings()(ids), codes])[None]
        state = model.model.language_model(inputs_embeds=embeds).last_hidden_state[0]
        logits.append(model.model.generation_head(state[len(ids) - 1 : -1]))
    s = policy.options.guidance_scale
    guided = logits[1] + s * (logits[0] - logits[1]) if s > 1 else logits[0]
    return (guided / policy.options.temperature).log_softmax(-1).detach()


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_log_probs_are_cross_entropies_of_the_whole_model(folder: Path, scale: float) -> None:
    policy = make_janus(folder, guidance_scale=scale, temperature=0.8)
    _, trajectory = policy.sample(samples(), 2, seed=0)
    assert trajectory.logp.shape == (6, 16)
    now = policy.evaluate(trajectory)
    assert now.entropy is not None
    for row in (0, 2, 5):
        whole = by_hand(policy, trajectory, row)
        expected = -torch.nn.functional.cross_entropy(
            whole, trajectory.tokens[row], reduction="none"
        )
        torch.testing.assert_close(trajectory.logp[row], expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(now.logp[row].detach(), expected, rtol=0, atol=1e-4)
        entropy = -(whole.exp() * whole).sum(-1)
        torch.testing.assert_close(now.entropy[row].detach(), entropy, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{}, {"guidance_scale": 1.0}, {"top_k": 10}, {"top_p": 0.7, "temperature": 1.3}],
)
def test_sampling_and_update_see_one_distribution(folder: Path, options: dict) -> None:
    policy = make_janus(folder, **options)
    _, trajectory = policy.sample(samples(*CAPTIONS), 4, seed=0)
    gap = (policy.evaluate(trajectory).logp.detach() - trajectory.logp).abs()
    assert float(gap.max()) < 1e-4
    if "top_k" in options:
        whole = by_hand(policy, trajectory, 0)
        taken = whole.gather(-1, trajectory.tokens[0][:, None])
        assert int((whole > taken + 1e-4).sum(-1).max()) < 10


def test_a_token_stays_possible_after_an_update(folder: Path) -> None:
    """Though it left the top-k set that it was drawn from: a log-prob of -inf trains nothing."""
    policy = make_janus(folder, top_k=4)
    _, trajectory = policy.sample(samples(), 2, seed=0)
    stir(policy)
    logp = policy.evaluate(trajectory).logp
    assert bool(logp.isfinite().all())
    now = by_hand(policy, trajectory, 0)
    assert not torch.allclose(logp[0].detach(), now.gather(-1, trajectory.tokens[0][:, None])[:, 0])


def test_frequencies_are_the_probabilities(folder: Path) -> None:
    """The first token of 600 images, against its hand-computed distribution."""
    policy = make_janus(folder)
    prompt = policy.encoder.encode(samples()[0])
    tokens, _ = write_tokens(policy.module, [prompt] * 600, list(range(600)), 1)
    _, trajectory = policy.sample(samples()[:1], 1, seed=0)
    probs = by_hand(policy, trajectory, 0)[0].exp()
    counts = torch.bincount(tokens[:, 0], minlength=64)
    error = (counts - 600 * probs) / (600 * probs * (1 - probs)).sqrt()
    assert float(error.abs().max()) < 4.5


def test_guidance_of_one_is_off(folder: Path) -> None:
    """And costs half: one row per image."""
    policy = make_janus(folder, guidance_scale=1.0)
    assert policy.module.passes == 1
    _, trajectory = policy.sample(samples(), 2, seed=0)
    nearly = make_janus(folder, guidance_scale=1.0 + 1e-7)
    assert nearly.module.passes == 2
    _, other = nearly.sample(samples(), 2, seed=0)
    assert other.tokens.tolist() == trajectory.tokens.tolist()
    torch.testing.assert_close(other.logp, trajectory.logp, rtol=0, atol=1e-4)


def test_chunks_change_no_gradient(folder: Path) -> None:
    gradients = []
    for budget in (100_000, 150, 1):
        policy = make_janus(folder, max_tokens_per_chunk=budget)
        policy.module.num_head_chunks = 3
        _, trajectory = policy.sample(samples(), 2, seed=0)
        chunks = policy.plan(trajectory, range(6))
        assert sorted(row for chunk in chunks for row in chunk) == list(range(6))
        assert len(chunks) == {100_000: 1, 150: 3, 1: 6}[budget]
        weights = torch.linspace(-1, 1, 6 * 16).view(6, 16)
        for chunk in chunks:
            now = policy.evaluate(trajectory.select(chunk))
            (now.logp * weights[chunk]).sum().backward()
        named = {n: p.grad for n, p in policy.module.named_parameters() if p.grad is not None}
        for part in ("language_model", "generation_embeddings", "aligner", "generation_head"):
            assert any(part in name and g.abs().max() > 0 for name, g in named.items()), part
        gradients.append(torch.cat([g.flatten() for g in named.values()]))
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointing_changes_no_gradient(
    folder: Path, dtype: torch.dtype, lora: dict | None
) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        policy = ImageTokenPolicy(
            ImageTokenPolicy.Options(model=str(folder), lora=lora),
            PolicySetup(dtype=dtype, max_tokens_per_chunk=1000, checkpointing=checkpointing),
        )
        _, trajectory = policy.sample(samples(), 1, seed=0)
        logp = policy.evaluate(trajectory).logp
        # Guidance multiplies what bf16 rounds away by its scale, here 5.
        assert float((logp.detach() - trajectory.logp).abs().mean()) < 0.2
        logp.sum().backward()
        grads = [p.grad.flatten() for p in policy.module.parameters() if p.grad is not None]
        gradients.append(torch.cat(grads))
    assert float(gradients[0].abs().max()) > 0
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_a_image_does_not_depend_on_its_batch(folder: Path) -> None:
    policy = make_janus(folder)
    _, together = policy.sample(samples(), 2, seed=5)
    for i, sample in enumerate(samples()):
        made, alone = policy.sample([sample], 2, seed=5)
        assert alone.tokens.tolist() == together.tokens[2 * i : 2 * i + 2].tolist()
    cut = make_janus(folder, sample_batch_size=2, decode_batch_size=1)
    made, parts = cut.sample(samples(), 2, seed=5)
    assert parts.tokens.tolist() == together.tokens.tolist()
    assert [r.group for r in made] == parts.group.tolist() == [0, 0, 1, 1, 2, 2]
    assert [r.index for r in made] == [0, 1] * 3
    _, other = policy.sample(samples(), 2, seed=6)
    assert other.tokens.tolist() != together.tokens.tolist()
    # The same words under another name are another problem, with other draws.
    (renamed,) = [dataclasses.replace(sample, id="renamed") for sample in samples()[:1]]
    _, drawn = policy.sample([renamed], 2, seed=5)
    assert drawn.tokens.tolist() != together.tokens[:2].tolist()
    torch.testing.assert_close(
        policy.evaluate(together.only_group(1)).logp.detach(),
        together.logp[2:4],
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize("lora", [None, LORA])
def test_kl_to_the_start(folder: Path, lora: dict | None) -> None:
    policy = make_janus(folder, lora=lora)
    frozen = policy.reference_module(torch.float32)
    assert (frozen is None) is (lora is not None)
    policy.bind_reference(frozen)
    _, trajectory = policy.sample(samples(), 2, seed=0)
    known = dataclasses.replace(trajectory, reference=policy.reference(trajectory))
    torch.testing.assert_close(known.reference, trajectory.logp, rtol=0, atol=1e-4)
    start = policy.evaluate(known).kl
    assert start is not None
    assert float(start.detach().abs().max()) < 1e-8
    stir(policy)
    again = policy.reference(trajectory)
    torch.testing.assert_close(again, known.reference)
    kl = policy.evaluate(known).kl
    assert kl is not None
    assert float(kl.detach().mean()) > 1e-3
    d = policy.evaluate(known).logp.detach() - again
    torch.testing.assert_close(kl.detach(), (-d).exp() + d - 1)


def test_only_what_writes_image_tokens_is_trained_and_held(folder: Path) -> None:
    policy = make_janus(folder)
    names = [name for name, p in policy.module.named_parameters() if p.requires_grad]
    parts = {name.split(".")[2] for name in names}
    wanted = {
        "language_model",
        "generation_embeddings",
        "generation_aligner",
        "generation_head",
    }
    assert parts == wanted
    assert len(names) == len(list(policy.module.parameters()))
    assert not any(p.requires_grad for p in policy.decoder.parameters())
    adapted = make_janus(folder, lora=LORA)
    trained = [name for name, p in adapted.module.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 7
    assert all("language_model" in name and "lora_" in name for name in trained)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("lora", [None, LORA])
def test_saved_weights_load_in_transformers(tmp_path: Path, tied: bool, lora: dict | None) -> None:
    start = save_janus(tmp_path / "start", tied=tied)
    policy = make_janus(start, lora=lora)
    stir(policy)
    weights = {n: p.detach().clone() for n, p in policy.module.named_parameters()}
    policy.save_pretrained(str(tmp_path / "out"), weights)
    made, _ = policy.sample(samples(CAPTIONS[1]), 1, seed=0, greedy=True)
    if lora is not None:
        from peft import PeftModel

        base = transformers.JanusForConditionalGeneration.from_pretrained(start)
        PeftModel.from_pretrained(base, tmp_path / "out").merge_and_unload().save_pretrained(
            tmp_path / "merged"
        )
        policy.processor.save_pretrained(tmp_path / "merged")
    out = tmp_path / ("out" if lora is None else "merged")
    _, image = theirs(out, CAPTIONS[1], 3.0)
    assert np.abs(made[0].output - image).max() <= 0.5 + 1e-1
    _, before = theirs(start, CAPTIONS[1], 3.0)
    assert np.abs(image - before).max() > 2
    model, info = transformers.JanusForConditionalGeneration.from_pretrained(
        out, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    first = transformers.JanusForConditionalGeneration.from_pretrained(start).state_dict()
    for name, tensor in model.state_dict().items():
        if any(part in name for part in ("vision_model", "vqmodel", "model.aligner")):
            assert torch.equal(tensor, first[name]), name
    again = make_janus(out)
    same, _ = again.sample(samples(CAPTIONS[1]), 1, seed=0, greedy=True)
    assert np.abs(same[0].output.astype(int) - made[0].output).max() <= 1


def test_wrong_use_says_what_is_wrong(folder: Path, data: Path, tmp_path: Path) -> None:
    nft = janus_run(folder, data, tmp_path, "x", algo__objective="nft")
    with pytest.raises(ConfigError, match="writes tokens"):
        build_trainer(check(RunConfig, nft), None)
    size = janus_run(folder, data, tmp_path, "y", task__width_px=32)
    with pytest.raises(ConfigError, match="16 x 16 px"):
        build_trainer(check(RunConfig, size), None)
    with pytest.raises(ConfigError, match="model_type 'qwen2_5_vl'"):
        make_janus(Path(__file__).parent.parent / "assets/models/tiny_qwen2_5_vl")
    with pytest.raises(ConfigError, match=r"policy\.model"):
        make_janus(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        make_janus(folder, guidance_scale=0.5)
    image = ImagePart("a.png", 16, 16)
    (sample,) = samples("two cats")
    seen = dataclasses.replace(sample, prompt=(Message("user", (image,)),))
    with pytest.raises(DataError, match=r"two-cats.*holds an image"):
        make_janus(folder).sample([seen], 1, seed=0)


# The adapter's gradients, KL and saving are tested above; that it learns takes half a minute.
@pytest.mark.parametrize("lora", [None, pytest.param(LORA, marks=pytest.mark.slow)])
def test_training_raises_the_reward(
    folder: Path, data: Path, tmp_path: Path, lora: dict | None
) -> None:
    """The last eight steps are above the first four by more than three standard errors.

    An adapter on so small a model changes little: it gets more images per step, and more steps.
    """
    job = janus_run(
        folder,
        data,
        tmp_path,
        "learns",
        seed=4 if lora else 3,
        num_steps=20 if lora else 12,
        policy__guidance_scale=1.0 if lora else 2.0,
        algo__group_size=128 if lora else 32,
        optim__lr=2e-2 if lora else 5e-3,
        policy__lora=lora,
    )
    run_job({"config": job})
    rows = curve(job)
    seen = torch.tensor([row["reward/mean"] for row in rows])
    # The difference of neighbouring steps has the noise of both.
    noise = float(seen.diff().std()) / 2**0.5
    assert float(seen[-8:].mean() - seen[:4].mean()) > 3 * noise * (1 / 4 + 1 / 8) ** 0.5
    assert max(row["update/sampling_gap"] for row in rows) < 1e-4


def test_a_resumed_run_goes_on_to_the_bit(folder: Path, data: Path, tmp_path: Path) -> None:
    over = {
        "num_steps": 4,
        "algo__num_epochs": 2,
        "algo__kl_beta": 0.01,
        "optim__ema_decay": 0.9,
        "checkpoint__every": 2,
        "checkpoint__keep_last": 5,
    }
    whole = janus_run(folder, data, tmp_path, "whole", **over)
    run_job({"config": whole})
    cut = copy.deepcopy(whole)
    cut["name"] = "cut"
    run_job({"config": cut, "stop_at": 2})
    run_job({"config": cut, "resume": "auto"})
    assert len(curve(whole)) == 4
    for a, b in zip(curve(whole), curve(cut), strict=True):
        for name in a:
            if not name.startswith("time/"):
                assert a[name] == b[name], (a["step"], name)
    last = "checkpoints/step-000004/ema_rank0.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "cut" / last).read_bytes()


@pytest.mark.slow
@pytest.mark.ranks
def test_two_ranks_equal_one(folder: Path, data: Path, tmp_path: Path, ranks: Ranks) -> None:
    """Losses, KL, rewards: at stage 3 with a frozen reference, at stage 2 with an adapter."""
    # Two chunks a step on one rank.
    over = {
        "num_steps": 2,
        "algo__kl_beta": 0.1,
        "dist__max_tokens_per_chunk": 900,
        "algo__group_size": 4,
    }
    kinds = {"full": over, "lora": {**over, "policy__lora": LORA}}
    single = {k: janus_run(folder, data, tmp_path, f"one_{k}", **o) for k, o in kinds.items()}
    for job in single.values():
        run_job({"config": job})
    double = {
        kind: janus_run(
            folder, data, tmp_path, f"two_{kind}", dist__deepspeed=zero(stage), **kinds[kind]
        )
        for kind, stage in [("full", 3), ("lora", 2)]
    }
    ranks.run([{"config": job} for job in double.values()])
    for kind, job in double.items():
        for a, b in zip(curve(single[kind]), curve(job), strict=True):
            for name in ("update/loss", "update/kl", "update/entropy", "reward/mean"):
                assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-5), (kind, name)
