"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and their successors: patches of any size, M-RoPE positions.

Images and frames go through qwen-vl-utils with the family's own patch size and the pixel bounds of
the run, so that training sees what inference with the model's own recipe sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from vlrl.families.encoded import EncodedPrompt, Features, Media
from vlrl.families.family import Family
from vlrl.families.reading import Reader, visual
from vlrl.families.resize import video_size
from vlrl.media.frame_sampling import sampled_fps
from vlrl.media.video import read_part
from vlrl.types import ImagePart, Message, VideoPart

if TYPE_CHECKING:
    from vlrl.families.interfaces import VisionLanguageModel, VisionProcessor, VisionTower

VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


@dataclass(frozen=True)
class QwenVL(Family):
    """Media: `pixel_values`, flattened patches [N, D], and `grid_thw`, [images and videos, 3]."""

    forbidden_tokens: tuple[str, ...] = VISION_TOKENS
    packs: bool = True
    reads_videos: bool = True
    mrope: bool = True

    takes_pixel_bounds: ClassVar[bool] = True
    sees_frames_apart: ClassVar[bool] = True
    lays_out_images: ClassVar[bool] = True

    def encode(self, reader: Reader, messages: Sequence[Message]) -> EncodedPrompt:
        """The tensors of a prompt; raises what unreadable images and videos raise."""
        from qwen_vl_utils import process_vision_info

        chat = [_as_chat(reader, message) for message in messages]
        text = reader.processor.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
        images, videos = process_vision_info(
            chat, image_patch_size=reader.processor.image_processor.patch_size
        )[:2]
        films = [part for part in visual(messages) if isinstance(part, VideoPart)]
        more = _video_arguments(reader, films, videos) if films else {}
        inputs = reader.processor(
            text=[text], images=images, do_resize=False, return_tensors="pt", **more
        )
        # Only Qwen2.5-VL counts seconds in its positions; Qwen3-VL writes them as text.
        seconds = torch.tensor([_seconds_per_grid(reader, film) for film in films])
        positions = reader.positions(inputs, second_per_grid_ts=seconds if films else None)
        ids = inputs["input_ids"][0]
        media = _in_order(messages, inputs)
        size = None
        if media is not None:
            patch = reader.processor.image_processor.patch_size
            _, height, width = media["grid_thw"][0].tolist()
            size = (width * patch, height * patch)
        num = reader.num_visual_tokens(ids)
        return EncodedPrompt(ids, positions, media, num, image_size_px=size)

    def features(self, core: VisionLanguageModel, media: Media) -> Features:
        """The merged patches, then Qwen3-VL's deepstack levels."""
        patches = media["pixel_values"]
        grid = media["grid_thw"].to(patches.device)
        output = core.model.get_image_features(patches, grid, return_dict=True)
        levels = [output["pooler_output"], *(output.get("deepstack_features") or [])]
        return Features(torch.stack([torch.cat(list(level)) for level in levels]))

    def parts(self, media: Media) -> list[tuple[Media, int]]:
        """One image or video each, and its patches."""
        grids = media["grid_thw"]
        sizes = grids.prod(-1).tolist()
        return [
            ({"pixel_values": patches, "grid_thw": grid[None]}, size)
            for patches, grid, size in zip(
                media["pixel_values"].split(sizes), grids, sizes, strict=True
            )
        ]

    def blank(self, core: VisionLanguageModel, reader: Reader | None = None) -> Media:
        """Four merged patches of zeros."""
        vision = core.config.vision_config
        side = 2 * vision.spatial_merge_size
        depth = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        patches = torch.zeros(side * side, depth)
        return {"pixel_values": patches, "grid_thw": torch.tensor([[1, side, side]])}

    def patch_tower(self, core: VisionLanguageModel) -> VisionTower:
        """The tower, whose attention is in windows."""
        return core.model.visual

    def pixel_bounds(self, processor: VisionProcessor) -> tuple[int, int]:
        """Least and largest area of an image in pixels, as the checkpoint has it."""
        size = processor.image_processor.size
        return int(size["shortest_edge"]), int(size["longest_edge"])


def _as_chat(reader: Reader, message: Message) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, ImagePart):
            content.append(
                {
                    "type": "image",
                    "image": reader.opens(part),
                    "min_pixels": reader.min_pixels,
                    "max_pixels": reader.max_pixels,
                }
            )
        elif isinstance(part, VideoPart):
            content.append(_video(reader, part))
        else:
            content.append({"type": "text", "text": reader.text(part)})
    return {"role": message.role, "content": content}


def _video(reader: Reader, part: VideoPart) -> dict[str, Any]:
    images = reader.processor.image_processor
    height, width = video_size(
        part.height_px, part.width_px, images.patch_size * images.merge_size, part.longer_side_px
    )
    return {
        "type": "video",
        "video": [Image.fromarray(frame) for frame in read_part(part)],
        "sample_fps": sampled_fps(part.frames, part.fps),
        "resized_height": height,
        "resized_width": width,
    }


def _seconds_per_grid(reader: Reader, part: VideoPart) -> float:
    """Time between two steps of the vision tower, which reads frames in pairs."""
    depth = reader.processor.video_processor.temporal_patch_size
    return depth / sampled_fps(part.frames, part.fps)


def _video_arguments(reader: Reader, parts: Sequence[VideoPart], videos: object) -> dict[str, Any]:
    """The processor's arguments: the frames sampled here, and their times."""
    depth = reader.processor.video_processor.temporal_patch_size
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


def _in_order(messages: Sequence[Message], inputs: Mapping[str, Tensor]) -> Media | None:
    """Patches and grids of images and videos in the order of the prompt."""
    images = _items(inputs.get("pixel_values"), inputs.get("image_grid_thw"))
    videos = _items(inputs.get("pixel_values_videos"), inputs.get("video_grid_thw"))
    items = [
        videos.pop(0) if isinstance(part, VideoPart) else images.pop(0) for part in visual(messages)
    ]
    if not items:
        return None
    return {
        "pixel_values": torch.cat([patches for patches, _ in items]),
        "grid_thw": torch.stack([grid for _, grid in items]),
    }


def _items(patches: Tensor | None, grids: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    if patches is None or grids is None:
        return []
    parts = patches.split(grids.prod(-1).tolist())
    return list(zip(parts, grids, strict=True))
