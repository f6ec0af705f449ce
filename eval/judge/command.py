"""`vlrl judge-bench`: a judge against preferences whose truth is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from vlrl.cli.checks import out_folder
from vlrl.cli.options import add_section, section
from vlrl.config.resolve import check
from vlrl.config.section import Section
from vlrl.eval.judge.agreement import lines_of, markdown, read_judgements, summarise
from vlrl.eval.results import write_lines, write_summary
from vlrl.judge.agreement import Judgement
from vlrl.judge.data.preference import Preference, PreferenceFormat, PreferenceSource
from vlrl.judge.data.preferences import read_preferences
from vlrl.judge.protocol import Judge
from vlrl.judge.question import (
    DEFAULT_CRITERIA,
    ImageBook,
    JudgeTemplate,
    Questions,
    ReasoningOptions,
    template_of,
)
from vlrl.stats import evenly

TEXT_TEMPLATE = {
    "comparison_instruction": (
        "You compare two answers to the same question. Criteria: {criteria}.\n"
    ),
    "comparison": (
        "Question: {caption}\nFirst answer: {first}\nSecond answer: {second}\n"
        "By these criteria, is the first answer better than the second? {how}"
    ),
}
TEXT_CRITERIA = "how right, complete and helpful the answer is"


class PreferenceSection(Section):
    """Preferences."""

    data: str = Field(description="file, or name of a `datasets` set with --hub")
    format: PreferenceFormat = "pairs"
    images: str | None = Field(None, description="folder of the images")
    hub: bool = Field(False, description="--data is a `datasets` name")
    subset: str | None = None
    split: str = Field("test", description="of --hub")
    limit: NonNegativeInt = Field(0, description="pairs, spread evenly; 0 = all")
    within_root: bool = Field(False, description="refuse paths that lead out of the image folder")
    skip_bad_rows: bool = False
    out: Path | None = Field(
        None, description="folder for the results; default: runs/judge_bench/..."
    )


class JudgeSection(Section):
    """The judge (one of --model, --head, --judgements)."""

    model: str | None = Field(None, description="yes-token judge: checkpoint or hub name")
    endpoint: str | None = Field(None, description="ask --model there: http://.../v1")
    head: str | None = Field(None, description="folder of a regression head trained here")
    judgements: Path | None = Field(None, description="file of those made elsewhere")
    api_key_env: str | None = Field(None, description="variable that holds the endpoint's key")
    criteria: str | None = None
    one_order: bool = Field(False, description="ask in the given order only")
    reasoning: NonNegativeInt = Field(0, description="tokens of written reasons; 0 = none")
    device: str = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    @property
    def label(self) -> str:
        """What judges."""
        return str(self.model or self.head or self.judgements)

    @model_validator(mode="after")
    def _check(self) -> Self:
        sources = {"model": self.model, "head": self.head, "judgements": self.judgements}
        asked = [name for name, source in sources.items() if source]
        if len(asked) != 1:
            raise ValueError(f"give one of --model, --head, --judgements; found {asked or 'none'}")
        return self


class BenchOptions(PreferenceSection, JudgeSection):
    """Of `vlrl judge-bench`."""

    def folder(self) -> Path:
        """Where the results go."""
        name = self.label.strip("/").replace("/", "__")
        return self.out or Path("runs/judge_bench") / f"{Path(self.data).stem}-{name}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl judge-bench`."""
    add_section(parser, BenchOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge, print the table, write judgements and metrics."""
    options = section(BenchOptions, args)
    if options.endpoint:
        from vlrl.eval.endpoint import host_of

        host_of(options.endpoint)
    pairs = _pairs(options)
    out = out_folder(options.folder())
    if options.judgements:
        judgements = read_judgements(options.judgements, pairs)
    elif options.head:
        judgements = _by_head(options, options.head, pairs)
    else:
        judgements = _by_judge(options, str(options.model), pairs)
    write_lines(out / "judgements.jsonl", lines_of(judgements))
    summary = summarise(judgements, reward_bench=options.format == "reward_bench")
    title = f"{Path(options.data).name}: {options.label}"
    write_summary(out, summary, markdown(summary, title), "judgements.jsonl")
    return 0


def _pairs(options: BenchOptions) -> list[Preference]:
    source = PreferenceSource(
        check_images=options.judgements is None,
        path=options.data,
        format=options.format,
        image_root=options.images,
        within_root=options.within_root,
        hub=options.hub,
        subset=options.subset,
        split=options.split,
        ties="keep",
        on_bad_row="skip" if options.skip_bad_rows else "error",
    )
    rows = read_preferences(source)
    if rows.skipped:
        print(f"{len(rows.skipped)} bad rows skipped, the first: {rows.skipped[0]}")
    return evenly(rows.good, options.limit)


def _by_judge(options: BenchOptions, model: str, pairs: list[Preference]) -> list[Judgement]:
    from vlrl.judge.verdicts import judged

    template, criteria = (JudgeTemplate(), None) if options.endpoint else template_of(model)
    if any(isinstance(pair.first, str) for pair in pairs):
        template = template.model_copy(update=TEXT_TEMPLATE)
        criteria = criteria or TEXT_CRITERIA
    reasoning = ReasoningOptions(max_tokens=options.reasoning) if options.reasoning else None
    if options.endpoint:
        from vlrl.judge.endpoint import EndpointJudge, EndpointJudgeOptions

        asked = {"url": options.endpoint, "model": model, "api_key_env": options.api_key_env}
        judge: Judge = EndpointJudge(
            check(EndpointJudgeOptions, asked), template, reasoning=reasoning
        )
    else:
        from vlrl.judge.local import LocalJudge

        judge = LocalJudge.load(
            model,
            template,
            reasoning=reasoning,
            device=options.device,
            precision=options.precision,
        )
    questions = Questions(
        template, options.criteria or criteria or DEFAULT_CRITERIA, reasoning=reasoning is not None
    )
    return judged(judge, questions, pairs, both_orders=not options.one_order)


def _by_head(options: BenchOptions, folder: str, pairs: list[Preference]) -> list[Judgement]:
    from vlrl.judge.head import HeadJudge
    from vlrl.judge.verdicts import judged_by_scores

    head = HeadJudge.load(folder, device=options.device, precision=options.precision)
    template, criteria = template_of(folder)
    questions = Questions(template, options.criteria or criteria or DEFAULT_CRITERIA)
    scores: list[tuple[float, float]] = []
    for start in range(0, len(pairs), 64):
        book, asks = ImageBook(), []
        for pair in pairs[start : start + 64]:
            for content in (pair.first, pair.second):
                asks.append(questions.single(book, pair.caption, content))
        flat = head.scores(book, asks)
        scores += list(zip(flat[::2], flat[1::2], strict=True))
    return judged_by_scores(pairs, scores)
