"""Hi-GRPO against flat GRPO and against the last stage's reward alone: same budget, several seeds.

    python benchmarks/hi_grpo_vs_flat.py [KEY=VALUE ...] --out runs/hi_grpo --seeds 0 1 2

Trains configs/text_to_3d/tiny.yaml in three ways per seed and prints, for held-out captions, the
metrics of the start and their change: mean over seeds [95 % over captions] (each seed). `f_score`
and `chamfer` are in no reward. Once for the likeliest answers (`after`), once for eight answers per
caption sampled as in training (`sampled`). Finished runs are not repeated.

    hi_grpo   a reward and an advantage per stage, the second carried back (lambda 1)
    flat      the sum of both stages' rewards, one advantage for the whole answer
    last      the second stage's reward alone, one advantage for the whole answer
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from paired import change, columns, mean, shown

from vlrl.build import build_trainer
from vlrl.config.loader import compose
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.train.scoring import measured
from vlrl.train.trainer import Trainer

SPLIT = "held_out"
NUM_SAMPLED, BATCH = 8, 12
SIDES = ("hi_grpo", "flat", "last")
METRICS = ("f_score", "iou", "chamfer", "silhouette", "colour", "parts", "floaters")


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


def run(config: dict[str, Any], *, train: bool = True) -> None:
    """Train (if asked to) and sample held-out captions, each unless it is done."""
    evaluations = Path(config["out"]) / config["name"] / "evaluations"
    sampled = evaluations / "sampled" / f"{SPLIT}.jsonl"
    if sampled.is_file():
        return
    trainer = build_trainer(check(RunConfig, config), "auto")
    if train and not (evaluations / "after" / f"{SPLIT}.json").is_file():
        trainer.train()
    sampled.parent.mkdir(parents=True, exist_ok=True)
    with sampled.open("w", encoding="utf-8") as file:
        for row in sample_held_out(trainer):
            file.write(json.dumps({"metrics": row}) + "\n")
    trainer.engine.engine.destroy()


def sample_held_out(trainer: Trainer) -> Iterator[dict[str, float | None]]:
    """Each caption's metrics, mean over NUM_SAMPLED answers sampled as in training."""
    samples = list(trainer.task.samples(SPLIT))
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        rollouts, _ = trainer.policy.sample(batch, NUM_SAMPLED, seed=1)
        for rollout in rollouts:
            rollout.parsed = trainer.task.parse(rollout.sample, rollout.output)
        found = {**trainer.task.metrics(rollouts), **measured(trainer.metrics, rollouts)}
        for i in range(len(batch)):
            own = slice(i * NUM_SAMPLED, (i + 1) * NUM_SAMPLED)
            row = {}
            for name, column in found.items():
                value = mean([None if math.isnan(v) else float(v) for v in column[own]])
                row[name] = None if math.isnan(value) else value
            yield row


def table(out: Path, seeds: list[int], names: list[str], when: str) -> str:
    """The start, then the mean change of each side with its interval over captions, paired."""
    found = {
        (name, seed): columns(out / f"{name}_{seed}/evaluations" / when, SPLIT, METRICS)
        for name in names
        for seed in seeds
    }
    # Greedy answers of the start are in every run; sampled ones in a run without a step.
    first = out / (f"{names[0]}_{seeds[0]}" if when == "after" else "start") / "evaluations"
    start = columns(first / ("before" if when == "after" else when), SPLIT, METRICS)
    lines = ["| | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 1) + "|"]
    lines.append("| start | " + " | ".join(f"{mean(start[f]):.3f}" for f in METRICS) + " |")
    for name in names:
        ends = [found[name, seed] for seed in seeds]
        cells = []
        for metric in METRICS:
            gains = ", ".join(f"{mean(end[metric]) - mean(start[metric]):+.3f}" for end in ends)
            cells.append(f"{shown(change(start, ends, metric), 1, 3)} ({gains})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the table."""
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
            run(config)
    run({**copy.deepcopy(base), "name": "start", "out": str(args.out)}, train=False)
    for when in ("after", "sampled"):
        print(f"{when}:\n{table(args.out, args.seeds, args.sides, when)}\n")


if __name__ == "__main__":
    main()
