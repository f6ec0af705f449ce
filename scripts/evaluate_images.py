"""Evaluate a text-to-image model: the config's metrics, FID and KID to sets of images.

    python scripts/evaluate_images.py --config configs/image_generation/tiny.yaml \\
        --split held_out --model runs/tiny_images/model --features assets/models/judge_concept \\
        --against first_style=images/of/it --images runs/tiny_images/held_out

`references` are the samples' own (the first one of each); `--against` adds folders of images.
`nearest` is the share of generated images whose nearest neighbour, among all sets, is in that set.
Values of two feature spaces are not comparable: the output names the space.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

sys.path.insert(0, str(Path(__file__).resolve().parent))
from generated import GenerationOptions, generate, run

from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, DataError
from vlrl.eval.image import nearness
from vlrl.media.images import image_array


class ImageOptions(GenerationOptions):
    """Sets of images."""

    features: tuple[str, ...] = Field(
        (), description="vision models of transformers, for FID and KID"
    )
    against: tuple[str, ...] = Field((), description="NAME=FOLDER of other images")
    images: Path | None = Field(None, description="folder for the generated images")


def evaluate(config: RunConfig, options: ImageOptions) -> dict[str, Any]:
    """All metrics, as they are written to --out."""
    against = sets_of(options)
    made = generate(config, options)
    drawn = [(one.sample, one.parsed.image) for one in made.rollouts if one.parsed is not None]
    if options.images is not None:
        options.images.mkdir(parents=True, exist_ok=True)
        for sample, image in drawn:
            Image.fromarray(image).save(options.images / f"{sample.id}.png")
    if options.features:
        from vlrl.image.networks.pooled import PooledFeatures

        firsts = [one.sample.target.references[:1] for one in made.rollouts]
        references = opened([Path(path) for paths in firsts for path in paths])
        sets = {"references": references, **against}
        made.found["sets"] = {}
        short = {Path(model).name for model in options.features}
        for model in options.features:
            embed = PooledFeatures(model)
            space = {name: embed(images) for name, images in sets.items()}
            near = nearness(embed([image for _, image in drawn]), space)
            # By the name of its folder, if that distinguishes the models.
            called = Path(model).name if len(short) == len(options.features) else model
            made.found["sets"][called] = near
    return made.found


def sets_of(options: ImageOptions) -> dict[str, list[np.ndarray]]:
    """The images of --against by name; read first, so that no mistake costs a generation."""
    if options.against and not options.features:
        raise ConfigError("--against needs --features, which measure the distance")
    sets = {}
    for item in options.against:
        name, _, folder = item.partition("=")
        if not (name and folder and Path(folder).is_dir()):
            raise ConfigError(f"--against takes NAME=FOLDER, an existing folder, not {item!r}")
        sets[name] = opened(sorted(path for path in Path(folder).iterdir() if path.is_file()))
    return sets


def opened(paths: Sequence[Path]) -> list[np.ndarray]:
    """uint8 [H, W, 3] each; raises DataError."""
    images = [image_array(path) for path in paths]
    if len(images) < 2:
        raise DataError("a distance between sets needs two images or more in each")
    return images


def main() -> int:
    """Command line entry."""
    return run(str(__doc__), ImageOptions, evaluate)


if __name__ == "__main__":
    sys.exit(main())
