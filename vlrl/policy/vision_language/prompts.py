"""From a sample's messages to the tensors that a vision-language model reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from qwen_vl_utils import process_vision_info
from torch import Tensor

from vlrl.errors import DataError
from vlrl.families.interfaces import RopeIndex, VisionProcessor
from vlrl.families.literal import literal
from vlrl.families.resize import video_size
from vlrl.media.frame_sampling import sampled_fps
from vlrl.media.images import open_image
from vlrl.media.video import read_part
from vlrl.policy.token_trajectory import EncodedPrompt
from vlrl.types import ImagePart, Message, Sample, VideoPart


class PromptEncoder:
    """Chat template, resizing of images and videos, and M-RoPE positions of one checkpoint.

    Images and frames go through qwen-vl-utils with the family's own patch size and the pixel
    bounds of the run, so that training sees what inference with the model's own recipe sees.
    """

    def __init__(
        self,
        processor: VisionProcessor,
        rope_index: RopeIndex,
        min_pixels: int,
        max_pixels: int,
        context_tokens: int | None = None,
        control_tokens: Sequence[str] = (),
    ) -> None:
        """The parts of one checkpoint that turn messages into tensors.

        Args:
            context_tokens: longest prompt that the model can read; None = not checked.
            control_tokens: what no text of a prompt may become, besides the marks that `literal`
                always breaks.
        """
        self.processor = processor
        self.rope_index = rope_index
        self.min_pixels = min_pixels
        self.max_pixels = max_pixels
        self.context_tokens = context_tokens
        self.control_tokens = tuple(control_tokens)

    def copied(self) -> PromptEncoder:
        """The same with a processor of its own, for another thread."""
        return PromptEncoder(
            copy.deepcopy(self.processor),
            self.rope_index,
            self.min_pixels,
            self.max_pixels,
            self.context_tokens,
            self.control_tokens,
        )

    def encode(self, sample: Sample) -> EncodedPrompt:
        """Tensors of one prompt; DataError with the sample's id where an image is unreadable."""
        try:
            messages = [self._as_chat(message) for message in sample.prompt]
            text = self.processor.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            images, videos = process_vision_info(
                messages, image_patch_size=self.processor.image_processor.patch_size
            )[:2]
        except (OSError, ValueError, DataError) as error:
            what = "video" if _videos(sample) else "image"
            raise DataError(f"sample {sample.id!r}: cannot read its {what}: {error}") from error
        parts = _videos(sample)
        more = {} if not parts else self._video_arguments(parts, videos)
        inputs = self.processor(
            text=[text], images=images, do_resize=False, return_tensors="pt", **more
        )
        num_tokens = inputs["input_ids"].shape[1]
        if self.context_tokens is not None and num_tokens > self.context_tokens:
            raise DataError(
                f"sample {sample.id!r}: its prompt has {num_tokens} tokens and the model reads at "
                f"most {self.context_tokens}; shorten its text, or lower max_pixels"
            )
        positions, _ = self.rope_index(
            inputs["input_ids"],
            inputs["mm_token_type_ids"],
            image_grid_thw=inputs.get("image_grid_thw"),
            video_grid_thw=inputs.get("video_grid_thw"),
            # Only Qwen2.5-VL counts seconds in its positions; Qwen3-VL writes them as text.
            second_per_grid_ts=torch.tensor([self._seconds_per_grid(part) for part in parts])
            if parts
            else None,
        )
        pixels, grid = _in_order(sample, inputs)
        return EncodedPrompt(inputs["input_ids"][0], positions[:, 0], pixels, grid)

    def _seconds_per_grid(self, part: VideoPart) -> float:
        """Time between two steps of the vision tower, which reads frames in pairs."""
        depth = self.processor.video_processor.temporal_patch_size
        return depth / sampled_fps(part.frames, part.fps)

    def _video_arguments(self, parts: Sequence[VideoPart], videos: object) -> dict[str, Any]:
        """The processor's arguments: the frames sampled here, and their times."""
        depth = self.processor.video_processor.temporal_patch_size
        metadata = []
        for part in parts:
            # An odd number of frames is padded with the last one, as the processor does.
            frames = [*part.frames, *[part.frames[-1]] * (-len(part.frames) % depth)]
            metadata.append(
                {
                    "fps": part.fps,
                    "frames_indices": frames,
                    "total_num_frames": part.num_frames,
                    "width": part.width_px,
                    "height": part.height_px,
                    "duration": part.num_frames / part.fps,
                    "video_backend": "pyav",
                }
            )
        return {
            "videos": videos,
            "video_metadata": metadata,
            "do_sample_frames": False,
            "cap_pixels_per_frame": False,
        }

    def _as_chat(self, message: Message) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, ImagePart):
                content.append(
                    {
                        "type": "image",
                        "image": open_image(part.path) if part.crop is None else _window(part),
                        "min_pixels": self.min_pixels,
                        "max_pixels": self.max_pixels,
                    }
                )
            elif isinstance(part, VideoPart):
                content.append(self._video(part))
            else:
                text = literal(part.text, self.control_tokens, marks=())
                content.append({"type": "text", "text": text})
        return {"role": message.role, "content": content}

    def _video(self, part: VideoPart) -> dict[str, Any]:
        images = self.processor.image_processor
        height, width = video_size(
            part.height_px,
            part.width_px,
            images.patch_size * images.merge_size,
            part.longer_side_px,
        )
        return {
            "type": "video",
            "video": [Image.fromarray(frame) for frame in read_part(part)],
            "sample_fps": sampled_fps(part.frames, part.fps),
            "resized_height": height,
            "resized_width": width,
        }


def _videos(sample: Sample) -> list[VideoPart]:
    return [p for m in sample.prompt for p in m.parts if isinstance(p, VideoPart)]


def _in_order(sample: Sample, inputs: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """Patches and grids of images and videos in the order of the prompt."""
    images = _items(inputs.get("pixel_values"), inputs.get("image_grid_thw"))
    videos = _items(inputs.get("pixel_values_videos"), inputs.get("video_grid_thw"))
    items = [
        videos.pop(0) if isinstance(part, VideoPart) else images.pop(0)
        for message in sample.prompt
        for part in message.parts
        if isinstance(part, ImagePart | VideoPart)
    ]
    if not items:
        return None, None
    return torch.cat([pixels for pixels, _ in items]), torch.stack([grid for _, grid in items])


def _items(pixels: Tensor | None, grids: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    if pixels is None or grids is None:
        return []
    parts = pixels.split(grids.prod(-1).tolist())
    return list(zip(parts, grids, strict=True))


def _window(part: ImagePart) -> Image.Image:
    """The part's window of its file, enlarged."""
    crop = open_image(part.path).crop(part.crop)
    return crop.resize((part.width_px, part.height_px), Image.Resampling.BICUBIC)


def join_features(prompts: Sequence[EncodedPrompt]) -> Tensor | None:
    """Precomputed features of several prompts, in order, [1 + K, N, D]; None if there are none."""
    kept = [p.features for p in prompts if p.features is not None]
    return torch.cat(kept, 1) if kept else None


def join_images(prompts: Sequence[EncodedPrompt]) -> tuple[Tensor | None, Tensor | None]:
    """Patches and grids of several prompts, in order; None, None where none has an image."""
    pixels = [p.pixel_values for p in prompts if p.pixel_values is not None]
    grids = [p.grid_thw for p in prompts if p.grid_thw is not None]
    if not pixels:
        return None, None
    return torch.cat(pixels), torch.cat(grids)
