"""The voxel VQ-VAE on disk: safetensors, or a `.bin` that is read without running its pickle."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlrl.config.resolve import check, plain
from vlrl.errors import ConfigError
from vlrl.policy.voxel_tokens.codec import VoxelCodec
from vlrl.policy.voxel_tokens.options import VoxelCodecConfig

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def load_codec(source: str, shape: VoxelCodecConfig | None = None) -> VoxelCodec:
    """The frozen VQ-VAE of a folder (`config.json`, `model.safetensors`) or of a plain file.

    shape: that of a plain file; None = ShapeLLM-Omni's. Raises ConfigError.
    """
    path = Path(source)
    if path.is_dir():
        try:
            text = (path / CONFIG).read_text(encoding="utf-8")
            found = check(VoxelCodecConfig, json.loads(text))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ConfigError(f"policy.codec {source!r}: {CONFIG}: {error}") from error
        if shape is not None and shape != found:
            raise ConfigError(
                f"policy.codec {source!r}: its {CONFIG} states another shape than "
                "policy.codec_shape; leave codec_shape out"
            )
        shape, path = found, path / WEIGHTS
    codec = VoxelCodec(shape or VoxelCodecConfig())
    weights = _weights(path, source)
    try:
        codec.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(
            f"policy.codec {source!r}: the weights do not fit the shape "
            f"{plain(codec.shape)}: {error}"
        ) from error
    return codec.float().requires_grad_(False).eval()


def _weights(path: Path, source: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(
            f"policy.codec {source!r}: there is no file {path}; ShapeLLM-Omni's is 3DVQVAE.bin of "
            "the hub's yejunliang23/3DVQVAE, to be downloaded first"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ConfigError(f"policy.codec {source!r}: {path} holds no weights: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise ConfigError(f"policy.codec {source!r}: {path} is not a dictionary of tensors")
    return found


def save_codec(codec: VoxelCodec, folder: Path) -> None:
    """`config.json` and `model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(codec.shape), indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    weights = {name: x.detach().cpu().contiguous() for name, x in codec.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
