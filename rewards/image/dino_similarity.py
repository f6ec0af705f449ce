"""How similar the image is to reference images of the same caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from vlrl.errors import DataError, RewardError
from vlrl.media.images import image_array
from vlrl.reward.image_reward import ImageReward, ModelOptions
from vlrl.types import Rollout

if TYPE_CHECKING:
    from torch import Tensor

    from vlrl.image.networks.backbone import Backbone


class DinoOptions(ModelOptions):
    """The backbone, and how several references are joined."""

    model: str = "facebook/dinov2-base"
    """timm: `vit_base_patch14_dinov2.lvd142m`, say, or `local-dir:<folder>`."""
    library: Literal["transformers", "timm"] = "transformers"
    size_px: Annotated[int | None, Field(gt=0)] = None
    """Side that images are resized to, a multiple of the patch; default: the checkpoint's."""
    published: bool = False
    """Resize without antialiasing, as Adv-GRPO's code does."""
    over: Literal["max", "mean"] = "max"
    """The nearest reference, or the mean over all."""


class DinoSimilarity(ImageReward):
    """Cosine of CLS features to those of the references; does not apply where there are none.

    Features of a reference are kept in memory by path for the whole run (3 kB each for a
    base model): a file that changes meanwhile is not read again.
    """

    Options = DinoOptions
    options: DinoOptions
    needs = frozenset({"image", "references"})
    range = (-1.0, 1.0)
    formula = "max_j cos(f(image), f(reference_j)), f the CLS feature; mean_j with over: mean"
    source = "Adv-GRPO's image similarity (arXiv 2511.20256), DINOv2; mean_j as in DreamBooth"

    def load(self) -> None:
        """The backbone."""
        from vlrl.image.networks.backbone import Backbone

        self.backbone: Backbone = Backbone(
            self.options.model,
            self.options.library,
            self.options.device,
            self.options.size_px,
            self.options.batch_size,
            antialias=not self.options.published,
        )
        self._references: dict[str, Tensor] = {}

    def applies(self, rollout: Rollout) -> bool:
        """Where there is a reference."""
        return bool(rollout.sample.target.references)

    def image_features(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> np.ndarray:
        """CLS features of length 1."""
        return self._features(images).double().cpu().numpy()

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """One similarity per image."""
        features = self._features(images)
        self._read_references(rollouts)
        return [
            self._join(features[row], rollout.sample.target.references)
            for row, rollout in enumerate(rollouts)
        ]

    def _join(self, feature: Tensor, paths: Sequence[str]) -> float:
        import torch

        cosines = torch.stack([self._references[path] for path in paths]) @ feature
        joined = cosines.max() if self.options.over == "max" else cosines.mean()
        return float(joined.clamp(-1, 1))

    def _features(self, images: Sequence[np.ndarray]) -> Tensor:
        """[N, D], float32 of length 1."""
        from vlrl.image.networks.clip import unit

        cls, _ = self.backbone.features(images)
        return unit(cls)

    def _read_references(self, rollouts: Sequence[Rollout]) -> None:
        """Features of the references that were not seen before."""
        owner = {
            path: rollout.sample.id
            for rollout in rollouts
            for path in rollout.sample.target.references
            if path not in self._references
        }
        paths = list(owner)
        for start in range(0, len(paths), self.options.batch_size):
            part = paths[start : start + self.options.batch_size]
            features = self._features([self._open(path, owner[path]) for path in part])
            self._references.update(zip(part, features, strict=True))

    def _open(self, path: str, sample_id: str) -> np.ndarray:
        try:
            return image_array(path)
        except DataError as error:
            raise RewardError(
                f"reward {self.name!r}: the reference {path!r} of sample {sample_id!r} cannot be "
                f"read ({error}); correct the path in the data"
            ) from error
