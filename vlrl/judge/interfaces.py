"""What judges use of a checkpoint's tokenizer and processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

RopeIndex = Callable[..., tuple[Tensor, Tensor]]
"""A model's `get_rope_index`: token ids, token types and grids to M-RoPE positions."""


class Tokenizer(Protocol):
    """A transformers tokenizer."""

    eos_token_id: int
    pad_token_id: int

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The text's tokens."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The tokens' text."""

    def convert_tokens_to_ids(self, tokens: str) -> int:
        """The id of a token."""


class ImageProcessor(Protocol):
    """A transformers image processor of the Qwen2-VL kind."""

    merge_size: int
    patch_size: int
    size: Any
    """shortest_edge, longest_edge: least and largest area in pixels."""

    def __call__(self, *, images: Sequence[object], **options: object) -> Any:
        """pixel_values and image_grid_thw."""


class Processor(Protocol):
    """A transformers processor of text and images."""

    tokenizer: Tokenizer
    image_processor: ImageProcessor
    image_token: str

    def apply_chat_template(
        self, conversation: Sequence[object], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """The conversation as text."""

    def save_pretrained(self, folder: Path) -> object:
        """Write the files that `from_pretrained` reads."""
