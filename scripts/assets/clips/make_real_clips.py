"""Cut a real video into clips with sentences and boxes, and report how good the boxes are.

    apt-get download opencv-doc && dpkg-deb -x opencv-doc_*.deb opencv-doc
    python scripts/assets/clips/make_real_clips.py --out runs/real_clips \\
        --video opencv-doc/usr/share/doc/opencv-doc/examples/data/vtest.avi
    vlrl eval --benchmark custom_video --data runs/real_clips --model MODEL

vtest.avi shows people who walk past a static camera; it is not in this repository.
The sentences are ours. The boxes come from scripts/assets/clips/walkers.py; `checked`
holds boxes drawn by hand, and the script prints how well the two agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlrl.cli.checks import run_program
from scripts.assets.clips.dataset import write_video
from scripts.assets.clips.walkers import Walk, empty_scene, moving_boxes, walks
from vlrl.errors import DataError
from vlrl.geometry.boxes import iou
from vlrl.media.video import read_frames, video_info

FPS = 10


@dataclass(frozen=True)
class Cut:
    """A clip of the video, a sentence, and the walk that it refers to."""

    name: str
    sentence: str
    start: int
    stop: int
    """Native frames of the clip, the last one included."""
    first: int
    last: int
    """Native frames of the tube, the last one included."""
    kind: str
    checked: dict[int, tuple[int, int, int, int]]
    """Boxes drawn by hand, xyxy pixels, by native frame."""


CUTS = (
    Cut("white", "the person in the light blue coat before leaving", 165, 245, 165, 220, "leave",
        {174: (245, 166, 275, 234), 192: (127, 158, 158, 220), 211: (28, 147, 50, 206)}),
    Cut("red-leaves", "the woman in the red jacket before she leaves", 495, 600, 495, 578, "leave",
        {508: (271, 185, 300, 262), 536: (170, 169, 196, 239), 565: (56, 173, 81, 239)}),
    Cut("last-man", "the man who comes in from the right last", 215, 275, 229, 275, "enter",
        {236: (680, 275, 719, 384), 252: (582, 252, 619, 353), 268: (473, 239, 522, 334)}),
    Cut("jeans", "the man who comes in from the right", 25, 110, 40, 110, "enter",
        {51: (668, 256, 709, 367), 75: (578, 198, 608, 294), 99: (589, 156, 614, 238)}),
    Cut("waits", "the man at the far left before he leaves", 226, 305, 226, 287, "leave",
        {236: (39, 176, 61, 244), 256: (39, 175, 61, 244), 277: (15, 179, 43, 242)}),
    Cut("red-enters", "the woman in the red jacket after she comes in", 410, 455, 421, 455, "enter",
        {426: (704, 278, 754, 378), 438: (628, 261, 665, 360), 450: (559, 243, 592, 337)}),
)  # fmt: skip


def main() -> None:
    """Write test.jsonl and the clips, then print the agreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, required=True, help="vtest.avi of opencv-doc 4.6")
    parser.add_argument("--out", type=Path, default=Path("runs/real_clips"))
    args = parser.parse_args()
    frames = read_frames(args.video, range(video_info(args.video).num_frames))
    empty = empty_scene(frames)
    found = walks(moving_boxes(frame, empty) for frame in frames)
    (args.out / "videos").mkdir(parents=True, exist_ok=True)
    agreement = []
    with (args.out / "test.jsonl").open("w", encoding="utf-8") as lines:
        for cut in CUTS:
            boxes = tube(cut, found)
            for frame, box in cut.checked.items():
                drawn = np.array([box], dtype=float)
                agreement.append(float(iou(boxes[frame - cut.first][None], drawn)[0]))
            file = args.out / "videos" / f"{cut.name}.mp4"
            write_video(file, frames[cut.start : cut.stop + 1], FPS)
            lines.write(json.dumps(row_of(cut, boxes, frames[0])) + "\n")
    print(
        f"{len(CUTS)} clips in {args.out}; IoU with {len(agreement)} boxes drawn by hand: mean "
        f"{np.mean(agreement):.3f}, least {min(agreement):.3f}"
    )


def tube(cut: Cut, found: list[Walk]) -> np.ndarray:
    """The boxes of the one walk that covers the tube and the boxes drawn by hand; DataError."""
    fitting = [
        walk.boxes[cut.first - walk.first : cut.last + 1 - walk.first]
        for walk in found
        if walk.first <= cut.first and cut.last <= walk.last
    ]
    for boxes in fitting:
        pairs = [(boxes[frame - cut.first], box) for frame, box in cut.checked.items()]
        if all(iou(a[None], np.array([b], dtype=float))[0] > 0.5 for a, b in pairs):
            return boxes
    raise DataError(f"{cut.name}: no walk fits it; is this the vtest.avi of opencv-doc 4.6?")


def row_of(cut: Cut, boxes: np.ndarray, frame: np.ndarray) -> dict[str, object]:
    """The clip's line, in the layout of assets/clips."""
    return {
        "id": cut.name,
        "video": f"videos/{cut.name}.mp4",
        "width": frame.shape[1],
        "height": frame.shape[0],
        "fps": FPS,
        "num_frames": cut.stop + 1 - cut.start,
        "sentence": cut.sentence,
        "first_frame": cut.first - cut.start,
        "boxes": boxes.astype(int).tolist(),
        "kind": cut.kind,
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
