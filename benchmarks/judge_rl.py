"""Does a generative judge resist hacking better than a regression head of the same size?

    python scripts/assets/images/make_judge_pairs.py --out runs/judge_pairs
    python scripts/assets/models/make_tiny_judge.py --out runs/tiny_judge_start
    python benchmarks/judge_rl.py [KEY=VALUE ...] --seeds 0 1 2 --out runs/judge_rl   # an hour

For each seed: trains both judges on the same pairs (scripts/train_judge.py), measures them on
held-out images, objects and kinds of damage, then trains the embedded image model with each of
them. Writes OUT/table.json and table.md: judges' accuracy; over training the reward's standard
deviation in groups, the proxy (the judge: odds, or logits of the head), and the gold: a classifier
of the concept that nothing is trained on, of the rollouts and of held-out prompts. RewardDance
(arXiv 2509.08826) claims that the generative judge keeps its spread and its gold.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from launching import launch, train

KINDS = ("yes_token", "bradley_terry")
SETS = ("images", "new_concepts", "kinds")


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/judge_rl"))
    parser.add_argument("--steps", type=int, default=60, help="of each image training")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run")
    args = parser.parse_intermixed_args()
    args.out = args.out.resolve()
    rows = []
    for seed in args.seeds:
        for kind in KINDS:
            if not args.only_table:
                train_judge(args, kind, seed)
                train_images(args, kind, seed)
            rows.append(row_of(args.out, kind, seed))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "table.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    text = markdown(rows)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


def train_judge(args: argparse.Namespace, kind: str, seed: int) -> None:
    """Train one judge, unless it is there."""
    folder = args.out / f"{kind}-{seed}"
    if (folder / "model/judge.json").is_file():
        return
    own = [f"out={args.out}", f"name={kind}-{seed}", f"kind={kind}", f"seed={seed}"]
    arguments = ["--config", "configs/judge/tiny_judge.yaml", *own, *args.overrides]
    launch("scripts/train_judge.py", arguments, args.ranks)


def train_images(args: argparse.Namespace, kind: str, seed: int) -> None:
    """The image model with one judge as its reward, unless the run is there."""
    judge = args.out / f"{kind}-{seed}" / "model"
    reward: dict[str, Any] = {"use": "preference_head", "model": str(judge)}
    if kind == "yes_token":
        reward = {"use": "yes_token", "judge": str(judge), "references": "dataset", "value": "odds"}
    reward["label"] = "judge"
    file = args.out / f"reward-{kind}-{seed}.yaml"
    file.write_text(json.dumps({"reward": reward}), encoding="utf-8")
    train(
        ["configs/image_generation/tiny.yaml", "configs/image_generation/tiny_judge.yaml"],
        [f"num_steps={args.steps}", "eval.every=20", "eval.splits=[held_out]", *args.overrides],
        out=args.out,
        name=f"images-{kind}-{seed}",
        seed=seed,
        ranks=args.ranks,
        reward=str(file),
    )


def row_of(out: Path, kind: str, seed: int) -> dict[str, Any]:
    """Metrics of one judge and of the run with it."""
    judged = read_lines(out / f"{kind}-{seed}" / "metrics.jsonl")
    last = next(line for line in reversed(judged) if f"{SETS[0]}/accuracy" in line)
    accuracy = {name: last[f"{name}/accuracy"] for name in SETS}
    folder = out / f"images-{kind}-{seed}"
    steps = read_lines(folder / "metrics.jsonl")
    gold: dict[str, float] = {}
    moments = ["before", *(f"step-{step:06d}" for step in range(20, len(steps), 20)), "after"]
    for moment in moments:
        path = folder / "evaluations" / moment / "held_out.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        gold[moment] = summary["overall"]["concept"]["mean"]
    by_kind = {key: value for key, value in last.items() if key.startswith(f"{SETS[0]}/accuracy_")}
    return {
        "kind": kind,
        "seed": seed,
        "judge_accuracy": accuracy,
        "judge_accuracy_by_kind": {key.partition("_")[2]: v for key, v in by_kind.items()},
        "group_std": [fmean(s["reward/group_std"] for s in part) for part in quarters(steps)],
        "proxy": [fmean(s["reward/mean"] for s in part) for part in quarters(steps)],
        "gold_of_rollouts": [fmean(s["canary/concept"] for s in part) for part in quarters(steps)],
        "gold": gold,
    }


def quarters(steps: Sequence[Any]) -> list[Sequence[Any]]:
    """The steps in four parts."""
    ends = [len(steps) * i // 4 for i in range(5)]
    return [steps[start:end] for start, end in pairwise(ends)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Three tables, means over seeds with their standard deviations."""
    heads = ["held-out images", "new things", "new damage"]
    lines = table_head("judge", heads)
    for kind, own in by_judge(rows):
        cells = [spread([100 * row["judge_accuracy"][name] for row in own], 1) for name in SETS]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    names = sorted(rows[0]["judge_accuracy_by_kind"])
    lines += ["", *table_head("of held-out images", names)]
    for kind, own in by_judge(rows):
        cells = [
            spread([100 * row["judge_accuracy_by_kind"][name] for row in own], 1) for name in names
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines += ["", *table_head("RL, by quarter", ["group std", "proxy", "gold of rollouts, %"])]
    for kind, own in by_judge(rows):
        cells = []
        for key, digits, times in PARTS:
            each = [[times * row[key][q] for row in own] for q in range(4)]
            cells.append(" → ".join(spread(values, digits) for values in each))
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    moments = list(rows[0]["gold"])
    lines += ["", *table_head("gold of held-out prompts, %", moments)]
    for kind, own in by_judge(rows):
        cells = [spread([100 * row["gold"][name] for row in own], 1) for name in moments]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


PARTS = (("group_std", 3, 1), ("proxy", 2, 1), ("gold_of_rollouts", 0, 100))
"""Metrics over training: their key, digits and factor."""


def by_judge(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The rows of each kind of judge."""
    return [(kind, [row for row in rows if row["kind"] == kind]) for kind in KINDS]


def table_head(first: str, names: Sequence[str]) -> list[str]:
    """Two lines of a table."""
    return ["| " + " | ".join([first, *names]) + " |", "|" + "---|" * (len(names) + 1)]


def spread(values: Sequence[float], digits: int) -> str:
    """Mean +- standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
