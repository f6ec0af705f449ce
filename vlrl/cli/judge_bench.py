"""`vlrl judge-bench`: a judge against preferences whose truth is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from vlrl.cli.checks import out_folder, whole
from vlrl.config.resolve import check
from vlrl.errors import ConfigError
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


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `vlrl judge-bench`."""
    parser = commands.add_parser("judge-bench", help="agreement of a judge with known preferences")
    data = parser.add_argument_group("preferences")
    data.add_argument("--data", required=True, metavar="PATH", help="file, or hub name with --hub")
    data.add_argument("--format", default="pairs", choices=get_args(PreferenceFormat))
    data.add_argument("--images", metavar="FOLDER")
    data.add_argument("--hub", action="store_true", help="--data is a `datasets` name")
    data.add_argument("--subset")
    data.add_argument("--split", default="test", help="of --hub")
    data.add_argument("--limit", type=whole(0), default=0, help="pairs, spread evenly; 0 = all")
    data.add_argument("--skip-bad-rows", action="store_true")
    judge = parser.add_argument_group("the judge (one of --model, --head, --judgements)")
    judge.add_argument("--model", metavar="NAME", help="yes-token judge: checkpoint or hub name")
    judge.add_argument("--endpoint", metavar="URL", help="ask --model there: http://.../v1")
    judge.add_argument("--head", metavar="FOLDER", help="a regression head trained here")
    judge.add_argument("--judgements", type=Path, metavar="FILE", help="made elsewhere")
    judge.add_argument("--api-key-env", metavar="VARIABLE")
    judge.add_argument("--criteria")
    judge.add_argument("--one-order", action="store_true", help="ask in the given order only")
    judge.add_argument("--reasoning", type=whole(0), default=0, metavar="TOKENS", help="0 = none")
    judge.add_argument("--device", default="auto")
    judge.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/judge_bench/...")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge, print the table, write judgements and figures."""
    from vlrl.eval.judge import markdown, read_judgements, summarise, write

    asked = [name for name in ("model", "head", "judgements") if getattr(args, name)]
    if len(asked) != 1:
        raise ConfigError(f"give one of --model, --head, --judgements; found {asked or 'none'}")
    name = str(args.model or args.head or args.judgements).strip("/").replace("/", "__")
    if args.endpoint:
        from vlrl.eval.endpoint import host_of

        host_of(args.endpoint)
    pairs = _pairs(args)
    out = out_folder(args.out or Path("runs/judge_bench") / f"{Path(args.data).stem}-{name}")
    if args.judgements:
        judgements = read_judgements(args.judgements, pairs)
    elif args.head:
        judgements = _by_head(args, pairs)
    else:
        judgements = _by_judge(args, pairs)
    summary = summarise(judgements)
    text = markdown(
        summary, f"{Path(args.data).name}: {args.model or args.head or args.judgements}"
    )
    write(out, judgements, summary, text)
    print(text)
    print(f"written: {out}/summary.json, summary.md, judgements.jsonl")
    return 0


def _pairs(args: argparse.Namespace) -> list[Preference]:
    source = PreferenceSource(
        path=args.data,
        format=args.format,
        image_root=args.images,
        hub=args.hub,
        subset=args.subset,
        split=args.split,
        ties="keep",
        on_bad_row="skip" if args.skip_bad_rows else "error",
    )
    rows = read_preferences(source)
    if rows.skipped:
        print(f"{len(rows.skipped)} bad rows skipped, the first: {rows.skipped[0]}")
    return evenly(rows.good, args.limit)


def _by_judge(args: argparse.Namespace, pairs: list[Preference]) -> list[Judgement]:
    from vlrl.judge.verdicts import judged

    template, criteria = (JudgeTemplate(), None) if args.endpoint else template_of(args.model)
    if any(isinstance(pair.first, str) for pair in pairs):
        template = template.model_copy(update=TEXT_TEMPLATE)
        criteria = criteria or TEXT_CRITERIA
    reasoning = ReasoningOptions(max_tokens=args.reasoning) if args.reasoning else None
    if args.endpoint:
        from vlrl.judge.endpoint import EndpointJudge, EndpointJudgeOptions

        asked = {"url": args.endpoint, "model": args.model, "api_key_env": args.api_key_env}
        options = check(EndpointJudgeOptions, asked)
        judge: Judge = EndpointJudge(options, template, reasoning=reasoning)
    else:
        from vlrl.judge.local import LocalJudge

        judge = LocalJudge.load(
            args.model,
            template,
            reasoning=reasoning,
            device=args.device,
            precision=args.precision,
        )
    questions = Questions(
        template, args.criteria or criteria or DEFAULT_CRITERIA, reasoning=reasoning is not None
    )
    return judged(judge, questions, pairs, both_orders=not args.one_order)


def _by_head(args: argparse.Namespace, pairs: list[Preference]) -> list[Judgement]:
    from vlrl.judge.head import HeadJudge
    from vlrl.judge.verdicts import judged_by_scores

    head = HeadJudge.load(args.head, device=args.device, precision=args.precision)
    template, criteria = template_of(args.head)
    questions = Questions(template, args.criteria or criteria or DEFAULT_CRITERIA)
    scores: list[tuple[float, float]] = []
    for start in range(0, len(pairs), 64):
        book, asks = ImageBook(), []
        for pair in pairs[start : start + 64]:
            for content in (pair.first, pair.second):
                asks.append(questions.single(book, pair.caption, content))
        flat = head.scores(book, asks)
        scores += list(zip(flat[::2], flat[1::2], strict=True))
    return judged_by_scores(pairs, scores)
