"""The embedded model that writes voxel codes: Qwen2.5-VL's real class with two million weights."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration

from scripts.assets.models.image.clock import Clock
from scripts.assets.models.gui_and_video.qwen import random_model, small_config
from scripts.assets.models.voxel.lessons import Lesson, Writer, batch_of
from scripts.assets.models.gui_and_video.tokenizer import build_processor, train_tokenizer
from scripts.assets.models.gui_and_video.trainer import MuonWithAdam

VOCABULARY = 560
HIDDEN = 192


def new_processor(texts: Sequence[str], num_codes: int) -> Any:
    """A tokenizer of these texts; then the codes in a row, the start and the end."""
    tokenizer = train_tokenizer(texts, VOCABULARY)
    codes = [f"<mesh{code}>" for code in range(num_codes)]
    tokenizer.add_tokens([*codes, "<mesh-start>", "<mesh-end>"])
    return build_processor(tokenizer)


def new_model(tokenizer: Any, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Random weights. The vision tower is as small as possible: it is never used."""
    text = {
        "hidden_size": HIDDEN,
        "intermediate_size": 512,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 1,
        "fullatt_block_indexes": [0],
    }
    config = small_config(tokenizer, text, vision, mrope_section=[8, 8, 8], rope_theta=10_000.0)
    return random_model(config, tokenizer, seed)


def train_writer(
    model: Any,
    lessons: Sequence[Lesson],
    held_out: Sequence[Lesson],
    writer: Writer,
    clock: Clock,
    *,
    batch: int,
    lr: float,
    code_noise: float,
    log: Any,
) -> None:
    """Cross-entropy of words and codes; every other lesson is mirrored.

    code_noise: share of the input codes that are replaced by others, so that a few hundred shapes
    cannot be memorised from their first codes.
    """
    rows = [[writer.row(lesson, mirrored) for mirrored in range(2)] for lesson in lessons]
    kept_out = [writer.row(lesson, 0) for lesson in held_out]
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and "visual" not in n]
    optimizer = MuonWithAdam(named, lr=lr, adam_lr=lr / 3, weight_decay=0.02)
    base = [group["lr"] for group in optimizer.param_groups]
    pad = writer.processor.tokenizer.pad_token_id
    num_steps = 0
    model.train()
    while clock.running:
        picked = torch.randint(len(rows), (batch,)).tolist()
        sides = torch.randint(2, (batch,)).tolist()
        shown = [rows[i][side] for i, side in zip(picked, sides, strict=True)]
        loss = loss_of(model, shown, pad, (writer.first, writer.num_codes, code_noise))
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * clock.factor
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.step()
        num_steps += 1
        if num_steps % 25 == 0:
            row: dict[str, Any] = {"part": "writer", "step": num_steps}
            row |= {"loss": float(loss.detach()), "time": round(time.time() - clock.start)}
            if num_steps % 100 == 0:
                model.eval()
                with torch.no_grad():
                    row["held_out_loss"] = float(loss_of(model, kept_out[:64], pad))
                model.train()
            log.write(json.dumps(row) + "\n")
            log.flush()
    model.eval()


def loss_of(
    model: Any,
    rows: Sequence[tuple[list[int], list[bool]]],
    pad_id: int,
    noise: tuple[int, int, float] = (0, 1, 0.0),
) -> torch.Tensor:
    """Mean cross-entropy of what is learnt in some rows, nats.

    noise: first code, number of codes, and the share of codes that are replaced.
    """
    ids, mask, labels = batch_of(rows, pad_id)
    first, num, share = noise
    misread = (ids >= first) & (ids < first + num) & (torch.rand(ids.shape) < share)
    ids = torch.where(misread, torch.randint_like(ids, first, first + num), ids)
    positions = torch.arange(ids.shape[1]).expand(3, len(ids), -1)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        wanted = labels[:, 1:] != -100
        logits = model.lm_head(hidden[:, :-1][wanted])
    return functional.cross_entropy(logits.float(), labels[:, 1:][wanted])
