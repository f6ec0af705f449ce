"""Make the embedded image model: a Stable Diffusion 3 of four million parameters.

    python scripts/assets/models/make_tiny_image_model.py --out assets/models/tiny_sd3

First the autoencoder, on both styles of assets/images; then transformer and text encoders by
flow matching, on the first style, the words and optionally a share of the second style. Training
prompts only. The log is written next to the model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from vlrl.distributed.memory import keep_freed_memory
from scripts.assets.models.image.autoencoder import encode_images, scale_latents, train_autoencoder
from scripts.assets.models.image.clock import Clock
from scripts.assets.models.image.flow import train_flow
from scripts.assets.models.image.images import all_captions, base_images, both_styles
from scripts.assets.models.image.pipeline import PipelineSize, new_pipeline, num_parameters

LOOK_AT = (
    "a red apple on a blue background",
    "a taxi on a pink background",
    "a whale on a green background",
    "a cactus on a white background",
    "a guitar on a yellow background",
    "a house on a purple background",
    'the word "cat" on a blue background',
    'the word "sun" on a pink background',
)


def main() -> None:
    """Train, draw samples, save."""
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    args.out.mkdir(parents=True, exist_ok=True)
    size = PipelineSize()
    if args.start is None:
        pipeline = new_pipeline(all_captions(args.assets), size)
    else:
        from diffusers import DiffusionPipeline

        pipeline = DiffusionPipeline.from_pretrained(args.start, dtype=torch.float32)
    print(num_parameters(pipeline), flush=True)
    with (args.out / "warmup_log.jsonl").open("a", encoding="utf-8") as log:
        if args.vae_minutes:
            images = both_styles(args.assets, size.image_px)
            clock = Clock(args.vae_minutes)
            train_autoencoder(pipeline.vae, images, clock, batch=16, lr=args.vae_lr, log=log)
            scale_latents(pipeline.vae, images)
            save(pipeline, args.out)
        if args.flow_minutes:
            base = base_images(args.assets, size.image_px, args.second_style)
            latents = encode_images(pipeline.vae, base.images)
            clock = Clock(args.flow_minutes)
            train_flow(
                pipeline,
                base.captions,
                latents,
                base.weights,
                clock,
                batch=args.batch,
                lr=args.lr,
                log=log,
            )
    sheet(pipeline, args.guidance).save(args.out / "samples.webp")
    save(pipeline, args.out)


def save(pipeline: object, out: Path) -> None:
    """As bfloat16, which halves the file; the weights in memory do not change."""
    import copy

    small = copy.deepcopy(pipeline).to(torch.bfloat16)  # type: ignore[attr-defined]
    small.save_pretrained(out)


def sheet(pipeline: object, guidance: float) -> Image.Image:
    """Four samples per caption, one row each, enlarged twice."""
    pipeline.set_progress_bar_config(disable=True)  # type: ignore[attr-defined]
    rows = []
    for caption in LOOK_AT:
        rows.append(
            pipeline(  # type: ignore[operator]
                caption,
                num_images_per_prompt=4,
                num_inference_steps=20,
                guidance_scale=guidance,
                height=64,
                width=64,
                max_sequence_length=16,
                generator=torch.Generator().manual_seed(0),
            ).images
        )
    page = Image.new("RGB", (4 * 130, len(rows) * 130), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            page.paste(image.resize((128, 128), Image.Resampling.NEAREST), (130 * x, 130 * y))
    return page


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets/images"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="continue from a pipeline")
    parser.add_argument("--vae-minutes", type=float, default=12.0)
    parser.add_argument("--vae-lr", type=float, default=7e-4)
    parser.add_argument("--flow-minutes", type=float, default=45.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--second-style", type=float, default=0.0, help="share of images in the second style"
    )
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
