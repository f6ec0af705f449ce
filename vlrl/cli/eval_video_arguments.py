"""The arguments of `vlrl eval` that only video benchmarks have."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlrl.video.track_answers import FORMATS
from vlrl.video.tube_metrics import CONVENTIONS


def add_video_arguments(parser: argparse.ArgumentParser) -> None:
    """How frames are sampled, answers written, spans counted, and given tubes laid out."""
    group = parser.add_argument_group("videos (default: the model's vlrl.json, then the task's)")
    group.add_argument("--convention", choices=CONVENTIONS, default="official")
    group.add_argument("--answer-format", choices=tuple(FORMATS))
    group.add_argument("--index", choices=("sampled_frame", "second", "native_frame"))
    group.add_argument("--start-at", type=int, choices=(0, 1), help="name of the first index")
    group.add_argument("--edges", choices=("around", "after"), help="frames an index stands for")
    group.add_argument(
        "--coordinates", choices=("profile", "resized_px", "original_px", "thousand", "unit")
    )
    group.add_argument("--fps", type=float, help="frames a second that the model sees")
    group.add_argument("--max-frames", type=int)
    group.add_argument("--longer-side-px", type=int)
    group.add_argument("--videos", type=Path, metavar="FOLDER", help="where the videos lie")
    group.add_argument("--trajectories", metavar="FOLDER", help="VidOR's annotations (vidstg)")
    group.add_argument("--published-start", action="store_true", help="hcstvg: as TubeDETR counts")
    group.add_argument("--end-included", action="store_true", help="vidstg: as CG-STVG counts")
    group.add_argument("--clip-px", type=float, default=0.0, help="boxes may exceed by so much")
    group.add_argument("--skip-bad-rows", action="store_true", help="list them and go on")
    group.add_argument(
        "--predictions-format", choices=("text", "tubes"), default="text", help="of --predictions"
    )
    group.add_argument(
        "--first-frame-number", type=int, choices=(0, 1), default=0, help="in given tubes"
    )
    group.add_argument(
        "--interpolate", action="store_true", help="fill frames between boxes of given tubes"
    )
