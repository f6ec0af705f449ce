"""GUI grounding: an instruction and a screenshot, answered with a box or a click."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field, field_validator, model_validator

from vlrl.config.section import Section, check_limits
from vlrl.data.collect import OneOrMore, Rows, Splits
from vlrl.errors import ConfigError, DataError
from vlrl.families.literal import literal
from vlrl.families.profiles import GUI_G2_QUESTION, Profile, profile_named
from vlrl.families.resize import why_unfit
from vlrl.geometry.boxes import Box, Frame, Point, iou
from vlrl.geometry.overlay import Mark, overlay
from vlrl.gui.answers import parse_answer, self_check
from vlrl.gui.data.box_set import box_set
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import read_rows_of
from vlrl.gui.data.rows import GroundingRow, RawRow, check_row
from vlrl.gui.near_misses import near_misses
from vlrl.gui.syntax import is_well_formed, write_answer
from vlrl.gui.verdict import Polygon, is_inside
from vlrl.media.images import open_image
from vlrl.protocols import Drawing, KnownAnswers, Task
from vlrl.stats import evenly
from vlrl.types import ImagePart, Message, Rollout, Sample, SizeSeen, TextPart

log = logging.getLogger(__name__)
NUM_CHECKED = 31
"""Image sizes on which the resizing of policy and task is compared, besides the largest."""


@dataclass(frozen=True)
class GuiTarget:
    """The target; the box is in pixels of the original image."""

    box: Box
    kind: str = ""
    app: str = ""
    element_type: str = ""
    platform: str = ""
    familiar: str = ""
    """"familiar" or "new": whether training screens show this element too; "" = unknown."""
    polygon: tuple[Point, ...] | None = None
    """Corners in order, where the target is not a rectangle; `box` then bounds it."""
    all_boxes: tuple[Box, ...] = ()
    """All that an answer may name, where there are several."""
    salience: tuple[float, ...] = ()
    """A weight for each of `all_boxes`; none = all alike."""

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All true boxes."""
        return self.all_boxes or (self.box,)

    def __post_init__(self) -> None:
        if not self.box.is_valid:
            raise ValueError(f"the true box {self.box.xyxy} is empty, inverted or off its image")


@dataclass(frozen=True)
class GuiAnswer:
    """What was read in an answer, in the target's frame (pixels of the original image)."""

    box: Box | None
    """The first box; None if the answer has points only."""
    points: tuple[Point, ...]
    """Every place's click, best first: a point, or the centre of a box."""
    well_formed: bool
    all_boxes: tuple[Box, ...] = ()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Every box of the answer, in its order."""
        return self.all_boxes or (() if self.box is None else (self.box,))


class GuiGrounding(Task):
    """Data, reading and metrics of GUI grounding.

    Example: GuiGrounding(GuiGrounding.Options(data={"train": {"path": "train.jsonl"}})).
    """

    class Options(Section):
        """The `task:` part of a config; `data` maps split names to sources."""

        data: dict[str, OneOrMore[SourceOptions]]
        prompt: str = GUI_G2_QUESTION
        profile: str = "gui_g2"
        """The coordinate profile: how the model sees images and writes places."""
        several_boxes: bool = False
        """Read all true boxes of a row from its column `boxes` (xyxy, pixels of the image) and how
        much each matters from `salience`; rewards: set_iou, salience_iou."""
        min_pixels: int | None = Field(default=None, gt=0)
        """Least area of the resized image; default: the profile's."""
        max_pixels: int | None = Field(default=None, gt=0)
        limit: int | None = Field(default=None, gt=0)
        """Number of rows to read of each split, the first ones."""
        on_bad_row: Literal["error", "skip"] = "error"

        @field_validator("prompt")
        @classmethod
        def _has_instruction(cls, prompt: str) -> str:
            if "{instruction}" not in prompt:
                raise ValueError("the prompt needs {instruction} where the instruction goes")
            return prompt

        @model_validator(mode="after")
        def _check(self) -> GuiGrounding.Options:
            check_limits(self.min_pixels, self.max_pixels)
            return self

    options: Options
    name = "gui_grounding"
    names_splits = True
    main_metrics = ("hit",)
    metric_labels: ClassVar[Mapping[str, str]] = {"hit": "hit rate"}
    metric_charts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Sampled answers": ("hit", "iou"),
        "": ("size_ratio", "well_formed"),
    }
    drawing = Drawing("screens", "true box", "answer and its click")
    provides: ClassVar[Mapping[str, str]] = {
        "box": "target.box and parsed.box, vlrl.geometry.boxes.Box or None",
        "boxes": "target.boxes and parsed.boxes, tuples of Box; target.salience, their weights",
        "points": "parsed.points, tuple of vlrl.geometry.boxes.Point, best candidate first",
        "format": "parsed.well_formed, bool: the answer is exactly in the requested format",
    }

    def __init__(self, options: GuiGrounding.Options) -> None:
        self.options = options
        self.profile: Profile = profile_named(options.profile)
        self._splits = Splits(options.data, self._read, self.sample)
        self.skipped = self._splits.skipped

    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split, in file order; raises ConfigError, DataError."""
        return self._splits.samples(split)

    def skips_unreadable(self, split: str) -> bool:
        """Whether `on_bad_row: skip` asks for it."""
        return self.options.on_bad_row == "skip"

    def _read(self, source: SourceOptions) -> Rows[GroundingRow]:
        options = self.options
        return read_rows_of(
            source, on_bad_row=options.on_bad_row, limit=options.limit, check=self._check_size
        )

    def _check_size(self, row: GroundingRow) -> None:
        why = why_unfit(row.height_px, row.width_px, self.profile.factor)
        if why is not None:
            raise DataError(f"the image {row.image}: {why}; resize or leave it out")

    def sample(self, row: GroundingRow) -> Sample:
        """One checked row as a problem; the image comes before the question."""
        frame = Frame(row.width_px, row.height_px)
        # Plain replacement: both texts may hold braces of their own.
        question = self.options.prompt.replace("{instruction}", literal(row.instruction))
        kind, app, element_type, platform = (
            str(row.fields.get(name, "")) for name in ("kind", "app", "element_type", "platform")
        )
        return Sample(
            id=row.id,
            task=self.name,
            prompt=(
                Message(
                    "user",
                    (ImagePart(row.image, row.width_px, row.height_px), TextPart(question)),
                ),
            ),
            target=GuiTarget(
                Box(*row.box, frame),
                kind,
                app,
                element_type,
                platform,
                _familiar(row),
                None,
                *(box_set(row) if self.options.several_boxes else ()),
            ),
            columns={
                **row.fields,
                "bbox": list(row.box),
                "image_size": [row.width_px, row.height_px],
                "instruction": row.instruction,
            },
        )

    def sample_from_columns(self, row: Mapping[str, Any], where: str) -> Sample:
        """A problem from a table's row, for rewards that run in another trainer.

        Needs `bbox` (xyxy, pixels) and `image_size`; raises DataError that names `where`.
        """
        raw = RawRow(
            where=where,
            id=str(row.get("id", where)),
            image=str(row.get("image_path", "unknown")),
            image_size=row.get("image_size"),
            instruction=str(row.get("instruction") or "unknown"),
            box=row.get("bbox"),
            fields=row,
        )
        if raw.image_size is None or raw.box is None:
            raise DataError(
                f"{where}: the columns `bbox` ([x1, y1, x2, y2] in pixels) and `image_size` "
                f"([width, height]) are needed; the data has {sorted(row)}"
            )
        return self.sample(check_row(raw, "xyxy_px", Path(), check_images=False))

    def recipe(self) -> Mapping[str, Any]:
        """The coordinate profile and the question."""
        return {"profile": self.options.profile, "prompt": self.options.prompt}

    def resized(self, sample: Sample) -> Frame:
        """The sample's image as the model sees it, in pixels."""
        size = sample.target.box.frame
        return self.profile.resized(
            int(size.width), int(size.height), self.options.min_pixels, self.options.max_pixels
        )

    def parse(self, sample: Sample, output: object) -> GuiAnswer | None:
        """The places in an answer; None if there is none. Never raises on any text."""
        if not isinstance(output, str):
            return None
        places = parse_answer(output, self.profile, self.resized(sample))
        if not places:
            return None
        frame = sample.target.box.frame
        here = [place.to(frame) for place in places]
        boxes = tuple(place for place in here if isinstance(place, Box))
        return GuiAnswer(
            all_boxes=boxes,
            box=next(iter(boxes), None),
            points=tuple(place.centre if isinstance(place, Box) else place for place in here),
            well_formed=is_well_formed(output, self.profile),
        )

    def metrics(self, rollouts: Sequence[Rollout]) -> Mapping[str, Sequence[float]]:
        """hit, iou, size_ratio and well_formed of every rollout.

        `hit`: the click lies in the target, edges included (0 if unreadable). `iou`: 0 without
        a valid box, nan where the profile answers with points. `size_ratio`: sqrt of the
        predicted over the true area, nan without a valid box.
        """
        return {
            "hit": [self._hit(rollout) for rollout in rollouts],
            "iou": [self._iou(rollout) for rollout in rollouts],
            "size_ratio": [_size_ratio(rollout) for rollout in rollouts],
            "well_formed": [
                float(rollout.parsed is not None and rollout.parsed.well_formed)
                for rollout in rollouts
            ],
        }

    def _hit(self, rollout: Rollout) -> float:
        if rollout.parsed is None or not rollout.parsed.points:
            return 0.0
        target: GuiTarget = rollout.sample.target
        area = target.box if target.polygon is None else Polygon(target.polygon)
        return float(is_inside(area, rollout.parsed.points[0]))

    def is_right(self, rollout: Rollout) -> bool:
        """Whether it is a hit."""
        return self._hit(rollout) == 1.0

    def known_answers(self, sample: Sample) -> KnownAnswers:
        """The true box, and boxes whose centres lie elsewhere."""
        resized, true = self.resized(sample), sample.target.box
        wrong = {
            kind: write_answer(box, self.profile, resized)
            for kind, box in near_misses(true).items()
        }
        return KnownAnswers(write_answer(true, self.profile, resized), wrong)

    def _iou(self, rollout: Rollout) -> float:
        box = _valid_box(rollout)
        if box is None:
            return math.nan if self.profile.kind == "point" else 0.0
        with np.errstate(over="ignore"):
            both = iou(np.array([box.xyxy]), np.array([rollout.sample.target.box.xyxy]))
        return float(both[0])

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """kind, app, element type and novelty, where the data names them."""
        target: GuiTarget = sample.target
        groups = {
            "kind": target.kind,
            "app": target.app,
            "element_type": target.element_type,
            "element": target.familiar,
        }
        return {key: value for key, value in groups.items() if value}

    def difficulty(self, sample: Sample) -> float:
        """Area of the true box relative to the image, in (0, 1]."""
        x1, y1, x2, y2 = sample.target.box.to(Frame(1, 1)).xyxy
        return (x2 - x1) * (y2 - y1)

    def draw(self, sample: Sample, rollouts: Sequence[Rollout]) -> Image.Image:
        """The screenshot with the true box and the answers' boxes and clicks."""
        part = next(p for m in sample.prompt for p in m.parts if isinstance(p, ImagePart))
        marks = [
            Mark(r.parsed.box, r.parsed.points[0] if r.parsed.points else None)
            for r in rollouts
            if r.parsed is not None
        ]
        return overlay(open_image(part.path), sample.target.box, marks)

    def check_policy(self, size_seen: SizeSeen, split: str) -> None:
        """Compare this task's idea of the model's images with the policy's; ConfigError if not.

        size_seen: the size that a policy gives the sample's image, width and height in pixels.
        Coordinates in another frame than the model's would train it towards wrong places. A sample
        of every size is tried, of many sizes some from the smallest to the largest: limits that
        differ show only on images that they resize.
        """
        of_size = {sample.target.box.frame.extent: sample for sample in self.samples(split)}
        by_area = sorted(of_size.items(), key=lambda item: item[0][0] * item[0][1])
        for _, sample in dict((*evenly(by_area, NUM_CHECKED), by_area[-1])).items():
            if self.profile.factor is not None:  # else the size that the model sees does not matter
                self._check_size_seen(sample, size_seen, split)
            size = sample.target.box.frame
            self_check(
                self.profile,
                int(size.width),
                int(size.height),
                min_pixels=self.options.min_pixels,
                max_pixels=self.options.max_pixels,
            )

    def _check_size_seen(self, sample: Sample, size_seen: SizeSeen, split: str) -> None:
        try:
            theirs = size_seen(sample)
        except DataError:
            if not self.skips_unreadable(split):
                raise
            return  # left out when it is drawn
        mine = self.resized(sample).extent
        if theirs is None:
            raise ConfigError(
                f"profile {self.profile.name!r} is of models that see one resized image, and the "
                "policy's model sees tiles of its own sizes: set task.profile to one of its family"
            )
        if mine != theirs:
            raise ConfigError(
                f"sample {sample.id!r}: the policy resizes its image to {theirs}, the task's "
                f"profile {self.profile.name!r} expects {mine}; set the same min_pixels and "
                "max_pixels in task and policy, and the profile of the model's family"
            )


def _familiar(row: GroundingRow) -> str:
    known = row.fields.get("familiar")
    return "" if known is None else ("familiar" if known else "new")


def _valid_box(rollout: Rollout) -> Box | None:
    """The predicted box in the target's frame, if it is one that can be compared."""
    if rollout.parsed is None or rollout.parsed.box is None:
        return None
    box: Box = rollout.parsed.box.to(rollout.sample.target.box.frame)
    return box if box.is_valid else None


def _size_ratio(rollout: Rollout) -> float:
    box = _valid_box(rollout)
    if box is None:
        return math.nan
    true: Box = rollout.sample.target.box
    # Side by side of the box: the area of a box near the float limit would overflow.
    width = math.sqrt((box.x2 - box.x1) / (true.x2 - true.x1))
    return width * math.sqrt((box.y2 - box.y1) / (true.y2 - true.y1))
