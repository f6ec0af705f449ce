"""Spatio-temporal video grounding: a video and a sentence, answered with a span and boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import PositiveFloat, PositiveInt, field_validator

from vlrl.config.section import Section
from vlrl.data.collect import OneOrMore, Rows, Splits
from vlrl.errors import ConfigError
from vlrl.families.literal import literal
from vlrl.families.profiles import profile_named
from vlrl.families.resize import video_size
from vlrl.geometry.boxes import Box, Frame
from vlrl.media.frame_sampling import sample_frames
from vlrl.media.video import read_part
from vlrl.protocols import Drawing, KnownAnswers, Task
from vlrl.types import Message, Rollout, Sample, SizeSeen, TextPart, VideoPart
from vlrl.video.checks import check_shape, first_readable
from vlrl.video.contact_sheet import Strip, contact_sheet, shown, strip_of
from vlrl.video.data.video_rows import VideoRow, VideoSource, read_videos
from vlrl.video.model_options import MODEL_OPTIONS
from vlrl.video.near_misses import WRITTEN, near_misses, written
from vlrl.video.question import STVG_QUESTION
from vlrl.video.spans import clamp, span_iou
from vlrl.video.timeline import Edges as SpanEdges
from vlrl.video.timeline import Timeline, Unit
from vlrl.video.track_answers import TrackFormat, format_named, part_starts, read_track
from vlrl.video.tube_metrics import NOTHING, Convention, TubeScore, score_tube
from vlrl.video.tubes import Track, Tube
from vlrl.video.video_answers import (
    Duplicates,
    TimedBoxes,
    VideoAnswer,
    VideoTarget,
    answer_from,
)

THRESHOLDS = (0.3, 0.5)

Coordinates = Literal["profile", "resized_px", "original_px", "thousand", "unit"]


class VideoGrounding(Task):
    """Data, reading and metrics of video grounding.

    Example: VideoGrounding(VideoGrounding.Options(data={"train": {"path": "train.jsonl"}})).
    """

    class Options(Section):
        """The `task:` part of a config; `data` maps split names to sources."""

        data: dict[str, OneOrMore[VideoSource]]
        prompt: str = STVG_QUESTION
        """May hold {sentence}, {num_frames}, {first}, {last}, {duration_s}, {width}, {height}."""
        answer: str = "stvg_o1"
        """How answers are written: stvg_o1, stvg, seconds_csv, temporal, intervals, box_list,
        open_o3 (vlrl/video/track_answers.py)."""
        index: Unit = "sampled_frame"
        """What the numbers of boxes and spans count; STVG-o1 leaves it open."""
        start_at: Literal[0, 1] = 0
        """What the first frame or second is called."""
        edges: SpanEdges = "around"
        """Which native frames an index covers when spans are scored: those nearest to it, or
        those `after` it up to the next one (right where events start at sampled frames)."""
        coordinates: Coordinates = "profile"
        """What boxes are written in; `profile`: as the model's family writes them."""
        profile: str = "qwen2_5_vl"
        """The coordinate profile of the model's family; gives the patch size too."""
        fps: PositiveFloat = 2.0
        """Frames per second that the model sees."""
        max_frames: PositiveInt | None = None
        """Most frames that the model sees, spread evenly over videos that have more."""
        longer_side_px: PositiveInt | None = 336
        """Largest longer side of the resized frames; null = no limit."""
        duplicates: Duplicates = "last"
        """Which box of an index counts that is written twice; the track is inconsistent anyway."""
        convention: Convention = "official"
        """How tIoU and vIoU are counted; see vlrl/video/tube_metrics.py."""
        limit: PositiveInt | None = None
        """Number of rows to read of each split, the first ones."""
        on_bad_row: Literal["error", "skip"] = "error"

        @field_validator("prompt")
        @classmethod
        def _has_sentence(cls, prompt: str) -> str:
            if "{sentence}" not in prompt:
                raise ValueError("the prompt needs {sentence} where the sentence goes")
            return prompt

        @field_validator("answer")
        @classmethod
        def _is_known(cls, answer: str) -> str:
            try:
                format_named(answer)
            except ConfigError as error:
                raise ValueError(str(error)) from error
            return answer

    options: Options
    name = "video_grounding"
    main_metrics = ("v_iou", "t_iou")
    metric_labels: ClassVar[Mapping[str, str]] = {"v_iou": "vIoU", "t_iou": "tIoU"}
    metric_charts: ClassVar[Mapping[str, tuple[str, ...]]] = {"": ("well_formed",)}
    drawing = Drawing(
        "videos",
        "true box",
        "answer",
        "; grey boxes: thinking; the bars below are time, truth first",
    )
    names_splits = finds_stages = True
    provides: ClassVar[Mapping[str, str]] = {
        "spans": "target.spans and parsed.spans, (start, end) pairs; target.closed: whole frames",
        "track": "target.track, vlrl.video.tubes.Tube; parsed.think and .final, Track or None",
        "format": "parsed.well_formed, bool: the answer is exactly in the requested format",
        "consistent": "parsed.consistent, bool: the boxes cover exactly the answered span",
        "timed_boxes": "target.timed and parsed.timed, TimedBoxes of vlrl.video.video_answers; "
        "parsed.times: all times in seconds",
    }

    def __init__(self, options: VideoGrounding.Options) -> None:
        self.options = options
        self.profile = profile_named(options.profile)
        self.form: TrackFormat = format_named(options.answer)
        self._splits = Splits(options.data, self._read, self.sample)
        self.skipped = self._splits.skipped

    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split, in file order; raises ConfigError, DataError."""
        return self._splits.samples(split)

    def skips_unreadable(self, split: str) -> bool:
        """Whether `on_bad_row: skip` asks for it."""
        return self.options.on_bad_row == "skip"

    def _read(self, source: VideoSource) -> Rows[VideoRow]:
        options = self.options
        return read_videos(
            source, on_bad_row=options.on_bad_row, limit=options.limit, check=check_shape
        )

    def sample(self, row: VideoRow) -> Sample:
        """One checked row as a problem; the video comes before the question."""
        options = self.options
        frames = sample_frames(row.num_frames, row.fps, options.fps, options.max_frames)
        timeline = Timeline(
            options.index, frames, row.fps, row.num_frames, options.start_at, options.edges
        )
        part = VideoPart(
            row.video,
            row.width_px,
            row.height_px,
            row.fps,
            row.num_frames,
            frames,
            row.first_frame,
            options.longer_side_px,
        )
        return Sample(
            id=row.id,
            task=self.name,
            prompt=(Message("user", (part, TextPart(self._question(row, timeline)))),),
            target=self._target(row, timeline),
            columns={**row.fields, "sentence": row.sentence, "spans_s": list(row.spans_s)},
        )

    def _question(self, row: VideoRow, timeline: Timeline) -> str:
        height, width = self._resized(row.height_px, row.width_px)
        texts = {
            "{num_frames}": str(len(timeline.frames)),
            "{first}": str(timeline.start_at),
            "{last}": str(timeline.last),
            "{duration_s}": f"{row.num_frames / row.fps:.1f}",
            "{width}": str(width),
            "{height}": str(height),
            # The sentence last: it may hold braces of its own.
            "{sentence}": literal(row.sentence),
        }
        question = self.options.prompt
        for name, text in texts.items():
            question = question.replace(name, text)
        return question

    def _target(self, row: VideoRow, timeline: Timeline) -> VideoTarget:
        closed = self.form.unit == "index"
        if closed and row.tube is None:
            raise ConfigError(
                f"sample {row.id!r} has times and no boxes, but answers in the format "
                f"{self.form.name!r} number frames; use task.answer: temporal or intervals"
            )
        track = None if row.tube is None else timeline.on_grid(row.tube)
        # Annotations sometimes end after their video: clipped here, as answers are.
        spans = clamp(row.spans_s, row.num_frames / row.fps)
        timed: tuple[TimedBoxes, ...] = ()
        if track is not None:
            if closed:
                spans = ((float(track.first), float(track.last)),)
            timed = tuple(
                TimedBoxes(
                    timeline.seconds(track.first + k),
                    (Box(box[0], box[1], box[2], box[3], track.frame),),
                )
                for k, box in enumerate(track.boxes.tolist())
            )
        return VideoTarget(
            spans, closed, track, row.tube, timed, timeline, row.labels, row.first_frame
        )

    def parse(self, sample: Sample, output: object) -> VideoAnswer | None:
        """The span and boxes of an answer; None if it has neither. Never raises on any text."""
        if not isinstance(output, str):
            return None
        part = video_part(sample)
        here = Frame(part.width_px, part.height_px)
        return answer_from(
            read_track(output, self.options.answer),
            self.form,
            sample.target,
            self._written_frame(here),
            here,
            self.options.duplicates,
        )

    def _written_frame(self, here: Frame) -> Frame:
        """The frame that the answer's numbers are in."""
        kind = self.options.coordinates
        height, width = self._resized(int(here.height), int(here.width))
        frames = {
            "profile": self.profile.frame(Frame(width, height)),
            "resized_px": Frame(width, height),
            "original_px": here,
            "thousand": Frame(1000, 1000),
            "unit": Frame(1, 1),
        }
        return frames[kind]

    def native(self, sample: Sample, answer: VideoAnswer) -> tuple[tuple[int, int], Track] | None:
        """The answered span and a box for each of its native frames; None without a span."""
        target: VideoTarget = sample.target
        if not answer.spans or not target.closed:
            return None
        span = (int(answer.spans[0][0]), int(answer.spans[0][1]))
        if (
            span[1] < span[0]
            or span[1] < target.timeline.start_at
            or span[0] > target.timeline.last
        ):
            return None
        boxes = answer.final.valid() if answer.final is not None else Track({}, Frame(1, 1))
        return target.timeline.on_native_frames(span, boxes)

    def score(self, sample: Sample, answer: VideoAnswer | None) -> TubeScore | None:
        """tIoU, vIoU and gt_vIoU on native frames; None without a true tube or numbered boxes."""
        target: VideoTarget = sample.target
        if target.tube is None or not target.closed:
            return None
        found = None if answer is None else self.native(sample, answer)
        if found is None:
            return NOTHING
        return score_tube(
            *found,
            target.tube,
            convention=self.options.convention,
            num_frames=target.timeline.num_frames,
            fps=target.timeline.fps,
            first_frame=target.first_frame,
        )

    def metrics(self, rollouts: Sequence[Rollout]) -> Mapping[str, Sequence[float]]:
        """t_iou, v_iou, gt_v_iou, v_iou_above_0.3 and 0.5, well_formed, consistent.

        On native frames in the task's `convention`; an unreadable answer counts 0. Where only
        times are known or answered: t_iou in seconds and t_iou_at_least_0.3, 0.5 and 0.7, the
        rest nan.
        """
        columns: dict[str, list[float]] = {}
        for rollout in rollouts:
            for name, value in self._metrics_of(rollout).items():
                columns.setdefault(name, []).append(value)
        return columns

    def _metrics_of(self, rollout: Rollout) -> dict[str, float]:
        answer: VideoAnswer | None = rollout.parsed
        target: VideoTarget = rollout.sample.target
        score = self.score(rollout.sample, answer)
        if score is None:
            spans = () if answer is None else answer.spans
            t_iou = span_iou(spans, target.spans, closed=False) if answer is not None else 0.0
            boxes = [math.nan] * (2 + len(THRESHOLDS))
        else:
            t_iou = score.t_iou
            above = [float(score.v_iou > least) for least in THRESHOLDS]
            boxes = [score.v_iou, score.gt_v_iou, *above]
        names = ("v_iou", "gt_v_iou", *(f"v_iou_above_{least}" for least in THRESHOLDS))
        metrics = {"t_iou": t_iou, **dict(zip(names, boxes, strict=True))}
        if not self.form.has_boxes:
            metrics |= {f"t_iou_at_least_{r}": float(t_iou >= r) for r in (0.3, 0.5, 0.7)}
        metrics["well_formed"] = float(answer is not None and answer.well_formed)
        if self.form.has_boxes:
            metrics["consistent"] = float(answer is not None and answer.consistent)
        return metrics

    def is_right(self, rollout: Rollout) -> bool:
        """Whether vIoU is above 0.5, tIoU where there are only times."""
        metrics = self._metrics_of(rollout)
        return (metrics["t_iou"] if math.isnan(metrics["v_iou"]) else metrics["v_iou"]) > 0.5

    def known_answers(self, sample: Sample) -> KnownAnswers | None:
        """The true track and others near it; None where the format is one that is only read."""
        target, part = sample.target, video_part(sample)
        if target.track is None or self.form.name not in WRITTEN:
            return None
        frame = self._written_frame(Frame(part.width_px, part.height_px))
        wrong = near_misses(target.track, target.timeline)
        texts = {kind: written(track, self.form, frame) for kind, track in wrong.items()}
        return KnownAnswers(written(target.track, self.form, frame), texts)

    def recipe(self) -> Mapping[str, Any]:
        """The coordinate profile, the question, and how frames are sampled and answers written."""
        video = self.options.model_dump(mode="json", include=set(MODEL_OPTIONS))
        return {"profile": self.options.profile, "prompt": self.options.prompt, "video": video}

    def stage_starts(self, text: str, num_stages: int) -> list[tuple[int, int]]:
        """Where the span (stage 0) and the boxes begin in an answer: (first character, stage).

        Raises ConfigError for answers in another form than the paper's.
        """
        if self.options.answer not in ("stvg_o1", "stvg"):
            raise ConfigError(
                f"task.answer {self.options.answer!r}: a reward by stages needs stvg_o1 or stvg"
            )
        return part_starts(text, (num_stages - 1) // 2)

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """The row's labels: kind of sentence, declarative or interrogative, ..."""
        return {key: value for key, value in sample.target.labels.items() if value}

    def difficulty(self, sample: Sample) -> float:
        """Mean area of the true boxes relative to the image; nan where only times are known."""
        tube: Tube | None = sample.target.tube
        if tube is None:
            return math.nan
        sides = (tube.boxes[:, 2:] - tube.boxes[:, :2]) / tube.frame.extent
        return float(sides.prod(1).mean())

    def draw(self, sample: Sample, rollouts: Sequence[Rollout]) -> Image.Image:
        """Frames with the true and the answered boxes, and a bar of time for each."""
        target: VideoTarget = sample.target
        part = video_part(sample)
        images = read_part(part)
        places = shown(len(images))
        natives = [part.frames[k] for k in places]
        here = Frame(part.width_px, part.height_px)
        true = None
        if target.tube is not None:
            true = strip_of(
                natives, target.tube.span, {k: tuple(target.tube.near(k)) for k in natives}
            )
        answers = []
        for rollout in rollouts:
            answer: VideoAnswer | None = rollout.parsed
            found = None if answer is None else self.native(sample, answer)
            if answer is None or found is None:
                continue
            if answer.think is not None:
                # Thinking boxes where they are written, not between: a few grey lines are enough.
                thought = {target.timeline.native(k): b for k, b in answer.think.boxes.items()}
                strip = strip_of(natives, (0, part.num_frames), thought)
                answers.append(Strip(strip.inside, strip.boxes, dotted=True))
            answers.append(strip_of(natives, found[0], found[1].boxes))
        return contact_sheet(images[places], here, true, answers)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        return video_size(height, width, self.profile.patch(), self.options.longer_side_px)

    def check_policy(self, size_seen: SizeSeen, split: str) -> None:
        """Compare this task's idea of the model's frames with the policy's; ConfigError if not.

        size_seen: the size that a policy gives the sample's frames, width and height in pixels.
        """
        sample, theirs = first_readable(self.samples(split), size_seen)
        part = video_part(sample)
        height, width = self._resized(part.height_px, part.width_px)
        if theirs is not None and (width, height) != theirs:
            raise ConfigError(
                f"sample {sample.id!r}: the policy resizes its video to {theirs}, the task's "
                f"profile {self.profile.name!r} expects {(width, height)}; set the profile of the "
                "model's family"
            )


def video_part(sample: Sample) -> VideoPart:
    """The video of a sample's prompt."""
    return next(p for m in sample.prompt for p in m.parts if isinstance(p, VideoPart))
