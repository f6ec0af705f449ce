"""Start the small judge: tokenizer, random weights, and some steps of naming objects.

    python scripts/assets/images/make_judge_pairs.py --out runs/judge_pairs
    python scripts/assets/models/make_tiny_judge.py --out runs/tiny_judge_start
    vlrl train-judge --config judge/tiny_judge

The last command makes the judge in runs/tiny_judge/model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from scripts.assets.images.judge_pairs import NUMBERS, STYLES, PairMaker, read_rows
from vlrl.distributed.memory import keep_freed_memory
from scripts.assets.models.judge.model import judge_processor, new_judge
from scripts.assets.models.judge.naming import QUESTION, learn_names

NUM_COUNTED = 1200


def main() -> None:
    """Write the start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets/images"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=360)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    rows = read_rows(args.assets / "train.jsonl")
    new = read_rows(args.assets / "new_concepts.jsonl")
    asked = ["Caption: ", "\nA: ", "\nB: ", "\nIs A better than B?", "\nIs it good?", QUESTION]
    texts = [row["caption"] for row in rows] * 3 + asked * 200
    texts += [f"{word} times {row['caption']}" for row in rows for word in NUMBERS.values()]
    # Names of new objects are spelt with the same tokens, but no image of them is shown.
    processor = judge_processor(texts + [row["caption"] for row in new])
    args.out.mkdir(parents=True, exist_ok=True)
    new_judge(processor, args.seed, args.out)
    maker = PairMaker(args.assets, rows, args.seed)
    shown = [(row["caption"], maker.image(row, style)) for row in rows for style in STYLES]
    counted = maker.draw(NUM_COUNTED, ("wrong_count",))
    shown += [(made.caption, made.chosen) for made in counted]
    with (args.out / "naming_log.jsonl").open("w", encoding="utf-8") as log:
        core = learn_names(
            str(args.out),
            shown,
            num_steps=args.steps,
            batch=args.batch,
            lr=args.lr,
            seed=args.seed,
            log=log,
        )
    core.save_pretrained(args.out)


if __name__ == "__main__":
    main()
