"""What image rewards improve, and what else they change: OCR and a small PickScore.

    python scripts/assets/models/make_tiny_pick_score.py --out runs/tiny_pick_score
    python benchmarks/image_rewards_rl.py [KEY=VALUE ...] --out runs/image_rewards --seeds 0 1 2

`words`: OCR, on prompts for words that the image model was never shown. `pick_score`: a CLIP
trained on pairs. Held-out prompts are drawn before and after from the same noise. The canaries are
those of benchmarks/style_transfer.py, on prompts for objects: a classifier that no
reward uses, and FID to the images that the model was made from; changes of per-image
metrics have 95 % intervals, paired over prompts. Writes OUT/table.json, table.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from launching import options, train
from paired import change, columns, mean, shown
from style_transfer import CONFIG, evaluate, first_style, row_of, table

from vlrl.config.resolve import load_run_config

SIDES = {
    "words": "configs/image_generation/tiny_words.yaml",
    "pick_score": "configs/image_generation/tiny_pick_score.yaml",
}
"""What is merged over the common config."""
DIGITS = {"words": 1, "pick_score": 3}
CANARIES = ("thing %", "style %", "FID first")


def own_columns(folder: Path, side: str) -> dict[str, list[float | None]]:
    """What the side's reward measures, of every sample of one evaluation; None in other strata."""
    lines = (folder / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    if side == "pick_score":
        return {"PickScore": [row["metrics"]["pick"] for row in rows]}
    names = sorted({row["strata"]["novelty"] for row in rows})
    return {
        f"{name} words read %": [
            100 * row["metrics"]["read"] if row["strata"]["novelty"] == name else None
            for row in rows
        ]
        for name in names
    }


def canaries(model: Path, folder: Path, against: Path) -> dict[str, float]:
    """Metrics that no reward uses, on prompts for objects."""
    found = row_of(evaluate(model, folder, against))
    return {key: found[key] for key in CANARIES}


def side_rows(
    out: Path, side: str, seeds: list[int], against: Path
) -> tuple[dict[str, float], list[dict[str, float]], dict[str, str]]:
    """A side's start, its metrics after each seed, and its paired changes with their intervals."""
    runs = [out / f"{side}-seed{seed}" for seed in seeds]
    start = own_columns(runs[0] / "evaluations/before", side)
    ends = [own_columns(run / "evaluations/after", side) for run in runs]
    model = Path(load_run_config([CONFIG]).policy["model"])
    first = {name: mean(start[name]) for name in start}
    first |= canaries(model, out / "start/things", against)
    after = [
        {name: mean(end[name]) for name in end} | canaries(run / "model", run / "things", against)
        for run, end in zip(runs, ends, strict=True)
    ]
    changes = {name: shown(change(start, ends, name), 1, DIGITS[side]) for name in start}
    things = [columns(at, "figures", ["concept"]) for at in
              (out / "start/things", *(run / "things" for run in runs))]  # fmt: skip
    changes["thing %"] = shown(change(things[0], things[1:], "concept"), 100, 1)
    return first, after, changes


def main() -> int:
    """Run what is missing, then write the table."""
    parser = options(str(__doc__), "runs/image_rewards", "sides", list(SIDES))
    args = parser.parse_intermixed_args()
    out = args.out.resolve()
    against = first_style(out)
    for seed in [] if args.table else args.seeds:
        for side in args.sides:
            first = f"eval.before={str(seed == args.seeds[0]).lower()}"
            train(
                [CONFIG, SIDES[side]],
                [first, "eval.splits=[held_out]", *args.overrides],
                out=out,
                name=f"{side}-seed{seed}",
                seed=seed,
                ranks=args.ranks,
            )
    found = {side: side_rows(out, side, args.seeds, against) for side in args.sides}
    (out / "table.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    text = "\n".join(
        table(start, {side: after}, {side: changes}, digits=DIGITS[side])
        for side, (start, after, changes) in found.items()
    )
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
