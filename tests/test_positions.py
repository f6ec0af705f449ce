"""M-RoPE positions of prompts against the rule written out, and against what was left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import FAMILIES
from test_policy import make_policy, problems

from vlrl.types import ImagePart, Message, Sample, TextPart


def two_images(screens: Path) -> Sample:
    """Text, an image, text, an image of another shape, text."""
    first, second = (sample.prompt[0].parts for sample in problems(screens, 2))
    images = [next(p for p in parts if isinstance(p, ImagePart)) for parts in (first, second)]
    parts = (TextPart("One"), images[0], TextPart("and two"), images[1], TextPart("which?"))
    return Sample("two", "x", (Message("user", parts),), None)


@pytest.mark.parametrize("family", FAMILIES)
def test_still_images_have_one_time_each(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    """Qwen2-VL (arXiv 2409.12191), section 2.1: text counts on; an image's patches share a time,
    and their rows and columns count from there; what follows begins after the largest of them."""
    policy = make_policy(checkpoints[family])
    prompt = policy.encoder.encode(two_images(screens))
    assert prompt.media is not None
    config = policy.module.core.config
    merge = config.vision_config.spatial_merge_size
    grids = [(int(h) // merge, int(w) // merge) for _, h, w in prompt.media["grid_thw"].tolist()]
    assert len(set(grids)) == 2
    wanted: list[tuple[int, int, int]] = []
    start, ids = 0, prompt.input_ids.tolist()
    while len(wanted) < len(ids):
        if ids[len(wanted)] != config.image_token_id:
            wanted.append((start, start, start))
            start += 1
            continue
        height, width = grids.pop(0)
        wanted += [(start, start + y, start + x) for y in range(height) for x in range(width)]
        start += max(height, width)
    assert prompt.positions.T.tolist() == [list(each) for each in wanted]
    assert prompt.next_position == start


def test_offsets_that_another_call_has_left_are_not_used(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    """transformers keeps `rope_deltas` of its last prompt on the model (transformers#44873)."""
    policy = make_policy(checkpoints["qwen2_5_vl"])
    _, before = policy.sample(problems(screens, 2), 2, seed=1)
    scores = policy.evaluate(before).logp.detach()
    policy.module.core.model.rope_deltas = torch.full((1, 1), 99)
    _, after = policy.sample(problems(screens, 2), 2, seed=1)
    assert torch.equal(before.tokens, after.tokens)
    assert torch.equal(policy.evaluate(after).logp.detach(), scores)
