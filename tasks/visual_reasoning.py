"""Visual reasoning: a question about one or several images, with an answer that can be verified."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field, field_validator, model_validator

from vlrl.config.section import Section, check_limits
from vlrl.data.collect import OneOrMore, Rows, Splits
from vlrl.errors import ConfigError, DataError
from vlrl.families.literal import literal
from vlrl.families.profiles import Profile, profile_named
from vlrl.families.resize import why_unfit
from vlrl.geometry.boxes import Box, Frame
from vlrl.geometry.overlay import Mark, overlay
from vlrl.media.images import image_array, open_image, side_by_side
from vlrl.protocols import Drawing, KnownAnswers, Task
from vlrl.reasoning.boxes import BoxesTruth, boxes_in
from vlrl.reasoning.choices import LETTERS
from vlrl.reasoning.data.layouts import truth_from_columns
from vlrl.reasoning.data.options import ReasoningSource
from vlrl.reasoning.data.read import read_questions
from vlrl.reasoning.data.row import ReasoningRow
from vlrl.reasoning.final_answer import Form, final_answer, in_form, is_well_formed, thought_of
from vlrl.reasoning.near_misses import near_misses, written
from vlrl.reasoning.routes import RouteCheck, RouteProblem, Segment, check_route
from vlrl.reasoning.truths import Kind, Read, RouteTruth, Truth, segments_of
from vlrl.stats import evenly
from vlrl.types import ImagePart, Message, Rollout, Sample, SizeSeen, TextPart

PROMPT = (
    "{question}\n{hint} Think first, inside <think> and </think>. Then write nothing but the final "
    "answer inside <answer> and </answer>."
)
IMAGE = "<image>"
NUM_CHECKED = 31
"""Samples with boxes on which the resizing of policy and task is compared."""
HINTS: Mapping[Kind, str] = {
    "choice": "Answer with the letter of the right option.",
    "number": "Answer with a number.",
    "yes_no": "Answer with yes or no.",
    "list": "Answer with a list, separated by commas.",
    "boxes": "Answer with boxes, each as [x1, y1, x2, y2].",
    "route": (
        "Write each ride as three lines, `Route Name: ...`, `Departure Stop: ...` and "
        "`Arrival Stop: ...`, and a line with -- between rides."
    ),
    "expression": "Answer with an expression.",
    "text": "Answer in a word or a short phrase.",
}


@dataclass(frozen=True)
class ReasoningTarget:
    """The true answer, and boxes of what it rests on."""

    truth: Truth
    boxes: tuple[Box, ...] | None = None
    """In pixels of the first image; None = the data has none."""
    salience: tuple[float, ...] = ()
    """A weight for each box; none = all alike."""

    @property
    def route(self) -> RouteProblem | None:
        """The problem of a route; None for other kinds."""
        return self.truth.problem if isinstance(self.truth, RouteTruth) else None


@dataclass(frozen=True)
class ReasoningAnswer:
    """What was read in an answer."""

    text: str
    """The final answer as written."""
    value: Read | None
    """What it says; None where that could not be read."""
    correct: bool
    boxes: tuple[Box, ...]
    """In the answer, or else in what was written before it; in pixels of the first image."""
    well_formed: bool
    route: tuple[Segment, ...] = ()
    route_check: RouteCheck | None = None


class VisualReasoning(Task):
    """Questions, how their answers are read, and how often they are right.

    Example: VisualReasoning(VisualReasoning.Options(data={"train": {"path": "train.jsonl"}})).
    """

    class Options(Section):
        """The `task:` part of a config; `data` maps split names to sources."""

        data: dict[str, OneOrMore[ReasoningSource]]
        prompt: str = PROMPT
        """With {question}, and optionally {hint}, which says how answers of the kind are
        written."""
        answer: Form = "think_answer"
        """What counts as well formed: think_answer (<think> and <answer>), answer, boxed, plain."""
        profile: str = "qwen2_5_vl"
        """The coordinate profile of boxes: how the model sees images and counts pixels."""
        min_pixels: int | None = Field(default=None, gt=0)
        """Least area of the resized image; default: the profile's."""
        max_pixels: int | None = Field(default=None, gt=0)
        limit: int | None = Field(default=None, gt=0)
        """Number of rows to read of each split, the first ones."""
        on_bad_row: Literal["error", "skip"] = "error"

        @field_validator("prompt")
        @classmethod
        def _has_question(cls, prompt: str) -> str:
            if prompt.count("{question}") != 1:
                raise ValueError("the prompt needs {question} exactly once")
            return prompt

        @model_validator(mode="after")
        def _check(self) -> VisualReasoning.Options:
            check_limits(self.min_pixels, self.max_pixels)
            return self

    options: Options
    name = "visual_reasoning"
    names_splits = True
    main_metrics = ("right",)
    metric_labels: ClassVar[Mapping[str, str]] = {"right": "right answers"}
    metric_charts: ClassVar[Mapping[str, tuple[str, ...]]] = {"": ("readable", "well_formed")}
    drawing = Drawing("questions", "true boxes", "boxes of the answer")
    provides: ClassVar[Mapping[str, str]] = {
        "answer": "parsed.correct, bool; parsed.value, what was read; target.truth",
        "route": "target.route, RouteProblem or None; parsed.route and parsed.route_check",
        "boxes": "target.boxes and parsed.boxes, tuples of Box, the true ones None where the data "
        "has none; target.salience, their weights",
        "format": "parsed.well_formed, bool: the answer is exactly in the requested format",
    }

    def __init__(self, options: VisualReasoning.Options) -> None:
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

    def _read(self, source: ReasoningSource) -> Rows[ReasoningRow]:
        options = self.options
        return read_questions(
            source, limit=options.limit, on_bad_row=options.on_bad_row, check=self._check_sizes
        )

    def _check_sizes(self, row: ReasoningRow) -> None:
        for image in row.images:
            why = why_unfit(image.height_px, image.width_px, self.profile.factor)
            if why is not None:
                raise DataError(f"the image {image.path}: {why}; resize or leave it out")

    def sample(self, row: ReasoningRow) -> Sample:
        """One checked row as a problem: images where the text has `<image>`, else before it."""
        images = [ImagePart(one.path, one.width_px, one.height_px) for one in row.images]
        *earlier, (role, asked) = row.turns
        question = self._question(row, literal(asked))
        texts = [*((who, literal(text)) for who, text in earlier), (role, question)]
        if not any(IMAGE in text for _, text in texts):
            first = next(i for i, (who, _) in enumerate(texts) if who == "user")
            texts[first] = (texts[first][0], IMAGE * len(images) + texts[first][1])
        left = iter(images)
        return Sample(
            id=row.id,
            task=self.name,
            prompt=tuple(Message(who, _parts(text, left)) for who, text in texts),
            target=ReasoningTarget(row.truth, row.boxes, row.salience),
            columns={"kind": row.truth.kind, **row.fields},
        )

    def _question(self, row: ReasoningRow, asked: str) -> str:
        letters = LETTERS[: len(row.choices)]
        if not all(re.search(rf"(?<![A-Za-z0-9]){one}[).:]", asked) for one in letters):
            options = (f"\n({LETTERS[i]}) {literal(one)}" for i, one in enumerate(row.choices))
            asked += "".join(options)
        # Plain replacement: both texts may hold braces of their own.
        before, after = self.options.prompt.replace("{hint}", HINTS[row.truth.kind]).split(
            "{question}"
        )
        return f"{before}{asked}{after}"

    def sample_from_columns(self, row: Mapping[str, Any], where: str) -> Sample:
        """A problem from a table's row, for rewards that run in another trainer.

        Needs `answer` or `solution`, or the `lines`, `start` and `end` of a route; `boxes` are not
        read, since the images are not there. Raises DataError that names `where`.
        """
        truth = truth_from_columns(row, where)
        named = str(row.get("id", where))
        columns = {"kind": truth.kind, **row}
        return Sample(named, self.name, (), ReasoningTarget(truth), columns)

    def recipe(self) -> Mapping[str, Any]:
        """The coordinate profile, the question and the form of answers."""
        options = self.options
        return {"profile": options.profile, "prompt": options.prompt, "answer": options.answer}

    def resized(self, sample: Sample) -> Frame:
        """The sample's first image as the model sees it, in pixels."""
        image = _images(sample)[0]
        return self.profile.resized(
            image.width_px, image.height_px, self.options.min_pixels, self.options.max_pixels
        )

    def parse(self, sample: Sample, output: object) -> ReasoningAnswer | None:
        """The answer as read; None where there is none. Never raises on any text."""
        if not isinstance(output, str):
            return None
        text = final_answer(output)
        if text is None:
            return None
        target: ReasoningTarget = sample.target
        value = target.truth.read(text)
        asked_for = isinstance(target.truth, BoxesTruth)
        boxes = self._boxes(sample, text if asked_for else thought_of(output))
        if isinstance(target.truth, BoxesTruth):
            correct = value is not None and target.truth.matches_boxes(boxes)
        else:
            correct = value is not None and target.truth.matches(value)
        route = segments_of(value)
        return ReasoningAnswer(
            text=text,
            value=value,
            correct=correct,
            boxes=boxes,
            well_formed=is_well_formed(output, self.options.answer),
            route=route,
            route_check=None if target.route is None else check_route(target.route, route),
        )

    def _boxes(self, sample: Sample, text: str) -> tuple[Box, ...]:
        """The boxes that a text names, in pixels of the first image."""
        if sample.target.boxes is None:
            return ()
        image = _images(sample)[0]
        frame = Frame(image.width_px, image.height_px)
        return tuple(
            box.to(frame) for box in boxes_in(text, self.profile.frame(self.resized(sample)))
        )

    def metrics(self, rollouts: Sequence[Rollout]) -> Mapping[str, Sequence[float]]:
        """right (0 where nothing could be read), readable and well_formed of every rollout."""
        answers = [rollout.parsed for rollout in rollouts]
        return {
            "right": [float(one is not None and one.correct) for one in answers],
            "readable": [float(one is not None and one.value is not None) for one in answers],
            "well_formed": [float(one is not None and one.well_formed) for one in answers],
        }

    def is_right(self, rollout: Rollout) -> bool:
        """Whether what was read is the true answer."""
        return rollout.parsed is not None and bool(rollout.parsed.correct)

    def known_answers(self, sample: Sample) -> KnownAnswers | None:
        """The true answer and others of its kind, in the requested form; None for no route."""
        truth: Truth = sample.target.truth
        frame = self.profile.frame(self.resized(sample)) if _images(sample) else Frame(1000, 1000)
        right = written(truth, frame)
        if right is None:
            return None
        wrong = near_misses(truth, frame)
        form = self.options.answer
        return KnownAnswers(
            in_form(right, form), {kind: in_form(text, form) for kind, text in wrong.items()}
        )

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """The kind of answer, and the data's type, category, map and transfers."""
        names = ("kind", "type", "category", "map", "transfers")
        return {name: str(sample.columns[name]) for name in names if name in sample.columns}

    def draw(self, sample: Sample, rollouts: Sequence[Rollout]) -> Image.Image:
        """The image with the true box and the answers' boxes; several images side by side."""
        images = _images(sample)
        if len(images) > 1:
            return Image.fromarray(side_by_side([image_array(one.path) for one in images]))
        image = open_image(images[0].path)
        if not sample.target.boxes:
            return image
        answers = [rollout.parsed for rollout in rollouts if rollout.parsed is not None]
        marks = [Mark(box, None) for one in answers for box in one.boxes]
        return overlay(image, sample.target.boxes[0], marks)

    def check_policy(self, size_seen: SizeSeen, split: str) -> None:
        """Compare this task's idea of the model's images with the policy's; ConfigError if not.

        Only where the data has boxes: nothing else depends on it.
        """
        if self.profile.factor is None:
            return
        boxed = [sample for sample in self.samples(split) if sample.target.boxes is not None]
        for sample in evenly(boxed, NUM_CHECKED) if boxed else ():
            mine = self.resized(sample).extent
            try:
                theirs = size_seen(sample)
            except DataError:
                if not self.skips_unreadable(split):
                    raise
                continue  # left out when it is drawn
            if mine != theirs:
                raise ConfigError(
                    f"sample {sample.id!r}: the policy resizes its image to {theirs}, the task's "
                    f"profile {self.profile.name!r} expects {mine}; set the same min_pixels and "
                    "max_pixels in task and policy, and the profile of the model's family"
                )


def _images(sample: Sample) -> list[ImagePart]:
    return [part for m in sample.prompt for part in m.parts if isinstance(part, ImagePart)]


def _parts(text: str, images: Iterator[ImagePart]) -> tuple[ImagePart | TextPart, ...]:
    """A text cut at its marks, with the next image at each."""
    parts: list[ImagePart | TextPart] = []
    for place, piece in enumerate(text.split(IMAGE)):
        if place:
            parts.append(next(images))
        if piece.strip():
            parts.append(TextPart(piece.strip("\n") if place else piece))
    return tuple(parts)
