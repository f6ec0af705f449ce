"""STVG-o1's ablation at small scale: vIoU, the whole reward, no thinking boxes, credit per box.

    python benchmarks/video_rewards.py [KEY=VALUE ...] --out runs/video_rewards --seeds 0 1 2

Same warm start, budget and seeds; measured on held-out clips of the kinds that RL teaches, and on
those of the warm-up's own. `no_thinking` requests no thinking boxes, so its own start is
evaluated too; `credit` rewards every box on its own, which the paper does not do. Finished runs
are not repeated; --table prints the table of those that are there.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from launching import options, train
from paired import Columns, change, columns, mean, shown

CONFIG = "configs/video_grounding/tiny.yaml"
NO_THINKING = "configs/video_grounding/tiny_no_thinking.yaml"
CREDIT = "configs/video_grounding/tiny_credit.yaml"
VARIANTS: dict[str, tuple[list[str], str | None]] = {
    "tube_iou": ([CONFIG], "configs/rewards/tube_iou.yaml"),
    "stvg_o1": ([CONFIG], "configs/rewards/stvg_o1.yaml"),
    "no_thinking": ([CONFIG, NO_THINKING], None),
    "credit": ([CONFIG, CREDIT], "configs/rewards/stvg_o1_credit.yaml"),
}
"""Configs and reward of each row."""
METRICS = ("t_iou", "v_iou", "v_iou_above_0.3", "v_iou_above_0.5", "gt_v_iou", "well_formed")
SPLIT, OWN = "new_kinds", "held_out"
"""Kinds that the start has never seen; those of its warm-up."""


def run(out: Path, variant: str, seed: int, ranks: int, overrides: list[str]) -> None:
    """One run; a start is evaluated in the first run that has it."""
    configs, reward = VARIANTS[variant]
    first = start_of(out, variant) is None
    own = [f"eval.before={str(first).lower()}", "checkpoint.export=false", *overrides]
    name = f"{variant}-seed{seed}"
    train(configs, own, out=out, name=name, seed=seed, ranks=ranks, reward=reward)


def start_of(out: Path, variant: str) -> Path | None:
    """The start's evaluation, shared by variants with the same prompt; None if there is none."""
    asks = {name: NO_THINKING in configs for name, (configs, _) in VARIANTS.items()}
    alike = [name for name in VARIANTS if asks[name] == asks[variant]]
    found = [path for name in alike for path in out.glob(f"{name}-seed*/evaluations/before")]
    return min(found, default=None)


def row(label: str, folders: list[Path], start: Columns | None) -> str:
    """One line of the table: means over seeds, and the paired change of vIoU and tIoU."""
    cells = [label]
    ends = [evaluated(folder, SPLIT) for folder in folders]
    for name in METRICS:
        each = [mean(end[name]) for end in ends]
        text = f"{100 * sum(each) / len(each):.1f}"
        if start is not None and name in ("t_iou", "v_iou"):
            seeds = ", ".join(f"{100 * value:.1f}" for value in each)
            text += f" ({shown(change(start, ends, name), 100, 1)}; seeds {seeds})"
        cells.append(text)
    own = [evaluated(folder, OWN) for folder in folders]
    for name in METRICS[:2]:
        cells.append(f"{100 * sum(mean(end[name]) for end in own) / len(own):.1f}")
    return "| " + " | ".join(cells) + " |"


def evaluated(folder: Path, split: str) -> Columns:
    """An evaluation's metrics; one that does not apply counts as 0."""
    found = columns(folder, split, METRICS)
    return {name: [value or 0.0 for value in values] for name, values in found.items()}


def table(out: Path, seeds: list[int]) -> str:
    """One row per start and variant; brackets: 95 % over samples, paired."""
    lines = [
        "| reward | m_tIoU | m_vIoU | vIoU@0.3 | vIoU@0.5 | gt_vIoU | well-formed "
        "| own kinds: m_tIoU | m_vIoU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    shown_starts = set()
    for variant in VARIANTS:
        before = start_of(out, variant)
        ends = [
            folder
            for seed in seeds
            if (folder := out / f"{variant}-seed{seed}" / "evaluations" / "after").is_dir()
        ]
        if before is not None and before not in shown_starts:
            shown_starts.add(before)
            lines.append(row(f"warm start, as {variant} asks", [before], None))
        if ends:
            start = evaluated(before, SPLIT) if before else None
            lines.append(row(f"{variant}, {len(ends)} seeds", ends, start))
    return "\n".join(lines)


def main() -> int:
    """Run what is missing, then print the table."""
    args = options(
        str(__doc__), "runs/video_rewards", "variants", list(VARIANTS)
    ).parse_intermixed_args()
    out = args.out.resolve()
    for seed in args.seeds:
        for variant in args.sides:
            if not args.table:
                run(out, variant, seed, args.ranks, args.overrides)
    print(table(out, args.seeds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
