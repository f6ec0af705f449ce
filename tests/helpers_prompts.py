"""A rank of the test of shared prompts: real encoders, every way in which ranks may store them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

FINGERPRINT = "tiny"


def fill_on_rank(rank: int, size: int, pipeline: str, texts: list[str], out: str) -> None:
    """Fill stores as one of `size` ranks (gloo); results go to `<out>/rank<i>.pt`."""
    from diffusers import DiffusionPipeline

    from vlrl.policy.flow import captions
    from vlrl.policy.flow.families import flow_family

    torch.set_num_threads(1)
    loaded = DiffusionPipeline.from_pretrained(pipeline)
    family = flow_family(type(loaded).__name__)
    encoded: list[list[str]] = []

    @torch.no_grad()
    def encode(batch: Sequence[str]) -> tuple[Tensor, Tensor]:
        encoded.append(list(batch))
        context, pooled = family.encode(loaded, batch, 12)
        return context.bfloat16(), pooled

    def filled(folder: Path | None) -> dict[str, Any]:
        encoded.clear()
        store = captions.CaptionStore(None if folder is None else str(folder), FINGERPRINT)
        num = store.fill(texts, encode)
        found = {text: (store[text].context, store[text].pooled) for text in texts}
        return {"num": num, "encoded": list(encoded), "found": found}

    results = {"alone": filled(None)}
    folder = Path(out)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=size
    )
    results["memory"] = filled(None)
    results["shared"] = filled(folder / "shared")
    results["shared again"] = filled(folder / "shared")
    # Nodes without a common file system: each rank has its own folder, rank 0's half full.
    own = folder / f"node{rank}"
    if rank == 0:
        half = captions.CaptionStore(str(own), FINGERPRINT)
        for text in texts[::2]:
            half._put(text, captions.EncodedCaption(*results["alone"]["found"][text]))
    results["apart"] = filled(own)
    results["refused"] = [
        _refused(captions, texts, encode),
        _refused(captions, texts[rank:], encode),
    ]
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def _refused(captions: Any, texts: Sequence[str], encode: Any) -> str:
    """The refusal of a store in memory that has room for nothing."""
    captions.MEMORY_LIMIT_BYTES = 0
    try:
        captions.CaptionStore(None, FINGERPRINT).fill(texts, encode)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "not at all"
