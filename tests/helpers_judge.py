"""Tiny judges of the real classes, whose tokenizer knows yes and no; images and rollouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers

from vlrl.tasks.text_to_image import ImageAnswer, ImageTarget
from vlrl.types import Finish, Message, Rollout, Sample, TextPart

WORDS = ("yes", " yes", "Yes", "no", " no", "No")


def with_words(checkpoint: Path, folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    """The checkpoint with these words as single tokens, with random embeddings."""
    processor = transformers.AutoProcessor.from_pretrained(checkpoint)
    config = transformers.AutoConfig.from_pretrained(checkpoint)
    model_class = getattr(transformers, config.architectures[0])
    model = model_class.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = processor.tokenizer
    tokenizer.add_tokens([transformers.AddedToken(word, normalized=False) for word in words])
    torch.manual_seed(0)
    model.resize_token_embeddings(64 * -(-len(tokenizer) // 64), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0, 0.08)
    processor.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def noise_image(seed: int, height: int = 56, width: int = 84) -> np.ndarray:
    """Noise over a random colour, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(-60, 60, (height, width, 3)) + rng.integers(60, 196, 3)
    return noise.clip(0, 255).astype(np.uint8)


def group(
    caption: str, seeds: tuple[int | None, ...], number: int = 0, references: tuple[str, ...] = ()
) -> list[Rollout]:
    """One group of images; None means an answer that is not an image."""
    target = ImageTarget(caption, references)
    sample = Sample(f"s{number}", "text_to_image", (Message("user", (TextPart(caption),)),), target)
    rollouts = []
    for index, seed in enumerate(seeds):
        image = None if seed is None else noise_image(seed)
        parsed = None if image is None else ImageAnswer(image)
        rollouts.append(Rollout(sample, number, index, image, Finish.STOP, 1, 0, parsed=parsed))
    return rollouts
