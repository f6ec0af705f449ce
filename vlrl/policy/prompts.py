"""From a sample's messages to the tensors that a vision-language model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from qwen_vl_utils import process_vision_info
from torch import Tensor

from vlrl.errors import DataError
from vlrl.types import ImagePart, Message, Sample


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt, ready for the model, without padding."""

    input_ids: Tensor
    """[L]"""
    positions: Tensor
    """M-RoPE positions (time, height, width), [3, L]."""
    pixel_values: Tensor | None
    """Flattened patches of all its images, [N, D]."""
    grid_thw: Tensor | None
    """Patches along time, height and width of each image, [images, 3]."""
    features: Tensor | None = None
    """What a frozen vision tower made of the images, [1 + K, N, D]; the patches are then gone."""

    @property
    def num_tokens(self) -> int:
        """Length of the prompt, visual tokens included."""
        return self.input_ids.shape[0]

    @property
    def next_position(self) -> int:
        """M-RoPE position of the first answer token, on all three axes."""
        return int(self.positions.max()) + 1


class PromptEncoder:
    """Chat template, image resizing and M-RoPE positions of one checkpoint.

    Images go through qwen-vl-utils with the family's own patch size and the pixel bounds of the
    run, so that training sees what inference with the model's own recipe sees.
    """

    def __init__(self, processor: Any, rope_index: Any, min_pixels: int, max_pixels: int) -> None:
        self.processor = processor
        self.rope_index = rope_index
        self.min_pixels = min_pixels
        self.max_pixels = max_pixels

    def encode(self, sample: Sample) -> EncodedPrompt:
        """Tensors of one prompt; DataError with the sample's id where an image cannot be read."""
        try:
            messages = [self._as_chat(message) for message in sample.prompt]
            text = self.processor.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            images, _ = process_vision_info(
                messages, image_patch_size=self.processor.image_processor.patch_size
            )[:2]
        except (OSError, ValueError) as error:
            raise DataError(f"sample {sample.id!r}: cannot read its image: {error}") from error
        inputs = self.processor(text=[text], images=images, do_resize=False, return_tensors="pt")
        grid = inputs.get("image_grid_thw")
        positions, _ = self.rope_index(
            inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=grid
        )
        return EncodedPrompt(
            inputs["input_ids"][0], positions[:, 0], inputs.get("pixel_values"), grid
        )

    def _as_chat(self, message: Message) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, ImagePart):
                content.append(
                    {
                        "type": "image",
                        "image": part.path if part.crop is None else _window(part),
                        "min_pixels": self.min_pixels,
                        "max_pixels": self.max_pixels,
                    }
                )
            else:
                content.append({"type": "text", "text": part.text})
        return {"role": message.role, "content": content}


def _window(part: ImagePart) -> Image.Image:
    """The part's window of its file, enlarged."""
    with Image.open(part.path) as image:
        crop = image.convert("RGB").crop(part.crop)
    return crop.resize((part.width_px, part.height_px), Image.Resampling.BICUBIC)


def join_features(prompts: list[EncodedPrompt]) -> Tensor | None:
    """Kept features of several prompts, in order, [1 + K, N, D]; None where none are kept."""
    kept = [p.features for p in prompts if p.features is not None]
    return torch.cat(kept, 1) if kept else None


def join_images(prompts: list[EncodedPrompt]) -> tuple[Tensor | None, Tensor | None]:
    """Patches and grids of several prompts, in order; None, None where none has an image."""
    pixels = [p.pixel_values for p in prompts if p.pixel_values is not None]
    grids = [p.grid_thw for p in prompts if p.grid_thw is not None]
    if not pixels:
        return None, None
    return torch.cat(pixels), torch.cat(grids)
