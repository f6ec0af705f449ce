"""Broken shapes, caches and checkpoints of models."""

from __future__ import annotations

import random
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import torch
from broken_media import image_bytes
from damage import damaged
from safetensors.torch import save_file
from trying import Case, Outcome

from vlrl.image.networks.features import ReferenceFeatures
from vlrl.mesh.colour_names import COLOURS
from vlrl.mesh.files import save_glb, save_obj, save_ply
from vlrl.mesh.mesh import ColouredMesh
from vlrl.mesh.store import load_shape, save_shapes
from vlrl.mesh.voxelise import Voxels
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup

SHAPES = ("npz", "glb", "obj", "ply")
SIDE = 8
WHOLE = "whole_model"
"""The checkpoint, which the test puts there."""
MODEL_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "processor_config.json",
    "generation_config.json",
    "chat_template.jinja",
)


@cache
def shape_bytes(folder: Path, ending: str) -> bytes:
    """A coloured pyramid, or its voxels."""
    path = folder / f"whole.{ending}"
    if ending == "npz":
        occupancy = np.zeros((SIDE, SIDE, SIDE), bool)
        occupancy[2:6, 2:6, 1:5] = True
        colours = np.full((SIDE, SIDE, SIDE, 3), 128, np.uint8)
        colours[occupancy] = list(COLOURS.values())[1]
        save_shapes(path, {"a": Voxels(occupancy, colours)})
        return path.read_bytes()
    points = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0.5, 0.5, 1)]
    faces = [(0, 2, 1), (0, 3, 2), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)]
    colours = np.full((5, 3), (250, 10, 10), np.uint8)
    mesh = ColouredMesh(np.array(points, float), np.array(faces, np.int64), colours)
    {"glb": save_glb, "obj": save_obj, "ply": save_ply}[ending](mesh, path)
    return path.read_bytes()


def _voxels(path: Path) -> Voxels:
    name = f"{path}#a" if path.suffix == ".npz" else str(path)
    return load_shape(name, SIDE)


def shape(folder: Path, number: int, rng: random.Random) -> Case:
    """A broken reference of text-to-3D."""
    ending = SHAPES[number % len(SHAPES)]
    others = [shape_bytes(folder, e) for e in SHAPES if e != ending] + [image_bytes("png")]
    is_text = ending == "obj"
    how, data = damaged(shape_bytes(folder, ending), rng, others, is_text=is_text)
    path = folder / f"shape{number}.{ending}"

    def run() -> Outcome:
        path.write_bytes(data)
        found, wanted = _voxels(path), _voxels(folder / f"whole.{ending}")
        if found.occupancy.shape != (SIDE,) * 3 or not found.occupancy.any():
            return "wrong"
        same = all(
            np.array_equal(getattr(found, name), getattr(wanted, name))
            for name in ("occupancy", "colours")
        )
        return "same" if same else "other"

    return Case(f"{ending}, {how}", run, path.name)


class Backbone:
    """Stands for a network; it must not be asked where a cache is whole."""

    fingerprint = "backbone"

    def features(self, images: object) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.arange(4.0)[None], torch.arange(12.0).reshape(1, 3, 4)


def cached(folder: Path, number: int, rng: random.Random) -> Case:
    """A broken file of cached features."""
    base = folder / f"cache{number}"
    image = folder / "image.png"
    image.write_bytes(image_bytes("png"))
    wanted = ReferenceFeatures(Backbone(), str(base), 1 << 20).of([str(image)])
    (file,) = base.rglob("*.safetensors")
    other = folder / "other.safetensors"
    if not other.exists():
        save_file({"a": torch.zeros(2)}, other)
    how, data = damaged(file.read_bytes(), rng, [other.read_bytes(), image_bytes("png")])

    def run() -> Outcome:
        file.write_bytes(data)
        found = ReferenceFeatures(Backbone(), str(base), 1 << 20).of([str(image)])
        same = all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        return "same" if same else "wrong"

    return Case(f"cached features, {how}", run, file.name)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    options = VisionLanguageConfig(model=str(folder))
    policy = VisionLanguagePolicy(
        options, PolicySetup(dtype=torch.float32, max_tokens_per_chunk=1024)
    )
    return dict(policy.module.state_dict())


@cache
def whole_weights(folder: Path) -> dict[str, torch.Tensor]:
    return _weights(folder / WHOLE)


def model(folder: Path, number: int, rng: random.Random) -> Case:
    """A checkpoint of a model with one broken file, as `policy.model` and `vlrl eval --model`."""
    whole = folder / WHOLE
    name = MODEL_FILES[number % len(MODEL_FILES)]
    content = (whole / name).read_bytes()
    is_text = name != "model.safetensors"
    how, data = damaged(content, rng, [b"{}", image_bytes("png")], is_text=is_text)
    path = folder / f"model{number}"

    def run() -> Outcome:
        wanted = whole_weights(folder)
        shutil.copytree(whole, path)
        (path / name).write_bytes(data)
        try:
            found = _weights(path)
        finally:
            shutil.rmtree(path)
        same = found.keys() == wanted.keys() and all(
            torch.equal(found[key], wanted[key]) for key in wanted
        )
        return "same" if same else "other"

    return Case(f"{name}, {how}", run, path.name)
