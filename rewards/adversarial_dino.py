"""A reward that learns what references look like: a head on frozen DINO features.

rollouts ──> backbone (frozen) ──> features ─┬─> head ─> logits ─> reward, for the policy's step
references ─> backbone ─> kept features ─────┴─> head ─> loss ─> the head's own step, after it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from vlrl.errors import RewardError
from vlrl.reward.pictures import ModelOptions, PictureReward, picture_of
from vlrl.types import Rollout, Score

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple["Tensor", "Tensor"]
MAX_REMEMBERED = 4096
"""Rollouts whose features are kept from scoring to learning."""


class AdversarialDinoOptions(ModelOptions):
    """Backbone, head, its training, and when the policy may learn from it."""

    model: str = "facebook/dinov2-base"
    """timm: `vit_base_patch14_dinov2.lvd142m`, say, or `local-dir:<folder>`."""
    library: Literal["transformers", "timm"] = "transformers"
    size_px: PositiveInt | None = None
    """Side that pictures are resized to, a multiple of the patch; the checkpoint's if not set."""
    width: PositiveInt = 512
    """Hidden units of a head."""
    shared_head: bool = False
    """One head for CLS and patches, as published."""
    loss: Literal["hinge", "logistic"] = "hinge"
    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    picture_weight: float = 0.7
    """Of the CLS logit in the reward."""
    patch_weight: float = 0.3
    """Of the mean patch logit in the reward; all patches count there."""
    patch_loss: NonNegativeFloat = 0.3
    """Weight of the patches in the head's loss."""
    num_patches: NonNegativeInt = 64
    """Random patches a picture in the head's loss; 0 = all."""
    num_updates: PositiveInt = 1
    """Steps of the head on each batch of rollouts; patches and references are drawn anew."""
    policy_every: PositiveInt = 1
    """The policy learns from every n-th batch of rollouts; published: 10, the others discarded."""
    warmup_rounds: NonNegativeInt = 0
    """First batches of rollouts that only the head learns from."""
    regularise: Literal["none", "spectral", "penalty"] = "none"
    """spectral: spectral norm of the head's layers; penalty: of its gradient at references."""
    penalty_weight: NonNegativeFloat = 1.0
    max_accuracy: float = Field(1.0, gt=0.5, le=1)
    """The head rests while it tells more than this share apart."""
    replay_size: NonNegativeInt = 0
    """Generated pictures of earlier batches that are kept, as features."""
    replay_share: float = Field(0.5, ge=0, le=1)
    """Share of the generated pictures in a step of the head that come from there, once there."""
    bound: float = Field(10.0, gt=0)
    """The reward is bound * tanh(logit / bound), so that no picture's reward runs away."""
    cache: str | None = None
    """Folder for features of references, kept between runs."""
    seed: NonNegativeInt = 0


class AdversarialDino(PictureReward):
    """How much a picture looks like a reference, to a head that learns along with the policy.

    Does not apply to samples without references. Differs from the released code: one feature path
    for training and reward, all patches in the reward, one head on all ranks, no rollout thrown
    away unless `policy_every` says so, and the bound.
    """

    Options = AdversarialDinoOptions
    options: AdversarialDinoOptions
    needs = frozenset({"image", "references"})
    formula = "bound tanh((0.7 h(cls) + 0.3 mean_p h(patch_p)) / bound)"
    units = "logits"
    source = "Adv-GRPO (arXiv 2511.20256), section 3; heads on DINOv2"

    def __init__(self, options: AdversarialDinoOptions) -> None:
        super().__init__(options)
        self.range = (-options.bound, options.bound)
        self.round = 0
        self._remembered: dict[int, tuple[Rollout, Pair]] = {}
        self._replay: list[Pair] = []

    @property
    def policy_learns(self) -> bool:
        """Whether this round's rollouts are scored for the policy."""
        done = self.round - self.options.warmup_rounds
        return done >= 0 and (done + 1) % self.options.policy_every == 0

    def load(self) -> None:
        """Backbone, heads and their optimizer; alike on all ranks."""
        import torch

        from vlrl.scoring.backbone import Backbone
        from vlrl.scoring.discriminator import Discriminator
        from vlrl.scoring.features import ReferenceFeatures
        from vlrl.scoring.ranks import rank, start_alike

        o = self.options
        self.backbone = Backbone(o.model, o.library, o.device, o.size_px, o.batch_size)
        self._references = ReferenceFeatures(self.backbone, o.cache)
        probe, _ = self.backbone.features([np.zeros((8, 8, 3), dtype=np.uint8)])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(o.seed)
            self.head = Discriminator(
                probe.shape[1],
                o.width,
                shared=o.shared_head,
                spectral=o.regularise == "spectral",
            ).to(self.backbone.device)
        start_alike(self.head.state_dict().values())
        self.head.eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.head.parameters(), lr=o.lr, betas=o.betas)
        self._random = torch.Generator().manual_seed(o.seed * 1000 + rank())

    def applies(self, rollout: Rollout) -> bool:
        """Where there is a reference, in rounds that the policy learns from."""
        return self.policy_learns and bool(rollout.sample.target.references)

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | Score | None]:
        """The bounded logits, with the raw ones of picture and patches as parts."""
        import torch

        o = self.options
        cls, patches = self._features(images, rollouts)
        with torch.no_grad():
            picture, patch = self.head(cls, patches)
            patch = patch.mean(1)
            logit = o.picture_weight * picture + o.patch_weight * patch
            value = o.bound * torch.tanh(logit / o.bound)
        columns = zip(value.tolist(), picture.tolist(), patch.tolist(), strict=True)
        return [Score(v, {"picture": a, "patches": b}) for v, a, b in columns]

    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """Teach the head on these rollouts and references of the same captions; all ranks call."""
        if not self._loaded:
            self.load()
            self._loaded = True
        mine = [
            rollout
            for rollout in rollouts
            if rollout.parsed is not None and rollout.sample.target.references
        ]
        made = self._features([picture_of(r) for r in mine], mine) if mine else None
        found: dict[str, list[float]] = {}
        self.head.train().requires_grad_(True)
        for _ in range(self.options.num_updates):
            for name, value in self._learn(mine, made).items():
                found.setdefault(name, []).append(value)
        self.head.eval().requires_grad_(False)
        self._keep(made)
        self._remembered.clear()
        self.round += 1
        means = {name: sum(values) / len(values) for name, values in found.items()}
        return {**means, "replayed": float(len(self._replay))}

    def _learn(self, rollouts: Sequence[Rollout], made: Pair | None) -> dict[str, float]:
        """One step of the head; every rank takes the same one."""
        import torch

        from vlrl.algo.adversarial import LOSSES, gradient_penalty
        from vlrl.scoring.ranks import sum_gradients, summed

        o = self.options
        device = self.backbone.device
        (num,) = summed([len(rollouts)], device)
        if not num:
            return {"skipped": 1.0}
        self.optimizer.zero_grad(set_to_none=True)
        here = [0.0] * 5
        loss: Any = torch.zeros(())
        if made is not None:
            real = self._some_patches(self._draw(rollouts))
            fake = self._some_patches(self._mixed(made))
            if o.regularise == "penalty":
                real[0].requires_grad_(True)
            seen, sham = self.head(*real), self.head(*fake)
            joint = LOSSES[o.loss]
            num_patches = num * seen[1].shape[1]
            loss = joint(seen[0], sham[0], num, num)
            loss = loss + o.patch_loss * joint(seen[1], sham[1], num_patches, num_patches)
            right = (seen[0] > 0).sum() + (sham[0] < 0).sum()
            tensors = (right / 2, seen[0], sham[0], seen[1], sham[1])
            here = [float(x.detach().sum()) for x in tensors]
            here[3], here[4] = here[3] / seen[1].shape[1], here[4] / seen[1].shape[1]
            if o.regularise == "penalty":
                loss = loss + o.penalty_weight * gradient_penalty(seen[0], real[0]) / num
        total, *sums = summed([float(loss.detach()), *here], device)
        accuracy, true, false, true_patch, false_patch = (value / num for value in sums)
        rests = accuracy > o.max_accuracy
        if not rests:
            if made is not None:
                loss.backward()
            sum_gradients(self.head.parameters())
            self.optimizer.step()
        return {
            "loss": total,
            "accuracy": accuracy,
            "reference": true,
            "generated": false,
            "gap": true - false,
            "patch_gap": true_patch - false_patch,
            "skipped": float(rests),
        }

    def _features(self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]) -> Pair:
        """cls [N, D], patches [N, P, D]; what was seen in this round is not computed again."""
        import torch

        new = [i for i, r in enumerate(rollouts) if id(r) not in self._remembered]
        found: dict[int, Pair] = {}
        if new:
            cls, patches = self.backbone.features([images[i] for i in new])
            for row, i in enumerate(new):
                found[i] = (cls[row], patches[row])
                if len(self._remembered) < MAX_REMEMBERED:
                    # With the rollout, so that no other one can come to have its id.
                    self._remembered[id(rollouts[i])] = (rollouts[i], found[i])
        pairs = [
            found[i] if i in found else self._remembered[id(r)][1] for i, r in enumerate(rollouts)
        ]
        return torch.stack([c for c, _ in pairs]), torch.stack([p for _, p in pairs])

    def _draw(self, rollouts: Sequence[Rollout]) -> Pair:
        """One reference of each rollout's caption, drawn at random."""
        paths = []
        for rollout in rollouts:
            choices = rollout.sample.target.references
            paths.append(choices[self._integers(len(choices), 1)[0]])
        cls, patches = self._references.of(paths)
        return cls.to(self.backbone.device), patches.to(self.backbone.device)

    def _mixed(self, made: Pair) -> Pair:
        """The rollouts' features, some of them replaced by earlier ones."""
        import torch

        num = int(len(made[0]) * self.options.replay_share) if self._replay else 0
        if not num:
            return made
        cls, patches = made[0].clone(), made[1].clone()
        places = torch.randperm(len(cls), generator=self._random)[:num].tolist()
        for place, old in zip(places, self._integers(len(self._replay), num), strict=True):
            cls[place] = self._replay[old][0].to(cls)
            patches[place] = self._replay[old][1].to(patches)
        return cls, patches

    def _some_patches(self, pair: Pair) -> Pair:
        import torch

        cls, patches = pair
        N, P, D = patches.shape
        num = self.options.num_patches
        if not num or num >= P:
            return cls, patches
        picks = torch.stack([torch.randperm(P, generator=self._random)[:num] for _ in range(N)])
        index = picks.to(patches.device)[..., None].expand(N, num, D)
        return cls, patches.gather(1, index)

    def _keep(self, made: Pair | None) -> None:
        """Take the round into the replay buffer; beyond its size a random entry makes room."""
        size = self.options.replay_size
        if made is None or not size:
            return
        for cls, patches in zip(*made, strict=True):
            entry = (cls.cpu().clone(), patches.cpu().clone())
            if len(self._replay) < size:
                self._replay.append(entry)
            else:
                self._replay[self._integers(size, 1)[0]] = entry

    def _integers(self, below: int, num: int) -> list[int]:
        import torch

        return torch.randint(below, (num,), generator=self._random).tolist()

    def state_dict(self) -> Mapping[str, Any]:
        """Head, optimizer, round, random state and replay of this rank."""
        if not self._loaded:
            return {"round": self.round}
        return {
            "round": self.round,
            "head": {name: t.cpu() for name, t in self.head.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "random": self._random.get_state(),
            "replay_cls": [cls for cls, _ in self._replay],
            "replay_patches": [patches for _, patches in self._replay],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same rank; RewardError where the head is another one."""
        self.round = state["round"]
        if "head" not in state:
            return
        if not self._loaded:
            self.load()
            self._loaded = True
        try:
            self.head.load_state_dict(state["head"])
        except RuntimeError as error:
            raise RewardError(
                f"reward {self.name!r}: the saved head does not fit: {error}"
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        self._random.set_state(state["random"])
        self._replay = list(zip(state["replay_cls"], state["replay_patches"], strict=True))
