"""A reward that learns what references look like: a head on frozen DINO features.

rollouts ──> backbone (frozen) ──> features ─┬─> head ─> logits ─> reward, for the policy's step
references ─> backbone ─> kept features ─────┴─> head ─> loss ─> the head's own step, after it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from vlrl.image.adversarial_reward import LearntOptions, LearntReward
from vlrl.stats import evenly
from vlrl.types import Rollout, Score

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple["Tensor", "Tensor"]


class AdversarialDinoOptions(LearntOptions):
    """Backbone, head and its training."""

    model: str = "facebook/dinov2-base"
    """timm: `vit_base_patch14_dinov2.lvd142m`, say, or `local-dir:<folder>`."""
    library: Literal["transformers", "timm"] = "transformers"
    size_px: PositiveInt | None = None
    """Side that images are resized to, a multiple of the patch; default: the checkpoint's."""
    published: bool = False
    """As in the released code: images are resized without antialiasing, and the head's patches
    are drawn with replacement."""
    layers: tuple[PositiveInt, ...] = ()
    """Blocks (1 = first) whose tokens the head sees concatenated; none: only the last one's, as
    published. Strokes, colours and texture are in the early ones."""
    width: PositiveInt = 512
    """Hidden units of a head."""
    shared_head: bool = False
    """One head for CLS and patches, as published."""
    loss: Literal["hinge", "logistic"] = "hinge"
    lr: float = Field(1e-4, gt=0)
    image_weight: float = 0.7
    """Weight of the CLS logit in the reward."""
    patch_weight: float = 0.3
    """Weight of the mean patch logit in the reward; all patches count there."""
    patch_loss: NonNegativeFloat = 0.3
    """Weight of the patches in the head's loss."""
    num_patches: NonNegativeInt = 64
    """Random patches per image in the head's loss; 0 = all."""
    num_updates: PositiveInt = 1
    """Steps of the head on each batch of rollouts; patches and references are drawn anew."""
    regularise: Literal["none", "spectral", "penalty"] = "none"
    """spectral: spectral norm of the head's layers; penalty: of its gradient at references."""
    penalty_weight: NonNegativeFloat = 1.0
    """Of the mean squared gradient of the CLS logit by its features and, where patch_loss > 0,
    as much of that of the patches in the step."""
    max_accuracy: float = Field(1.0, gt=0.5, le=1)
    """The head pauses until the end of the round once its CLS logits tell apart more than this
    share, counted as in the release; patches do not count."""
    replay_size: NonNegativeInt = 0
    """Generated images of earlier batches that are kept, as features, and saved with the head;
    for the size of one see `cache_gib`."""
    replay_share: float = Field(0.5, ge=0, le=1)
    """Share of a head step's generated images that come from the replay, once it has any."""
    bound: float = Field(10.0, gt=0)
    """The reward is bound * tanh(logit / bound), so that no image's reward runs away."""
    cache: str | None = None
    """Folder for features of references, kept between runs."""
    cache_gib: NonNegativeFloat = 2.0
    """GiB of memory per rank for features of references; the least recently used are evicted.
    One takes 4 bytes x (1 + patches) x features: 4.2 MB for DINOv2-base at 518 px (1370 x 768),
    so 510 of them here; times the number of `layers`; half that with feature_dtype: fp16."""
    feature_dtype: Literal["fp32", "fp16"] = "fp32"
    """What features are rounded to and kept in, of references and generated images alike."""


class AdversarialDino(LearntReward[Pair]):
    """How much an image looks like a reference, to a head that learns along with the policy.

    Differs from the released code: one feature path for training and reward, all patches in the
    reward, one head on all ranks, no rollout thrown away unless `policy_every` says so, and the
    bound.
    """

    Options = AdversarialDinoOptions
    options: AdversarialDinoOptions
    formula = "bound tanh((0.7 h(cls) + 0.3 mean_p h(patch_p)) / bound)"
    units = "logits"
    source = "Adv-GRPO (arXiv 2511.20256), section 3; heads on DINOv2"
    range = (-10.0, 10.0)
    learner_key = "head"

    def __init__(self, options: AdversarialDinoOptions) -> None:
        super().__init__(options, options.num_updates)
        self.range = (-options.bound, options.bound)
        self._replay: list[Pair] = []

    def load(self) -> None:
        """Backbone, heads and their optimizer; alike on all ranks."""
        import torch

        from vlrl.distributed.comm import broadcast, current
        from vlrl.image.networks.backbone import Backbone
        from vlrl.image.networks.discriminator import Discriminator
        from vlrl.image.networks.features import ReferenceFeatures, RoundedFeatures

        o = self.options
        self.backbone = Backbone(
            o.model,
            o.library,
            o.device,
            o.size_px,
            o.batch_size,
            o.layers,
            antialias=not o.published,
        )
        self.device = self.backbone.device
        self._features = RoundedFeatures(self.backbone, o.feature_dtype)
        self._references = ReferenceFeatures(self._features, o.cache, int(o.cache_gib * 2**30))
        cls, patches = self.backbone.features([np.zeros((8, 8, 3), dtype=np.uint8)])
        self._nothing = (cls[:0], patches[:0])
        # The first score may come in inference mode, in which no weights can be made.
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.manual_seed(o.seed)
            self.head = Discriminator(
                cls.shape[1],
                o.width,
                shared=o.shared_head,
                spectral=o.regularise == "spectral",
            ).to(self.device)
        world = current()
        broadcast(self.head.state_dict().values(), world)
        self.learner = self.head.eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.head.parameters(), lr=o.lr, betas=o.betas)
        self._random = torch.Generator().manual_seed(o.seed * 1000 + world.rank)

    def look(self, images: Sequence[np.ndarray]) -> Sequence[Pair]:
        """cls [D] and patches [P, D] of each, in `feature_dtype`."""
        return list(zip(*self._features.features(images), strict=True)) if images else []

    def image_features(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> np.ndarray:
        """CLS features, which the head sees."""
        return self._stacked(self.look(images))[0].double().cpu().numpy()

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | Score | None]:
        """The bounded logits, with the raw ones of image and patches as parts."""
        import torch

        o = self.options
        cls, patches = self._stacked(self.seen(images, rollouts))
        with torch.no_grad():
            image, patch = self.head(cls, patches)
            patch = patch.mean(1)
            logit = o.image_weight * image + o.patch_weight * patch
            value = o.bound * torch.tanh(logit / o.bound)
        columns = zip(value.tolist(), image.tolist(), patch.tolist(), strict=True)
        return [Score(v, {"image": a, "patches": b}) for v, a, b in columns]

    def learn(
        self, rollouts: Sequence[Rollout], seen: Sequence[Pair], num: float
    ) -> dict[str, float]:
        """Hinge or logistic loss on CLS and some patches, of references and generated images.

        Without a rollout the head still runs, on no rows: spectral norm counts its passes.
        """
        from vlrl.distributed.comm import all_sum, current
        from vlrl.image.adversarial_losses import LOSSES

        o = self.options
        self.head.train()
        self.optimizer.zero_grad(set_to_none=True)
        real = self._some_patches(self._drawn(rollouts))
        fake = self._some_patches(self._mixed(self._stacked(seen)))
        if o.regularise == "penalty":
            real = (real[0].detach().requires_grad_(), real[1].detach().requires_grad_())
        real_logits, fake_logits = self.head(*real), self.head(*fake)
        self.head.eval()
        joint, P = LOSSES[o.loss], real_logits[1].shape[1]
        loss = joint(real_logits[0], fake_logits[0], num, num)
        loss = loss + o.patch_loss * joint(real_logits[1], fake_logits[1], num * P, num * P)
        if o.regularise == "penalty":
            loss = loss + o.penalty_weight * self._penalty(real_logits, real, num)
        right = ((real_logits[0] > 0).sum() + (fake_logits[0] < 0).sum()) / 2
        means = [one[0].sum() for one in (real_logits, fake_logits)]
        means += [one[1].sum() / P for one in (real_logits, fake_logits)]
        sums = (right, *means)
        total, *metrics = all_sum([float(x.detach()) for x in (loss, *sums)], current())
        accuracy, reference, generated, real_patch, fake_patch = (x / num for x in metrics)
        rests = accuracy > o.max_accuracy
        if not rests:
            loss.backward()
            self.step()
        return {
            "loss": total,
            "accuracy": accuracy,
            "reference": reference,
            "generated": generated,
            "gap": reference - generated,
            "patch_gap": real_patch - fake_patch,
            "skipped": float(rests),
        }

    def _penalty(self, logits: Pair, inputs: Pair, num: float) -> Tensor:
        """Mean squared gradient of CLS logits, plus that of patch logits where they are learnt."""
        from vlrl.image.adversarial_losses import gradient_penalty

        penalty = gradient_penalty(logits[0], inputs[0]) / num
        if not self.options.patch_loss:
            return penalty
        num_patches = num * logits[1].shape[1]
        return penalty + gradient_penalty(logits[1], inputs[1]) / num_patches

    def _stacked(self, pairs: Sequence[Pair]) -> Pair:
        """cls [N, D], patches [N, P, D], float32."""
        import torch

        if not pairs:
            return self._nothing
        cls, patches = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        return cls.float(), patches.float()

    def _drawn(self, rollouts: Sequence[Rollout]) -> Pair:
        """Features of one reference of each rollout's caption, float32."""
        if not rollouts:
            return self._nothing
        cls, patches = self._references.of(self.draw(rollouts))
        return cls.to(self.device).float(), patches.to(self.device).float()

    def _mixed(self, made: Pair) -> Pair:
        """The rollouts' features, some of them replaced by earlier ones."""
        import torch

        num = int(len(made[0]) * self.options.replay_share) if self._replay else 0
        if not num:
            return made
        cls, patches = made[0].clone(), made[1].clone()
        places = torch.randperm(len(cls), generator=self._random)[:num].tolist()
        for place, old in zip(places, self.integers(len(self._replay), num), strict=True):
            cls[place] = self._replay[old][0].to(cls)
            patches[place] = self._replay[old][1].to(patches)
        return cls, patches

    def _some_patches(self, pair: Pair) -> Pair:
        import torch

        cls, patches = pair
        N, P, D = patches.shape
        num = self.options.num_patches
        if not N or not num or num >= P:
            return cls, patches
        if self.options.published:
            picks = torch.randint(P, (N, num), generator=self._random)
        else:
            rows = [torch.randperm(P, generator=self._random)[:num] for _ in range(N)]
            picks = torch.stack(rows)
        index = picks.to(patches.device)[..., None].expand(N, num, D)
        return cls, patches.gather(1, index)

    def close_round(self, seen: Sequence[Pair]) -> Mapping[str, float]:
        """Add the round to the replay buffer; once it is full, a random entry is replaced."""
        size = self.options.replay_size
        for cls, patches in seen if size else ():
            entry = (cls.cpu().clone(), patches.cpu().clone())
            if len(self._replay) < size:
                self._replay.append(entry)
            else:
                self._replay[self.integers(size, 1)[0]] = entry
        return {"replayed": float(len(self._replay))}

    def state_dict(self) -> Mapping[str, Any]:
        """Adds the replay of this rank."""
        state = super().state_dict()
        if not self._loaded:
            return state
        return {
            **state,
            "replay_cls": [cls for cls, _ in self._replay],
            "replay_patches": [patches for _, patches in self._replay],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the replay of this rank too."""
        super().load_state_dict(state)
        if self.learner_key in state:
            self._replay = list(zip(state["replay_cls"], state["replay_patches"], strict=True))

    def resharded(
        self, states: Sequence[Mapping[str, Any]], rank: int, num_ranks: int
    ) -> Mapping[str, Any]:
        """Deals out the replays of all ranks; each keeps as many as before at most."""
        own = super().resharded(states, rank, num_ranks)
        if self.learner_key not in own:
            return own
        size = self.options.replay_size
        dealt = {
            name: evenly([one for state in states for one in state[name]][rank::num_ranks], size)
            for name in ("replay_cls", "replay_patches")
        }
        return {**own, **(dealt if size else {})}
