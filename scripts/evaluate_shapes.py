"""Evaluate a text-to-3D model: geometry, the config's metrics, FID and KID over views, by group.

    python scripts/evaluate_shapes.py --config configs/text_to_3d/tiny.yaml --split held_out \\
        --backbone assets/models/tiny_dinov2 [--model runs/tiny_shapes/model] [--out figures.json]

FID and KID are those of the backbone's CLS features, which the output names: figures of two
feature spaces never compare. CLIP over views is a metric of the config:
`metrics: {clip: {views: {pool: mean, of: {use: clip_score}}}}`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.build import build_metrics, build_task, check_plugins, options_of
from vlrl.config.resolve import load_run_config
from vlrl.errors import VlrlError
from vlrl.eval.generation import answers, figures
from vlrl.eval.shapes import set_distances
from vlrl.measure.pictures import side_by_side

NUM_SHOWN = 10


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """All figures, as they are written to --out."""
    import torch

    torch.set_num_threads(args.threads)
    overrides = [*args.overrides]
    if args.model is not None:
        overrides.append(f"policy.model={args.model}")
        if (Path(args.model) / "codec").is_dir():
            overrides.append(f"policy.codec={args.model}/codec")
    config = check_plugins(load_run_config(args.config, overrides, None))
    task = build_task(config)
    policy_class, options = options_of("policy", config.policy)
    policy = policy_class(options, dtype=torch.float32, max_tokens_per_chunk=16_384)
    task.check_policy(policy.picture_size, args.split)
    samples = list(task.samples(args.split))[: args.limit or None]
    rollouts = answers(policy, task, samples, batch_size=args.batch_size, seed=args.seed)
    found = figures(task, rollouts, build_metrics(config, type(task)), 2000)
    found |= {"model": config.policy["model"], "split": args.split, "seed": args.seed}
    if args.sheet is not None:
        picked = rollouts[:: max(1, len(rollouts) // NUM_SHOWN)][:NUM_SHOWN]
        columns = [np.asarray(task.picture(one.sample, [one])) for one in picked]
        sheet = Image.fromarray(side_by_side(columns))
        sheet.thumbnail((1600, 1600))
        sheet.save(args.sheet)
    if args.backbone is not None:
        from vlrl.scoring.backbone import Backbone

        backbone = Backbone(args.backbone)

        def embed(images: Any) -> np.ndarray:
            parts = [
                backbone.features(images[i : i + 32])[0].cpu().numpy()
                for i in range(0, len(images), 32)
            ]
            return np.concatenate(parts)

        found["views"] = {**set_distances(task, rollouts, embed), "features": args.backbone}
    return found


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", nargs="+", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--model", help="another checkpoint than the config's")
    parser.add_argument("--backbone", help="DINOv2-like folder or hub name, for FID and KID")
    parser.add_argument("--sheet", type=Path, help="a picture of some answers, references on top")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, help="sampled with this seed; without: greedy")
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
