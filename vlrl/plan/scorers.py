"""Models of rewards, of which every rank holds a copy: their bytes, as far as they are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import AutoConfig, PretrainedConfig

from vlrl.config.architectures import read_json, shipped_architecture
from vlrl.families.classes import transformers_class
from vlrl.families.known import FAMILIES
from vlrl.plan.sharding import FULL
from vlrl.protocols import Reward
from vlrl.reward.parts import walk

NUM_WEIGHTS = {
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/clip-vit-large-patch14": 427_616_513,
    "ViT-L-14": 427_616_513,
    "ViT-L-14-quickgelu": 427_616_513,
    "ViT-H-14": 986_109_441,
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": 986_109_441,
    "yuvalkirstain/PickScore_v1": 986_109_441,
    "facebook/dinov2-small": 22_056_576,
    "facebook/dinov2-base": 86_580_480,
    "facebook/dinov2-large": 304_368_640,
    "facebook/dinov2-giant": 1_136_480_768,
    "vit_base_patch14_dinov2.lvd142m": 86_580_480,
    "microsoft/resnet-50": 25_557_032,
}
"""Of the models that rewards name by default and recipes use."""
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt")


def scorer_bytes(*rewards: Reward) -> tuple[float, list[str]]:
    """Bytes of the models that rewards' nodes load onto a GPU, and names of unknown size.

    Nodes with the same options share a model.
    """
    nodes: list[Reward] = []
    for one in (node for reward in rewards for node in walk(reward)):
        if not any(one.same_as(other) for other in nodes):
            nodes.append(one)
    total, unknown = 0.0, dict[str, None]()
    for node in nodes:
        for name, size in node.models().items():
            num = num_weights(name)
            if num is None:
                unknown[name] = None
            else:
                total += num * size
    return total, list(unknown)


def num_weights(name: str) -> int | None:
    """Numbers that a model holds, from its folder, its architecture or our table; None = unknown.

    A folder's files are taken to be in float32 where its config.json does not say a type.
    """
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if folder.is_dir():
        return _in_folder(folder)
    if name in NUM_WEIGHTS:
        return NUM_WEIGHTS[name]
    known = shipped_architecture(name)
    if known is None:
        return None
    sizes = {key: value for key, value in known.items() if key != "max_pixels"}
    return _of_family(AutoConfig.for_model(**sizes))


def _in_folder(folder: Path) -> int | None:
    files = [file for pattern in WEIGHT_FILES for file in folder.glob(pattern)]
    if not files:
        return None
    config = folder / "config.json"
    found: Mapping[str, object] = read_json(config) if config.is_file() else {}
    stored = str(found.get("dtype") or found.get("torch_dtype") or "float32")
    size = 2 if stored in ("bfloat16", "float16") else FULL
    return sum(file.stat().st_size for file in files) // size


def _of_family(config: PretrainedConfig) -> int | None:
    family = FAMILIES.get(config.model_type)
    if family is None:
        return None
    with torch.device("meta"):
        model = transformers_class(family.model_class)._from_config(config)
    return sum(p.numel() for p in model.parameters())
