"""Tokens that no answer may hold, and tokens that end one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlrl.families.adapters import base_model
from vlrl.families.family import placeholders
from vlrl.families.interfaces import Tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def never_sampled(
    model: PreTrainedModel | PeftModel, tokenizer: Tokenizer, tokens: Sequence[str]
) -> Tensor:
    """Ids of the tokens that this vocabulary has, and of the placeholders of images and videos."""
    known = tokenizer.get_vocab()
    ids = [known[token] for token in tokens if token in known]
    more = {id for id in placeholders(base_model(model).config) if id is not None}
    size = base_model(model).get_output_embeddings().out_features
    return torch.tensor(ids + sorted(i for i in more - set(ids) if i < size), dtype=torch.long)


def stop_tokens(model: PreTrainedModel | PeftModel, tokenizer: Tokenizer) -> Tensor:
    """End-of-answer ids: the tokenizer's and the generation config's."""
    ids = {tokenizer.eos_token_id}
    listed = model.generation_config.eos_token_id
    if listed is not None:
        ids |= set(listed) if isinstance(listed, list) else {listed}
    return torch.tensor(sorted(ids), dtype=torch.long)
