"""Frozen networks that rewards share: features equal to the models', as normal tensors."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_images import (
    noise_image,
    save_clip,
    save_detr,
    save_dinov2,
    save_dinov3,
    save_timm,
)
from PIL import Image
from safetensors.torch import load_file, save_file

from vlrl.errors import ConfigError, RewardError
from vlrl.hub import loading, pick_device, read_weights
from vlrl.image.networks.backbone import Backbone
from vlrl.image.networks.clip import TransformersClip
from vlrl.image.networks.detector import Detector

KINDS = ("dinov2", "dinov3", "timm")
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny checkpoints of the three kinds."""
    base = tmp_path_factory.mktemp("backbones")
    savers = {"dinov2": save_dinov2, "dinov3": save_dinov3, "timm": save_timm}
    return {kind: save(base / kind) for kind, save in savers.items()}


def backbone(folders: dict[str, Path], kind: str, **options) -> Backbone:
    """On the CPU."""
    if kind == "timm":
        return Backbone(f"local-dir:{folders[kind]}", "timm", "cpu", **options)
    return Backbone(str(folders[kind]), "transformers", "cpu", **options)


def own_tokens(folder: Path, kind: str, pixels: torch.Tensor) -> tuple:
    """CLS and patches of the model itself."""
    with torch.no_grad():
        if kind == "timm":
            import timm

            model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            tokens, skipped = model.forward_features(pixels), 5
        else:
            from transformers import AutoModel

            model = AutoModel.from_pretrained(folder).eval()
            skipped = 1 if kind == "dinov2" else 5  # DINOv3 has four registers
            tokens = model(pixels).last_hidden_state
    return tokens[:, 0], tokens[:, skipped:]


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_models_own(folders, kind):
    one = backbone(folders, kind)
    size = {"dinov2": 56, "dinov3": 64, "timm": 56}[kind]
    assert (one.size_px, one.grid) == (size, 4)
    images = [noise_image(i, size, size) for i in range(3)]
    pixels = torch.stack([torch.tensor(image).permute(2, 0, 1) / 255 for image in images])
    cls, patches = own_tokens(folders[kind], kind, (pixels - MEAN) / STD)
    found_cls, found_patches = one.features(images)
    torch.testing.assert_close(found_cls, cls, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_patches, patches, atol=1e-5, rtol=1e-5)
    assert found_patches.shape == (3, 16, 16)
    assert found_cls.dtype == torch.float32
    assert found_cls.std(0).mean() > 0.05  # three images, three features


@pytest.mark.parametrize("kind", KINDS)
def test_any_size_any_batch_any_order(folders, kind):
    images = [
        noise_image(i, *size) for i, size in enumerate(((40, 52), (64, 64), (40, 52), (9, 200)))
    ]
    cls, patches = backbone(folders, kind).features(images)
    alone = backbone(folders, kind, batch_size=1)
    for row in (2, 0, 3, 1):
        one_cls, one_patches = alone.features([images[row]])
        torch.testing.assert_close(one_cls[0], cls[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one_patches[0], patches[row], atol=1e-5, rtol=1e-4)


def test_resizing_is_antialiased(folders):
    large = noise_image(7, 560, 560)
    one = backbone(folders, "dinov2")
    (cls,) = one.features([large])[0]
    pillow = Image.fromarray(large).resize((56, 56), Image.Resampling.BICUBIC)
    (same,), (aliased,) = (one.features([im])[0] for im in (np.asarray(pillow), large[::10, ::10]))
    assert (cls - same).abs().max() < 0.02  # Pillow rounds to whole steps
    assert (cls - aliased).abs().max() > 0.2


@pytest.mark.parametrize("kind", ["dinov2", "timm"])
def test_a_backbone_takes_another_size_that_is_a_multiple_of_its_patch(folders, kind):
    one = backbone(folders, kind, size_px=28)
    cls, patches = one.features([noise_image(0)])
    assert (cls.shape, patches.shape) == ((1, 16), (1, 4, 16))
    with pytest.raises((ConfigError, RewardError), match="30"):
        backbone(folders, kind, size_px=30)


@pytest.mark.parametrize("kind", KINDS)
def test_several_layers_side_by_side(folders, kind):
    images = [noise_image(i, 56, 56) for i in range(3)]
    both = backbone(folders, kind, layers=(1, 2))
    cls, patches = both.features(images)
    assert cls.shape == (3, 32)
    assert patches.shape[2] == 32
    parts = [backbone(folders, kind, layers=(layer,)).features(images) for layer in (1, 2)]
    torch.testing.assert_close(cls, torch.cat([one for one, _ in parts], dim=1))
    torch.testing.assert_close(patches, torch.cat([one for _, one in parts], dim=2))
    assert not torch.allclose(parts[0][1], parts[1][1], atol=0.05)
    # All have the same norm, and every kind of feature has its own file.
    loudness = cls.reshape(3, 2, 16).var(2, correction=0)
    torch.testing.assert_close(loudness, torch.ones(3, 2), atol=1e-3, rtol=0)
    assert both.fingerprint != backbone(folders, kind).fingerprint
    # The last norm is all that lies between the last block and the plain features.
    norm = both._loaded.module
    affine = norm.layernorm if kind == "dinov2" else norm.norm
    _, last = parts[1]
    normal = torch.nn.functional.layer_norm(
        (backbone(folders, kind).features(images)[1] - affine.bias) / affine.weight, (16,)
    )
    torch.testing.assert_close(last, normal, atol=1e-3, rtol=1e-3)
    with pytest.raises(ConfigError, match=r"blocks 1 to 2; `layers` has \[3\]"):
        backbone(folders, kind, layers=(1, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_trains_on_features_made_in_inference_mode(folders, kind):
    with torch.inference_mode():
        one = backbone(folders, kind)
        cls, patches = one.features([noise_image(i) for i in range(3)])
    assert not cls.is_inference()
    assert not cls.requires_grad
    assert not any(p.requires_grad for p in one._loaded.module.parameters())
    head = torch.nn.Linear(16, 1)
    (head(cls).sum() + head(patches).mean()).backward()
    assert head.weight.grad.abs().sum() > 0


def test_fingerprint_names_weights_and_preprocessing(folders, tmp_path):
    first = backbone(folders, "dinov2").fingerprint
    assert first == backbone(folders, "dinov2").fingerprint
    shutil.copytree(folders["dinov2"], tmp_path / "copy")
    copy = {"dinov2": tmp_path / "copy"}
    assert backbone(copy, "dinov2").fingerprint == first
    assert backbone(copy, "dinov2", size_px=28).fingerprint != first

    weights = load_file(tmp_path / "copy/model.safetensors")
    weights["layernorm.weight"][0] += 1e-3
    save_file(weights, tmp_path / "copy/model.safetensors", metadata={"format": "pt"})
    assert backbone(copy, "dinov2").fingerprint != first

    shutil.copytree(folders["dinov2"], tmp_path / "mean")
    path = tmp_path / "mean/preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_mean": [0.5, 0.5, 0.5]}))
    assert backbone({"dinov2": tmp_path / "mean"}, "dinov2").fingerprint != first
    kinds = {backbone(folders, kind).fingerprint for kind in KINDS}
    assert len(kinds) == 3


def test_mistakes_with_backbones_are_named(folders, tmp_path):
    with pytest.raises(ConfigError, match="transformers or timm"):
        Backbone(str(folders["dinov2"]), "keras", "cpu")  # type: ignore[arg-type]
    with pytest.raises(RewardError, match="local copy"):
        Backbone("local-dir:/nowhere", "timm", "cpu")
    with pytest.raises(ValueError, match="at least one image"):
        backbone(folders, "dinov2").features([])
    # A checkpoint without some of its weights must not run on random ones.
    shutil.copytree(folders["dinov2"], tmp_path / "torn")
    weights = load_file(tmp_path / "torn/model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, tmp_path / "torn/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RewardError, match=r"no weights for 1 tensors .*layernorm\.weight"):
        Backbone(str(tmp_path / "torn"), "transformers", "cpu")


def test_clip_encodes_a_caption_once_and_alike(tmp_path):
    clip = TransformersClip(str(save_clip(tmp_path / "clip")), device="cpu")
    texts = ["a cat", "dog", "a cat", "a much longer sentence about nothing, " * 9]
    together = clip.text_features(texts)
    for row, text in enumerate(texts):
        torch.testing.assert_close(clip.text_features([text])[0], together[row])
    assert torch.equal(together[0], together[2])
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(4))
    # The end of a caption beyond 77 tokens is cut off.
    cut = clip.text_features([texts[3], texts[3] + "and a house"])
    torch.testing.assert_close(cut[0], cut[1])
    # Three pixels high: rows must not be mistaken for channels.
    flat = noise_image(0, 3, 40)
    torch.testing.assert_close(
        clip.image_features([flat])[0], clip.image_features([noise_image(1), flat])[1]
    )


def test_detector_keeps_sizes_apart(tmp_path):
    detector = Detector(str(save_detr(tmp_path / "detr")), "cpu", batch_size=2)
    images = [
        noise_image(i, *size) for i, size in enumerate(((64, 64), (40, 90), (64, 64), (64, 64)))
    ]
    together = detector.detect(images, threshold=0.2)
    for image, one in zip(images, together, strict=True):
        (alone,) = detector.detect([image], threshold=0.2)
        assert one.labels == alone.labels
        np.testing.assert_allclose(one.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, alone.scores, atol=1e-5)
        assert (one.scores > 0.2).all()
    assert sum(len(one.labels) for one in together) > 0
    assert all(len(one.labels) == 0 for one in detector.detect(images, threshold=1.0))


class Payload:
    """What a hostile checkpoint may hold."""

    def __reduce__(self):
        return (print, ("ran",))


def test_no_code_in_a_file_of_weights_runs(tmp_path, capsys):
    torch.save({"weight": Payload()}, tmp_path / "bad.pt")
    with pytest.raises(RewardError, match="cannot be loaded"), loading("file", "bad.pt"):
        read_weights(str(tmp_path / "bad.pt"))
    assert "ran" not in capsys.readouterr().out


def test_a_wrong_activation_is_an_error():
    # The start of open_clip's warning; otherwise scores would silently be a little wrong.
    with pytest.raises(RewardError, match="QuickGELU"), loading("open_clip model", "ViT-L-14"):
        warnings.warn("QuickGELU mismatch between final model config (...)", stacklevel=1)


def test_auto_is_the_device_that_deepspeed_is_told(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert pick_device("auto") == torch.device("cpu")
