"""Tiny checkpoints of the real classes, images and rollouts, for the image rewards' tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from vlrl.tasks.text_to_image import ImageAnswer, ImageTarget
from vlrl.types import Finish, Rollout, Sample

LABELS = {0: "N/A", 1: "person", 2: "dog", 3: "mouse", 4: "cat"}
OPEN_CLIP = "vlrl-tiny-clip"
SCENES = (
    {"tag": "single_object", "include": [{"class": "person", "count": 1}]},
    {"tag": "colors", "include": [{"class": "person", "count": 2, "color": "red"}]},
    {"tag": "counting", "include": [{"class": "computer mouse", "count": 2}]},
)
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def stirred(model: nn.Module, times: float = 5.0, seed: int = 0) -> nn.Module:
    """The model with larger random weights, so that no two images look alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):  # timm's layer scale starts at 1e-5: CLS would see nothing
                parameter.fill_(1.0)
            elif parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(times * 0.05 * noise)
    return model.eval()


def save_clip(folder: Path, width: int = 24) -> Path:
    """A CLIPModel whose tokenizer knows letters and digits; embeddings of `width` numbers."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789 ,.-"]
    words = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    text = {
        **TOWER,
        "vocab_size": len(words),
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=width)
    stirred(CLIPModel(config)).save_pretrained(folder)
    return folder


def save_open_clip(folder: Path) -> Path:
    """An open_clip folder (`local-dir:`), with its weights in separate files next to it."""
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 16,
            "patch_size": 8,
            "head_width": 8,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 2,
        },
    }
    folder.mkdir()
    named = folder.parent / f"{OPEN_CLIP}.json"
    named.write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(named)
    torch.manual_seed(0)  # else the weights depend on which tests ran before
    model = stirred(open_clip.create_model(OPEN_CLIP))
    whole = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole), encoding="utf-8")
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, str(folder / "open_clip_model.safetensors"))
    save_file(weights, str(folder.parent / "weights.safetensors"))
    torch.save({"state_dict": weights}, folder.parent / "weights.pt")
    return folder


def save_dinov2(folder: Path) -> Path:
    """A Dinov2Model of 56 pixels in patches of 14."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    stirred(Dinov2Model(Dinov2Config(hidden_size=16, **size))).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 64},
        crop_size={"height": 56, "width": 56},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)
    return folder


def save_dinov3(folder: Path) -> Path:
    """A DINOv3ViTModel of 64 pixels in patches of 16, with four registers."""
    from transformers import DINOv3ViTConfig, DINOv3ViTImageProcessor, DINOv3ViTModel

    config = DINOv3ViTConfig(**TOWER, image_size=64, patch_size=16, num_register_tokens=4)
    stirred(DINOv3ViTModel(config)).save_pretrained(folder)
    DINOv3ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def save_timm(folder: Path) -> Path:
    """timm's DINOv2 vision transformer with registers, of 56 pixels in patches of 14."""
    import timm

    shape = {"img_size": 56, "embed_dim": 16, "depth": 2, "num_heads": 2}
    name = "vit_small_patch14_reg4_dinov2"
    model = stirred(timm.create_model(name, pretrained=False, num_classes=0, **shape))
    timm.models.save_for_hf(
        model,
        str(folder),
        model_config={"input_size": (3, 56, 56)},
        model_args=shape,
        safe_serialization=True,
    )
    return folder


def save_detr(folder: Path) -> Path:
    """A DetrForObjectDetection on a ResNet, of ten queries and four classes."""
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        out_features=["stage4"],
    )
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=10,
        id2label=LABELS,
        label2id={label: index for index, label in LABELS.items()},
    )
    stirred(DetrForObjectDetection(config), times=12.0).save_pretrained(folder)
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)
    return folder


def save_aesthetic_head(path: Path) -> Path:
    """Weights with the names and shapes of LAION's predictor, that give ratings near 5."""
    sizes = {0: (1024, 768), 2: (128, 1024), 4: (64, 128), 6: (16, 64), 7: (1, 16)}
    generator = torch.Generator().manual_seed(1)
    weights: dict[str, Any] = {}
    for place, shape in sizes.items():
        weights[f"layers.{place}.weight"] = (
            torch.randn(shape, generator=generator) / shape[1] ** 0.5
        )
        weights[f"layers.{place}.bias"] = torch.zeros(shape[0])
    weights["layers.7.weight"] *= 8
    weights["layers.7.bias"] += 5
    torch.save(weights, path)
    return path


def noise_image(seed: int, height: int = 40, width: int = 52) -> np.ndarray:
    """Noise over a random colour, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(-60, 60, (height, width, 3)) + rng.integers(60, 196, 3)
    return noise.clip(0, 255).astype(np.uint8)


def word(text: str, size_px: int, letters_px: int) -> np.ndarray:
    """Dark letters in the middle of a light square image."""
    image = Image.new("RGB", (size_px, size_px), (240, 236, 228))
    ImageDraw.Draw(image).text(
        (size_px / 2, size_px / 2),
        text,
        font=ImageFont.load_default(letters_px),
        fill=(30, 20, 60),
        anchor="mm",
    )
    return np.asarray(image)


def rollout(image: np.ndarray | None, index: int = 0, **target: Any) -> Rollout:
    """One rollout of a sample with this target; without an image it could not be read."""
    target = {"caption": "a cat", **target}
    sample = Sample(f"s{index}", "text_to_image", (), ImageTarget(**target))
    parsed = None if image is None else ImageAnswer(image)
    return Rollout(sample, index, 0, image, Finish.STOP, 0, 0, parsed=parsed)
