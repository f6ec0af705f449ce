"""Codes -> voxels -> surface -> six views: time of each, and both renderers side by side.

    python benchmarks/render_views.py [--egl]

With --egl (moderngl installed) also OpenGL's time, and how many pixels differ from the software
renderer's by more than the stated tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.cli.checks import run_program
from vlrl.mesh.camera import around
from vlrl.mesh.render import render
from vlrl.mesh.store import load_shape
from vlrl.mesh.surface import surface
from vlrl.policy.voxel_tokens.codec_files import load_codec

TOLERANCE = 8
"""Levels of 255 by which a pixel may differ."""


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", default="assets/models/tiny_voxel/codec")
    parser.add_argument("--assets", type=Path, default=Path("assets/shapes"))
    parser.add_argument("--num-shapes", type=int, default=16)
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--egl", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = (args.assets / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines][: args.num_shapes]
    grids = [load_shape(str(args.assets / row["reference"])).occupancy for row in rows]
    codec = load_codec(args.codec)
    codes = codec.encode(torch.from_numpy(np.stack(grids)).float())
    codec.decode(codes[:1])
    found: dict[str, Any] = {"num_shapes": len(rows), "size_px": args.size_px}
    start = time.perf_counter()
    made = codec.decode(codes).numpy()
    found["decode_ms_a_shape"] = 1000 * (time.perf_counter() - start) / len(rows)
    start = time.perf_counter()
    meshes = [surface(grid) for grid in made]
    found["surface_ms_a_shape"] = 1000 * (time.perf_counter() - start) / len(rows)
    found["faces_a_shape"] = sum(len(mesh.faces) for mesh in meshes) / len(rows)
    cameras = around(6)
    for name in ["software", *(["egl"] if args.egl else [])]:
        render(meshes[0], cameras, args.size_px, renderer=name)
        start = time.perf_counter()
        views = [render(mesh, cameras, args.size_px, renderer=name) for mesh in meshes]
        spent = time.perf_counter() - start
        found[f"{name}_ms_a_view"] = 1000 * spent / len(rows) / len(cameras)
        if name == "egl":
            plain = [render(mesh, cameras, args.size_px) for mesh in meshes]
            apart = np.abs(np.stack(views).astype(int) - np.stack(plain)).max(-1) > TOLERANCE
            found["pixels_that_differ"] = float(apart.mean())
            found["tolerance"] = TOLERANCE
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}))


if __name__ == "__main__":
    sys.exit(run_program(main))
