"""Rewards of images: what all of them share.

A subclass says what it is (`range`, `needs`, `Options`), loads its model in `load` on first use,
and gives numbers for a batch in `values`. Nothing heavy is imported before the first call, so a
config with ten reward models is still checked in a second.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, PositiveInt

from vlrl.config.section import Section
from vlrl.errors import RewardError
from vlrl.protocols import Reward
from vlrl.reward.tf32 import tf32_products
from vlrl.types import Rollout, Score


class ImageOptions(Section):
    """Options of every image reward."""

    batch_size: PositiveInt = 32
    """Images scored together."""


class ModelOptions(ImageOptions):
    """Options of every image reward with a model."""

    device: str = "auto"
    """auto = this rank's GPU where there is one."""


class ImageReward(Reward):
    """One number per image; an answer that is not an image scores the low end of the range."""

    Options: ClassVar[type[BaseModel]] = ImageOptions
    options: ImageOptions
    needs = frozenset({"image"})
    in_tf32: ClassVar[bool] = True
    """Whether its model's matrix products may be in TF32; not those of text models."""

    def __init__(self, options: ImageOptions) -> None:
        self.options = options
        self.name = type(self).__name__.lower()
        self._loaded = False

    def models(self) -> Mapping[str, int]:
        """The one in `model`, in float32, unless it stays on the CPU."""
        name = self.options.model_dump().get("model")
        on_cpu = isinstance(self.options, ModelOptions) and self.options.device == "cpu"
        return {} if on_cpu or not isinstance(name, str) else {name: 4}

    def load(self) -> None:
        """Load the model, once, before the first image; nothing to do for plain formulas."""

    def applies(self, rollout: Rollout) -> bool:
        """Whether the sample has what is scored; checked before the answer is."""
        return True

    @abstractmethod
    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | Score | None]:
        """Numbers for some images (uint8 [H, W, 3]) and their rollouts; None: does not apply.

        A Score adds parts, logged under this reward's name: `geneval_strict`.
        """

    def image_features(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> np.ndarray | None:
        """What the model sees in some images, [N, D]; None where there is no such thing."""
        return None

    def answer_features(self, rollouts: Sequence[Rollout]) -> np.ndarray | None:
        """`image_features` of all answers, float64 [N, D]; nan where an answer is no image."""
        rows = [i for i, rollout in enumerate(rollouts) if rollout.parsed is not None]
        # Asked of the class: nothing is loaded for a reward without features.
        if not rows or type(self).image_features is ImageReward.image_features:
            return None
        self._load_once()
        found: np.ndarray | None = None
        for start in range(0, len(rows), self.options.batch_size):
            part = rows[start : start + self.options.batch_size]
            chosen = [rollouts[i] for i in part]
            values = self.image_features([image_of(rollout) for rollout in chosen], chosen)
            assert values is not None
            if found is None:
                found = np.full((len(rollouts), values.shape[1]), np.nan)
            found[part] = values
        return found

    def _load_once(self) -> None:
        if not self._loaded:
            self.load()
            self._loaded = True

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; raises RewardError on a value outside the range."""
        if rollouts:
            self._load_once()
        found: list[float | Score | None] = [
            self.range[0] if self.applies(rollout) else None for rollout in rollouts
        ]
        rows = [
            i
            for i, rollout in enumerate(rollouts)
            if rollout.parsed is not None and found[i] is not None
        ]
        for start in range(0, len(rows), self.options.batch_size):
            part = rows[start : start + self.options.batch_size]
            chosen = [rollouts[i] for i in part]
            has_model = isinstance(self.options, ModelOptions)
            with tf32_products() if self.in_tf32 and has_model else nullcontext():
                values = self.values([image_of(rollout) for rollout in chosen], chosen)
            for i, value in zip(part, values, strict=True):
                found[i] = value
        return [self._score(*pair) for pair in zip(rollouts, found, strict=True)]

    def _score(self, rollout: Rollout, found: float | Score | None) -> Score:
        if found is None:
            return Score(None)
        given = found if isinstance(found, Score) else Score(float(found))
        value = given.value
        if value is None:
            return given
        parts = {f"{self.name}_{key}": number for key, number in given.parts.items()}
        return Score(value, {self.name: value, **parts})


def image_of(rollout: Rollout) -> np.ndarray:
    """The generated image; raises RewardError if it is not uint8 [H, W, 3]."""
    image = rollout.parsed.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise RewardError(
            f"the image of sample {rollout.sample.id!r} is {image.dtype} {list(image.shape)}; "
            "the task has to give uint8 [H, W, 3]"
        )
    return image
