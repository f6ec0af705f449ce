"""Before it judges, the embedded judge learns to caption images, token by token.

A yes or no carries one bit about a pair; a caption says which of 200 objects it is. Without this
start the words of captions would have to be learnt from those single bits.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import Any, TextIO

import torch
from PIL import Image
from torch import Tensor

from vlrl.config.schema import (OptimConfig)
from vlrl.distributed.schedule import lr_factor
from vlrl.judge.encoder import AskEncoder
from vlrl.judge.head import gathered
from vlrl.judge.local import load_vlm, pixel_bounds
from vlrl.judge.module import JudgeModule
from vlrl.judge.packing import EncodedAsk, padded
from vlrl.judge.question import Ask
from vlrl.judge.train.items import encode_completion
from scripts.assets.models.judge.model import use_fast_vision

QUESTION = "\nWhat is it?"


def learn_names(
    model: str,
    images: Sequence[tuple[str, Image.Image]],
    *,
    num_steps: int,
    batch: int,
    lr: float,
    seed: int,
    log: TextIO,
) -> Any:
    """Cross-entropy of captions given their images; the trained core."""
    core, processor = load_vlm(model, torch.float32)
    use_fast_vision(core)
    module = JudgeModule(core, head=False)
    encoder = AskEncoder(processor, core.model.get_rope_index, *pixel_bounds(processor))
    patches = encoder.patches([image for _, image in images])
    grids = [grid for _, grid in patches]
    encoded: dict[int, EncodedAsk] = {}
    optimizer = torch.optim.AdamW(module.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = OptimConfig(schedule="cosine", num_warmup_steps=10, min_lr_ratio=0.05)
    rng = random.Random(seed)
    for step in range(num_steps):
        rows = rng.sample(range(len(images)), batch)
        for i in rows:
            if i not in encoded:
                said = encode_completion(processor.tokenizer, images[i][0])
                encoded[i] = encoder.encode(Ask((i, QUESTION)), grids).followed_by(said)
        shade = (rng.uniform(0.85, 1.15), rng.uniform(-0.1, 0.1))
        loss = _loss(module, [encoded[i] for i in rows], patches, encoder.merge, shade)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = lr * lr_factor(step, schedule, num_steps)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 25 == 0:
            line = {"part": "naming", "step": step + 1, "loss": round(float(loss.detach()), 4)}
            log.write(json.dumps({**line, "cpu_s": round(time.process_time())}) + "\n")
            log.flush()
    return core


def _loss(
    module: JudgeModule,
    asks: Sequence[EncodedAsk],
    patches: Sequence[tuple[Tensor, Tensor]],
    merge: int,
    shade: tuple[float, float],
) -> Tensor:
    """Mean over all tokens of some captions; `shade` is a slight change of colour that keeps them true."""
    row = padded(asks)
    places, targets = row.answer_places(asks)
    pixels, grid, shown = gathered(row.images, patches, merge)
    pixels = pixels * shade[0] + shade[1]
    with torch.autocast("cpu", torch.bfloat16):
        logp = module(
            row.input_ids,
            row.positions,
            row.attention_mask,
            None,
            pixels,
            grid,
            shown,
            places,
            targets,
        )
    return -logp.float().mean()
