"""Small videos and problems about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from helpers_runs import ROOT
from PIL import Image

from vlrl.config.resolve import load_run_config
from vlrl.config.schema import RunConfig
from vlrl.media.frame_sampling import sample_frames
from vlrl.types import ImagePart, Message, Sample, TextPart, VideoPart


def moving_square(num_frames: int, height: int = 84, width: int = 112, seed: int = 0) -> np.ndarray:
    """A bright square that moves over noise, uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 90, (num_frames, height, width, 3), dtype=np.uint8)
    for t in range(num_frames):
        x, y = 5 + 2 * t, 8 + t
        frames[t, y : y + 24, x : x + 24] = (250, 40 * (seed % 6), 30)
    return frames


def write_video(path: Path, frames: np.ndarray, fps: int = 8) -> Path:
    """A lossless file, so that what is read can be compared with what was written."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def video_part(source: Any, num_frames: int, fps: float = 8, **over: Any) -> VideoPart:
    """A part that shows two frames per second of a video of 112 x 84 pixels."""
    size = {"width_px": 112, "height_px": 84, **over}
    frames = sample_frames(num_frames, fps, 2.0)
    return VideoPart(source, fps=fps, num_frames=num_frames, frames=frames, **size)


def video_problem(
    number: int, num_frames: int = 16, image: str | None = None, **over: Any
) -> Sample:
    """A question about an array of frames, optionally after an image."""
    part = video_part(moving_square(num_frames, seed=number), num_frames, **over)
    text = TextPart("Find: the square" + " please" * number)
    first = () if image is None else (ImagePart(image, 112, 84),)
    return Sample(f"v{number}", "video_grounding", (Message("user", (*first, part, text)),), None)


def save_shades(folder: Path) -> Path:
    """A substitute for a photograph: shades of colour, 200 x 160 px."""
    path = folder / "shades.png"
    across, down = np.meshgrid(np.arange(200), np.arange(160))
    shades = np.stack([across, down, (across + down) // 2], axis=-1).astype(np.uint8)
    Image.fromarray(shades).save(path)
    return path


def credit_run(out: Path) -> RunConfig:
    """The shipped config and model with credit per box: one step of two groups of four."""
    folder = ROOT / "configs/video_grounding"
    return load_run_config(
        [folder / "tiny.yaml", folder / "tiny_credit.yaml"],
        [f"out={out}", "algo.num_prompts=2", "algo.group_size=4", "num_steps=1",
         "eval.splits=[]", "log.rollouts_every=0", "checkpoint.at_end=false"],
        str(ROOT / "configs/rewards/stvg_o1_credit.yaml"),
    )  # fmt: skip
