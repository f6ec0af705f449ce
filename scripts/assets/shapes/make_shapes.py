"""Make the embedded shapes: real models with names, voxelised, measured and captioned.

apt-get download sweethome3d-furniture
dpkg-deb -x sweethome3d-furniture_*.deb PACKAGE
python scripts/assets/shapes/make_shapes.py --package PACKAGE --out assets/shapes
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tempfile
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from scripts.assets.shapes.shape_docs import write_docs
from scripts.assets.shapes.shape_names import class_of, clean

from vlrl.cli.checks import run_program
from vlrl.errors import DataError
from vlrl.mesh.voxels import num_exposed_faces
from scripts.assets.shapes.describe import describe
from vlrl.mesh.store import load_shape, save_shapes
from vlrl.mesh.voxelise import Voxels, load_mesh, voxelise, z_up

FOLDER = "usr/share/sweethome3d/furniture"
LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Reallusion": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}
WITH_LEGS = {
    "armchair", "stool", "sofa", "bench", "coffee table", "nightstand", "desk", "chair", "table",
    "bed", "cabinet", "shelf", "animal",
}  # fmt: skip
HELD_OUT_SHARE = 0.2
MIN_CLASS = 6
MIN_VOXELS = 60

Row = dict[str, Any]


def catalogue(folder: Path) -> list[dict[str, str]]:
    """The entries of one unpacked catalogue."""
    entries: dict[int, dict[str, str]] = defaultdict(dict)
    text = (folder / "PluginFurnitureCatalog.properties").read_text(encoding="latin-1")
    for match in re.finditer(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
        entries[int(match[2])][match[1]] = match[3].strip()
    return [entries[number] for number in sorted(entries) if "model" in entries[number]]


def shapes_of(
    archive: Path, resolution: int, scratch: Path, earlier: Path
) -> list[tuple[Row, Voxels]]:
    """Every readable model of a catalogue, with its metadata.

    What the file of an `earlier` run contains is taken from there: voxelising takes minutes.
    """
    known = set(np.load(earlier).files) if earlier.is_file() else set()
    folder = scratch / archive.stem
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    found = []
    for entry in catalogue(folder):
        name = clean(entry["name"])
        model = folder / entry["model"].lstrip("/")
        name_id = f"{archive.stem.lower()}-{model.stem}".replace("_", "-").lower()
        try:
            if name_id in known:
                shape = load_shape(f"{earlier}#{name_id}", resolution)
            else:
                vertices, faces, colours = load_mesh(str(model))
                shape = voxelise(z_up(vertices), faces, resolution, colours)
        except DataError as error:
            print(f"left out: {error}")
            continue
        row = {
            "id": name_id,
            "name": name,
            "class": class_of(name) or name,
            "category": entry["category"],
            "creator": entry.get("creator", archive.stem),
            "licence": LICENCES[archive.stem],
        }
        found.append((row, shape))
    return found


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def split_rows(rows: list[Row]) -> dict[str, list[Row]]:
    """`held_out`: all models of a fifth of the captions, of classes with MIN_CLASS models."""
    sizes = Counter(row["class"] for row in rows)
    splits: dict[str, list[Row]] = {"train": [], "held_out": []}
    for row in rows:
        rare = sizes[row["class"]] < MIN_CLASS
        is_train = rare or fraction(row["caption"]) >= HELD_OUT_SHARE
        splits["train" if is_train else "held_out"].append(row)
    return splits


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resolution", type=int, default=24)
    args = parser.parse_args()
    found: list[tuple[Row, Voxels]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for archive in sorted((args.package / FOLDER).glob("*.sh3f")):
            earlier = args.out / "shapes.npz"
            found += shapes_of(archive, args.resolution, Path(scratch), earlier)
    rows: list[Row] = []
    shapes: dict[str, Voxels] = {}
    seen: set[bytes] = set()
    for row, shape in found:
        bits = shape.occupancy.tobytes()
        if shape.occupancy.sum() < MIN_VOXELS or bits in seen or row["id"] in shapes:
            print(f"left out: {row['id']}: too small, or the same as another")
            continue
        seen.add(bits)
        about = describe(shape)
        row |= {
            "caption": about.caption(row["class"], row["class"] in WITH_LEGS),
            "proportion": about.proportion or "medium",
            "colour": about.colour or "mixed",
            "num_legs": about.num_feet if row["class"] in WITH_LEGS else 0,
            "extent": about.extent,
            "num_faces": num_exposed_faces(shape.occupancy),
            "reference": f"shapes.npz#{row['id']}",
        }
        rows.append(row)
        shapes[row["id"]] = shape
    # Before anything is written: --out may be the embedded set.
    if not rows:
        raise DataError(
            f"--package {args.package}: no usable model in {args.package / FOLDER}/*.sh3f; "
            "unpack the package sweethome3d-furniture there, as the head of this file says"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    save_shapes(args.out / "shapes.npz", shapes)
    splits = split_rows(rows)
    for split, part in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (args.out / f"{split}.jsonl").write_text(text, encoding="utf-8")
    write_docs(args.out, splits, args.resolution)
    size = (args.out / "shapes.npz").stat().st_size
    print({split: len(part) for split, part in splits.items()}, f"{size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(run_program(main))
