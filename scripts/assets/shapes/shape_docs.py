"""Writes README.md and LICENSES.md of the embedded shapes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

Row = dict[str, Any]

README = """# Embedded shapes

{total} real models with names, as {resolution} x {resolution} x {resolution} voxel shells, with
captions made of their names and of measurements. Built by `scripts/assets/shapes/make_shapes.py`
from the Debian package `sweethome3d-furniture` 1.8-1; authors and licences in `LICENSES.md`:

    apt-get download sweethome3d-furniture
    dpkg-deb -x sweethome3d-furniture_*.deb PACKAGE
    python scripts/assets/shapes/make_shapes.py --package PACKAGE --out assets/shapes

`shapes.npz` holds one bit and one colour word per voxel (`vlrl/mesh/store.py`). Each line of
`train.jsonl` and `held_out.jsonl` is one model: `id`, `caption`, `class` (its maker's name, with synonyms merged:
`scripts/assets/shapes/shape_names.py`), `name`, `category`, `proportion`, `colour`, `num_legs`, `extent` (width,
depth, height in eighths of the longest side), `creator`, `licence`, `reference`.

Measured (`scripts/assets/shapes/describe.py`): tall = higher than 1.6 times as wide; low = less than 0.4
times; wide = 1.8 times as wide as deep; the colour = the commonest of eleven colour words where it
has 35 % of the voxels; legs = connected components (26 neighbours, at least 2 voxels) of the lowest
12 % of the height, where there are two to six and the class has legs.

| file | rows |
|---|---|
{files}

No held-out caption occurs in training: of each class of six models or more, all models of a
fifth of the captions are held out.

| class | train | held out |
|---|---|---|
{classes}
"""

LICENCES = """# Sources of the embedded shapes

All models come from the Debian package `sweethome3d-furniture` 1.8-1 (Sweet Home 3D's additional
models, www.sweethome3d.com), whose copyright file states the licences below. Changes made: the
models were rotated, scaled and voxelised; materials and textures became one of eleven
colours per voxel. `creator` and `licence` are in every row of `train.jsonl` and `held_out.jsonl`.

| catalogue | licence | by | models here |
|---|---|---|---|
{table}

CC-BY-3.0: creativecommons.org/licenses/by/3.0/,
CC-BY-3.0-US: creativecommons.org/licenses/by/3.0/us/,
CC0-1.0: creativecommons.org/publicdomain/zero/1.0/.

## Authors

{authors}
"""

CATALOGUES = {
    "blendswap-cc-0": "contributors of Blend Swap, converted by Emmanuel Puybaret / eTeks",
    "blendswap-cc-by": "contributors of Blend Swap, converted by Emmanuel Puybaret / eTeks",
    "katorlegaz": "Andrew Kator and Jennifer Legaz",
    "reallusion": "Reallusion, www.reallusion.com",
    "scopia": "Emmanuel Puybaret / eTeks and Scopia Visual Interfaces Systems, s.l., www.scopia.es",
}


def write_docs(out: Path, splits: dict[str, list[Row]], resolution: int) -> None:
    """README.md and LICENSES.md of the folder."""
    rows = [row for part in splits.values() for row in part]
    classes = Counter(row["class"] for row in rows)
    held_out = Counter(row["class"] for row in splits["held_out"])
    common = [name for name, count in classes.most_common() if count >= 4]
    lines = [f"| {n} | {classes[n] - held_out[n]} | {held_out[n]} |" for n in common]
    rest = sum(classes[name] for name in classes if name not in common)
    lines.append(f"| {len(classes) - len(common)} more | {rest} | 0 |")
    text = README.format(
        total=len(rows),
        resolution=resolution,
        files="\n".join(f"| `{name}.jsonl` | {len(part)} |" for name, part in splits.items()),
        classes="\n".join(lines),
    )
    (out / "README.md").write_text(text, encoding="utf-8")
    table, authors = [], []
    for catalogue, who in CATALOGUES.items():
        own = [row for row in rows if row["id"].startswith(catalogue + "-")]
        if own:
            table.append(f"| {catalogue} | {own[0]['licence']} | {who} | {len(own)} |")
            names = sorted({row["creator"] for row in own})
            authors.append(f"- {catalogue}: {', '.join(names)}")
    licences = LICENCES.format(table="\n".join(table), authors="\n".join(authors))
    (out / "LICENSES.md").write_text(licences, encoding="utf-8")
