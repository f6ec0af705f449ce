"""One config with several overlays, the same budget and seeds: changes beside the common start.

    python benchmarks/compare_configs.py --base CONFIG --side "NAME=OVERLAY.yaml KEY=VALUE ..." \\
        --metrics M ... [--splits S ...] [--seeds 0 1 2] [--ranks 1] --out runs/compare

A side lays files and values over the base, as `vlrl train --config` does; `NAME=` alone is the base
itself. Prints one table a split: the start, then each side's mean over seeds of the change
[95 % over samples, paired with the start] (each seed). With `--curves METRIC` the training metric
stands over steps and over the time of the steps in OUT/over_steps.svg and OUT/over_time.svg, means
over seeds. Finished runs are not repeated; --table prints what is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from charted import write_chart
from launching import train
from paired import change, columns, mean, shown

from vlrl.log.report.charts import Series


def run(args: argparse.Namespace, name: str, overlays: Sequence[str], seed: int) -> None:
    """One run; the start is evaluated once, in the first one."""
    first = not any(args.out.glob("*/evaluations/before"))
    own = [f"eval.before={str(first).lower()}", "checkpoint.export=false", *args.overrides]
    configs = [args.base, *overlays]
    train(configs, own, out=args.out, name=f"{name}-seed{seed}", seed=seed, ranks=args.ranks)


def table(args: argparse.Namespace, split: str) -> str:
    """The start, and each side's change of every metric."""
    metrics = args.metrics
    start = columns(next(args.out.glob("*/evaluations/before")), split, metrics)
    lines = [f"| {split} | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    lines.append("| start | " + " | ".join(f"{mean(start[m]):.3f}" for m in metrics) + " |")
    for name, _ in args.side:
        ends = [
            columns(folder, split, metrics)
            for seed in args.seeds
            if (folder := args.out / f"{name}-seed{seed}" / "evaluations" / "after").is_dir()
        ]
        if ends:
            cells = [cell(start, ends, metric) for metric in metrics]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(start: dict[str, list[float | None]], ends: Sequence[dict], metric: str) -> str:
    """Change, interval, each seed."""
    gains = ", ".join(f"{mean(end[metric]) - mean(start[metric]):+.3f}" for end in ends)
    value = math.fsum(mean(end[metric]) for end in ends) / len(ends)
    return f"{value:.3f}: {shown(change(start, ends, metric), 1, 3)} ({gains})"


def curves(args: argparse.Namespace) -> None:
    """Write the charts of `--curves`."""
    over_steps: dict[str, Series] = {}
    over_time: dict[str, Series] = {}
    for name, _ in args.side:
        folders = [args.out / f"{name}-seed{seed}" for seed in args.seeds]
        runs = [logged(folder) for folder in folders if (folder / "metrics.jsonl").is_file()]
        steps = list(zip(*runs, strict=False))
        values = [math.fsum(row[args.curves] for row in rows) / len(rows) for rows in steps]
        seconds = [round(math.fsum(map(step_s, rows)) / len(rows), 1) for rows in steps]
        over_steps[name] = list(enumerate(values, start=1))
        over_time[name] = list(zip(itertools.accumulate(seconds), values, strict=True))
    write_chart(args.out / "over_steps.svg", over_steps, f"step ({args.curves})", smooth=True)
    write_chart(args.out / "over_time.svg", over_time, f"seconds ({args.curves})", smooth=True)


def logged(folder: Path) -> list[dict[str, float]]:
    """Metrics of a run, step by step."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def step_s(metrics: Mapping[str, float]) -> float:
    """What a step took."""
    return math.fsum(value for name, value in metrics.items() if name.startswith("time/"))


def side(text: str) -> tuple[str, list[str]]:
    """`NAME=OVERLAY OVERLAY ...`."""
    name, _, overlays = text.partition("=")
    return name, overlays.split()


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, metavar="CONFIG")
    parser.add_argument("--side", type=side, action="append", required=True)
    parser.add_argument("--metrics", nargs="+", required=True)
    parser.add_argument("--splits", nargs="+", default=["held_out"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--curves", metavar="METRIC")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run")
    args = parser.parse_intermixed_args()
    args.out = args.out.resolve()
    for seed in args.seeds:
        for name, overlays in args.side:
            if not args.table:
                run(args, name, overlays, seed)
    for split in args.splits:
        print(table(args, split), end="\n\n")
    if args.curves:
        curves(args)


if __name__ == "__main__":
    main()
