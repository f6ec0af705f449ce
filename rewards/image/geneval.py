"""GenEval as a reward: the right objects, in the right number, colour and position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from vlrl.errors import DataError, RewardError, did_you_mean
from vlrl.image.clip_options import ClipOptions
from vlrl.image.geneval import (
    Objects,
    Scene,
    Verdict,
    judge,
    keep,
    scene_of,
    to_be_coloured,
    with_colours,
)
from vlrl.reward.image_reward import ImageReward
from vlrl.types import Rollout, Score

if TYPE_CHECKING:
    from vlrl.image.networks.colours import ColourNamer
    from vlrl.image.networks.detector import Detected, Detector

Fraction = Annotated[float, Field(ge=0, le=1)]

GENEVAL_NAMES = {
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "hair dryer": "hair drier",
}
"""Names that detectors have for COCO's classes -> GenEval's."""


class GenevalOptions(ClipOptions):
    """The detector, GenEval's thresholds, and which of the three metrics is the reward."""

    detector: str = "facebook/detr-resnet-50"
    value: Literal["score", "accuracy", "strict"] = "score"
    """score: mean partial credit. accuracy: GenEval's own verdict. strict: exact numbers."""
    published: bool = False
    """The partial credit of Flow-GRPO's server, faults included; then the range is [-14, 1]."""
    threshold: Fraction = 0.3
    counting_threshold: Fraction = 0.9
    """For the task `counting`."""
    max_objects: PositiveInt = 16
    """Most objects of a class."""
    max_overlap: Fraction = 1.0
    """IoU from which the less confident of two objects of a class is dropped; 1 drops none."""
    position_threshold: Annotated[float, Field(ge=0)] = 0.1


class Geneval(ImageReward):
    """Mean of the credits for count, colour and position; does not apply without a scene.

    What differs from GenEval: there the detector is Mask2Former (Swin-S) and objects are cut
    out by their masks before CLIP names the colour; here any transformers detector gives boxes,
    and the background in the box stays. So compare its values only with its own. How the
    partial credit differs from Flow-GRPO's: `published`, and vlrl.image.geneval.judge.
    """

    Options = GenevalOptions
    options: GenevalOptions
    needs = frozenset({"image", "scene"})
    range = (0.0, 1.0)
    formula = "mean of max(0, 1 - |asked - found| / asked), share of right colours, position 0 / 1"
    source = "GenEval (arXiv 2310.11513), partial credit as in Flow-GRPO (arXiv 2505.05470)"

    def __init__(self, options: GenevalOptions) -> None:
        super().__init__(options)
        # One object asked for and as many found as are looked at: 1 - (16 - 1) / 1.
        lowest = float(min(0, 2 - options.max_objects))
        self.range = (lowest if options.published and options.value == "score" else 0.0, 1.0)

    def load(self) -> None:
        """The detector and the CLIP that names colours."""
        from vlrl.image.networks.clip import load_clip
        from vlrl.image.networks.colours import ColourNamer
        from vlrl.image.networks.detector import Detector

        options = self.options
        self.detector: Detector = Detector(options.detector, options.device, options.batch_size)
        self.colours: ColourNamer = ColourNamer(load_clip(options), options.batch_size)
        self.known = frozenset(geneval_name(label) for label in self.detector.labels.values())

    def applies(self, rollout: Rollout) -> bool:
        """Where a scene is described."""
        return rollout.sample.target.scene is not None

    def macro_group(self, rollout: Rollout) -> str | None:
        """The task that counts once in GenEval's Overall; None where `value` is not a verdict."""
        scene = rollout.sample.target.scene
        if scene is None or self.options.value != "accuracy":
            return None
        return str(scene["tag"])

    def values(self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]) -> Sequence[Score]:
        """One score per image, with the two verdicts as parts."""
        scenes = [self._scene(rollout) for rollout in rollouts]
        least = min(self.options.threshold, self.options.counting_threshold)
        detected = self.detector.detect(images, least)
        objects = [self._keep(*pair) for pair in zip(scenes, detected, strict=True)]
        objects = self._colour(images, scenes, objects)
        verdicts = [
            judge(
                scene,
                one,
                published=self.options.published,
                position_threshold=self.options.position_threshold,
            )
            for scene, one in zip(scenes, objects, strict=True)
        ]
        return [self._as_score(verdict) for verdict in verdicts]

    def _as_score(self, verdict: Verdict) -> Score:
        metrics = {
            "score": verdict.score,
            "accuracy": float(verdict.correct),
            "strict": float(verdict.strict),
        }
        value = metrics.pop(self.options.value)
        return Score(value, metrics)

    def _scene(self, rollout: Rollout) -> Scene:
        """The sample's scene; raises RewardError if it cannot be judged by this detector."""
        where = f"sample {rollout.sample.id!r}, scene"
        try:
            scene = scene_of(rollout.sample.target.scene, where)
        except DataError as error:
            raise RewardError(f"reward {self.name!r}: {error}") from error
        for clause in (*scene.include, *scene.exclude):
            if clause.name not in self.known:
                # It could never be found: a reward of 0 for ever.
                raise RewardError(
                    f"reward {self.name!r}: {where}: the detector {self.detector.name!r} knows no "
                    f"{clause.name!r}; {did_you_mean(clause.name, self.known)}"
                )
        return scene

    def _keep(self, scene: Scene, detected: Detected) -> Objects:
        counting = scene.tag == "counting"
        return keep(
            detected.boxes,
            [geneval_name(label) for label in detected.labels],
            detected.scores,
            threshold=self.options.counting_threshold if counting else self.options.threshold,
            max_objects=self.options.max_objects,
            max_overlap=self.options.max_overlap,
        )

    def _colour(
        self, images: Sequence[np.ndarray], scenes: Sequence[Scene], objects: Sequence[Objects]
    ) -> list[Objects]:
        """The objects with the colours that matter, all images in one go."""
        from vlrl.image.networks.colours import crop

        asked = [
            (row, name, place)
            for row, (scene, one) in enumerate(zip(scenes, objects, strict=True))
            for name, place in to_be_coloured(scene, one)
        ]
        colours = self.colours.name(
            [crop(images[row], objects[row][name][place].box) for row, name, place in asked],
            [name for _, name, _ in asked],
        )
        found: list[dict[tuple[str, int], str]] = [{} for _ in images]
        for (row, name, place), colour in zip(asked, colours, strict=True):
            found[row][name, place] = colour
        return [with_colours(*pair) for pair in zip(objects, found, strict=True)]


def geneval_name(label: str, names: Mapping[str, str] = GENEVAL_NAMES) -> str:
    """GenEval's name of a detector's class."""
    return names.get(label.lower(), label.lower())
