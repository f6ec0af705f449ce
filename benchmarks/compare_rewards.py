"""GUI-G2, GUI-G1 and plain hit rewards on the same budget and seeds: the table in docs/results.md.

    python benchmarks/compare_rewards.py [KEY=VALUE ...] --out runs/compare --seeds 0 1 2

Finished runs are not repeated; --table prints the table of those that are there.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from launching import options, train
from paired import change, columns, mean, shown

CONFIG = "configs/gui_grounding/tiny.yaml"
REWARDS = ("gui_g2", "gui_g1", "hit")
METRICS = ("hit", "iou", "size_ratio")


def run(out: Path, reward: str, seed: int, ranks: int, overrides: list[str]) -> None:
    """One run; the start is evaluated once, in the first one."""
    first = not any(out.glob("*/evaluations/before"))
    own = [f"eval.before={str(first).lower()}", "checkpoint.export=false", *overrides]
    name, file = f"{reward}-seed{seed}", f"configs/rewards/{reward}.yaml"
    train([CONFIG], own, out=out, name=name, seed=seed, ranks=ranks, reward=file)


def table(out: Path, seeds: list[int], split: str) -> str:
    """Hit rate, change with its interval, IoU and size ratio: one row per reward, mean over seeds.

    The interval resamples the samples; each sample's change is first averaged over the seeds.
    """
    start = columns(next(out.glob("*/evaluations/before")), split, METRICS)
    lines = [
        f"| {split} | hit rate | change in points [95 %] | each seed | IoU | size ratio |",
        "|---|---|---|---|---|---|",
        f"| warm start | {mean(start['hit']):.1%} | | | {mean(start['iou']):.3f} | "
        f"{mean(start['size_ratio']):.2f} |",
    ]
    for reward in REWARDS:
        ends = [
            columns(folder, split, METRICS)
            for seed in seeds
            if (folder := out / f"{reward}-seed{seed}" / "evaluations" / "after").is_dir()
        ]
        if not ends:
            continue
        rates = ", ".join(f"{mean(end['hit']):.1%}" for end in ends)
        means = {name: sum(mean(end[name]) for end in ends) / len(ends) for name in METRICS}
        lines.append(
            f"| {reward} | {means['hit']:.1%} | {shown(change(start, ends, 'hit'), 100, 1)} | "
            f"{rates} | {means['iou']:.3f} | {means['size_ratio']:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run what is missing, then print the tables."""
    args = options(str(__doc__), "runs/compare", "rewards", REWARDS).parse_intermixed_args()
    out = args.out.resolve()
    for seed in args.seeds:
        for reward in args.sides:
            if not args.table:
                run(out, reward, seed, args.ranks, args.overrides)
    for split in ("new_screens", "held_out", "unseen_apps"):
        print(table(out, args.seeds, split), end="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
