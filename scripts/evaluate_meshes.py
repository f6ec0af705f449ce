"""Evaluate a text-to-3D model: geometry, the config's metrics, FID and KID over views, by group.

    python scripts/evaluate_meshes.py --config configs/text_to_3d/tiny.yaml --split held_out \\
        --backbone assets/models/tiny_dinov2 [--model runs/tiny_shapes/model] [--out metrics.json]

FID and KID are computed on the backbone's CLS features, which the output names: values of two
feature spaces are not comparable. CLIP over views is a metric of the config:
`metrics: {clip: {views: {pool: mean, of: {use: clip_score}}}}`.
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
from vlrl.eval.mesh import set_distances
from vlrl.media.images import side_by_side

NUM_SHOWN = 10


class MeshOptions(GenerationOptions):
    """Views."""

    backbone: str | None = Field(None, description="DINOv2-like model, for FID and KID")
    sheet: Path | None = Field(None, description="image of some answers, references on top")


def evaluate(config: RunConfig, options: MeshOptions) -> dict[str, Any]:
    """All metrics, as they are written to --out."""
    made = generate(config, options)
    if options.sheet is not None:
        picked = made.rollouts[:: max(1, len(made.rollouts) // NUM_SHOWN)][:NUM_SHOWN]
        columns = [np.asarray(made.task.draw(one.sample, [one])) for one in picked]
        sheet = Image.fromarray(side_by_side(columns))
        sheet.thumbnail((1600, 1600))
        sheet.save(options.sheet)
    if options.backbone is not None:
        from vlrl.image.networks.backbone import Backbone

        backbone = Backbone(options.backbone)

        def embed(images: Sequence[np.ndarray]) -> np.ndarray:
            return np.asarray(backbone.features(images)[0].cpu().numpy())

        distances = set_distances(made.task, made.rollouts, embed)
        made.found["views"] = {**distances, "features": options.backbone}
    return made.found


def main() -> int:
    """Command line entry."""
    return run(str(__doc__), MeshOptions, evaluate)


if __name__ == "__main__":
    sys.exit(main())
