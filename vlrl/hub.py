"""Load frozen models: where they run, and what to do when one is missing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from vlrl.errors import RewardError, VlrlError, why_not_loaded
from vlrl.families.interfaces import PretrainedClass


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is this rank's GPU, or the CPU where there is none."""
    if name != "auto":
        return torch.device(name)
    # DeepSpeed's switch applies here too: a run on the CPU keeps its rewards there.
    if torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextmanager
def loading(what: str, name: str) -> Iterator[None]:
    """Turn every failure to load `name` into a RewardError that says what to do."""
    try:
        # A head cannot train on top of weights that were made in inference mode.
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            # open_clip only warns when weights and activation do not belong together.
            warnings.filterwarnings("error", message="QuickGELU mismatch")
            yield
    except VlrlError:
        raise
    except Exception as error:
        raise RewardError(
            f"the {what} {name!r} cannot be loaded ({why_not_loaded(name, error)}); give the path "
            "of a local copy, or a name that is in the model hub's cache of this machine or that "
            "it may download (HF_HUB_OFFLINE unset)"
        ) from error


def local_path(name: str) -> str:
    """A path with its `~` resolved; names of the model hub are unchanged."""
    return str(Path(name).expanduser()) if name.startswith("~") else name


def load_pretrained(auto_class: PretrainedClass, name: str) -> nn.Module:
    """A transformers model in float32, frozen; raises RewardError if the file lacks weights.

    Without this check, weights that the file lacks would be random, with only a warning.
    """
    model, info = auto_class.from_pretrained(
        local_path(name), dtype=torch.float32, output_loading_info=True
    )
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise RewardError(
            f"{name!r} has no weights for {len(lacking)} tensors of "
            f"{type(model).__name__}, {lacking[0]!r} first; it is another kind of model"
        )
    return freeze(model)


def freeze(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, without gradients."""
    return model.eval().requires_grad_(False)


def read_weights(path: str) -> Mapping[str, torch.Tensor]:
    """Tensors of a .safetensors file or of a torch file; no code in a file is ever run."""
    path = local_path(path)
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    weights: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights
