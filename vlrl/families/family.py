"""One family of vision-language models: all that the policy and the judges ask of it.

A family is one object of a subclass of `Family` in a small file of its own and one row of
`vlrl/families/known.py`. docs/families.md takes a reader through a new one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from vlrl.families.encoded import EncodedPrompt, Features, Media

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from vlrl.families.interfaces import (
        MultimodalCore,
        VisionLanguageModel,
        VisionProcessor,
        VisionTower,
    )
    from vlrl.families.reading import Reader
    from vlrl.types import Message


LogitStep = tuple[Literal["times", "over", "cap", "cut"], str]
VisionOutput = SimpleNamespace
"""The part of a tower's output that transformers' models read (`mm_encoder_outputs`)."""


@dataclass(frozen=True)
class Family(ABC):
    """How checkpoints of one `model_type` read prompts, and where their parts are."""

    model_class: str
    """Its class in transformers."""
    forbidden_tokens: tuple[str, ...] = ()
    """Never sampled besides the config's placeholders: a sampled image token has no image."""
    packs: bool = False
    """Whether a group's answers may share one row with their prompt; held by tests/families."""
    recurrent: tuple[str, ...] = ()
    """Classes of its layers with a recurrent state that can be forked (packed/recurrent.py)."""
    sparse_blocks: tuple[str, ...] = ()
    """Classes of its mixtures of experts: ZeRO-3 gathers each as a whole."""
    loads_whole: bool = False
    """Whether transformers turns its weights round as it reads them, which it leaves undone where
    ZeRO-3 splits them meanwhile: every rank then reads the whole model."""
    logits: tuple[LogitStep, ...] = ()
    """What its class does to logits, in order, by the keys of its text config; `cap` is
    c * tanh(logits / c), `cut` ends the vocabulary there. Classes differ under the same key, so
    none is read unless it is named."""
    reads_videos: bool = False
    mrope: bool = False
    """Whether the model computes positions on three axes (`get_rope_index`)."""

    takes_pixel_bounds: ClassVar[bool] = False
    """Whether `min_pixels` and `max_pixels` are bounds of its own resizing."""

    lays_out_images: ClassVar[bool] = False
    """Whether an image is one run of tokens of `image_grid_thw`, which judges lay out themselves
    and share between questions."""
    sees_frames_apart: ClassVar[bool] = False
    """Whether its tower attends within a frame alone, so that frames may be divided over ranks."""

    @abstractmethod
    def encode(self, reader: Reader, messages: Sequence[Message]) -> EncodedPrompt:
        """The tensors of a prompt; raises what unreadable images and videos raise."""

    @abstractmethod
    def features(self, core: VisionLanguageModel, media: Media) -> Features:
        """What the vision tower makes of images and videos, in the order of their tokens."""

    @abstractmethod
    def parts(self, media: Media) -> list[tuple[Media, int]]:
        """Media that the tower can read one after the other, and the patches of each, in order."""

    @abstractmethod
    def blank(self, core: VisionLanguageModel, reader: Reader | None) -> Media:
        """The smallest image, for a pass of a rank that has none."""

    def body(self, core: VisionLanguageModel) -> MultimodalCore:
        """What runs below the language head."""
        return core.model

    def pixel_bounds(self, processor: VisionProcessor) -> tuple[int, int]:
        """Least and largest area of an image in pixels, as the checkpoint has it."""
        return 1, 1 << 31

    def outputs(
        self, core: VisionLanguageModel, input_ids: Tensor, features: Features
    ) -> dict[str, VisionOutput]:
        """Features in the order of their tokens as the models take them, by modality.

        The models insert them modality by modality; the tokens say which feature belongs to which.
        """
        image, video = placeholders(core.config)
        if video is None or not self.reads_videos:
            return {"image": _output(features, "image")}
        is_video = input_ids[(input_ids == image) | (input_ids == video)] == video
        if not is_video.any():
            return {"image": _output(features, "image")}
        if is_video.all():
            return {"video": _output(features, "video")}
        return {
            "image": _output(features.select(~is_video), "image"),
            "video": _output(features.select(is_video), "video"),
        }

    def why_not_packed(self, config: PretrainedConfig) -> str | None:
        """Why a group's answers cannot share a row with their prompt; None where they can.

        A token must reach all before it, and nothing but attention may carry anything from one
        token to the next.
        """
        if not self.packs:
            return f"vlrl packs no rows of {config.model_type}"
        text = config.get_text_config().to_dict()
        kinds = set(text.get("layer_types") or ())
        allowed = {"full_attention"} | ({"linear_attention"} if self.recurrent else set())
        if kinds - allowed:
            return f"its config.json has layers of type {sorted(kinds - allowed)[0]}"
        if not kinds and text.get("sliding_window") and text.get("use_sliding_window", True):
            return f"its config.json has a sliding window of {text['sliding_window']} tokens"
        return None

    def after_head(self, config: PretrainedConfig) -> Callable[[Tensor], Tensor] | None:
        """What follows the language head before the softmax; None = nothing."""
        text = config.get_text_config().to_dict()
        steps = [(step, float(text[key])) for step, key in self.logits if text.get(key) is not None]
        if not steps:
            return None

        def finish(logits: Tensor) -> Tensor:
            for step, value in steps:
                if step == "cap":
                    logits = value * torch.tanh(logits / value)
                elif step == "cut":
                    beyond = torch.arange(logits.shape[-1], device=logits.device) >= value
                    logits = logits.masked_fill(beyond, float("-inf"))
                else:
                    logits = logits * value if step == "times" else logits / value
            return logits

        return finish

    def patch_tower(self, core: VisionLanguageModel) -> VisionTower | None:
        """The tower that vision_kernels.py can run in larger calls; None for other kinds."""
        return None


def placeholders(config: PretrainedConfig) -> tuple[int, int | None]:
    """Ids of the tokens whose embeddings images and videos replace; None where it reads none."""
    found = vars(config)  # to_dict would copy all of it, at every pass
    names = ("image_token_id", "image_token_index", "image_patch_id")
    image = next(found[name] for name in names if found.get(name) is not None)
    video = found.get("video_token_id", found.get("video_token_index"))
    return int(image), None if video is None else int(video)


def vision_parameters(core: VisionLanguageModel) -> Iterator[tuple[str, nn.Parameter]]:
    """All weights but those of the language model and its head: the tower, and what follows it."""
    language = {id(p) for p in core.get_decoder().parameters()}
    language |= {id(p) for p in core.get_output_embeddings().parameters()}
    for name, parameter in core.named_parameters():
        if id(parameter) not in language:
            yield name, parameter


def _output(features: Features, modality: str) -> VisionOutput:
    first, *deeper = features.levels.unbind(0)
    pooled = (first,) if modality in features.lists else first
    return VisionOutput(
        pooler_output=pooled, deepstack_features=[(level,) for level in deeper], **features.also
    )
