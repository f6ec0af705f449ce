"""A small CLIP that scores images for a caption, trained like PickScore on preferred images.

pairs ──> images, captions ──> both towers ──> of two images the preferred one is nearer
                                          └──> of all captions an image's own is nearest
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from scripts.assets.images.judge_pairs import MadePair
from scripts.assets.models.image.clock import Clock
from scripts.assets.models.image.tokenizers import clip_tokenizer

SIZE_PX, PATCH_PX, MAX_TOKENS, VOCAB_SIZE = 64, 8, 24, 900
MAX_SCALE = 100.0
"""CLIP's own limit of the logit scale."""
TOWER = {"hidden_size": 96, "intermediate_size": 288, "num_attention_heads": 3}


def pick_processor(captions: Sequence[str]) -> CLIPProcessor:
    """A tokenizer made of the captions; images of 64 px pass unchanged."""
    size = {"height": SIZE_PX, "width": SIZE_PX}
    images = CLIPImageProcessor(size={"shortest_edge": SIZE_PX}, crop_size=size)
    return CLIPProcessor(images, clip_tokenizer(captions, VOCAB_SIZE, MAX_TOKENS))


def new_clip(processor: CLIPProcessor) -> CLIPModel:
    """Random weights, under a million parameters; CLIP's start of the scale, 1 / 0.07."""
    tokenizer: Any = processor.tokenizer
    text = {
        **TOWER,
        "num_hidden_layers": 3,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**TOWER, "num_hidden_layers": 4, "image_size": SIZE_PX, "patch_size": PATCH_PX}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=96))


def learn_picks(
    model: CLIPModel,
    processor: CLIPProcessor,
    pairs: Iterator[MadePair],
    clock: Clock,
    *,
    batch: int,
    lr: float,
    log: TextIO,
) -> None:
    """Train `model` on an endless stream of pairs, until the clock stops."""
    optimizer = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.05)
    model.train()
    num_steps = 0
    recent: list[tuple[float, float, float]] = []
    while clock.running:
        some = [next(pairs) for _ in range(batch)]
        images, texts = features(model, processor, some)
        with torch.no_grad():
            model.logit_scale.clamp_(max=float(np.log(MAX_SCALE)))
        picked, told = pick_losses(
            images, texts, model.logit_scale.exp(), [p.caption for p in some]
        )
        for group in optimizer.param_groups:
            group["lr"] = lr * clock.factor
        optimizer.zero_grad()
        (picked + told).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        num_steps += 1
        right = cosines(images.detach(), texts.detach()).argmax(1) == 0
        recent.append((float(picked.detach()), float(told.detach()), float(right.float().mean())))
        if num_steps % 50 == 0:
            means = [round(sum(column) / len(recent), 4) for column in zip(*recent, strict=True)]
            metrics = dict(zip(("picked", "told_apart", "accuracy"), means, strict=True))
            line = {"step": num_steps, **metrics, "time": round(time.time() - clock.start)}
            log.write(json.dumps(line) + "\n")
            log.flush()
            recent.clear()
    model.eval()


def features(
    model: CLIPModel, processor: CLIPProcessor, pairs: Sequence[MadePair]
) -> tuple[Tensor, Tensor]:
    """Unit embeddings of (chosen, rejected) [N, 2, D] and of the captions [N, D]."""
    flat = [image for pair in pairs for image in (pair.chosen, pair.rejected)]
    tokens: Any = processor.tokenizer(
        [pair.caption for pair in pairs],
        padding=True,
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    )
    seen = model.get_image_features(pixel_values=_pixels(flat, processor)).pooler_output
    read = model.get_text_features(**tokens).pooler_output
    images = functional.normalize(seen, dim=-1)
    return images.reshape(len(pairs), 2, -1), functional.normalize(read, dim=-1)


def cosines(images: Tensor, texts: Tensor) -> Tensor:
    """Of both images of a pair with its caption, [N, 2]; images [N, 2, D], texts [N, D]."""
    return (images * texts[:, None]).sum(-1)


def pick_losses(
    images: Tensor, texts: Tensor, scale: Tensor, captions: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """PickScore's loss, and CLIP's between captions and chosen images.

    images: [N, 2, D], the chosen one first; texts: [N, D]; all of length 1. The first is the
    cross-entropy of scale * cos over the two images (Pick-a-Pic, arXiv 2305.01569, section 4);
    the second leaves out other pairs of the same caption.
    """
    scores = scale * cosines(images, texts)
    first = torch.zeros(len(captions), dtype=torch.long)
    logits = scale * images[:, 0] @ texts.T
    same = torch.tensor([[a == b for b in captions] for a in captions])
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -torch.inf)
    own = torch.arange(len(captions))
    told = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    return functional.cross_entropy(scores, first), told


@torch.no_grad()
def accuracy(
    model: CLIPModel, processor: CLIPProcessor, pairs: Sequence[MadePair], batch: int = 64
) -> Mapping[str, float]:
    """Share of pairs whose chosen image scores higher, over all and by kind."""
    right: dict[str, list[float]] = {"all": []}
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        images, texts = features(model, processor, some)
        scores = cosines(images, texts)
        for pair, won in zip(some, (scores[:, 0] > scores[:, 1]).tolist(), strict=True):
            right["all"].append(won)
            right.setdefault(pair.kind, []).append(won)
    return {kind: round(sum(values) / len(values), 4) for kind, values in right.items()}


def _pixels(images: Sequence[Image.Image], processor: CLIPProcessor) -> Tensor:
    """The processor's output for images that need no resizing, computed faster; [N, 3, S, S]."""
    options: Any = processor.image_processor
    values = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    mean, std = (torch.tensor(x) for x in (options.image_mean, options.image_std))
    return ((values / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
