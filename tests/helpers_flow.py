"""Tiny pipelines of the real classes, and policies on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from helpers_runs import run_config
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from scripts.assets.models.image.pipeline import PipelineSize, new_pipeline
from vlrl.policy.flow.policy import FlowPolicy
from vlrl.protocols import PolicySetup
from vlrl.types import Message, Sample, TextPart

CAPTIONS = [
    f"a {size} {thing} on a {colour} background"
    for size in ("red", "big", "small")
    for thing in ("apple", "car", "dog", "cat")
    for colour in ("blue", "pink", "white")
]
TINY = PipelineSize(
    image_px=32,
    latent_channels=4,
    vae_channels=(8, 16, 16),
    width=32,
    num_heads=2,
    num_layers=2,
    text_width=32,
    num_text_layers=2,
    vocab_size=560,
    max_tokens=12,
)


def save_sd3(folder: Path) -> Path:
    """A Stable Diffusion 3 pipeline; its zero-initialised output layers get weights too."""
    torch.manual_seed(0)
    pipeline = new_pipeline(CAPTIONS, TINY)
    stir(pipeline.transformer)
    with torch.no_grad():
        # A newly initialised decoder outputs grey for every latent.
        pipeline.vae.decoder.conv_out.weight.mul_(6)
    pipeline.save_pretrained(folder)
    return folder


def save_flux(folder: Path) -> Path:
    """A FLUX.1-dev pipeline: packed latents, rotary positions, guidance as an input."""
    torch.manual_seed(0)
    base = new_pipeline(CAPTIONS, TINY)
    clip = base.tokenizer
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=12,
            bos_token_id=clip.bos_token_id,
            eos_token_id=clip.eos_token_id,
            pad_token_id=clip.pad_token_id,
        )
    )
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    stir(transformer)
    vae = AutoencoderKL.from_config(base.vae.config)
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_shift=1.15),
        vae=vae,
        text_encoder=text,
        tokenizer=clip,
        text_encoder_2=base.text_encoder_3,
        tokenizer_2=base.tokenizer_3,
        transformer=transformer,
    )
    pipeline.save_pretrained(folder)
    return folder


def stir(module: torch.nn.Module) -> None:
    """Give every weight some size: new transformers start with layers that output 0."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def samples(*captions: str) -> list[Sample]:
    """One sample per caption, without target."""
    return [
        Sample(text.replace(" ", "-"), "text_to_image", (Message("user", (TextPart(text),)),), None)
        for text in captions or CAPTIONS[:3]
    ]


def make_flow(folder: Path, *, dtype: torch.dtype = torch.float32, **options: object) -> FlowPolicy:
    """A policy with its prompts encoded; keyword arguments are options of the config."""
    kl = options.pop("kl_estimator", "auto")
    budget = options.pop("max_tokens_per_chunk", 100_000)
    settings = {
        "width_px": 32,
        "height_px": 32,
        "num_steps": 5,
        "num_eval_steps": 6,
        "guidance_scale": 3.0,
        "max_prompt_tokens": 12,
        **options,
    }
    torch.manual_seed(0)
    policy = FlowPolicy(
        FlowPolicy.Options(model=str(folder), **settings),
        PolicySetup(dtype=dtype, max_tokens_per_chunk=budget, kl_estimator=kl),
    )
    policy.prepare(samples(*CAPTIONS))
    return policy


def write_captions(folder: Path, num: int = 8) -> Path:
    """Captions with a reference each: stripes of different grey."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, caption in enumerate(CAPTIONS[:num]):
        image = np.full((32, 32, 3), 20 * i, dtype=np.uint8)
        image[:, ::4] = 255 - 20 * i
        Image.fromarray(image).save(folder / f"{i}.png")
        rows.append({"id": f"c{i}", "caption": caption, "references": [f"{i}.png"]})
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def flow_run(model: Path, data: Path, out: Path, name: str, **over: Any) -> dict[str, Any]:
    """A run of this policy; `over` as in run_config."""
    parts: dict[str, Any] = {
        "task": {
            "use": "text_to_image",
            "width_px": 32,
            "height_px": 32,
            "data": {"train": {"path": str(data)}},
        },
        "policy": {
            "use": "flow",
            "model": str(model),
            "width_px": 32,
            "height_px": 32,
            "num_steps": 4,
            "num_eval_steps": 4,
            "guidance_scale": 2.0,
            "max_prompt_tokens": 12,
            "window": {"num_steps": 2},
            "latent_dtype": "bf16",
        },
        "reward": {"use": "helpers_flow:lean"},
        "algo": {"num_prompts": 4, "group_size": 4, "clip": {"low": 0.01, "high": 0.01}},
    }
    if over.get("algo__objective") == "nft":  # it has no ratio and draws no window
        del parts["policy"]["window"], parts["algo"]["clip"]
        over = {key: value for key, value in over.items() if key != "policy__window"}
    return run_config(out, name, parts, over)


def lean(rollout: Any) -> float:
    """Something that any model can learn: brighter on the left than on the right.

    (Not brightness itself: the decoder's last normalisation holds that almost fixed.)
    """
    image = rollout.parsed.image / 255
    return float(image[:, :16].mean() - image[:, 16:].mean())


def lean_sometimes(rollout: Any) -> float:
    """Zero-variance groups: all images of every second caption get the same reward."""
    return lean(rollout) if int(rollout.sample.id.strip("c")) % 2 else 0.0
