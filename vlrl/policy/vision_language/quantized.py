"""A frozen base model in four bits, for adapters on a model that a GPU could not hold (QLoRA).

Weights are stored as NF4 with doubly quantised scales and computed with in the run's precision;
what is trained, the adapters, is not quantised. Source: QLoRA (arXiv 2305.14314), by bitsandbytes.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from vlrl.errors import ConfigError


def quantization(dtype: torch.dtype, zero_stage: int) -> Any:
    """The config that `from_pretrained` takes.

    Raises ConfigError where it cannot work: without CUDA, without the package, under ZeRO-3.
    """
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            "policy.quantize: nf4 needs the package bitsandbytes, which is not installed here: "
            "install it, or leave policy.quantize out"
        )
    if not torch.cuda.is_available():
        raise ConfigError(
            "policy.quantize: nf4 needs a CUDA device, and there is none here: its kernels run "
            "nowhere else; leave policy.quantize out"
        )
    if zero_stage == 3:
        raise ConfigError(
            "policy.quantize: nf4 does not work under ZeRO-3, which would split packed weights: "
            "set dist.deepspeed: deepspeed_configs/zero2.json (only adapters have optimizer states)"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # The head's logits, and a frozen tower's features, as exact as without.
        llm_int8_skip_modules=["lm_head", "visual"],
    )
