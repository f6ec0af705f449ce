"""A preference scorer that learns to prefer references: PickScore with trainable last layers.

rollouts ───> lower layers (frozen) ─> kept ─┬─> last layers ─> score ─> reward
references ─> lower layers (frozen) ─> kept ─┴─> last layers ─> pairs ─> loss ─> their own step
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from vlrl.image.adversarial_reward import LearntOptions, LearntReward
from vlrl.types import Rollout

if TYPE_CHECKING:
    from torch import Tensor

MAX_CAPTIONS = 20_000
"""Captions whose embeddings are kept; 4 kB each with PickScore."""


class AdversarialScorerOptions(LearntOptions):
    """The scorer, which of its layers learn, how and when."""

    model: str = "yuvalkirstain/PickScore_v1"
    processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    divide_by: PositiveFloat = 26.0
    """As in pick_score: good images come near 1, before anything is learnt."""
    logit_scale: PositiveFloat = 100.0
    """Upper limit of the checkpoint's logit scale: CLIP's own. Sets the range."""
    num_layers: PositiveInt = 2
    """Last vision layers that learn: the paper's two; the released config has one."""
    lr: float = Field(5e-6, gt=0)
    """Of Adam on float32 weights. Published in bf16, where neighbouring numbers near 0.02 lie
    1.2e-4 apart: there most steps of this size round to nothing."""
    trigger: Literal["generated_ahead", "always"] = "generated_ahead"
    """generated_ahead: it learns only while it scores generated images higher than
    references, on the mean over all ranks."""
    max_updates: PositiveInt = 1
    """Steps on each batch of rollouts while the trigger holds; references are drawn anew."""
    kept_references: NonNegativeInt = 2000
    """Reference images whose hidden states stay in memory: 1.3 MB each with PickScore."""


class AdversarialScorer(LearntReward["Tensor"]):
    """exp(logit_scale) * cosine / divide_by, of a scorer that learns to prefer references.

    Before its first step it is pick_score. Differs from the released code: weights in float32,
    one scorer on all ranks (there each rank trains its own), and the policy learns from every
    round, where there it waits while the scorer learns and the rollouts are thrown away.
    """

    Options = AdversarialScorerOptions
    options: AdversarialScorerOptions
    needs = frozenset({"image", "caption", "references"})
    range = (-100 / 26, 100 / 26)
    formula = "exp(logit_scale) cos(image, caption) / divide_by; last vision layers learn"
    units = "PickScore logits over divide_by"
    source = "Adv-GRPO (arXiv 2511.20256), with a preference scorer; loss of arXiv 2305.01569"
    learner_key = "layers"

    def __init__(self, options: AdversarialScorerOptions) -> None:
        super().__init__(options, options.max_updates)
        limit = options.logit_scale / options.divide_by
        self.range = (-limit, limit)

    def load(self) -> None:
        """The scorer and an optimizer of its last layers; equal on all ranks, as the file is."""
        import torch

        from vlrl.distributed.comm import current
        from vlrl.image.networks.clip import scale_within
        from vlrl.image.networks.features import read_image
        from vlrl.image.networks.split_clip import SplitClip

        o = self.options
        clip = SplitClip(o.model, o.num_layers, processor=o.processor, device=o.device)
        self.clip, self.device, self.learner = clip, clip.device, clip.last
        self.scale = scale_within(clip, o.logit_scale, o.model)
        self.optimizer = torch.optim.Adam(self.learner.parameters(), lr=o.lr, betas=o.betas)
        self._random = torch.Generator().manual_seed(o.seed * 1000 + current().rank)
        # One at a time: what else is in a batch may change last bits, and a resumed run draws
        # other references and captions first.
        self._text = lru_cache(MAX_CAPTIONS)(clip.text)
        self._reference = lru_cache(o.kept_references)(
            lambda path: clip.hidden([read_image(path)])[0].cpu()
        )

    def look(self, images: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """Hidden states before the layers that learn, [tokens, D] each."""
        size = self.options.batch_size
        starts = range(0, len(images), size)
        return [row for i in starts for row in self.clip.hidden(images[i : i + size])]

    def values(self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]) -> Sequence[float]:
        """One scaled cosine per image."""
        import torch

        with torch.no_grad():
            cosines = self._cosines(self.seen(images, rollouts), rollouts).clamp(-1, 1)
        return (self.scale / self.options.divide_by * cosines.double()).tolist()

    def learn(
        self, rollouts: Sequence[Rollout], seen: Sequence[Tensor], num: float
    ) -> dict[str, float]:
        """-log sigmoid(reference - generated), on the scorer's own logits; means over all pairs."""
        import torch

        from vlrl.distributed.comm import all_sum, current
        from vlrl.image.adversarial_losses import pair_preference

        o = self.options
        paths = self.draw(rollouts)
        parts = [slice(i, i + o.batch_size) for i in range(0, len(rollouts), o.batch_size)]

        def logits(part: slice) -> tuple[Tensor, Tensor]:
            true = [self._reference(path) for path in paths[part]]
            return (
                self.scale * self._cosines(true, rollouts[part]),
                self.scale * self._cosines(seen[part], rollouts[part]),
            )

        here = torch.zeros(4, dtype=torch.float64)
        with torch.no_grad():
            for true, made in map(logits, parts):
                rows = torch.stack([pair_preference(true, made), true > made, true, made])
                here += rows.double().sum(1).cpu()
        loss, accuracy, reference, generated = (
            total / num for total in all_sum(here.tolist(), current())
        )
        rests = o.trigger == "generated_ahead" and generated <= reference
        if not rests:
            self.optimizer.zero_grad(set_to_none=True)
            for part in parts:
                (pair_preference(*logits(part)).sum() / num).backward()
            self.step()
        return {
            "loss": loss,
            "accuracy": accuracy,
            "reference": reference / o.divide_by,
            "generated": generated / o.divide_by,
            "gap": (reference - generated) / o.divide_by,
            "skipped": float(rests),
        }

    def _cosines(self, hidden: Sequence[Tensor], rollouts: Sequence[Rollout]) -> Tensor:
        """[N], image i with the caption of rollout i."""
        import torch

        texts = torch.stack([self._text(rollout.sample.target.caption) for rollout in rollouts])
        images = torch.stack([states.to(self.device) for states in hidden])
        return (self.clip.embed(images) * texts).sum(-1)
