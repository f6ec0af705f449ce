"""How the embedded image models are made: every part runs, and learns."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from helpers_clock import Counted

from scripts.assets.models.image import dino, judges
from scripts.assets.models.image.augment import colours, crops, soften
from scripts.assets.models.image.autoencoder import (
    encode_images,
    scale_latents,
    train_autoencoder,
)
from scripts.assets.models.image.flow import flow_loss, train_flow
from scripts.assets.models.image.images import all_captions, base_images, both_styles, labelled
from scripts.assets.models.image.pipeline import PipelineSize, new_pipeline

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets/images"
SMALL = PipelineSize(vae_channels=(8, 8, 16, 16), width=32, num_heads=2, num_layers=1)


@pytest.fixture(scope="module")
def pipeline() -> object:
    torch.manual_seed(0)
    return new_pipeline(all_captions(ASSETS), SMALL)


def test_every_caption_fits_and_every_word_is_one_piece(pipeline) -> None:
    for caption in all_captions(ASSETS):
        for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_3):
            assert len(tokenizer(caption).input_ids) <= SMALL.max_tokens
        pieces = pipeline.tokenizer_3(caption).input_ids
        assert len(pieces) == len(caption.split()) + 1
        assert pipeline.tokenizer_3.unk_token_id not in pieces


def test_held_out_prompts_are_not_learnt_from() -> None:
    held = {
        json.loads(line)["caption"]
        for name in ("held_out", "words_held_out")
        for line in (ASSETS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    }
    base = base_images(ASSETS, 64)
    assert not held & set(base.captions)
    assert base.images.shape == (len(base.captions), 3, 64, 64)
    assert len(both_styles(ASSETS, 64)) == len(base.captions) + 1200
    assert base.weights.tolist() == [1.0] * len(base.captions)
    mixed = base_images(ASSETS, 64, second_style=0.2)
    assert not held & set(mixed.captions)
    assert len(mixed.captions) == len(base.captions) + 1200
    assert float(mixed.weights.sum()) == pytest.approx(float(base.weights.sum()), rel=1e-4)
    assert (mixed.weights == 0.2).sum() == (mixed.weights == 0.8).sum() == 1200


@pytest.mark.slow
def test_autoencoder_and_flow_learn(pipeline) -> None:
    torch.manual_seed(0)
    images = base_images(ASSETS, 64).images[:16]
    log = io.StringIO()
    with torch.no_grad():
        start = _error(pipeline.vae, images)
    train_autoencoder(pipeline.vae, images, Counted(30), batch=8, lr=3e-3, log=log)
    with torch.no_grad():
        assert _error(pipeline.vae, images) < 0.9 * start
    scale_latents(pipeline.vae, images)
    latents = encode_images(pipeline.vae, images)
    assert float(latents.std()) == pytest.approx(1, abs=0.1)
    captions = base_images(ASSETS, 64).captions[:16]

    def loss() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(flow_loss(pipeline, captions * 4, latents.repeat(4, 1, 1, 1), 1.5))

    before = loss()
    even = torch.ones(len(captions))
    train_flow(pipeline, captions, latents, even, Counted(40), batch=16, lr=3e-3, log=log)
    assert loss() < 0.95 * before


def _error(vae, images: torch.Tensor) -> float:
    signal = images.float() / 127.5 - 1
    return float((vae.decode(vae.encode(signal).latent_dist.mode()).sample - signal).abs().mean())


def test_dino_and_judges_learn() -> None:
    torch.manual_seed(0)
    log = io.StringIO()
    backbone = dino.train_dino(both_styles(ASSETS, 64), Counted(3), batch=8, lr=1e-3, log=log)
    assert backbone(pixel_values=torch.zeros(1, 3, 64, 64)).last_hidden_state.shape == (1, 65, 96)
    data = labelled(ASSETS, "style", held_out=False)
    model = judges.train_classifier(
        data.names, data.images, data.labels, Counted(40), lr=3e-3, log=log
    )
    pixels = (data.images[::40].float() / 255 - judges.MEAN) / judges.STD
    with torch.no_grad():
        right = model(pixel_values=pixels).logits.argmax(-1) == data.labels[::40]
    assert float(right.float().mean()) > 0.6


def test_views_stay_images() -> None:
    images = torch.rand(4, 3, 64, 64)
    small = crops(images, 32, 0.1, 0.4)
    assert small.shape == (4, 3, 32, 32)
    for view in (small, colours(images, 0.3), soften(images, 0.5)):
        assert float(view.min()) >= 0
        assert float(view.max()) <= 1
    # A window as large as the image is the image, or its mirror image.
    whole = crops(images, 64, 1.0, 1.0)
    for made, image in zip(whole, images, strict=True):
        gap = min(float((made - p).abs().max()) for p in (image, image.flip(-1)))
        assert gap < 1e-4


def test_the_embedded_models_are_small_and_load() -> None:
    models = ROOT / "assets/models"
    size = sum(p.stat().st_size for p in (models / "tiny_sd3").rglob("*") if p.is_file())
    assert size < 10e6
    pipeline = DiffusionPipeline.from_pretrained(models / "tiny_sd3")
    assert type(pipeline).__name__ == "StableDiffusion3Pipeline"
