"""Write preference pairs of known truth from the embedded images; needs no annotator.

    python scripts/assets/images/make_judge_pairs.py --out runs/judge_pairs

train.jsonl             broad: all trained kinds, easy and hard, training captions
targeted.jsonl          second stage: severities close to each other, objects that look alike
held_out_images.jsonl   trained kinds on captions that training does not show
new_concepts.jsonl      trained kinds on objects that training does not show
held_out_kinds.jsonl    kinds of damage that training does not show, on held-out captions
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from vlrl.cli.checks import run_program
from scripts.assets.images.degrade import HELD_OUT_KINDS
from scripts.assets.images.judge_pairs import CAPTION_KINDS, TRAINED_KINDS, PairMaker, read_rows, write_pairs


def main() -> None:
    """Write all five files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets/images"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-train", type=int, default=14_000)
    parser.add_argument("--num-targeted", type=int, default=4_000)
    parser.add_argument("--num-test", type=int, default=840, help="pairs of each held-out file")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train, held, new = (
        read_rows(args.assets / f"{name}.jsonl") for name in ("train", "held_out", "new_concepts")
    )
    args.out.mkdir(parents=True, exist_ok=True)
    # Damage is learnt first, the caption's content later: with more caption pairs from the start
    # a small judge stays at chance for hundreds of steps.
    mixed = (*TRAINED_KINDS, *CAPTION_KINDS)
    jobs = (
        ("train", train, args.num_train, TRAINED_KINDS, False),
        ("targeted", train, args.num_targeted, mixed, True),
        ("held_out_images", held, args.num_test, TRAINED_KINDS, False),
        ("new_concepts", new, args.num_test, TRAINED_KINDS, False),
        ("held_out_kinds", held, args.num_test, HELD_OUT_KINDS, False),
    )
    for place, (name, rows, num, kinds, hard) in enumerate(jobs):
        maker = PairMaker(args.assets, rows, 1000 * args.seed + place, hard=hard)
        written = write_pairs(maker.draw(num, kinds), args.out / f"{name}.jsonl", name)
        print(f"{args.out / name}.jsonl: {written} pairs", flush=True)


if __name__ == "__main__":
    sys.exit(run_program(main))
