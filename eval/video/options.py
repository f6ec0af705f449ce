"""The options that `vlrl eval` has on video benchmarks, in sections."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vlrl.config.section import Section
from vlrl.eval.options import EvalOptions
from vlrl.video.timeline import Edges, Unit
from vlrl.video.tube_metrics import Convention

AnswerFormat = Literal[
    "stvg_o1", "stvg", "seconds_csv", "temporal", "intervals", "box_list", "open_o3"
]


class TaskSection(Section):
    """Videos and answers (default: the model's vlrl.json, then the task's)."""

    convention: Convention = Field("official", description="how tIoU and vIoU are counted")
    answer_format: AnswerFormat | None = Field(None, description="how answers are written")
    index: Unit | None = Field(None, description="what the numbers of an answer count")
    start_at: Literal[0, 1] | None = Field(None, description="name of the first index")
    edges: Edges | None = Field(None, description="frames that an index covers")
    coordinates: Literal["profile", "resized_px", "original_px", "thousand", "unit"] | None = Field(
        None, description="what boxes are written in"
    )
    fps: float | None = Field(None, description="frames per second that the model sees")
    max_frames: int | None = None
    longer_side_px: int | None = None


class VideoDataSection(Section):
    """Videos and annotations."""

    videos: Path | None = Field(None, description="where the videos are")
    trajectories: str | None = Field(None, description="VidOR's annotations (vidstg)")
    published_start: bool = Field(False, description="hcstvg: as TubeDETR counts")
    end_included: bool = Field(False, description="vidstg: as CG-STVG counts")
    clip_px: float = Field(0.0, description="pixels by which boxes may exceed their image")
    within_root: bool = Field(False, description="refuse paths that lead out of the video folder")
    skip_bad_rows: bool = Field(False, description="list them and continue")


class TubesSection(Section):
    """Given tubes."""

    predictions_format: Literal["text", "tubes"] = Field("text", description="of --predictions")
    first_frame_number: Literal[0, 1] = 0
    interpolate: bool = Field(False, description="fill frames between given boxes")


class VideoEvalOptions(EvalOptions, TaskSection, VideoDataSection, TubesSection):
    """Of video benchmarks."""
