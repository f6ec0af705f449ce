"""A vision-language model as the reward: the probability that it answers "yes".

pointwise   is this image good?                        caption, image
compared    is it better than this one?  (both orders)   caption, image, reference
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vlrl.config.section import Section
from vlrl.errors import RewardError
from vlrl.judge.endpoint import EndpointJudge, EndpointJudgeOptions
from vlrl.judge.question import (
    DEFAULT_CRITERIA,
    Ask,
    Content,
    Example,
    ImageBook,
    JudgeTemplate,
    Questions,
    ReasoningOptions,
    template_of,
)
from vlrl.judge.references import read_reference_cache
from vlrl.judge.yes_token import Form, Reading, in_both_orders, value_of
from vlrl.protocols import Reward
from vlrl.reward.image_reward import image_of
from vlrl.types import Rollout, Score

if TYPE_CHECKING:
    from vlrl.judge.protocol import Judge


class YesTokenOptions(Section):
    """The judge, what it is asked, and how its answer becomes a number."""

    judge: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    """A checkpoint of a vision-language family, folder or hub name; unused with `endpoint`."""
    endpoint: EndpointJudgeOptions | None = None
    """Or an OpenAI-compatible server that returns log-probs."""
    criteria: str | None = None
    """The criteria; a judge trained here has its own (judge.json)."""
    template: JudgeTemplate | None = None
    """The texts of the question; the judge's own (judge.json) where it has one."""
    examples: tuple[Example, ...] = ()
    """Questions with answers, shown before the real one."""
    references: Literal["none", "dataset", "cache", "group"] = "none"
    """none: pointwise. dataset: the sample's references. cache: images of the policy before
    training or the best of N (`vlrl references`). group: the other answers to the same caption."""
    cache: str | None = None
    """The file that `vlrl references` wrote."""
    num_references: NonNegativeInt = 1
    """References that each image is compared with, the same for a whole group; 0 = all.
    For the group itself always all."""
    value: Form = "probability"
    """probability: of yes over the whole vocabulary. odds: of yes against no. logit_difference."""
    limit: float = Field(20.0, gt=0)
    """A logit difference is clipped to +-limit."""
    both_orders: bool = True
    """Ask with the candidate first and second, and average."""
    reasoning: ReasoningOptions | None = None
    """Let the judge write before it answers."""
    device: str = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    min_pixels: PositiveInt | None = None
    """Area of an image as the judge sees it; default: the checkpoint's own."""
    max_pixels: PositiveInt | None = None
    max_tokens: PositiveInt = 8192
    """Of one forward pass; the shared beginning counts once."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.references == "cache") != (self.cache is not None):
            raise ValueError("`cache:` names a file with `references: cache`, and only then")
        return self


class YesToken(Reward):
    """What a judge thinks of an image: the probability of "yes", summed over its spellings.

    Log-probs come from the raw logits, before any temperature or filter. A word that the judge's
    vocabulary, or an endpoint's list, does not have is an error, never a 0. An answer that is not
    an image scores the low end; a sample without a reference does not apply.
    """

    Options = YesTokenOptions
    noisy = True
    options: YesTokenOptions
    formula = "p(yes); odds: p(yes) / (p(yes) + p(no)); both orders: (r(a, b) + 1 - r(b, a)) / 2"
    units = "probability"
    source = "RewardDance (arXiv 2509.08826); odds as in T2I-R1 and Flow-Factory"
    range = (0.0, 1.0)
    needs = frozenset({"image", "caption"})

    def models(self) -> Mapping[str, int]:
        """The judge, in bf16 unless the options say otherwise; none behind an endpoint."""
        o = self.options
        if o.endpoint is not None or o.device == "cpu":
            return {}
        return {o.judge: 4 if o.precision == "fp32" else 2}

    def __init__(self, options: YesTokenOptions) -> None:
        self.options = options
        self.name = "yes_token"
        self.waits = options.endpoint is not None
        if options.value == "logit_difference":
            self.range = (-options.limit, options.limit)
        if options.references == "dataset":
            self.needs = self.needs | {"references"}
        self._judge: Judge | None = None
        self._questions: Questions | None = None
        self._cache: Mapping[str, Sequence[Path]] = {}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        if self.options.references == "group":
            return self._against_mates(rollouts)
        book = ImageBook()
        asks: list[Ask] = []
        places: list[list[int]] = [[] for _ in rollouts]
        applies = [True] * len(rollouts)
        for i, rollout in enumerate(rollouts):
            opponents = self._opponents(rollout)
            applies[i] = bool(opponents)
            if rollout.parsed is None or not opponents:
                continue
            for opponent in opponents:
                places[i].append(len(asks))
                asks += self._asked(book, rollout, image_of(rollout), opponent)
        readings = self.judge.ask(book, asks) if asks else []
        scores = []
        for i in range(len(rollouts)):
            if not applies[i]:
                scores.append(Score(None))
            elif not places[i]:
                scores.append(Score(self.range[0], {self.name: self.range[0]}))
            else:
                compared = self.options.references != "none"
                pairs = [self._pair(readings, place, compared) for place in places[i]]
                scores.append(self._score(pairs))
        return scores

    def preferences(self, pairs: Sequence[tuple[Rollout, Rollout]]) -> list[float]:
        """How much the first of each pair is preferred, signed: 2 p - 1, or the logit difference.

        An answer that is not an image loses; two of them tie.
        """
        return [2 * p - 1 if self._is_share else p for p, _ in self._compared(pairs)]

    @property
    def judge(self) -> Judge:
        """The judge, made on first use."""
        if self._judge is None:
            o = self.options
            template, _ = self._template()
            if o.endpoint is not None:
                self._judge = EndpointJudge(o.endpoint, template, reasoning=o.reasoning)
            else:
                from vlrl.judge.local import LocalJudge

                self._judge = LocalJudge.load(
                    o.judge,
                    template,
                    reasoning=o.reasoning,
                    device=o.device,
                    precision=o.precision,
                    min_pixels=o.min_pixels,
                    max_pixels=o.max_pixels,
                    max_tokens=o.max_tokens,
                )
        return self._judge

    @property
    def questions(self) -> Questions:
        """Writes the questions."""
        if self._questions is None:
            template, criteria = self._template()
            self._questions = Questions(
                template,
                self.options.criteria or criteria or DEFAULT_CRITERIA,
                self.options.examples,
                reasoning=self.options.reasoning is not None,
            )
        return self._questions

    def _template(self) -> tuple[JudgeTemplate, str | None]:
        o = self.options
        own, criteria = (JudgeTemplate(), None) if o.endpoint is not None else template_of(o.judge)
        return o.template or own, criteria

    def _asked(
        self, book: ImageBook, rollout: Rollout, image: Content, opponent: Content | None
    ) -> list[Ask]:
        caption = rollout.sample.target.caption
        if opponent is None:
            asks = [self.questions.single(book, caption, image)]
        else:
            asks = [self.questions.compare(book, caption, image, opponent)]
            if self.options.both_orders:
                asks.append(self.questions.compare(book, caption, opponent, image))
        return [replace(ask, sample=rollout.sample.id) for ask in asks]

    def _opponents(self, rollout: Rollout) -> list[Content | None]:
        """What a rollout is compared with; [None] = nothing, [] = does not apply."""
        o = self.options
        if o.references == "none":
            return [None]
        if o.references == "dataset":
            paths = [Path(path) for path in rollout.sample.target.references]
        else:
            assert o.cache is not None
            if not self._cache:
                self._cache = read_reference_cache(Path(o.cache))
            if rollout.sample.id not in self._cache:
                raise RewardError(
                    f"{o.cache} has no reference for sample {rollout.sample.id!r}; make it again "
                    "for this split with `vlrl references`"
                )
            paths = list(self._cache[rollout.sample.id])
        return list(paths[: o.num_references or None])

    @property
    def _is_share(self) -> bool:
        return self.options.value != "logit_difference"

    def _pair(
        self, readings: Sequence[Reading], place: int, compared: bool
    ) -> tuple[float, dict[str, float]]:
        """The value of one comparison, or of one image alone, and metrics about it."""
        o = self.options
        first = readings[place]
        value = value_of(first, o.value)
        used = [first]
        metrics = {}
        if compared and o.both_orders:
            second = readings[place + 1]
            used.append(second)
            other = value_of(second, o.value)
            value = in_both_orders(value, other, o.value)
            # How much the first place helps, whoever is there; 0 = no bias.
            metrics["first_place"] = 0.5 * (
                value_of(first, "odds") + value_of(second, "odds") - 1.0
            )
        metrics["mass"] = fmean(one.mass for one in used)
        if o.reasoning is not None:
            metrics["reasoning_cut"] = fmean(float(one.cut) for one in used)
        low, high = self.range
        return min(max(value, low), high), metrics

    def _score(self, pairs: Sequence[tuple[float, dict[str, float]]]) -> Score:
        value = fmean(value for value, _ in pairs)
        parts = {
            f"{self.name}_{name}": fmean(metrics[name] for _, metrics in pairs)
            for name in pairs[0][1]
        }
        return Score(value, {self.name: value, **parts})

    def _compared(
        self, pairs: Sequence[tuple[Rollout, Rollout]]
    ) -> list[tuple[float, dict[str, float]]]:
        """Value and metrics of each pair of rollouts of one caption."""
        book = ImageBook()
        asks: list[Ask] = []
        places: list[int | None] = []
        for a, b in pairs:
            if a.parsed is None or b.parsed is None:
                places.append(None)
                continue
            places.append(len(asks))
            asks += self._asked(book, a, image_of(a), image_of(b))
        readings = self.judge.ask(book, asks) if asks else []
        found = []
        for (a, b), place in zip(pairs, places, strict=True):
            if place is not None:
                found.append(self._pair(readings, place, True))
            else:
                low, high = self.range
                readable = (a.parsed is not None) - (b.parsed is not None)
                found.append((0.5 * (low + high) + 0.5 * readable * (high - low), {}))
        return found

    def _against_mates(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Mean over the others of the group; alone, a rollout is compared with nothing."""
        pairs = mates(rollouts)
        compared = self._compared([(rollouts[i], rollouts[j]) for i, j in pairs])
        low, high = self.range
        mine: list[list[tuple[float, dict[str, float]]]] = [[] for _ in rollouts]
        for (i, j), (value, metrics) in zip(pairs, compared, strict=True):
            mine[i].append((value, metrics))
            mine[j].append((low + high - value, metrics))
        scores = []
        for found in mine:
            told = [pair for pair in found if pair[1]] or found
            if not found:
                scores.append(Score(None))
                continue
            value = fmean(value for value, _ in found)
            parts = self._score(told).parts
            scores.append(Score(value, {**parts, self.name: value}))
        return scores


def mates(rollouts: Sequence[Rollout]) -> list[tuple[int, int]]:
    """All pairs (i, j), i < j, of rollouts of one group."""
    groups: dict[tuple[str, int], list[int]] = {}
    for i, rollout in enumerate(rollouts):
        groups.setdefault((rollout.sample.id, rollout.group), []).append(i)
    return [(i, j) for rows in groups.values() for n, i in enumerate(rows) for j in rows[n + 1 :]]
