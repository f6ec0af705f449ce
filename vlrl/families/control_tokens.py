"""The tokens of a checkpoint that open turns and stand for images: no text may become one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from vlrl.families.interfaces import VisionProcessor

_ID = re.compile(r"_(?:token|patch)_(?:id|index)$")
_NAME = re.compile(r"_(?:token|tag)$")
_OF_ANSWERS = re.compile(
    r"</?(?:think|thinking|answer|ref|box|quad|point)>|◁/?think▷"
    r"|<\|(?:begin|end)_of_box\|>|<\|(?:object_ref|box|quad)_(?:start|end)\|>"
)
"""Marks of some vocabularies that a prompt names to ask for an answer's form."""


def control_tokens(processor: VisionProcessor, config: PretrainedConfig) -> tuple[str, ...]:
    """Control tokens by their text, sorted: what the tokenizer, the processor or the config names,
    and the special tokens that the chat template writes.

    The other special tokens are left alone: prompts ask for boxes and thinking by some of them.
    """
    tokenizer = processor.tokenizer
    added = dict(tokenizer.added_tokens_decoder)
    named = [*tokenizer.special_tokens_map.values()]
    named += [value for name, value in vars(processor).items() if _NAME.search(name)]
    ids = [value for name, value in config.to_dict().items() if _ID.search(name)]
    named += [added[value].content for value in ids if isinstance(value, int) and value in added]
    template = str(processor.chat_template or "")
    special = [token.content for token in added.values() if token.special]
    named += [token for token in special if token in template]
    found = {str(token) for token in named if isinstance(token, str) and token.strip()}
    return tuple(sorted(token for token in found if not _OF_ANSWERS.fullmatch(token)))
