"""A frozen vision backbone: one CLS token and a grid of patch tokens per image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlrl.errors import ConfigError, RewardError
from vlrl.hub import freeze, load_pretrained, loading, local_path, pick_device

NUM_HASHED_VALUES = 256
"""Per tensor, evenly spaced: enough to tell a fine-tuned copy from its origin."""


@dataclass(frozen=True)
class Loaded:
    """A model, how to get its tokens, and the input that it was trained on."""

    module: nn.Module
    tokens: Callable[[Tensor], Tensor]
    """[N, 3, S, S] -> [N, prefix + patches, D], the CLS token first; see Backbone for `layers`."""
    num_prefix: int
    patch_px: int
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config: Mapping[str, Any]


class Backbone:
    """DINOv2- and DINOv3-like transformers as fixed features, which never train.

    Every image is resized to size_px x size_px (bicubic, antialiased by default) without
    cropping, so that one that is not square is squeezed. The published processors crop the centre
    instead; for square images that is the only difference.

    `layers` are blocks, counted from 1: their tokens, each of mean 0 and variance 1, are
    concatenated. Without `layers` the tokens are the last block's, after the final norm.
    """

    def __init__(
        self,
        name_or_path: str,
        library: Literal["transformers", "timm"] = "transformers",
        device: str = "auto",
        size_px: int | None = None,
        batch_size: int = 32,
        layers: Sequence[int] = (),
        *,
        antialias: bool = True,
    ) -> None:
        self.name, self.library, self.batch_size = name_or_path, library, batch_size
        self.antialias = antialias
        self.layers = tuple(layers)
        self.device = pick_device(device)
        load = {"transformers": _from_transformers, "timm": _from_timm}.get(library)
        if load is None:
            raise ConfigError(f"backbone library {library!r}: use transformers or timm")
        with loading("vision backbone", name_or_path):
            self._loaded = load(name_or_path, size_px, self.layers)
            freeze(self._loaded.module).to(self.device)
        self.size_px, self.patch_px = self._loaded.size_px, self._loaded.patch_px
        if self.size_px % self.patch_px:
            raise ConfigError(
                f"backbone {name_or_path!r}: size_px {self.size_px} is not a multiple of its "
                f"patches of {self.patch_px} pixels"
            )
        self.grid = self.size_px // self.patch_px
        self._mean = torch.tensor(self._loaded.mean, device=self.device)[:, None, None]
        self._std = torch.tensor(self._loaded.std, device=self.device)[:, None, None]
        self.fingerprint: str = self._hash()
        """Identifies weights and preprocessing, independently of paths; for cache keys."""

    def features(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """uint8 [H, W, 3] of any size -> cls [N, D], patches [N, grid * grid, D], float32.

        Plain tensors even if the caller is in inference mode: a head may train on them.
        """
        if not images:
            raise ValueError("features need at least one image")
        with torch.inference_mode(False), torch.no_grad():
            tokens = torch.cat(
                [
                    self._loaded.tokens(
                        self._pixels(images[start : start + self.batch_size])
                    ).float()
                    for start in range(0, len(images), self.batch_size)
                ]
            )
            num_patches = tokens.shape[1] - self._loaded.num_prefix
            if num_patches != self.grid**2:
                raise RewardError(
                    f"backbone {self.name!r} gave {num_patches} patch tokens for a grid of "
                    f"{self.grid} x {self.grid}; its layout is unknown (those of DINOv2 and "
                    "DINOv3 vision transformers are supported)"
                )
            return tokens[:, 0], tokens[:, self._loaded.num_prefix :]

    def _hash(self) -> str:
        seen = hashlib.sha256()
        facts = {
            "library": self.library,
            "config": self._loaded.config,
            "size_px": self.size_px,
            "mean": self._loaded.mean,
            "std": self._loaded.std,
        }
        if self.layers:
            facts["layers"] = self.layers
        if not self.antialias:
            facts["antialias"] = False
        seen.update(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self._loaded.module.state_dict().items()):
            flat = tensor.detach().flatten()
            some = flat[:: max(1, flat.numel() // NUM_HASHED_VALUES)].float().cpu().numpy()
            seen.update(f"{name} {list(tensor.shape)}".encode() + some.tobytes())
        return seen.hexdigest()[:16]

    def _pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """[N, 3, size, size], normalised; images of one size are resized together."""
        out = torch.empty(len(images), 3, self.size_px, self.size_px, device=self.device)
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for row, image in enumerate(images):
            rows_of.setdefault(image.shape, []).append(row)
        for rows in rows_of.values():
            part = torch.from_numpy(np.stack([images[row] for row in rows])).to(self.device)
            part = part.permute(0, 3, 1, 2).float() / 255
            out[rows] = squeezed(part, self.size_px, antialias=self.antialias)
        return (out - self._mean) / self._std


def squeezed(images: Tensor, side_px: int, *, antialias: bool) -> Tensor:
    """[N, 3, H, W] in [0, 1] -> [N, 3, S, S], bicubic; without antialiasing as Adv-GRPO does it."""
    if images.shape[2:] == (side_px, side_px):
        return images
    small = functional.interpolate(images, (side_px, side_px), mode="bicubic", antialias=antialias)
    # Bicubic overshoots at edges; released code leaves that.
    return small.clamp(0, 1) if antialias else small


def _side_by_side(tokens: Sequence[Tensor]) -> Tensor:
    """[N, T, D] of several layers -> [N, T, layers * D], all on the same scale."""
    return torch.cat([functional.layer_norm(one, one.shape[-1:]) for one in tokens], dim=-1)


def _check_layers(name: str, layers: Sequence[int], depth: int) -> None:
    wrong = [layer for layer in layers if not 1 <= layer <= depth]
    if wrong:
        raise ConfigError(f"backbone {name!r} has blocks 1 to {depth}; `layers` has {wrong}")


def _from_transformers(name: str, size_px: int | None, layers: tuple[int, ...]) -> Loaded:
    from transformers import AutoImageProcessor, AutoModel

    path = local_path(name)
    processor = AutoImageProcessor.from_pretrained(path)
    model: Any = load_pretrained(AutoModel, name)
    config = model.config
    facts = config.to_dict()
    size = size_px or _size_of(processor.to_dict(), facts)
    for key in ("_name_or_path", "transformers_version", "dtype"):
        facts.pop(key, None)
    _check_layers(name, layers, int(config.num_hidden_layers))

    def tokens(pixels: Tensor) -> Tensor:
        if not layers:
            return model(pixel_values=pixels).last_hidden_state
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
        return _side_by_side([states[layer] for layer in layers])

    return Loaded(
        module=model,
        tokens=tokens,
        num_prefix=1 + facts.get("num_register_tokens", 0),
        patch_px=int(config.patch_size),
        size_px=size,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        config=facts,
    )


def _size_of(processor: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Side of the images that the checkpoint's own processor produces, in pixels."""
    crop = processor.get("crop_size")
    if crop is not None and processor.get("do_center_crop"):
        return int(crop["height"])
    size = processor.get("size")
    if size is not None and size.get("height"):
        return int(size["height"])
    return int(config["image_size"])


def _from_timm(name: str, size_px: int | None, layers: tuple[int, ...]) -> Loaded:
    import timm

    kwargs: dict[str, Any] = {} if size_px is None else {"img_size": size_px}
    if name.startswith("local-dir:"):
        name = "local-dir:" + local_path(name.removeprefix("local-dir:"))
    model: Any = timm.create_model(name, pretrained=True, num_classes=0, **kwargs)
    data = timm.data.resolve_model_data_config(model)
    _check_layers(name, layers, len(model.blocks))

    def tokens(pixels: Tensor) -> Tensor:
        if not layers:
            return model.forward_features(pixels)
        found = model.forward_intermediates(
            pixels,
            indices=[layer - 1 for layer in layers],
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return _side_by_side([torch.cat([prefix, patches], dim=1) for patches, prefix in found])

    return Loaded(
        module=model,
        tokens=tokens,
        num_prefix=model.num_prefix_tokens,
        patch_px=int(model.patch_embed.patch_size[0]),
        size_px=size_px or int(data["input_size"][-1]),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        config={"architecture": model.pretrained_cfg.get("architecture"), "layers": repr(model)},
    )
