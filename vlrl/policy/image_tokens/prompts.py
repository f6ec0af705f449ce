"""From a sample's text to the prompt tokens that precede an image."""

from __future__ import annotations

import torch

from vlrl.errors import DataError
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.interfaces import Processor
from vlrl.families.literal import literal
from vlrl.types import Sample, TextPart


class ImagePromptEncoder:
    """The checkpoint's chat template, followed by the token that begins an image."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def encode(self, sample: Sample) -> EncodedPrompt:
        """Tensors of one prompt; DataError with the sample's id where it holds an image."""
        special = [
            token.content
            for token in self.processor.tokenizer.added_tokens_decoder.values()
            if token.special
        ]
        messages = []
        for message in sample.prompt:
            content = []
            for part in message.parts:
                if not isinstance(part, TextPart):
                    raise DataError(
                        f"sample {sample.id!r}: the prompt holds an image; policy image_tokens "
                        "reads only text"
                    )
                content.append({"type": "text", "text": literal(part.text, special)})
            messages.append({"role": message.role, "content": content})
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        inputs = self.processor(text=[text], generation_mode="image", return_tensors="pt")
        ids = inputs["input_ids"][0]
        positions = torch.arange(len(ids)).expand(3, -1)
        return EncodedPrompt(ids, positions)
