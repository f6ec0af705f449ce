"""Hi-GRPO against flat GRPO and against the last stage's reward alone: same budget, several seeds.

    python benchmarks/hi_grpo_sides.py [KEY=VALUE ...] --out runs/hi_grpo --seeds 0 1 2

Trains configs/text_to_3d/tiny.yaml three ways a seed and prints, for held-out captions, every
figure before and after, the mean gain over seeds and its spread. `f_score` is in no reward.

    hi_grpo   a reward and an advantage a stage, the second carried back (lambda 1)
    flat      the sum of both stages' rewards, one advantage for the whole answer
    last      the second stage's reward alone, one advantage for the whole answer
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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


def measured(folder: Path, when: str) -> dict[str, float]:
    """Means of the held-out split, before or after."""
    path = folder / "evaluations" / when / "held_out.json"
    overall = json.loads(path.read_text(encoding="utf-8"))["overall"]
    return {name: overall[name]["mean"] for name in FIGURES if name in overall}


def main() -> None:
    """Train what is not trained yet, print a table as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/text_to_3d/tiny.yaml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_intermixed_args()
    base = compose([args.config], args.overrides)
    rows: dict[str, list[dict[str, float]]] = {}
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
            before, after = measured(folder, "before"), measured(folder, "after")
            rows.setdefault(name, []).append({k: after[k] - before[k] for k in after})
            print(json.dumps({"side": name, "seed": seed, "before": before, "after": after}))
    for name, gains in rows.items():
        for figure in gains[0]:
            values = [gain[figure] for gain in gains]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            row = {"side": name, "figure": figure, "gain": statistics.fmean(values), "sd": spread}
            print(json.dumps(row))


if __name__ == "__main__":
    main()
