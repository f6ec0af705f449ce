"""Judging as a task: two images and a caption, answered with reasoning and a verdict.

A judge is a vision-language model too: `policy: {use: vision_language}` is trained on this task
with `verdict_match` and `format`, as UnifiedReward-Think is (arXiv 2505.03318).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from PIL import Image
from pydantic import field_validator

from vlrl.config.section import Section
from vlrl.data.collect import OneOrMore, Rows, Splits
from vlrl.errors import DataError
from vlrl.families.literal import literal
from vlrl.judge.data.preference import Preference, PreferenceSource
from vlrl.judge.data.preferences import read_preferences
from vlrl.judge.reasoned_answer import JudgeAnswer, parse_judge_answer
from vlrl.media.images import checked_size, image_array, side_by_side
from vlrl.protocols import Drawing, KnownAnswers, Task
from vlrl.types import ImagePart, Message, Rollout, Sample, TextPart

PROMPT = (
    "Two images were made for the caption: {caption}\nImage 1: {first}\nImage 2: {second}\n"
    "Judge them by: {criteria}. Inside <think> and </think> write one numbered line for each of "
    "these, with a score from 1 to 10 for both, as in: 1. Semantic consistency: Image 1 (8/10) - "
    "why; Image 2 (5/10) - why. Add up the scores. Then write nothing but "
    "<answer>Image 1 is better</answer> or <answer>Image 2 is better</answer>."
)
CRITERIA = "semantic consistency, aesthetics, authenticity"


@dataclass(frozen=True)
class VerdictTarget:
    """Which image is better."""

    verdict: int
    """1 or 2, in the order in which they are shown."""
    kind: str = ""
    caption: str = ""


class PreferenceJudgement(Task):
    """Pairs to judge, and how often the verdict is right.

    Example: PreferenceJudgement(PreferenceJudgement.Options(data={"train": {"path": "p.jsonl"}})).
    """

    class Options(Section):
        """The `task:` part of a config; `data` maps split names to sources."""

        data: dict[str, OneOrMore[PreferenceSource]]
        prompt: str = PROMPT
        """With {first} and {second} where the images go, {caption}, and optionally {criteria}."""
        criteria: str = CRITERIA
        orders: Literal["both", "alternate"] = "both"
        """both: each pair is two samples, one in each order. alternate: one, the orders in turn."""

        @field_validator("prompt")
        @classmethod
        def _has_images(cls, prompt: str) -> str:
            for mark in ("{first}", "{second}", "{caption}"):
                if prompt.count(mark) != 1:
                    raise ValueError(f"the prompt needs {mark} exactly once")
            if prompt.index("{first}") > prompt.index("{second}"):
                raise ValueError("{first} must come before {second}")
            return prompt

    options: Options
    name = "preference_judgement"
    names_splits = True
    metric_charts: ClassVar[Mapping[str, tuple[str, ...]]] = {"": ("well_formed",)}
    drawing = Drawing("pairs")
    provides: ClassVar[Mapping[str, str]] = {
        "format": "parsed.well_formed, bool: the answer is exactly in the requested format",
        "verdict": "target.verdict and parsed.verdict, 1 or 2: which of two is better",
    }

    def __init__(self, options: PreferenceJudgement.Options) -> None:
        self.options = options
        self._splits = Splits(options.data, self._read, self._one)
        self.skipped = self._splits.skipped

    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split: pairs in file order, in both orders or in turn."""
        pairs = [sample.target for sample in self._splits.samples(split)]
        found: list[Sample] = []
        for number, pair in enumerate(pairs):
            orders = (False, True) if self.options.orders == "both" else (number % 2 == 1,)
            found += [self.sample(pair, swap=swap) for swap in orders]
        return found

    def skips_unreadable(self, split: str) -> bool:
        """Whether `on_bad_row: skip` of all its sources asks for it."""
        return all(source.on_bad_row == "skip" for source in self._splits.sources_of(split))

    def _read(self, source: PreferenceSource) -> Rows[Preference]:
        return read_preferences(source)

    def _one(self, pair: Preference) -> Sample:
        return Sample(pair.id, self.name, (), pair)

    def sample(self, pair: Preference, *, swap: bool) -> Sample:
        """A pair as a problem; swapped, its second image is shown first."""
        if not isinstance(pair.first, Path) or not isinstance(pair.second, Path):
            raise DataError(f"{pair.where}: this task compares images, not texts")
        first, second = (pair.second, pair.first) if swap else (pair.first, pair.second)
        verdict = 3 - pair.preferred if swap else pair.preferred
        texts = self.options.prompt.replace("{criteria}", self.options.criteria)
        before, rest = texts.split("{first}")
        between, after = rest.split("{second}")
        parts: list[ImagePart | TextPart] = []
        for piece, image in ((before, first), (between, second), (after, None)):
            text = piece.replace("{caption}", literal(pair.caption))
            parts += [TextPart(text)] if text else []
            parts += [_image(image, pair.where)] if image is not None else []
        return Sample(
            id=f"{pair.id}/{'21' if swap else '12'}",
            task=self.name,
            prompt=(Message("user", tuple(parts)),),
            target=VerdictTarget(verdict, pair.kind, pair.caption),
            columns={**pair.fields, "verdict": verdict, "caption": pair.caption},
        )

    def parse(self, sample: Sample, output: object) -> JudgeAnswer | None:
        """The answer as read; None where it has no verdict. Never raises on any text."""
        if not isinstance(output, str):
            return None
        answer = parse_judge_answer(output)
        return answer if answer.verdict is not None else None

    def metrics(self, rollouts: Sequence[Rollout]) -> Mapping[str, Sequence[float]]:
        """right (0 without a verdict), well_formed, and contradicts: the verdict against its
        scores."""
        return {
            "right": [
                float(r.parsed is not None and r.parsed.verdict == r.sample.target.verdict)
                for r in rollouts
            ],
            "well_formed": [float(r.parsed is not None and r.parsed.well_formed) for r in rollouts],
            "contradicts": [
                math.nan if r.parsed is None or not r.parsed.scores else float(r.parsed.contradicts)
                for r in rollouts
            ],
        }

    def is_right(self, rollout: Rollout) -> bool:
        """Whether the verdict is the true one."""
        return (
            rollout.parsed is not None and rollout.parsed.verdict == rollout.sample.target.verdict
        )

    def known_answers(self, sample: Sample) -> KnownAnswers:
        """The true verdict; the other one, and both."""
        true = sample.target.verdict
        verdicts = {n: f"<answer>Image {n} is better</answer>" for n in (1, 2)}
        thought = "<think>\nI look at both images.\n</think>\n"
        right, other = thought + verdicts[true], thought + verdicts[3 - true]
        return KnownAnswers(right, {"other": other, "both": f"{right}\n{verdicts[3 - true]}"})

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """The pair's kind and the position of the better image."""
        target: VerdictTarget = sample.target
        groups = {"kind": target.kind, "better": str(target.verdict)}
        return {key: value for key, value in groups.items() if value}

    def draw(self, sample: Sample, rollouts: Sequence[Rollout]) -> Image.Image:
        """Both images, in the order in which they were shown."""
        images = [
            image_array(part.path) for part in sample.prompt[0].parts if isinstance(part, ImagePart)
        ]
        return Image.fromarray(side_by_side(images))


def _image(path: Path, where: str) -> ImagePart:
    try:
        return ImagePart(str(path), *checked_size(path))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
