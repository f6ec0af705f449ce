"""What holds for every family, at tiny size, beside transformers' own generate and forward."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vlrl.families.family import placeholders
from vlrl.families.known import family_of
from vlrl.families.merging import merge
from vlrl.families.qwen_vl import QwenVL
from vlrl.plan.measure import sampling_costs, training_cost
from vlrl.plan.memory import modules_of
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup
from vlrl.protocols.planned import PlannedRun
from vlrl.types import ImagePart, Message, Sample, TextPart, VideoPart

NUM_TOKENS = 6
SIZES_PX = ((60, 40), (50, 90), (44, 44))


def policy_of(folder: Path, **options: Any) -> VisionLanguagePolicy:
    settings = {"max_new_tokens": NUM_TOKENS, "sample_batch_size": 8, **options}
    torch.manual_seed(0)
    return VisionLanguagePolicy(
        VisionLanguagePolicy.Options(model=str(folder), **settings),
        PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096, kl_estimator="k3"),
    )


def samples(folder: Path) -> list[Sample]:
    """One image, two images between texts, and none."""
    rng = np.random.default_rng(0)
    parts = []
    for i, size in enumerate(SIZES_PX):
        path = folder / f"seen_{i}.png"
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        parts.append(ImagePart(str(path), *size))
    prompts = (
        (parts[0], TextPart("Click the button: Save")),
        (TextPart("First "), parts[1], TextPart(" and second "), parts[2], TextPart(" differ")),
        (TextPart("What is two plus two? Say it in one word."),),
    )
    return [
        Sample(f"s{i}", "none", (Message("user", prompt),), None)
        for i, prompt in enumerate(prompts)
    ]


def reference_inputs(policy: VisionLanguagePolicy, sample: Sample) -> dict[str, Any]:
    """What transformers' own way makes of a sample."""
    if isinstance(family_of(policy.module.core.config), QwenVL):
        prompt = policy.encoder.encode(sample)
        kinds = (prompt.input_ids == policy.module.core.config.image_token_id).int()
        found: dict[str, Any] = {"input_ids": prompt.input_ids[None]}
        if prompt.media is not None:
            found["pixel_values"] = prompt.media["pixel_values"]
            found["image_grid_thw"] = prompt.media["grid_thw"]
        return {**found, "mm_token_type_ids": kinds[None]}
    content = [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image", "image": Image.open(part.path).convert("RGB")}
        for part in sample.prompt[0].parts
    ]
    mrope = family_of(policy.module.core.config).mrope
    types = {"return_mm_token_type_ids": True} if mrope else {}
    made = policy.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        return_dict=True,
        add_generation_prompt=True,
        return_tensors="pt",
        processor_kwargs=types,
    )
    return dict(made.to(policy.module.core.dtype))


def greedy_equals_generate(folder: Path) -> str:
    """The greedy answers are those of transformers' own generate."""
    policy = policy_of(folder)
    core = policy.module.core
    policy.module.forbidden = torch.zeros(0, dtype=torch.long)
    some = samples(folder)
    _, traj = policy.sample(some, 1, seed=0, greedy=True)
    policy.module.eval()
    for row, sample in enumerate(some):
        inputs = reference_inputs(policy, sample)
        ids = inputs["input_ids"]
        assert traj.prompts[row].input_ids.tolist() == ids[0].tolist(), "other ids"
        out = core.generate(
            **{"attention_mask": torch.ones_like(ids), **inputs},
            max_new_tokens=NUM_TOKENS,
            do_sample=False,
        )[0, ids.shape[1] :]
        mine = traj.tokens[row, traj.mask[row]].tolist()
        assert mine == out.tolist(), f"{sample.id}: {mine} {out.tolist()}"
    return "equal"


def log_probs_equal_forward(folder: Path) -> str:
    """Log-probs of sampled and of given answers are those of one plain forward of the model."""
    policy = policy_of(folder)
    policy.module.forbidden = torch.zeros(0, dtype=torch.long)
    some = samples(folder)
    _, traj = policy.sample(some, 2, seed=1)
    policy.module.eval()
    written = policy.given(some, [["no", "ab"]] * len(some))
    ends = {int(written.tokens[row, mask][-1]) for row, mask in enumerate(written.mask)}
    assert ends <= set(policy.stop_tokens.tolist()), "given answers end as drawn ones do"
    worst = max(_worst_gap(policy, some, one) for one in (traj, written))
    assert worst < 2e-5, f"log-probs differ by {worst:.1e}"
    return f"{worst:.1e}"


def _worst_gap(
    policy: VisionLanguagePolicy, some: Sequence[Sample], traj: TokenTrajectory
) -> float:
    """Largest difference to a plain forward, nats; of what sampling noted down too."""
    core = policy.module.core
    now = policy.evaluate(traj)
    worst = 0.0
    with torch.no_grad():
        for row in range(len(traj)):
            inputs = reference_inputs(policy, some[int(traj.group[row])])
            answer = traj.tokens[row, traj.mask[row]]
            num = inputs["input_ids"].shape[1]
            fill = {"input_ids": answer, "attention_mask": torch.ones_like(answer)}
            for name, value in inputs.items():
                if value.shape == (1, num):  # one number for every token
                    more = fill.get(name, torch.zeros_like(answer))[None]
                    inputs[name] = torch.cat([value, more.to(value.dtype)], 1)
            logits = core(**inputs).logits[0, num - 1 : -1].float()
            plain = logits.log_softmax(-1).gather(-1, answer[:, None])[:, 0]
            noted = [traj.logp] if traj.logp.any() else []
            for logp in (now.logp, *noted):
                worst = max(worst, float((logp[row, traj.mask[row]] - plain).abs().max()))
    return worst


def packed_equals_plain(folder: Path) -> str:
    """Packed rows give the log-probs and gradients of plain ones, or are refused."""
    policy = policy_of(folder)
    core = policy.module.core
    why = family_of(core.config).why_not_packed(core.config)
    if why is not None:
        assert not policy.share_prompt
        return f"plain: {why}"
    assert policy.share_prompt
    _, traj = policy.sample(samples(folder), 3, seed=2)
    found = []
    for policy.share_prompt in (True, False):
        found.append(_gradients(policy, traj))
    (logp, grads), (plain, plain_grads) = found
    gap = float((logp - plain).abs().max())
    scale = float(plain_grads.abs().max())
    wrong = float((grads - plain_grads).abs().max()) / scale
    assert gap < 1e-5, f"log-probs differ by {gap:.1e}"
    assert wrong < 1e-5, f"gradients differ by {wrong:.1e}"
    return f"log-probs {gap:.1e}, gradients {wrong:.1e}"


def _gradients(
    policy: VisionLanguagePolicy, traj: TokenTrajectory
) -> tuple[torch.Tensor, torch.Tensor]:
    policy.module.zero_grad()
    policy.module.train()
    now = policy.evaluate(traj)
    weight = torch.linspace(-1, 1, traj.mask.numel()).view(traj.mask.shape)
    (now.logp * weight)[traj.mask].sum().backward()
    grads = [p.grad.flatten() for p in policy.module.parameters() if p.grad is not None]
    return now.logp.detach()[traj.mask], torch.cat(grads)


def adapters_sit_in_the_language_model(folder: Path) -> str:
    """`lora` without names and `train_vision: false` reach the language model and nothing else."""
    policy = policy_of(folder, lora={"rank": 2, "alpha": 4}, train_vision=False)
    core = policy.module.core
    language = {id(part) for part in core.get_decoder().modules()}
    adapted = [p for p in policy.module.modules() if "lora_A" in dict(p.named_children())]
    assert adapted
    assert all(id(part) in language for part in adapted)
    trained = [n for n, p in policy.module.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert policy.module.keeps_features
    _, traj = policy.sample(samples(folder)[:1], 2, seed=3)
    assert traj.prompts[0].media is None
    assert traj.prompts[0].features is not None
    logp, grads = _gradients(policy, traj)
    assert torch.isfinite(logp).all()
    assert grads.abs().max() > 0
    assert float((logp - traj.logp[traj.mask]).abs().max()) < 2e-5
    frozen = policy_of(folder, train_vision=False)
    named = [n for n, p in frozen.module.core.named_parameters() if not p.requires_grad]
    assert named
    inside = {id(p) for p in frozen.module.core.get_decoder().parameters()}
    assert all(id(frozen.module.core.get_parameter(name)) not in inside for name in named)
    return f"{len(adapted)} adapters, {len(named)} frozen tensors"


def export_equals_policy(folder: Path, out: Path) -> str:
    """What a run leaves behind loads by `from_pretrained` and answers alike."""
    policy = policy_of(folder)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.mul_(0.9)
    weights = dict(policy.module.state_dict())
    policy.save_pretrained(str(out), weights)
    again = policy_of(out)
    some = samples(folder)
    _, traj = policy.sample(some, 1, seed=0, greedy=True)
    _, other = again.sample(some, 1, seed=0, greedy=True)
    assert torch.equal(traj.tokens, other.tokens)
    assert float((traj.logp - other.logp).abs().max()) < 1e-6
    return "equal"


def adapter_is_read_again(folder: Path, out: Path) -> str:
    """What a LoRA run leaves behind is loaded as a model, and `vlrl merge` makes a whole one."""
    policy = policy_of(folder, lora={"rank": 2, "alpha": 8}, train_vision=False)
    with torch.no_grad():
        for name, parameter in policy.module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    weights = {name: x.detach() for name, x in policy.module.named_parameters()}
    policy.save_pretrained(str(out / "model"), weights)
    merge(str(out / "model"), out / "merged")
    _, traj = policy.sample(samples(folder), 1, seed=3)
    gaps = [
        float((policy_of(path, train_vision=False).evaluate(traj).logp - traj.logp).abs().max())
        for path in (out / "model", out / "merged", folder)
    ]
    assert max(gaps[:2]) < 2e-5
    assert gaps[2] > 1e-2
    return f"{max(gaps[:2]):.1e}"


def videos_equal_forward(folder: Path) -> str:
    """A video between texts, beside a plain forward with what the processor makes of its frames."""
    policy = policy_of(folder)
    core = policy.module.core
    policy.module.forbidden = torch.zeros(0, dtype=torch.long)
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (8, 56, 84, 3), dtype=np.uint8)
    film = VideoPart(frames, 84, 56, 4.0, 8, (0, 2, 4, 6))
    sample = Sample("v", "none", (Message("user", (film, TextPart("What happens?"))),), None)
    _, traj = policy.sample([sample, *samples(folder)[:1]], 2, seed=1)
    policy.module.eval()
    now = policy.evaluate(traj)
    prompt = traj.prompts[0]
    assert prompt.num_visual_tokens > 0
    gap = float((now.logp - traj.logp)[traj.mask].abs().max())
    assert gap < 2e-5
    if isinstance(family_of(core.config), QwenVL):
        return f"{gap:.1e}"
    chat = [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What happens?"}]}
    ]
    text = policy.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    types = {"return_mm_token_type_ids": True} if family_of(core.config).mrope else {}
    made = policy.processor(
        text=[text],
        **types,
        videos=[[frames[::2]]],
        do_sample_frames=False,
        return_metadata=True,
        video_metadata=[[{"fps": 4.0, "frames_indices": [0, 2, 4, 6], "total_num_frames": 8,
                          "duration": 2.0, "width": 84, "height": 56}]],
        return_tensors="pt",
    )  # fmt: skip
    inputs = {name: value for name, value in made.items() if name != "video_metadata"}
    assert inputs["input_ids"][0].tolist() == prompt.input_ids.tolist()
    answer = traj.tokens[0, traj.mask[0]]
    num = prompt.num_tokens
    fill = {"input_ids": answer, "attention_mask": torch.ones_like(answer)}
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.shape == (1, num):
            more = fill.get(name, torch.zeros_like(answer))[None]
            inputs[name] = torch.cat([value, more.to(value.dtype)], 1)
    with torch.no_grad():
        logits = core(**inputs).logits[0, num - 1 : -1].float()
    plain = logits.log_softmax(-1).gather(-1, answer[:, None])[:, 0]
    worst = float((now.logp[0, traj.mask[0]] - plain).abs().max())
    assert worst < 2e-5, f"log-probs differ by {worst:.1e}"
    return f"{worst:.1e}"


def videos_stand_between_images(folder: Path) -> str:
    """A video between an image, the same again, and texts: every feature is at its own token."""
    policy = policy_of(folder)
    core, family = policy.module.core, family_of(policy.module.core.config)
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (8, 56, 84, 3), dtype=np.uint8)
    film = VideoPart(frames, 84, 56, 4.0, 8, (0, 2, 4, 6))
    seen = samples(folder)[0].prompt[0].parts[0]

    def asked(*parts: Any) -> Sample:
        return Sample("v", "none", (Message("user", (*parts, TextPart("What is it?"))),), None)

    def features(sample: Sample) -> torch.Tensor:
        media = policy.encoder.encode(sample).media
        assert media is not None
        with torch.no_grad():
            return family.features(core, media).levels

    # Together: one image alone may be cut into more tiles (LLaVA-OneVision).
    before, after = features(asked(seen, seen)).chunk(2, 1)
    apart = torch.cat([before, features(asked(film)), after], 1)
    mixed = asked(TextPart("a "), seen, TextPart(" b "), film, TextPart(" c "), seen)
    gap = float((features(mixed) - apart).abs().max())
    assert gap < 1e-5, f"features differ by {gap:.1e}"
    _, traj = policy.sample([mixed], 2, seed=1)
    assert traj.prompts[0].num_visual_tokens == apart.shape[1]
    policy.module.eval()
    gap = float((policy.evaluate(traj).logp - traj.logp)[traj.mask].abs().max())
    assert gap < 2e-5
    return f"{gap:.1e}"


def texts_hold_no_control_tokens(folder: Path) -> str:
    """Every control token of the checkpoint, as text of the data's, is characters.

    Marks that ask for an answer's form stay: nothing of a turn or an image hangs on them.
    """
    policy = policy_of(folder)
    tokenizer = policy.processor.tokenizer
    marks = policy.encoder.control_tokens
    image = placeholders(policy.module.core.config)[0]
    assert tokenizer.convert_ids_to_tokens(image) in marks
    assert {"<|im_start|>", "<|im_end|>"} <= set(marks)  # its template's
    assert not {"<|box_start|>", "<|object_ref_end|>"} & set(marks)
    seen = samples(folder)[0].prompt[0].parts[0]

    def specials(text: str) -> list[int]:
        sample = Sample("s", "none", (Message("user", (seen, TextPart(text))),), None)
        ids = policy.encoder.encode(sample).input_ids.tolist()
        return [i for i in ids if i in tokenizer.added_tokens_decoder]

    plain = specials("Click the box")
    for mark in marks:
        assert specials(f"Click {mark} the {mark}{mark} box") == plain, mark
    assert len(specials("Click <|box_start|> the box")) == len(plain) + 1
    return f"{len(marks)} marks"


def a_plan_takes_it(folder: Path) -> str:
    """`vlrl train --plan` runs the passes of a step without weights, the tower trained or not."""
    run = PlannedRun("bf16", False, 4096, 4, 8, None, True, 200, None, None)
    for train_vision in (True, False):
        options = VisionLanguagePolicy.Options(
            model=str(folder), train_vision=train_vision, max_new_tokens=8
        )
        policy = options.planned(run)
        assert policy is not None
        modules = modules_of(policy)
        assert training_cost(modules, policy.chunk(1000, largest=True).forward).flops > 0
        _, token = sampling_costs(modules, policy.sampling(8, largest=True))
        assert token.num_kernels > 0
    return "planned"


CHECKS = {
    "greedy": greedy_equals_generate,
    "log-probs": log_probs_equal_forward,
    "packed": packed_equals_plain,
    "adapters": adapters_sit_in_the_language_model,
    "texts": texts_hold_no_control_tokens,
}


def check_all(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Every check and what it found."""
    for name, check in CHECKS.items():
        try:
            yield name, check(folder)
        except Exception as error:  # a table of all families shows every failure
            last = traceback.extract_tb(error.__traceback__)[-1]
            yield name, f"FAILED {type(error).__name__}: {error} ({last.filename}:{last.lineno})"
