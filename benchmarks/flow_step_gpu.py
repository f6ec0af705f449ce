"""One GRPO step at SD3.5-medium's size on one GPU: images per second, memory, utilisation.

    python benchmarks/flow_step_gpu.py                    # one prompt x 8 images of 512 px
    python benchmarks/flow_step_gpu.py --images 24 --px 1024 --checkpointing

Random weights in bf16: transformer, autoencoder and both CLIPs of the published sizes; T5 has the
published width and two layers, since prompts are encoded once, before the step that is measured.
LoRA of rank 32, 10 steps, as in Flow-GRPO (configs/image_generation/sd3_5_medium_ocr.yaml); "fast"
is fast.yaml over it. Scored by brightness, which costs nothing. "of the chip": operations of the
forwards that a recipe needs (a backward counted as two), counted by torch, over the step's time
and the measured rate of a plain bf16 product.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cuda")

import torch
from flow_step import forwards
from flow_vs_published import (
    CAPTIONS,
    PHASES,
    ROOT,
    Case,
    PipelineSize,
    Times,
    our_step,
    our_trainer,
)
from on_device import Memory, forget, made_there, scratch_folder, stated_rate

from vlrl.config.loader import read_yaml

LORA = {"rank": 32, "alpha": 64}
RECIPES: dict[str, dict[str, Any]] = {
    "published": {},
    "fast": read_yaml(ROOT / "configs/image_generation/fast.yaml")["policy"],
}


def checkpoint(folder: Path, device: str, px: int, num_layers: int) -> Path:
    """SD3.5-medium with random weights, as a pipeline folder."""
    import diffusers as d
    import transformers as t

    from scripts.assets.models.image.tokenizers import clip_tokenizer, t5_tokenizer

    torch.manual_seed(0)
    clip, t5 = clip_tokenizer(CAPTIONS, 900, 77), t5_tokenizer(CAPTIONS, 256)

    def text(width: int, heads: int, layers: int) -> Any:
        config = t.CLIPTextConfig(
            vocab_size=len(clip), hidden_size=width, intermediate_size=4 * width,
            num_hidden_layers=layers, num_attention_heads=heads, projection_dim=width,
            bos_token_id=clip.bos_token_id, eos_token_id=clip.eos_token_id,
            pad_token_id=clip.pad_token_id, hidden_act="gelu",
        )  # fmt: skip
        return t.CLIPTextModelWithProjection(config)

    with made_there(device):
        transformer = d.SD3Transformer2DModel(
            sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=num_layers,
            attention_head_dim=64, num_attention_heads=24, joint_attention_dim=4096,
            caption_projection_dim=1536, pooled_projection_dim=2048, pos_embed_max_size=384,
            dual_attention_layers=tuple(range(min(13, num_layers))), qk_norm="rms_norm",
        )  # fmt: skip
        vae = d.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16,
            sample_size=px, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
            use_post_quant_conv=False,
        )  # fmt: skip
        small, large = text(768, 12, 12), text(1280, 20, 32)
        config = t.T5Config(
            vocab_size=len(t5), d_model=4096, d_kv=64, num_heads=64, d_ff=10_240, num_layers=2,
            feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False,
        )  # fmt: skip
        wide = t.T5EncoderModel(config)
        with torch.no_grad():
            for parameter in transformer.parameters():
                # New transformers end in layers that output 0, and gradients would be 0 too.
                parameter.add_(0.02 * torch.randn_like(parameter))
    pipeline = d.StableDiffusion3Pipeline(
        transformer, d.FlowMatchEulerDiscreteScheduler(shift=3.0), vae, small, clip, large, clip,
        wide, t5,
    )  # fmt: skip
    target = folder / "model"
    pipeline.save_pretrained(target)
    count = sum(p.numel() for p in transformer.parameters()) / 1e9
    print(f"transformer: {count:.2f} billion parameters", flush=True)
    return target


def trainer_of(case: Case, model: Path, name: str, device: str, checkpointing: bool) -> Any:
    """This project's trainer under a recipe, in bf16."""
    tokens = (case.size.image_px // 16) ** 2 + 77 + case.size.max_tokens  # CLIP's are always 77
    return our_trainer(
        case,
        model,
        name,
        {**RECIPES[name], "lora": LORA, "latent_dtype": "bf16"},
        precision="bf16" if device == "cuda" else "fp32",
        gradient_checkpointing=checkpointing,
        max_tokens_per_chunk=2 * case.micro_batch * tokens,
    )


def operations(trainer: Any) -> float:
    """Of one image's forward through the transformer, prompt included."""
    from torch.utils.flop_counter import FlopCounterMode

    policy, transformer = trainer.policy, trainer.policy.module.transformer
    counter = FlopCounterMode(display=False)
    before = transformer.forward
    counts: list[float] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        with counter:
            out = before(*args, **kwargs)
        counts.append(counter.get_total_flops() / len(kwargs["hidden_states"]))
        return out

    transformer.forward = counted
    try:
        policy.sample(trainer.drawing.samples[:1], 1, seed=0)
    finally:
        transformer.forward = before
    return counts[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--px", type=int, default=512)
    parser.add_argument("--images", type=int, default=8, help="of the one prompt")
    parser.add_argument("--micro-batch", type=int, default=4, help="images of a guided forward")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--layers", type=int, default=24, help="fewer, to try it")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    with scratch_folder() as folder:
        model = checkpoint(folder, args.device, args.px, args.layers)
        forget()
        rate = stated_rate(args.device)
        size = replace(PipelineSize(), image_px=args.px, max_tokens=128)
        case = Case(folder, size, 1, args.images, args.micro_batch, lr=3e-4)
        heads = (
            "recipe", *(f"{p} s" for p in PHASES), "sampled images/s", "trained images/s",
            "TFLOP per forward", "of the chip", "peak GiB", "added GiB",
        )  # fmt: skip
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
        for recipe in RECIPES:
            print(row(case, model, recipe, rate, args), flush=True)
            forget()


def row(case: Case, model: Path, recipe: str, rate: float, args: argparse.Namespace) -> str:
    """Measure one recipe."""
    started = time.perf_counter()
    trainer = trainer_of(case, model, recipe, args.device, args.checkpointing)
    each, times, memory = operations(trainer), Times(), Memory(args.device == "cuda")
    for _ in range(args.repeats + 1):
        memory.reset()
        our_step(trainer, times)
    needed = each * forwards(case, RECIPES[recipe]) * case.num_images
    step = times.median("step")
    cells = [f"{times.median(phase):.2f}" for phase in PHASES]
    cells += [f"{case.num_images / times.median('sampling'):.2f}"]
    cells += [f"{case.num_images / step:.2f}", f"{each / 1e12:.2f}"]
    cells += [f"{needed / rate / step:.1%}"]
    cells += [f"{memory.peak:.1f}", f"{memory.added:.1f}"]
    print(f"{recipe}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return f"| {recipe} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
