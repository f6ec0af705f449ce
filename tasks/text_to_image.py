"""Text to image: a caption in, an image out."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from vlrl.config.section import MAX_SIDE_PX
from vlrl.data.collect import OneOrMore, Rows, Splits
from vlrl.errors import ConfigError, DataError
from vlrl.image.data.caption_options import CaptionTaskOptions
from vlrl.image.data.captions import CaptionRow, CaptionSource, read_captions
from vlrl.image.nothing_like import nothing_like
from vlrl.image.statistics import brightness, contrast, saturation
from vlrl.media.images import image_array, side_by_side
from vlrl.protocols import Drawing, KnownAnswers, Task
from vlrl.types import Message, Rollout, Sample, SizeSeen, TextPart

log = logging.getLogger(__name__)

MAX_SHOWN_REFERENCES = 2


@dataclass(frozen=True)
class ImageTarget:
    """What the image should show."""

    caption: str
    references: tuple[str, ...] = ()
    """Paths of images of the same caption."""
    written: str | None = None
    """The text that should appear in the image."""
    scene: Mapping[str, Any] | None = None
    """GenEval's description: `tag`, `include` and `exclude`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What reports group by, e.g. {"concept": "apple"}."""


@dataclass(frozen=True)
class ImageAnswer:
    """A generated image."""

    image: np.ndarray
    """uint8 [H, W, 3], sRGB."""


class TextToImage(Task):
    """Prompts, and simple metrics of the images that answer them.

    Example: TextToImage(TextToImage.Options(data={"train": {"path": "train.jsonl"}},
    width_px=64, height_px=64)).
    """

    class Options(CaptionTaskOptions):
        """The `task:` part of a config; `data` maps split names to sources."""

        data: dict[str, OneOrMore[CaptionSource]]
        width_px: int = Field(ge=1, le=MAX_SIDE_PX)
        """Width of the generated images; the policy's must be the same."""
        height_px: int = Field(ge=1, le=MAX_SIDE_PX)
        quoted_text: bool = False
        """What should be written is the first text in double quotes in the caption."""

    options: Options
    name = "text_to_image"
    names_splits = True
    metric_charts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Sampled images (mean)": ("brightness", "contrast", "saturation"),
    }
    drawing = Drawing("images")
    provides: ClassVar[Mapping[str, str]] = {
        "image": "parsed.image, uint8 array [H, W, 3], sRGB",
        "caption": "target.caption, str: what the image should show",
        "references": "target.references, paths of images of the same caption, possibly none",
        "written": "target.written, str or None: the text that should appear in the image",
        "scene": "target.scene, the objects that should be in the image, or None",
    }

    def __init__(self, options: TextToImage.Options) -> None:
        self.options = options
        self._splits = Splits(options.data, self._read, self.sample)
        self.skipped = self._splits.skipped

    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split, in file order; raises ConfigError, DataError."""
        return self._splits.samples(split)

    def _read(self, source: CaptionSource) -> Rows[CaptionRow]:
        options = self.options
        rows = read_captions(
            source,
            labels=options.labels,
            quoted_text=options.quoted_text,
            on_bad_row=options.on_bad_row,
        )
        for label in options.labels:
            if not any(label in row.labels for row in rows.good):
                log.warning("%s: no row has the field %r of task.labels", source.path, label)
        return rows

    def sample(self, row: CaptionRow) -> Sample:
        """One checked row as a problem."""
        prompt = self.options.prompt(row.caption)
        return Sample(
            id=row.id,
            task=self.name,
            prompt=(Message("user", (TextPart(prompt),)),),
            target=ImageTarget(row.caption, row.references, row.written, row.scene, row.labels),
            columns={
                **row.fields,
                "caption": row.caption,
                "references": list(row.references),
                "written": row.written,
                "scene": row.scene,
            },
        )

    def parse(self, sample: Sample, output: object) -> ImageAnswer | None:
        """The image, if the output is a uint8 array [H, W, 3]; None for anything else."""
        if not isinstance(output, np.ndarray) or output.dtype != np.uint8:
            return None
        if output.ndim != 3 or output.shape[2] != 3 or not output.size:
            return None
        return ImageAnswer(output)

    def metrics(self, rollouts: Sequence[Rollout]) -> Mapping[str, Sequence[float]]:
        """brightness, contrast and saturation of every image; nan where there is none."""
        functions = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        return {
            name: [
                math.nan if rollout.parsed is None else function(rollout.parsed.image)
                for rollout in rollouts
            ]
            for name, function in functions.items()
        }

    def known_answers(self, sample: Sample) -> KnownAnswers | None:
        """A reference, and images made of it that show nothing; None without references."""
        if not sample.target.references:
            return None
        right = _open(sample.target.references[0], sample)
        return KnownAnswers(right, nothing_like(right))

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """The fields named by `labels`, where the sample's row has them."""
        return dict(sample.target.labels)

    def check_policy(self, size_seen: SizeSeen, split: str) -> None:
        """Compare the policy's image size with this task's; ConfigError if they differ.

        size_seen: the size of the image that a policy makes for a sample, width and height in
        pixels.
        """
        sample = self.samples(split)[0]
        mine = (self.options.width_px, self.options.height_px)
        theirs = size_seen(sample) or (0, 0)
        if mine != theirs:
            raise ConfigError(
                f"sample {sample.id!r}: the policy makes images of {theirs[0]} x {theirs[1]} px, "
                f"task.width_px and task.height_px say {mine[0]} x {mine[1]}; make them equal"
            )

    def answer_image(self, rollout: Rollout) -> np.ndarray | None:
        """The generated image."""
        return None if rollout.parsed is None else rollout.parsed.image

    def draw(self, sample: Sample, rollouts: Sequence[Rollout]) -> Image.Image | None:
        """References (two at most) and the generated images in a row; None without any."""
        images = [_open(path, sample) for path in sample.target.references[:MAX_SHOWN_REFERENCES]]
        images += [rollout.parsed.image for rollout in rollouts if rollout.parsed is not None]
        return Image.fromarray(side_by_side(images)) if images else None


def _open(path: str, sample: Sample) -> np.ndarray:
    """A reference image, uint8 [H, W, 3]; raises DataError."""
    try:
        return image_array(path)
    except DataError as error:
        raise DataError(
            f"sample {sample.id!r}: reference {path} cannot be opened: {error}"
        ) from error
