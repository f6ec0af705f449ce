"""Sampling the tokens of images with a cache, and turning them into images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from vlrl.families.encoded import EncodedPrompt
from vlrl.families.interfaces import CodeDecoder, PixelScaler
from vlrl.policy.distribution import draw
from vlrl.policy.image_tokens.module import ImageTokenLogProbs
from vlrl.policy.vision_language import layout
from vlrl.policy.vision_language.answers import uniform_rows


@torch.no_grad()
def write_tokens(
    module: ImageTokenLogProbs,
    prompts: Sequence[EncodedPrompt],
    seeds: Sequence[int],
    num_tokens: int,
    *,
    greedy: bool = False,
) -> tuple[Tensor, Tensor]:
    """Image tokens and their log-probs, [R, T] each, on CPU; one prompt and one seed per row.

    Every row draws numbers from its own seed, so an image does not depend on its batch.
    """
    device = module.kept.device
    uniforms = uniform_rows(seeds, num_tokens).to(device)
    ids, positions, mask = (x.to(device) for x in stacked(prompts, module.special.pad))
    embeds, places = module.embed_prompt(ids), positions
    cache = DynamicCache(config=module.core.config.get_text_config())
    tokens, logps = [], []
    for t in range(num_tokens):
        hidden = module.hidden(embeds, places, mask, cache)[:, -1]
        logp = module.log_probs(hidden.view(module.passes, len(seeds), -1).transpose(0, 1))
        token = logp.argmax(-1) if greedy else draw(logp, uniforms[:, t])
        tokens.append(token)
        logps.append(logp.gather(-1, token[:, None])[:, 0])
        embeds = module.embed(token[:, None])
        places = places[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(seeds), 1)], 1)
    return torch.stack(tokens, 1).cpu(), torch.stack(logps, 1).cpu()


def stacked(prompts: Sequence[EncodedPrompt], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, positions and mask of prompts padded on the left, [R, P] each."""
    batch = layout.prefill(list(prompts), pad_id)
    assert batch.attention_mask is not None
    return batch.input_ids, batch.positions[0], batch.attention_mask


@torch.no_grad()
def decode_images(
    decoder: CodeDecoder,
    image_processor: PixelScaler,
    tokens: Tensor,
    batch_size: int,
    device: torch.device,
) -> list[Tensor]:
    """Tokens [R, T] -> uint8 images [H, W, 3] on CPU, `batch_size` at a time."""
    decoder.to(device)
    mean = torch.tensor(image_processor.image_mean, device=device)
    std = torch.tensor(image_processor.image_std, device=device)
    images: list[Tensor] = []
    for part in tokens.split(batch_size):
        decoded = decoder.decode(part.to(device)).permute(0, 2, 3, 1)
        unit = (decoded * std + mean).clamp(0, 1)
        images += list((unit * 255).round().to(torch.uint8).cpu())
    return images
