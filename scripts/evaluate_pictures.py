"""Evaluate a text-to-image model: the config's metrics, FID and KID to sets of pictures.

    python scripts/evaluate_pictures.py --config configs/image_generation/tiny.yaml \\
        --split held_out --model runs/tiny_images/model --features assets/models/judge_concept \\
        --against first_style=pictures/of/it --pictures runs/tiny_images/held_out

`references` are the samples' own (the first one of each); `--against` adds folders of pictures.
`nearest` is the share of generated pictures whose nearest neighbour, of all sets, lies in that set.
Figures of two feature spaces never compare: the output names the space.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.build import build_metrics, build_task, check_plugins, options_of
from vlrl.config.resolve import load_run_config
from vlrl.errors import DataError, VlrlError
from vlrl.eval.generation import answers, figures
from vlrl.eval.pictures import nearness


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """All figures, as they are written to --out."""
    import torch

    torch.set_num_threads(args.threads)
    overrides = [*args.overrides]
    if args.model is not None:
        overrides.append(f"policy.model={args.model}")
    config = check_plugins(load_run_config(args.config, overrides, None))
    task = build_task(config)
    policy_class, options = options_of("policy", config.policy)
    policy = policy_class(options, dtype=torch.float32, max_tokens_per_chunk=16_384)
    task.check_policy(policy.picture_size, args.split)
    samples = list(task.samples(args.split))[: args.limit or None]
    rollouts = answers(policy, task, samples, batch_size=args.batch_size, seed=args.seed)
    found = figures(task, rollouts, build_metrics(config, type(task)), 2000)
    found |= {"model": config.policy["model"], "split": args.split, "seed": args.seed}
    made = [rollout.parsed.image for rollout in rollouts if rollout.parsed is not None]
    if args.pictures is not None:
        args.pictures.mkdir(parents=True, exist_ok=True)
        for sample, image in zip(samples, made, strict=True):
            Image.fromarray(image).save(args.pictures / f"{sample.id}.png")
    if args.features is not None:
        from vlrl.scoring.pooled import PooledFeatures

        embed = PooledFeatures(args.features)
        firsts = [sample.target.references[:1] for sample in samples]
        sets = {"references": opened([Path(path) for paths in firsts for path in paths])}
        for item in args.against:
            name, _, folder = item.partition("=")
            sets[name] = opened(sorted(path for path in Path(folder).iterdir() if path.is_file()))
        near = nearness(embed(made), {name: embed(images) for name, images in sets.items()})
        found["sets"] = {**near, "features": args.features}
    return found


def opened(paths: Sequence[Path]) -> list[np.ndarray]:
    """uint8 [H, W, 3] each; raises DataError."""
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB")))
        except OSError as error:
            raise DataError(f"the picture {path} cannot be opened: {error}") from error
    if len(images) < 2:
        raise DataError("a distance between sets needs two pictures or more in each")
    return images


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", nargs="+", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--model", help="another checkpoint than the config's")
    parser.add_argument("--features", help="a vision model of transformers, for FID and KID")
    parser.add_argument("--against", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--pictures", type=Path, help="folder for the generated pictures")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--seed", type=int, help="sampled with this seed; without: the ODE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_intermixed_args()
    try:
        found = evaluate(args)
    except VlrlError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
