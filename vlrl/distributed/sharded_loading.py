"""Weights that are split over the ranks while they are read, for models that fit no single rank.

The main rank reads the files (memory-mapped, a layer at a time) and hands out the parts; no rank
ever holds the whole model, in its own memory or on its GPU. This is transformers' way to load under
ZeRO-3, which asks for nothing but a DeepSpeed config that is known while it loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vlrl.distributed.engine import zero_stage


@contextmanager
def sharded_loading(settings: dict[str, Any]) -> Iterator[None]:
    """Inside, `from_pretrained` shards under ZeRO-3; all ranks load the same model together.

    settings: what `deepspeed.initialize` will get. Below stage 3 nothing changes.
    """
    if zero_stage(settings) < 3:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    known = HfDeepSpeedConfig(settings)  # transformers holds it weakly
    try:
        yield
    finally:
        unset_hf_deepspeed_config()  # what rewards load is not the run's model
        del known
