"""Rewards of pictures move what they measure, and what else they move: OCR and a small PickScore.

    python scripts/make_tiny_pick_score.py --out runs/tiny_pick_score
    python benchmarks/picture_rewards_rl.py [KEY=VALUE ...] --out runs/picture_rewards --seeds 0 1 2

`words`: OCR, on prompts for words that the image model was never shown. `pick_score`: a CLIP
trained on pairs. Held-out prompts are drawn before and after from the same noise. The canaries are
those of benchmarks/style_transfer.py, on prompts for things: what is said by a classifier that no
reward uses, and FID to the pictures that the model was made from. Writes OUT/table.json, table.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from launching import options, train
from style_transfer import CONFIG, evaluate, first_style, row_of

from vlrl.config.resolve import load_run_config

SIDES = {
    "words": "configs/image_generation/tiny_words.yaml",
    "pick_score": "configs/image_generation/tiny_pick_score.yaml",
}
"""What is laid over the common config."""
CANARIES = ("thing %", "style %", "FID first")


def own_figures(folder: Path, side: str) -> dict[str, float]:
    """What the side's reward measures, of one evaluation on its held-out prompts."""
    found: dict[str, Any] = json.loads((folder / "held_out.json").read_text(encoding="utf-8"))
    if side == "pick_score":
        return {"PickScore": found["overall"]["pick"]["mean"]}
    groups = found["strata"]["novelty"]
    return {f"{name} words read %": 100 * groups[name]["read"]["mean"] for name in sorted(groups)}


def row(out: Path, side: str, seed: int, against: Path) -> dict[str, dict[str, float]]:
    """Before and after of one run."""
    name = f"{side}-seed{seed}"
    after = row_of(evaluate(out / name / "model", out / name / "things", against))
    found = {"after": own_figures(out / name / "evaluations/after", side)}
    found["after"] |= {key: after[key] for key in CANARIES}
    before = out / f"{side}-seed{seed}/evaluations/before"
    if before.is_dir():
        start = row_of(evaluate(Path(load_run_config([CONFIG]).policy["model"]),
                                out / "start/things", against))  # fmt: skip
        found["before"] = own_figures(before, side) | {key: start[key] for key in CANARIES}
    return found


def table(rows: dict[str, list[dict[str, dict[str, float]]]]) -> str:
    """A block a side: start, mean over seeds, each seed's value behind."""
    lines = []
    for side, runs in rows.items():
        names = list(runs[0]["after"])
        lines += ["", f"| {side} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        start = next(run["before"] for run in runs if "before" in run)
        lines.append("| start | " + " | ".join(f"{start[name]:.2f}" for name in names) + " |")
        cells = []
        for name in names:
            each = [run["after"][name] for run in runs]
            cells.append(f"{fmean(each):.2f} ({', '.join(f'{value:.2f}' for value in each)})")
        lines.append("| after | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what is missing, then write the table."""
    parser = options(str(__doc__), "runs/picture_rewards", "sides", list(SIDES))
    args = parser.parse_intermixed_args()
    out = args.out.resolve()
    against = first_style(out)
    rows: dict[str, list[dict[str, dict[str, float]]]] = {}
    for seed in args.seeds:
        for side in args.sides:
            if not args.table:
                first = f"eval.before={str(seed == args.seeds[0]).lower()}"
                train(
                    [CONFIG, SIDES[side]],
                    [first, "eval.splits=[held_out]", *args.overrides],
                    out=out,
                    name=f"{side}-seed{seed}",
                    seed=seed,
                    ranks=args.ranks,
                )
            rows.setdefault(side, []).append(row(out, side, seed, against))
    (out / "table.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    text = table(rows)
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
