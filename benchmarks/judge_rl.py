"""Does a generative judge resist hacking better than a regression head of the same size?

    python scripts/make_judge_pairs.py --out runs/judge_pairs
    python scripts/make_tiny_judge.py --out runs/tiny_judge_start
    python benchmarks/judge_rl.py --seeds 0 1 2 --out runs/judge_rl        # hours on two cores

For each seed: trains both judges on the same pairs (scripts/train_judge.py), measures them on
held-out pictures, things and kinds of damage, then trains the embedded image model with each of
them. Writes OUT/table.json and table.md: judges' accuracy; over training the reward's standard
deviation in groups, the proxy (the judge), and the gold: a classifier of the concept that nothing
is trained on, measured at every evaluation. RewardDance (arXiv 2509.08826) claims that the
generative judge keeps its spread and its gold. The table is written whatever it says; nothing is
left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from launching import launch, train

KINDS = ("yes_token", "bradley_terry")
SETS = ("images", "new_concepts", "kinds")


def main() -> None:
    """Run what is not there yet, then write the table."""
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
    """One judge, unless it is there."""
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
    """Figures of one judge and of the run with it."""
    judged = read_lines(out / f"{kind}-{seed}" / "metrics.jsonl")
    last = next(line for line in reversed(judged) if f"{SETS[0]}/accuracy" in line)
    accuracy = {name: last[f"{name}/accuracy"] for name in SETS}
    folder = out / f"images-{kind}-{seed}"
    steps = read_lines(folder / "metrics.jsonl")
    gold = {}
    for path in sorted((folder / "evaluations").glob("*/held_out.json")):
        summary = json.loads(path.read_text(encoding="utf-8"))
        gold[path.parent.name] = summary["overall"]["concept"]["mean"]
    quarter = max(1, len(steps) // 4)
    return {
        "kind": kind,
        "seed": seed,
        "judge_accuracy": accuracy,
        "group_std": [fmean(s["reward/group_std"] for s in part) for part in ends(steps, quarter)],
        "proxy": [fmean(s["reward/mean"] for s in part) for part in ends(steps, quarter)],
        "canary_gap": [s.get("canary/concept_gap") for s in steps],
        "gold": gold,
    }


def ends(steps: Sequence[Any], count: int) -> tuple[Sequence[Any], Sequence[Any]]:
    """The first and the last steps."""
    return steps[:count], steps[-count:]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Means over seeds with their standard deviations."""
    head = ["judge", "images", "new things", "new damage", "group std first / last quarter",
            "proxy first / last", "gold before / after"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        cells = [kind]
        cells += [spread([100 * row["judge_accuracy"][name] for row in own], 1) for name in SETS]
        for key, digits in (("group_std", 3), ("proxy", 3)):
            cells.append(" / ".join(spread([row[key][i] for row in own], digits) for i in (0, 1)))
        gold = [(row["gold"].get("before"), row["gold"].get("after")) for row in own]
        cells.append(" / ".join(spread([100 * pair[i] for pair in gold], 1) for i in (0, 1)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], digits: int) -> str:
    """Mean +- standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
