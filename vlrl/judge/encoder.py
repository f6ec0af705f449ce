"""From a question and its images to the inputs of a vision-language model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from qwen_vl_utils.vision_process import smart_resize
from torch import Tensor

from vlrl.errors import RewardError
from vlrl.families.resize import why_unfit
from vlrl.judge.interfaces import Processor, RopeIndex
from vlrl.judge.packing import EncodedAsk
from vlrl.judge.question import Ask


class AskEncoder:
    """Chat template, image patches and M-RoPE positions of one checkpoint."""

    def __init__(
        self,
        processor: Processor,
        rope_index: RopeIndex,
        min_pixels: int,
        max_pixels: int,
        context_tokens: int | None = None,
    ) -> None:
        """context_tokens: longest question that the model can read; None = not checked."""
        self.context_tokens = context_tokens
        self.processor, self.rope_index = processor, rope_index
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        images = processor.image_processor
        self.merge = int(images.merge_size)
        self.cell_px = int(images.patch_size) * self.merge
        self.image_token: str = processor.image_token
        self.image_id = int(processor.tokenizer.convert_tokens_to_ids(self.image_token))

    def patches(self, images: Sequence[Image.Image]) -> list[tuple[Tensor, Tensor]]:
        """Patches [N, D] and grid [1, 3] of each image, resized by the family's rule."""
        if not images:
            return []
        made = self.processor.image_processor(
            images=[self._resized(image) for image in images],
            do_resize=False,
            return_tensors="pt",
        )
        grids = made["image_grid_thw"]
        pixels = made["pixel_values"].split(grids.prod(-1).tolist())
        return list(zip(pixels, grids.split(1), strict=True))

    def _resized(self, image: Image.Image) -> Image.Image:
        why = why_unfit(image.height, image.width)
        if why is not None:
            raise RewardError(f"an image cannot be judged: {why}")
        height, width = smart_resize(
            image.height,
            image.width,
            factor=self.cell_px,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
        )
        if (width, height) == image.size:
            return image
        return image.resize((width, height), Image.Resampling.BICUBIC)

    def encode(self, ask: Ask, grids: Sequence[Tensor]) -> EncodedAsk:
        """Tokens and positions of a question up to where the judge answers.

        grids: [1, 3] of each image of the book.
        """
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
            for part in ask.parts
        ]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        shown = [part for part in ask.parts if isinstance(part, int)]
        pieces = text.split(self.image_token)
        if len(pieces) != len(shown) + 1:
            raise RewardError(
                f"the judge's chat template shows {len(pieces) - 1} images for {len(shown)}"
            )
        counts = [int(grids[i].prod()) // self.merge**2 for i in shown]
        whole = pieces[0] + "".join(
            self.image_token * count + piece
            for count, piece in zip(counts, pieces[1:], strict=True)
        )
        ids = torch.tensor(self.processor.tokenizer.encode(whole, add_special_tokens=False))
        if self.context_tokens is not None and len(ids) > self.context_tokens:
            raise RewardError(
                f"judge, {ask.where}: it has {len(ids)} tokens and the judge reads at most "
                f"{self.context_tokens}; shorten its texts, or lower max_pixels"
            )
        is_image = ids == self.image_id
        grid = torch.cat([grids[i] for i in shown]) if shown else None
        positions, _ = self.rope_index(ids[None], is_image[None].int(), image_grid_thw=grid)
        columns = is_image.nonzero()[:, 0].tolist()
        images, place = [], 0
        for image, count in zip(shown, counts, strict=True):
            images.append((image, columns[place], columns[place + count - 1] + 1))
            place += count
        return EncodedAsk(ids, positions[:, 0], tuple(images), ask.about)
