"""Any chat model of transformers that reads images: its own processor, template and tower.

Nothing is assumed but what transformers itself relies on in `generate`: the processor makes the
arguments of `get_image_features` and `get_video_features`, and the model takes what they return as
`mm_encoder_outputs`. Images keep the processor's own sizes; `max_pixels` shrinks larger
ones before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlrl.families.encoded import EncodedPrompt, Features, Media
from vlrl.families.family import Family, placeholders
from vlrl.families.reading import Reader, as_chat, visual
from vlrl.families.resize import shrunk
from vlrl.media.video import read_part
from vlrl.types import ImagePart, Message, VideoPart

if TYPE_CHECKING:
    from vlrl.families.interfaces import VisionLanguageModel

TOKEN_INPUTS = ("token_type_ids", "mm_token_type_ids")
"""Arguments of models about every token of a prompt; 0 for all tokens of an answer."""
PATCH_VALUES = 3 * 14 * 14
"""Numbers of a patch, to estimate how many an image has."""
_PIXELS = {
    "image": ("pixel_values", "pixel_values_images"),
    "video": ("pixel_values_videos",),
}


@dataclass(frozen=True)
class General(Family):
    """Media: the processor's tensors by the names of the towers' arguments."""

    axes: tuple[tuple[str, int], ...] = ()
    """Tensors whose images do not lie along their first axis, and that axis."""
    frames_are_images: bool = False
    """Whether its processor makes images of a video's frames."""
    also: tuple[str, ...] = ()
    """What the model reads of the tower's output besides the features, the same for all images."""

    def encode(self, reader: Reader, messages: Sequence[Message]) -> EncodedPrompt:
        """The tensors of a prompt; raises what unreadable images and videos raise."""
        text = reader.processor.apply_chat_template(
            as_chat(reader, messages), tokenize=False, add_generation_prompt=True
        )
        parts = visual(messages)
        images = [_image(reader, part) for part in parts if isinstance(part, ImagePart)]
        films = [part for part in parts if isinstance(part, VideoPart)]
        bos = reader.processor.tokenizer.bos_token
        # A template that writes the first token itself must not get a second one.
        more: dict[str, Any] = {"add_special_tokens": not (bos and text.startswith(bos))}
        if self.mrope:  # some processors give the types of tokens only if asked
            more["return_mm_token_type_ids"] = True
        if images:
            more["images"] = [images]
        if films:
            if not self.reads_videos:
                raise ValueError(f"{self.model_class} reads no videos here")
            more |= _video_arguments(films)
        inputs = reader.processor(text=[text], return_tensors="pt", **more)
        ids = inputs["input_ids"][0]
        return EncodedPrompt(
            ids,
            self._positions(reader, inputs),
            self._media(reader, inputs) if parts else None,
            reader.num_visual_tokens(ids),
            token_inputs={} if self.mrope else _token_inputs(reader, inputs),
        )

    def _positions(self, reader: Reader, inputs: Mapping[str, Tensor]) -> Tensor:
        if self.mrope:
            return reader.positions(inputs)
        return torch.arange(inputs["input_ids"].shape[1])[None]

    def _media(self, reader: Reader, inputs: Mapping[str, Tensor]) -> Media:
        names = {name for call in self._calls(reader.core).values() for name in _names(call)}
        found = {name: inputs[name] for name in names if isinstance(inputs.get(name), Tensor)}
        found |= {n: found[n].movedim(axis, 0) for n, axis in self.axes if n in found}
        if self.reads_videos and not self.frames_are_images:
            found["is_video"] = self._is_video(reader, inputs["input_ids"][0], found)
        return found

    def _is_video(self, reader: Reader, ids: Tensor, media: Media) -> Tensor:
        """Which visual tokens of a prompt show a video, bool [N]."""
        image, video = placeholders(reader.core.config)
        film = image if video is None else video
        shows = ids.eq(film)[ids.eq(image) | ids.eq(film)]
        if _has(media, "image") and _has(media, "video"):
            if not shows.any():
                raise ValueError(
                    f"{self.model_class} writes images and videos with the same token: a prompt "
                    "holds only one kind"
                )
            return shows
        return torch.full(shows.shape, _has(media, "video"))

    def features(self, core: VisionLanguageModel, media: Media) -> Features:
        """What the vision tower makes of images and videos, in the order of their tokens."""
        found: dict[str, Features] = {}
        for modality, call in self._calls(core).items():
            if not _has(media, modality):
                continue
            given = {name: media[name] for name in _names(call) if name in media}
            given |= {n: given[n].movedim(0, axis) for n, axis in self.axes if n in given}
            output = call(**given, return_dict=True)
            also = {name: output[name] for name in self.also}
            level = _flat(output["pooler_output"], modality, also)
            deeper = [
                _flat(more, modality, also).levels
                for more in output.get("deepstack_features") or ()
            ]
            found[modality] = replace(level, levels=torch.cat([level.levels, *deeper]))
        if len(found) == 1:
            return next(iter(found.values()))
        is_video = media["is_video"].to(found["image"].levels.device)
        num_levels, _, width = found["image"].levels.shape
        levels = found["image"].levels.new_empty((num_levels, len(is_video), width))
        levels = levels.masked_scatter(~is_video[None, :, None], found["image"].levels)
        levels = levels.masked_scatter(is_video[None, :, None], found["video"].levels)
        return replace(Features.join(list(found.values())), levels=levels)

    def parts(self, media: Media) -> list[tuple[Media, int]]:
        """All at once: how a family's tensors are cut into images is its processor's secret."""
        names = [name for some in _PIXELS.values() for name in some if name in media]
        num = sum(media[name].numel() for name in names)
        return [(media, -(-num // PATCH_VALUES))]

    def blank(self, core: VisionLanguageModel, reader: Reader | None = None) -> Media:
        """What the processor makes of a small black image, or an image of the tower's size."""
        if reader is None:
            size = core.config.vision_config.to_dict().get("image_size", 224)
            height, width = (size, size) if isinstance(size, int) else size
            return {"pixel_values": torch.zeros(1, 3, height, width)}
        chat = [{"role": "user", "content": [{"type": "image"}]}]
        text = reader.processor.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
        image = Image.new("RGB", (56, 56))
        inputs = reader.processor(text=[text], images=[[image]], return_tensors="pt")
        return self._media(reader, inputs)

    def _calls(self, core: VisionLanguageModel) -> dict[str, Callable[..., Any]]:
        """What encodes each kind that the family reads."""
        body = self.body(core)
        calls = {"image": body.get_image_features}
        if self.reads_videos and not self.frames_are_images:
            calls["video"] = body.get_video_features
        return calls


def _has(media: Media, modality: str) -> bool:
    return any(name in media for name in _PIXELS[modality])


def _names(call: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(call).parameters if name != "kwargs"]


def _flat(output: Tensor | Sequence[Tensor], modality: str, also: Mapping[str, Tensor]) -> Features:
    """Features of all images, [1, N, D], whether they come as one tensor or one each."""
    if isinstance(output, Tensor):
        return Features(output.reshape(1, -1, output.shape[-1]), frozenset(), also)
    flat = [part.reshape(-1, part.shape[-1]) for part in output]
    return Features(torch.cat(flat)[None], frozenset((modality,)), also)


def _token_inputs(reader: Reader, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Types of the prompt's tokens, where the model itself reads them."""
    taken = inspect.signature(reader.family.body(reader.core).forward).parameters
    return {name: inputs[name][0] for name in TOKEN_INPUTS if name in inputs and name in taken}


def _image(reader: Reader, part: ImagePart) -> Image.Image:
    image = reader.opens(part)
    height, width = shrunk(image.height, image.width, reader.max_pixels)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _video_arguments(films: Sequence[VideoPart]) -> dict[str, Any]:
    """The processor's arguments: the frames sampled here, and their times."""
    return {
        "videos": [[np.stack(list(read_part(film))) for film in films]],
        "do_sample_frames": False,
        "return_metadata": True,  # some processors write times only if asked
        "video_metadata": [
            [
                {
                    "fps": film.fps,
                    "frames_indices": list(film.frames),
                    "total_num_frames": film.num_frames,
                    "width": film.width_px,
                    "height": film.height_px,
                    "duration": film.num_frames / film.fps,
                    "video_backend": "pyav",
                }
                for film in films
            ]
        ],
    }
