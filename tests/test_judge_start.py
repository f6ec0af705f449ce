"""The start of the embedded judge: it learns to say what an image shows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from scripts.assets.models.judge.model import judge_processor, new_judge
from scripts.assets.models.judge.naming import QUESTION, _loss, learn_names
from vlrl.judge.encoder import AskEncoder
from vlrl.judge.local import load_vlm, pixel_bounds
from vlrl.judge.module import JudgeModule
from vlrl.judge.question import Ask
from vlrl.judge.train.items import encode_completion

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220)}
Shown = list[tuple[str, Image.Image]]


@pytest.fixture(scope="module")
def shown() -> Shown:
    found = []
    for i in range(16):
        name, colour = list(COLOURS.items())[i % 3]
        noise = np.random.default_rng(i).integers(-25, 26, (64, 64, 3))
        pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
        found.append((f"a {name} wall", Image.fromarray(pixels)))
    return found


@pytest.fixture(scope="module")
def start(shown: Shown, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    texts = [caption for caption, _ in shown] + ["A: ", "\nB: ", QUESTION]
    new_judge(judge_processor(texts * 20), 0, folder)
    return folder


def test_the_loss_is_that_of_the_plain_model(start: Path, shown: Shown) -> None:
    core, processor = load_vlm(str(start), torch.float32)
    encoder = AskEncoder(processor, core.model.get_rope_index, *pixel_bounds(processor))
    patches = encoder.patches([image for _, image in shown])
    grids = [grid for _, grid in patches]
    asks, losses = [], []
    for i, (caption, _) in enumerate(shown[:6]):
        said = encode_completion(processor.tokenizer, caption)
        assert processor.tokenizer.decode(said[:-1]) == caption
        asks.append(encoder.encode(Ask((i, QUESTION)), grids).followed_by(said))
        ids = asks[-1].input_ids
        pixels, grid = patches[i]
        with torch.no_grad():
            logits = core(
                input_ids=ids[None],
                attention_mask=torch.ones_like(ids)[None],
                pixel_values=pixels,
                image_grid_thw=grid,
                mm_token_type_ids=(ids == processor.image_token_id).int()[None],
            ).logits[0]
        num = len(said)
        losses += functional.cross_entropy(logits[-num - 1 : -1], ids[-num:], reduction="none")
    with torch.no_grad():
        module = JudgeModule(core, head=False)
        found = _loss(module, asks, patches, encoder.merge, (1.0, 0.0))
    # bfloat16 inside
    torch.testing.assert_close(found, torch.stack(losses).mean(), atol=0.03, rtol=0.02)


def test_it_learns_to_name(start: Path, shown: Shown) -> None:
    log = io.StringIO()
    learn_names(str(start), shown, num_steps=50, batch=16, lr=2e-3, seed=0, log=log)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["loss"] < 0.5
