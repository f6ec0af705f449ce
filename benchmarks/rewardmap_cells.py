"""RewardMap's four cells (arXiv 2510.02240): detail reward or not, curriculum or not.

    python benchmarks/rewardmap_cells.py [KEY=VALUE ...] --out runs/rewardmap_cells --seeds 0 1 2

Trains the embedded model on the embedded maps. It has never seen a map, so `vlrl sft` first shows
it answers on other maps, drawn anew (`--warm-up` steps, once, OUT/start-sft). The held-out maps are
the embedded six and more of their kind, drawn anew. Writes:

    OUT/cells.json    accuracy on held-out maps by kind of question, each seed and the mean; by step
                      the share of groups without signal (all rewards equal)
    OUT/no_signal.svg, right.svg    that share and the accuracy on training prompts as curves,
                      means over seeds

Finished runs are not repeated.

The curriculum's stages take a third of the steps each, in the order yes or no, counting, planning.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from charted import write_chart
from launching import ROOT, train

from scripts.assets.maps.draw_maps import LEVELS, write_split
from scripts.assets.maps.network import make_network
from scripts.assets.maps.picture import draw
from scripts.assets.maps.questions import questions_of

CELLS: Mapping[str, tuple[bool, bool]] = {
    "plain": (False, False),
    "detail": (True, False),
    "curriculum": (False, True),
    "both": (True, True),
}
"""Name -> with the detail reward, with the curriculum."""
KINDS = ("yes_no", "counting", "planning")
TINY, STAGES = "visual_reasoning/tiny", "visual_reasoning/maps_curriculum"
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
NUM_TAUGHT_MAPS = 300
NO_SIGNAL, RIGHT, STAGE = "filter/zero_variance", "rollout/right", "curriculum/stage"

CHARTS = (
    ("no_signal.svg", NO_SIGNAL, "share of groups without signal"),
    ("right.svg", RIGHT, "share of right answers in training"),
)


def main() -> None:
    """Run what is missing, then write the tables and curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/rewardmap_cells"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150, help="of each run, a multiple of 3")
    parser.add_argument("--warm-up", type=int, default=2000, help="supervised steps")
    parser.add_argument("--held-out", type=int, default=30, help="maps, six questions each")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run")
    args = parser.parse_intermixed_args()
    args.out = args.out.resolve()
    if not args.table:
        start = args.out / "start-sft/model"
        if not (start / "config.json").is_file():
            warm_up(args.out, args.warm_up, args.overrides)
        if not (args.out / "held_out.jsonl").is_file():
            write_split(args.out, "held_out", args.held_out, FONT)
        for seed in args.seeds:
            for cell in args.cells:
                run(args, cell, seed, start)
    found = {cell: results(args.out, cell, args.seeds) for cell in args.cells}
    text = json.dumps(found, indent=1)
    (args.out / "cells.json").write_text(text + "\n", encoding="utf-8")
    for file, name, what in CHARTS:
        write_chart(args.out / file, curves(found, name), f"step ({what})", smooth=True)
    print(table(found))


def run(args: argparse.Namespace, cell: str, seed: int, start: Path) -> None:
    """One cell with one seed, unless it is there."""
    detail, staged = CELLS[cell]
    own = [
        f"num_steps={args.steps}", f"policy.model={start}", "policy.max_new_tokens=100",
        "algo.num_prompts=8", "algo.group_size=8", "optim.lr=3e-5", "eval.limit=0",
        f"task.data.held_out.path={args.out / 'held_out.jsonl'}", "eval.before=false",
        "checkpoint.export=false", "log.rollouts_every=50",
    ]  # fmt: skip
    if staged:
        own += [f"curriculum.{n}.exit={{steps: {args.steps // 3}}}" for n in (0, 1)]
    train(
        [TINY, STAGES] if staged else [TINY],
        [*own, *args.overrides],
        out=args.out,
        name=f"{cell}-{seed}",
        seed=seed,
        ranks=args.ranks,
        reward="rewards/rewardmap" if detail else "rewards/rewardmap_no_detail",
    )


def results(out: Path, cell: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Of the seeds that are there: held-out accuracy by kind, and curves over the steps."""
    accuracy: dict[str, list[float]] = {kind: [] for kind in KINDS}
    steps: dict[str, list[list[float | None]]] = {NO_SIGNAL: [], RIGHT: [], STAGE: []}
    times = []
    for seed in seeds:
        folder = out / f"{cell}-{seed}"
        evaluated = folder / "evaluations/after/held_out.json"
        if not evaluated.is_file():
            continue
        strata = json.loads(evaluated.read_text(encoding="utf-8"))["strata"]["type"]
        for kind in KINDS:
            accuracy[kind].append(strata[kind]["right"]["mean"])
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        for name, columns in steps.items():
            columns.append([row.get(name) for row in rows])
        times += [sum(v for k, v in row.items() if k.startswith("time/") and v) for row in rows]
    means = {kind: fmean(values) for kind, values in accuracy.items() if values}
    return {
        "seeds": len(accuracy[KINDS[0]]),
        "accuracy": {kind: {"mean": means[kind], "each": accuracy[kind]} for kind in means},
        "by_step": steps,
        "step_s": fmean(times) if times else None,
    }


def table(found: Mapping[str, Any]) -> str:
    """Markdown: one row for each cell."""
    lines = [
        "| cell | " + " | ".join(KINDS) + " | groups without signal | step, s |",
        "|---" * (len(KINDS) + 3) + "|",
    ]
    for cell, one in found.items():
        if not one["seeds"]:
            continue
        kinds = []
        for kind in KINDS:
            each = ", ".join(f"{value:.2f}" for value in one["accuracy"][kind]["each"])
            kinds.append(f"{one['accuracy'][kind]['mean']:.1%} ({each})")
        shares = [v for column in one["by_step"][NO_SIGNAL] for v in column if v is not None]
        line = f"| {cell} | {' | '.join(kinds)} | {fmean(shares):.1%} | {one['step_s']:.1f} |"
        lines.append(line)
    return "\n".join(lines)


def curves(found: Mapping[str, Any], name: str) -> dict[str, list[tuple[float, float]]]:
    """A metric of the training by step, means over the seeds."""
    series = {}
    for cell, one in found.items():
        columns = zip(*one["by_step"][name], strict=True)
        known = [[v for v in column if v is not None] for column in columns]
        series[cell] = [(float(s), fmean(vs)) for s, vs in enumerate(known, start=1) if vs]
    return series


# --- the start: what answers to the three kinds of question look like --------------------------


def warm_up(out: Path, num_steps: int, overrides: Sequence[str]) -> None:
    """Teach the embedded model the answers on maps of its own: OUT/start-sft/model."""
    file = out / "taught/train.jsonl"
    rows = list(taught_rows(file.parent))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    own = [
        "name=start", f"out={out}", f"task.data.train.path={file}", "eval.before=false",
        "policy.max_new_tokens=100", "eval.after=false", "checkpoint.at_end=false",
        f"sft={{num_steps: {num_steps}, batch_size: 12, answers: 'column:taught'}}",
        "sft.optim={lr: 1e-3, schedule: linear}", *overrides,
    ]  # fmt: skip
    command = [sys.executable, "-m", "vlrl", "sft", "--config", TINY, "--quiet", *own]
    subprocess.run(command, cwd=ROOT, check=True)


def taught_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Questions on maps of other seeds than the embedded ones, each with its answer as text."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(NUM_TAUGHT_MAPS):
        rng = random.Random(f"taught/{number}")
        level = tuple(LEVELS)[number % len(LEVELS)]
        network = make_network(rng, LEVELS[level])
        name = f"images/{number:03d}.png"
        draw(network, FONT).save(folder / name)
        for place, question in enumerate(questions_of(rng, network)):
            text = str(question.get("answer"))
            if question["kind"] == "route":
                rides = network.best_route(question["start"], question["end"])
                text = "\n--\n".join(f"Line: {line}\nFrom: {a}\nTo: {b}" for line, a, b in rides)
            row = {"id": f"{number}/{place}", "images": [name], "map": level, "taught": text}
            yield {**row, **question}


if __name__ == "__main__":
    main()
