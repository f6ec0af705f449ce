"""Make the models that look at the embedded images: a DINO backbone for rewards, and two judges.

    python scripts/assets/models/make_tiny_image_judges.py --out assets/models

tiny_dinov2: trained without labels on training images of both styles; the adversarial reward
uses its features. judge_style and judge_concept: classifiers of the style (fluent or noto) and of the
concept; no reward uses them, they only measure. They too see only training prompts, except that the
concept judge is shown all 240 concepts, in both styles.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from vlrl.distributed.memory import keep_freed_memory
from scripts.assets.models.image import dino
from scripts.assets.models.image import judges
from scripts.assets.models.image.clock import Clock
from scripts.assets.models.image.images import both_styles, labelled


def main() -> None:
    """Train and save all three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets/images"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dino-minutes", type=float, default=10.0)
    parser.add_argument("--judge-minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    if args.dino_minutes:
        folder = args.out / "tiny_dinov2"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "warmup_log.jsonl").open("w", encoding="utf-8") as log:
            images = both_styles(args.assets, dino.SIZE_PX)
            clock = Clock(args.dino_minutes)
            model = dino.train_dino(images, clock, batch=48, lr=1e-3, log=log)
        model.half().save_pretrained(folder)
        dino.processor().save_pretrained(folder)
    if args.judge_minutes:
        judge(args, "style")
        judge(args, "concept")


def judge(args: argparse.Namespace, by: str) -> None:
    """Train, test on held-out prompts, save."""
    folder = args.out / f"judge_{by}"
    folder.mkdir(parents=True, exist_ok=True)
    seen, new = (labelled(args.assets, by, held_out=held) for held in (False, True))
    with (folder / "warmup_log.jsonl").open("w", encoding="utf-8") as log:
        clock = Clock(args.judge_minutes)
        model = judges.train_classifier(
            seen.names, seen.images, seen.labels, clock, lr=3e-3, log=log
        )
        with torch.no_grad():
            guesses = [
                model(pixel_values=(x.float() / 255 - judges.MEAN) / judges.STD).logits.argmax(-1)
                for x in new.images.split(128)
            ]
        right = float((torch.cat(guesses) == new.labels).float().mean())
        log.write(json.dumps({"held_out_accuracy": right, "num": len(new.labels)}) + "\n")
    print(f"judge of {by}: {100 * right:.1f} % of {len(new.labels)} held-out images", flush=True)
    model.half().save_pretrained(folder)
    judges.processor().save_pretrained(folder)


if __name__ == "__main__":
    main()
