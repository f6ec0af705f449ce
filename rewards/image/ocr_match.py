"""Whether the requested text can be read in the image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from vlrl.errors import MissingExtraError, RewardError
from vlrl.image.written import plain, written_score
from vlrl.reward.image_reward import ImageOptions, ImageReward
from vlrl.types import Rollout


class OcrOptions(ImageOptions):
    """How the image is read."""

    upscale: PositiveInt = 1
    """How many times to enlarge (bicubic) before reading, for small images."""
    recognise_only: bool = False
    """Skip line detection: read the middle band as one line. Ten times faster, for one word."""
    band: Annotated[float, Field(gt=0, le=1)] = 0.5
    """With recognise_only: height of that band over the image's; 1 = the whole image."""
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Lines that the reader is less sure of are left out; Flow-GRPO leaves out none above 0."""
    threads: PositiveInt = 1
    """CPU threads of the reader; it never uses a GPU."""


class OcrMatch(ImageReward):
    """1 - distance / length of the requested text; 1 where it occurs anywhere in the read text.

    White space and case do not count. At most the text's own length is lost, so a page of
    other words costs no more than an empty image. Does not apply without `target.written`.
    One image takes 0.1 to 0.5 s on one core, 0.015 s with recognise_only.
    """

    Options = OcrOptions
    options: OcrOptions
    needs = frozenset({"image", "written"})
    range = (0.0, 1.0)
    formula = "1 if target in read, else 1 - min(levenshtein(read, target), L) / L, L = |target|"
    source = "Flow-GRPO (arXiv 2505.05470); there PaddleOCR and the caption's first quoted text"

    def load(self) -> None:
        """RapidOCR (PP-OCRv4), whose weights are in its package; raises MissingExtraError."""
        try:
            from rapidocr_onnxruntime import RapidOCR
        except ImportError as error:
            raise MissingExtraError(
                f"reward {self.name!r} needs the package 'rapidocr_onnxruntime': "
                "uv pip install -e '.[ocr]'"
            ) from error
        # A number beyond the machine's would be read as "all".
        threads = min(self.options.threads, os.cpu_count() or 1)
        self.reader: Any = RapidOCR(
            intra_op_num_threads=threads, inter_op_num_threads=1, text_score=0.0
        )

    def applies(self, rollout: Rollout) -> bool:
        """Where a text is asked for; raises RewardError if it has no characters."""
        written = rollout.sample.target.written
        if written is not None and not plain(written):
            raise RewardError(
                f"reward {self.name!r}: the text of sample {rollout.sample.id!r} is {written!r}; "
                "correct the data, or leave the text out where none is asked for"
            )
        return written is not None

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """One match per image."""
        return [
            written_score(self.read(image), rollout.sample.target.written)
            for image, rollout in zip(images, rollouts, strict=True)
        ]

    def read(self, image: np.ndarray) -> str:
        """All text of an image, top to bottom and left to right, without separators."""
        if self.options.recognise_only:
            height = image.shape[0]
            half = max(1, round(height * self.options.band / 2))
            image = image[max(0, height // 2 - half) : height // 2 + half]
        # The reader was trained on blue, green, red.
        lines, _ = self.reader(
            np.ascontiguousarray(enlarged(image, self.options.upscale)[..., ::-1]),
            use_det=not self.options.recognise_only,
            use_cls=False,
        )
        return "".join(
            str(line[-2]) for line in lines or () if line[-1] >= self.options.min_confidence
        )


def enlarged(image: np.ndarray, times: int) -> np.ndarray:
    """uint8 [H, W, 3] -> [times H, times W, 3], bicubic."""
    if times == 1:
        return image
    height, width = image.shape[:2]
    larger = Image.fromarray(image).resize(
        (times * width, times * height), Image.Resampling.BICUBIC
    )
    return np.asarray(larger)
