"""Evaluate a text-to-image model: the config's metrics, FID and KID to sets of images.

    python scripts/evaluate_images.py --config configs/image_generation/tiny.yaml \\
        --split held_out --model runs/tiny_images/model --features assets/models/judge_concept \\
        --against first_style=images/of/it --images runs/tiny_images/held_out

`references` are the samples' own (the first one of each); `--against` adds folders of images.
`nearest` is the share of generated images whose nearest neighbour, of all sets, lies in that set.
Figures of two feature spaces never compare: the output names the space.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from generated import generate, options, run

from vlrl.errors import ConfigError, DataError
from vlrl.eval.image import nearness


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """All figures, as they are written to --out."""
    against = sets_of(args)
    made = generate(args)
    drawn = [(one.sample, one.parsed.image) for one in made.rollouts if one.parsed is not None]
    if args.images is not None:
        args.images.mkdir(parents=True, exist_ok=True)
        for sample, image in drawn:
            Image.fromarray(image).save(args.images / f"{sample.id}.png")
    if args.features:
        from vlrl.image.networks.pooled import PooledFeatures

        firsts = [one.sample.target.references[:1] for one in made.rollouts]
        references = opened([Path(path) for paths in firsts for path in paths])
        sets = {"references": references, **against}
        made.found["sets"] = {}
        short = {Path(model).name for model in args.features}
        for model in args.features:
            embed = PooledFeatures(model)
            space = {name: embed(images) for name, images in sets.items()}
            near = nearness(embed([image for _, image in drawn]), space)
            # By its folder's name, as long as that tells the models apart.
            called = Path(model).name if len(short) == len(args.features) else model
            made.found["sets"][called] = near
    return made.found


def sets_of(args: argparse.Namespace) -> dict[str, list[np.ndarray]]:
    """The images of --against by name; read first, so that no mistake costs a generation."""
    if args.against and not args.features:
        raise ConfigError("--against needs --features, which measure the distance")
    sets = {}
    for item in args.against:
        name, _, folder = item.partition("=")
        if not (name and folder and Path(folder).is_dir()):
            raise ConfigError(f"--against takes NAME=FOLDER, an existing folder, not {item!r}")
        sets[name] = opened(sorted(path for path in Path(folder).iterdir() if path.is_file()))
    return sets


def opened(paths: Sequence[Path]) -> list[np.ndarray]:
    """uint8 [H, W, 3] each; raises DataError."""
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB")))
        except OSError as error:
            raise DataError(f"the image {path} cannot be opened: {error}") from error
    if len(images) < 2:
        raise DataError("a distance between sets needs two images or more in each")
    return images


def main() -> int:
    """Command line entry."""
    parser = options(str(__doc__))
    parser.add_argument(
        "--features", nargs="+", default=[], help="vision models of transformers, for FID and KID"
    )
    parser.add_argument("--against", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--images", type=Path, help="folder for the generated images")
    return run(parser, evaluate)


if __name__ == "__main__":
    sys.exit(main())
