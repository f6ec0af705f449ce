"""Whether a classifier sees in the image what should be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from vlrl.errors import RewardError, did_you_mean
from vlrl.reward.image_reward import ImageReward, ModelOptions
from vlrl.types import Rollout


class ImageClassOptions(ModelOptions):
    """The classifier, and where the wanted class comes from."""

    model: str = "microsoft/resnet-50"
    """Any image classification model of transformers."""
    class_name: str | None = None
    """One class for all images, by the model's own name for it."""
    class_from: str | None = None
    """Or the task's label of this name (task.labels): each image has its own class."""
    value: Literal["probability", "hit"] = "probability"
    """hit: 1 where the wanted class is the likeliest."""

    @model_validator(mode="after")
    def _one_source(self) -> ImageClassOptions:
        if self.class_name is not None and self.class_from is not None:
            raise ValueError("give `class_name` or `class_from`, not both")
        return self


class ImageClass(ImageReward):
    """Probability that a frozen classifier gives to the wanted class.

    Without `class_name` and `class_from` the caption itself names the class. Does not apply where
    class_from names a label that the sample does not have.
    """

    Options = ImageClassOptions
    options: ImageClassOptions
    needs = frozenset({"image", "caption"})
    range = (0.0, 1.0)
    formula = "softmax(logits)[wanted class]; hit: 1 if it is the argmax, else 0"
    units = "probability"
    source = "GenEval-like checks by a classifier; own"

    def load(self) -> None:
        """Classifier and its preprocessing."""
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        from vlrl.hub import load_pretrained, loading, local_path, pick_device

        name = self.options.model
        with loading("classifier", name):
            self.processor = AutoImageProcessor.from_pretrained(local_path(name))
            model: Any = load_pretrained(AutoModelForImageClassification, name)
        self.device = pick_device(self.options.device)
        self.model = model.to(self.device)
        known: Mapping[str, int] = self.model.config.label2id
        self.classes = {str(label): int(index) for label, index in known.items()}

    def applies(self, rollout: Rollout) -> bool:
        """Where the sample says which class it wants."""
        key = self.options.class_from
        return key is None or key in rollout.sample.target.labels

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """One probability, or 0 or 1, per image."""
        import torch

        wanted = [self._wanted(rollout) for rollout in rollouts]
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        with torch.no_grad():
            probabilities = self.model(**inputs).logits.float().softmax(-1).cpu()
        if self.options.value == "hit":
            return [float(row.argmax() == i) for row, i in zip(probabilities, wanted, strict=True)]
        return [float(row[i]) for row, i in zip(probabilities, wanted, strict=True)]

    def _wanted(self, rollout: Rollout) -> int:
        target = rollout.sample.target
        if self.options.class_name is not None:
            label = self.options.class_name
        elif self.options.class_from is not None:
            label = target.labels[self.options.class_from]
        else:
            label = target.caption
        if label not in self.classes:
            raise RewardError(
                f"reward {self.name!r}: {self.options.model!r} has no class {label!r} (sample "
                f"{rollout.sample.id!r}); {did_you_mean(label, self.classes)}"
            )
        return self.classes[label]
