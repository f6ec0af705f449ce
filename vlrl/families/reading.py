"""From a sample's messages to the tensors of one checkpoint's family."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image
from torch import Tensor

from vlrl.errors import DataError
from vlrl.families.encoded import EncodedPrompt, Media
from vlrl.families.family import Family, placeholders
from vlrl.families.interfaces import VisionLanguageModel, VisionProcessor
from vlrl.families.literal import literal
from vlrl.media.images import open_image
from vlrl.types import ImagePart, Message, Sample, TextPart, VideoPart

Part = ImagePart | VideoPart


@dataclass
class Reader:
    """The parts of one checkpoint that turn messages into tensors."""

    family: Family
    processor: VisionProcessor
    core: VisionLanguageModel
    """Only its config and its `get_rope_index` are used."""
    min_pixels: int
    max_pixels: int
    context_tokens: int | None = None
    """Longest prompt that the model can read; None = not checked."""
    control_tokens: tuple[str, ...] = ()
    """What no text of a prompt may become (control_tokens.py)."""

    opens: Callable[[ImagePart], Image.Image] = field(default=lambda part: pixels(part))
    """The pixels of an image of a prompt."""

    def copied(self) -> Reader:
        """The same with a processor of its own, for another thread."""
        return replace(self, processor=copy.deepcopy(self.processor))

    def encode(self, sample: Sample) -> EncodedPrompt:
        """Tensors of one prompt; DataError with the sample's id where an image is unreadable."""
        try:
            prompt = self.family.encode(self, sample.prompt)
        except (OSError, ValueError, DataError) as error:
            what = "video" if any(isinstance(p, VideoPart) for p in visual(sample.prompt)) else (
                "image" if visual(sample.prompt) else "prompt"
            )  # fmt: skip
            raise DataError(f"sample {sample.id!r}: cannot read its {what}: {error}") from error
        if self.context_tokens is not None and prompt.num_tokens > self.context_tokens:
            raise DataError(
                f"sample {sample.id!r}: its prompt has {prompt.num_tokens} tokens and the model "
                f"reads at most {self.context_tokens}; shorten its text, or lower max_pixels"
            )
        return prompt

    def text(self, part: TextPart) -> str:
        """Text of the data's that cannot become a control token."""
        return literal(part.text, self.control_tokens, marks=())

    def positions(self, inputs: Mapping[str, Tensor], **more: Tensor | None) -> Tensor:
        """M-RoPE positions of one prompt, [3, L], from what its processor made."""
        given = {**inputs, **more}
        call = self.core.model.get_rope_index
        names = inspect.signature(call).parameters
        return call(**{name: given[name] for name in names if name in given})[0][:, 0]

    def num_visual_tokens(self, input_ids: Tensor) -> int:
        """Tokens of a prompt whose embeddings images and videos replace."""
        image, video = placeholders(self.core.config)
        is_visual = input_ids == image
        if video is not None:
            is_visual = is_visual | (input_ids == video)
        return int(is_visual.sum())

    def blank(self) -> Media:
        """The smallest image, for a pass of a rank that has none."""
        return self.family.blank(self.core, self)


def visual(messages: Sequence[Message]) -> list[Part]:
    """The images and videos of some messages, in order."""
    return [p for m in messages for p in m.parts if isinstance(p, ImagePart | VideoPart)]


def pixels(part: ImagePart) -> Image.Image:
    """An image, or the part's window of it, enlarged."""
    if part.crop is None:
        return open_image(part.path)
    crop = open_image(part.path).crop(part.crop)
    return crop.resize((part.width_px, part.height_px), Image.Resampling.BICUBIC)


def as_chat(reader: Reader, messages: Sequence[Message], **shown: Any) -> list[dict[str, Any]]:
    """Messages as a chat template takes them; images and videos by their kind alone."""
    kinds = {ImagePart: "image", VideoPart: "video"}
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": reader.text(part)}
                if isinstance(part, TextPart)
                else {"type": kinds[type(part)], **shown}
                for part in message.parts
            ],
        }
        for message in messages
    ]
