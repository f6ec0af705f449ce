"""Clips as files: one video per clip, and one line per question."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from scripts.assets.clips.render import SIDE_PX
from scripts.assets.clips.scene import FPS, NUM_FRAMES, Pool, Question, all_frames, draw_scene, questions_of

CODEC = "libx264"
QUALITY = {"crf": "26", "preset": "fast", "threads": "1", "x264-params": "no-asm=1"}
"""With these options x264 always writes the same bytes; with threads or vector code it does not."""


def write_split(
    folder: Path, split: str, pool: Pool, count: int, num_questions: int, seed: int
) -> int:
    """`count` clips with at most `num_questions` each; returns the number of lines written.

    Writes `<split>.jsonl` and `videos/<split>-<number>.mp4`; the same scenes for the same seed.
    """
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        rng = random.Random(f"{seed}/{split}/{number}")
        frames, questions = _drawn(pool, rng)
        name = f"videos/{split}-{number:04d}.mp4"
        write_video(folder / name, frames)
        rng.shuffle(questions)
        lines += list(_lines(questions[:num_questions], name, f"{split}-{number:04d}"))
    path = folder / f"{split}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return len(lines)


def _drawn(pool: Pool, rng: random.Random) -> tuple[np.ndarray, list[Question]]:
    while True:
        scene = draw_scene(pool, rng)
        drawn = all_frames(scene)
        questions = questions_of(scene, drawn)
        if questions:
            return drawn.frames, questions


def _lines(questions: list[Question], video: str, clip: str) -> Iterator[dict[str, Any]]:
    for place, question in enumerate(questions):
        yield {
            "id": f"{clip}-{place}",
            "video": video,
            "width": SIDE_PX,
            "height": SIDE_PX,
            "fps": FPS,
            "num_frames": NUM_FRAMES,
            "sentence": question.sentence,
            "first_frame": question.first,
            "boxes": question.boxes.astype(int).tolist(),
            "kind": question.kind,
            "concept": question.concept,
            "twin": "twin" if question.twin else "alone",
            "occluded": "covered in part" if question.occluded else "whole",
        }


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """uint8 [T, H, W, 3] as a file that every decoder reads."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(CODEC, rate=fps, options=QUALITY)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
