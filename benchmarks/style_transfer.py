"""A reward that keeps learning against the same reward frozen: style transfer, several seeds.

    python benchmarks/style_transfer.py [KEY=VALUE ...] --out runs/style --seeds 0 1 2
    python benchmarks/style_transfer.py --over configs/image_generation/tiny_style_and_text.yaml ...

Both sides train the image model towards references of the second style with the DINO reward:
`adversarial` learns in every round, `fixed` in its warm-up rounds, in which it scores nothing yet,
and is a fixed reward from then on. Held-out prompts are drawn before and after from the same noise
and measured in ways that no reward uses: a classifier of the style; one of the object, and the
colour of the border (prompt agreement); and in the features of each classifier FID, KID and nearest
neighbours to images of the same prompts in either style. Changes of per-image metrics
have 95 % intervals, paired over prompts.
Writes OUT/table.md, OUT/table.json and OUT/images.png: one row per caption with the reference, the
start, and each side of each seed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
from launching import ROOT, options, train
from paired import Columns, change, columns, shown

from scripts.assets.images.compose import COLOURS
from scripts.assets.models.image.images import sprite
from vlrl.config.resolve import load_run_config

CONFIG = "configs/image_generation/tiny.yaml"
SIDES = ("adversarial", "fixed")
ASSETS = ROOT / "assets/images"
SPACES = ("judge_concept", "judge_style")
"""Feature spaces of the distances: a classifier of the object, and one of the style."""
PAIRED = {"style %": "style", "thing %": "concept", "background %": "background"}
"""Columns that are means over images, and the metric of each."""
LIMIT = 200
NUM_SHOWN = 10


def side_overrides(side: str, configs: list[str]) -> list[str]:
    """Overrides of a side: `fixed` learns only in its warm-up, as the reward or in a sum."""
    if side == "adversarial":
        return []
    reward = load_run_config(configs).reward
    places = {f"reward.sum.{i}": one for i, one in enumerate(reward.get("sum", []))}
    heads = {"reward": reward, **places}
    place = next(key for key, one in heads.items() if one.get("use") == "adversarial_dino")
    return [f"{place}.learn_rounds={heads[place]['warmup_rounds']}"]


def held_out() -> list[dict[str, str]]:
    """The rows that are measured."""
    lines = (ASSETS / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:LIMIT]]


def first_style(out: Path) -> Path:
    """The held-out prompts in the first style, as images in a folder."""
    folder = out / "first_style"
    folder.mkdir(parents=True, exist_ok=True)
    for row in held_out():
        sprite(ASSETS / "fluent", row).save(folder / f"{row['id']}.png")
    return folder


def evaluate(model: Path, folder: Path, against: Path) -> dict[str, Any]:
    """Metrics of one model, by scripts/evaluate_images.py, unless they are there."""
    found = folder / "figures.json"
    if not found.is_file():
        command = [sys.executable, "scripts/evaluate_images.py", "--config", CONFIG]
        command += ["--split", "held_out", "--limit", str(LIMIT), "--model", str(model)]
        command += ["--features", *(str(Path("assets/models") / name) for name in SPACES)]
        command += ["--against", f"first_style={against}", "--images", str(folder / "images")]
        command += ["--out", str(found)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    metrics: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return metrics


def metrics_of(model: Path, folder: Path, against: Path) -> dict[str, float]:
    """A row of the table, prompt agreement of the background included."""
    row = row_of(evaluate(model, folder, against))
    return row | {"background %": 100 * fmean(backgrounds(folder))}


def row_of(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics that scripts/evaluate_images.py found."""
    thing, style = (metrics["sets"][name] for name in SPACES)
    return {
        "style %": 100 * metrics["overall"]["style"]["mean"],
        "thing %": 100 * metrics["overall"]["concept"]["mean"],
        "FID second": thing["references"]["fid"],
        "FID first": thing["first_style"]["fid"],
        "KID second": thing["references"]["kid"],
        "nearest second %": 100 * thing["references"]["nearest"],
        "style FID second": style["references"]["fid"],
        "style FID first": style["first_style"]["fid"],
        "style nearest second %": 100 * style["references"]["nearest"],
    }


@cache
def backgrounds(folder: Path) -> tuple[float, ...]:
    """1 where the border's median colour is nearest to the one of the caption, else 0."""
    names = list(COLOURS)
    palette = np.array([COLOURS[name] for name in names], dtype=float)
    found = []
    for row in held_out():
        with Image.open(folder / "images" / f"{row['id']}.png") as image:
            pixels = np.asarray(image.convert("RGB"), dtype=float)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        distance = np.square(palette - np.median(border, axis=0)).sum(axis=1)
        found.append(float(names[int(distance.argmin())] == row["colour"]))
    return tuple(found)


def seen(folder: Path) -> Columns:
    """The per-image metrics of a model."""
    known = columns(folder, "figures", ["style", "concept"])
    return {**known, "background": backgrounds(folder)}


def rewards_of(folder: Path) -> tuple[float, float]:
    """Mean value of the side's own head, over its first and its last five steps."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seen = [json.loads(line).get("reward/adversarial_dino") for line in lines]
    known = [float(value) for value in seen if value is not None and np.isfinite(value)]
    return fmean(known[4:9]), fmean(known[-5:])


def changes_of(out: Path, side: str, seeds: list[int]) -> dict[str, str]:
    """The changes of per-image metrics, with their intervals, over all seeds."""
    names = ["start", *(f"{side}-seed{seed}" for seed in seeds)]
    start, *ends = (seen(out / name / "held_out") for name in names)
    return {head: shown(change(start, ends, name), 100, 1) for head, name in PAIRED.items()}


def table(
    start: dict[str, float],
    rows: dict[str, list[dict[str, float]]],
    changes: dict[str, dict[str, str]],
    digits: int = 2,
) -> str:
    """Means over seeds, followed by each seed's value; `changes` of a side's columns, paired."""
    lines = ["| | " + " | ".join(start) + " |", "|---" * (len(start) + 1) + "|"]
    cells = [f"{value:.{digits}f}" for value in start.values()]
    lines.append("| start | " + " | ".join(cells) + " |")
    for side, found in rows.items():
        cells = []
        for name in found[0]:
            each = ", ".join(f"{one[name]:.{digits}f}" for one in found)
            cells.append(f"{fmean(one[name] for one in found):.{digits}f} ({each})")
            if name in changes[side]:
                cells[-1] += f"; change {changes[side][name]}"
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def sheet(out: Path, names: list[str]) -> Image.Image:
    """One row per caption: reference, then the same noise in every model of `names`."""
    rows = held_out()
    picked = rows[:: len(rows) // NUM_SHOWN][:NUM_SHOWN]
    lines = []
    for row in picked:
        paths = [ASSETS / row["references"][0]]
        paths += [out / name / "held_out/images" / f"{row['id']}.png" for name in names]
        images = []
        for path in paths:
            with Image.open(path) as image:
                images.append(np.pad(np.asarray(image.convert("RGB")), ((2, 2), (2, 2), (0, 0))))
        lines.append(np.concatenate(images, axis=1))
    return Image.fromarray(np.concatenate(lines)).resize(
        (2 * lines[0].shape[1], 2 * sum(line.shape[0] for line in lines)), Image.Resampling.NEAREST
    )


def main() -> int:
    """Run what is missing, then write table and images."""
    parser = options(str(__doc__), "runs/style", "sides", SIDES)
    parser.add_argument(
        "--over", action="append", default=[], help="a config merged over the common one"
    )
    parser.add_argument("--start", type=Path, default=Path("assets/models/tiny_sd3"))
    args = parser.parse_intermixed_args()
    out, model = args.out.resolve(), args.start.resolve()
    against = first_style(out)
    (out / "start").mkdir(exist_ok=True)
    start = metrics_of(model, out / "start/held_out", against)
    common = [f"policy.model={model}", "eval.before=false"]
    configs = [CONFIG, *args.over]
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in args.seeds:
        for side in args.sides:
            name = f"{side}-seed{seed}"
            own = [
                *common,
                *side_overrides(side, configs),
                "eval.limit=50",
                "eval.splits=[held_out]",
            ]
            if not args.table:
                overrides = [*own, *args.overrides]
                train(configs, overrides, out=out, name=name, seed=seed, ranks=args.ranks)
            metrics = metrics_of(out / name / "model", out / name / "held_out", against)
            first, last = rewards_of(out / name)
            rows.setdefault(side, []).append(
                metrics | {"own reward, start": first, "own reward, end": last}
            )
    (out / "table.json").write_text(json.dumps({"start": start, **rows}, indent=2), "utf-8")
    changes = {side: changes_of(out, side, args.seeds) for side in rows}
    nothing = {"own reward, start": float("nan"), "own reward, end": float("nan")}
    text = table(start | nothing, rows, changes)
    (out / "table.md").write_text(text, encoding="utf-8")
    names = ["start", *(f"{side}-seed{seed}" for side in args.sides for seed in args.seeds)]
    sheet(out, names).save(out / "images.png")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
