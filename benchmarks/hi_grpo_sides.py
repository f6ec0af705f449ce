"""Hi-GRPO against flat GRPO and against the last stage's reward alone: same budget, several seeds.

    python benchmarks/hi_grpo_sides.py [KEY=VALUE ...] --out runs/hi_grpo --seeds 0 1 2

Trains configs/text_to_3d/tiny.yaml three ways a seed and prints, for held-out captions, the figures
of the start and its change: mean over seeds [95 % over captions] (each seed). `f_score` and
`chamfer` are in no reward. Runs that are already there are not run again.

    hi_grpo   a reward and an advantage a stage, the second carried back (lambda 1)
    flat      the sum of both stages' rewards, one advantage for the whole answer
    last      the second stage's reward alone, one advantage for the whole answer
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from paired import change, columns, mean, shown

from vlrl.build import build_trainer
from vlrl.config.loader import compose
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig

SIDES = ("hi_grpo", "flat", "last")
FIGURES = ("f_score", "iou", "chamfer", "silhouette", "colour", "parts", "floaters")


def sides(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The three configs."""
    made = {name: copy.deepcopy(config) for name in SIDES}
    stages = config["reward"]["stages"]
    coarse, refined = stages["coarse"], stages["refined"]
    made["flat"]["reward"] = {
        "sum": [{"stage": {"index": 0, "of": coarse}}, {"stage": {"index": 1, "of": refined}}]
    }
    made["last"]["reward"] = refined
    for name in ("flat", "last"):
        made[name]["algo"]["aggregate"] = "token"
    return made


def table(out: Path, seeds: list[int], names: list[str]) -> str:
    """The start, then the mean change of each side with its interval over captions, paired."""
    found = {
        (name, seed, when): columns(out / f"{name}_{seed}/evaluations" / when, "held_out", FIGURES)
        for name in names
        for seed in seeds
        for when in ("before", "after")
    }
    start = found[names[0], seeds[0], "before"]
    lines = ["| | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    lines.append("| start | " + " | ".join(f"{mean(start[f]):.3f}" for f in FIGURES) + " |")
    for name in names:
        ends = [found[name, seed, "after"] for seed in seeds]
        cells = []
        for figure in FIGURES:
            gains = ", ".join(f"{mean(end[figure]) - mean(start[figure]):+.3f}" for end in ends)
            cells.append(f"{shown(change(start, ends, figure), 1, 3)} ({gains})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train what is not trained yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/text_to_3d/tiny.yaml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_intermixed_args()
    base = compose([args.config], args.overrides)
    for seed in args.seeds:
        made = sides(base)
        for name in args.sides:
            config = made[name]
            config |= {"name": f"{name}_{seed}", "out": str(args.out), "seed": seed}
            if args.num_steps:
                config["num_steps"] = args.num_steps
            folder = args.out / config["name"]
            if not (folder / "evaluations" / "after" / "held_out.json").is_file():
                trainer = build_trainer(check(RunConfig, config), "auto")
                trainer.train()
                trainer.engine.engine.destroy()
    print(table(args.out, args.seeds, args.sides))


if __name__ == "__main__":
    main()
