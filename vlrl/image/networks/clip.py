"""CLIP's two towers, from transformers or open_clip, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vlrl.errors import RewardError
from vlrl.hub import freeze, load_pretrained, loading, local_path, pick_device
from vlrl.image.clip_options import ClipOptions


class ClipNetwork(ABC):
    """Image and text embeddings, L2-normalised, float32, without gradient.

    Captions longer than the text tower's context (77 tokens in every published CLIP) are truncated.
    """

    model: Any
    device: torch.device

    @property
    def scale(self) -> float:
        """exp(logit_scale): what the model multiplies cosines by."""
        return float(self.model.logit_scale.exp())

    @torch.no_grad()
    def image_features(self, images: Sequence[np.ndarray]) -> Tensor:
        """[N, D] of uint8 images [H, W, 3] of any size."""
        return unit(self._image(images))

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """[N, D]; a repeated text is encoded once."""
        once = list(dict.fromkeys(texts))
        rows = {text: row for row, text in enumerate(once)}
        return unit(self._text(once))[[rows[text] for text in texts]]

    def cosines(self, images: Sequence[np.ndarray], texts: Sequence[str]) -> Tensor:
        """[N], image i with text i."""
        pairs = self.image_features(images) * self.text_features(texts)
        return pairs.sum(-1).clamp(-1, 1)

    @abstractmethod
    def _image(self, images: Sequence[np.ndarray]) -> Tensor:
        """Embeddings before normalisation, [N, D]."""

    @abstractmethod
    def _text(self, texts: Sequence[str]) -> Tensor:
        """Embeddings before normalisation, [N, D]."""


class TransformersClip(ClipNetwork):
    """A CLIPModel; `processor`: where its tokenizer and image size are, if elsewhere."""

    def __init__(self, model: str, *, processor: str | None = None, device: str = "auto") -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.device = pick_device(device)
        with loading("CLIP model", model):
            self.model = load_pretrained(CLIPModel, model).to(self.device)
        with loading("CLIP processor", processor or model):
            self.processor = CLIPProcessor.from_pretrained(local_path(processor or model))
        self.max_tokens = self.model.config.text_config.max_position_embeddings

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """Input of the vision tower, [N, 3, S, S]."""
        # Channels last is explicit: it could not be inferred for an image three pixels high.
        inputs = self.processor.image_processor(
            list(images),
            return_tensors="pt",
            input_data_format="channels_last",
            device=self.device,
        )
        return inputs["pixel_values"]

    def _image(self, images: Sequence[np.ndarray]) -> Tensor:
        return self.model.get_image_features(pixel_values=self.pixels(images)).pooler_output

    def _text(self, texts: Sequence[str]) -> Tensor:
        tokens = self.processor.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return self.model.get_text_features(**tokens.to(self.device)).pooler_output


class OpenClip(ClipNetwork):
    """An open_clip model; `resize_mode`: shortest, longest or squash.

    antialias: Pillow resizes, as open_clip does; else numbers are resized so that the longer side
    fits, without antialiasing, and the rest is black.
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        *,
        device: str = "auto",
        resize_mode: str | None = None,
        antialias: bool = True,
    ) -> None:
        import open_clip

        self.device = pick_device(device)
        with loading("open_clip model", f"{model} {pretrained or ''}".strip()):
            built, self.transform = open_clip.create_model_from_pretrained(
                model,
                local_path(pretrained) if pretrained else None,
                device=self.device,
                image_resize_mode=resize_mode,
            )
            self.tokenizer = open_clip.get_tokenizer(model)
        self.model = freeze(built)
        self.antialias = antialias

    def _image(self, images: Sequence[np.ndarray]) -> Tensor:
        return self.model.encode_image(self.pixels(images).to(self.device))

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """Input of the vision tower, [N, 3, S, S]."""
        if self.antialias:
            return torch.stack([self.transform(Image.fromarray(image)) for image in images])
        facts = self.model.visual.preprocess_cfg
        size = facts["size"] if isinstance(facts["size"], int) else facts["size"][0]
        mean, std = (torch.tensor(facts[name])[:, None, None] for name in ("mean", "std"))
        return torch.stack([(fitted(image, size) - mean) / std for image in images])

    def _text(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode_text(self.tokenizer(list(texts)).to(self.device))


def fitted(image: np.ndarray, side_px: int) -> Tensor:
    """uint8 [H, W, 3] -> [3, S, S]: its longer side at `side_px`, in the middle of black.

    Source: HPS v2's code, under a torchvision whose default was no antialiasing.
    """
    values = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    scale = side_px / max(values.shape[1:])
    height, width = (round(side * scale) for side in values.shape[1:])
    if scale != 1:
        values = functional.interpolate(values[None], (height, width), mode="bicubic")[0]
    left, top = (side_px - width) // 2, (side_px - height) // 2
    return functional.pad(values, (left, side_px - width - left, top, side_px - height - top))


def load_clip(options: ClipOptions) -> ClipNetwork:
    """The CLIP model that the options name; raises RewardError if it cannot be loaded."""
    if options.library == "open_clip":
        return OpenClip(options.model, options.pretrained, device=options.device)
    return TransformersClip(options.model, device=options.device)


def scale_within(clip: ClipNetwork, limit: float, model: str) -> float:
    """The model's scale; RewardError if it exceeds `limit`, from which a range is declared."""
    if clip.scale > limit * (1 + 1e-4):
        raise RewardError(
            f"{model!r} multiplies cosines by {clip.scale:.6g}, above the declared {limit:g}; "
            "set logit_scale to that value"
        )
    return min(clip.scale, limit)


def unit(features: Tensor) -> Tensor:
    """float32 rows of length 1."""
    features = features.float()
    return features / features.norm(dim=-1, keepdim=True)
