"""Train a small PickScore on pairs of known truth; no hub, a few minutes on one core.

    python scripts/assets/models/make_tiny_pick_score.py --out runs/tiny_pick_score
    python scripts/train_grpo.py --config image_generation/tiny_pick_score

A CLIPModel that `use: pick_score` loads. The pairs are those of scripts/assets/images/make_judge_pairs.py:
damaged images, and wrong objects, backgrounds and numbers; training captions only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from scripts.assets.images.degrade import HELD_OUT_KINDS
from scripts.assets.images.judge_pairs import NUMBERS, TRAINED_KINDS, PairMaker, read_rows
from vlrl.distributed.memory import keep_freed_memory
from scripts.assets.models.image.clock import Clock
from scripts.assets.models.image.pick import accuracy, learn_picks, new_clip, pick_processor


def main() -> None:
    """Train, measure on held-out pairs, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets/images"))
    parser.add_argument("--out", type=Path, default=Path("runs/tiny_pick_score"))
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--num-test", type=int, default=700, help="pairs of each held-out set")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    train, held, new = (
        read_rows(args.assets / f"{name}.jsonl") for name in ("train", "held_out", "new_concepts")
    )
    captions = [row["caption"] for row in train]
    numbers = [f"{word} times" for word in NUMBERS.values()]
    processor = pick_processor(captions * 3 + numbers * 100)
    model = new_clip(processor)
    args.out.mkdir(parents=True, exist_ok=True)
    maker = PairMaker(args.assets, train, args.seed)
    pairs = (maker.pair(kind) for kind in itertools.cycle(TRAINED_KINDS))
    with (args.out / "warmup_log.jsonl").open("w", encoding="utf-8") as log:
        clock = Clock(args.minutes)
        learn_picks(model, processor, pairs, clock, batch=args.batch, lr=args.lr, log=log)
        sets = {
            "held_out_images": (held, TRAINED_KINDS),
            "new_concepts": (new, TRAINED_KINDS),
            "held_out_kinds": (held, HELD_OUT_KINDS),
        }
        for place, (name, (rows, kinds)) in enumerate(sets.items(), start=1):
            drawn = list(PairMaker(args.assets, rows, args.seed + place).draw(args.num_test, kinds))
            line = json.dumps({name: accuracy(model, processor, drawn)})
            log.write(line + "\n")
            print(line, flush=True)
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)


if __name__ == "__main__":
    main()
