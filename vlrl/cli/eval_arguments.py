"""The arguments of `vlrl eval` and `scripts/evaluate.py`, in groups."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from vlrl.cli.checks import number, whole
from vlrl.cli.eval_video_arguments import add_video_arguments
from vlrl.errors import ConfigError
from vlrl.eval.gui.benchmarks import BENCHMARKS
from vlrl.eval.video.benchmarks import VIDEO_BENCHMARKS
from vlrl.gui.data.rows import Convention

PICTURES_ONLY = (
    "endpoint", "concurrency", "timeout_s", "max_tries", "api_key_env", "min_pixels", "max_pixels",
    "refusal_words", "box", "files", "images", "columns", "wording", "negatives", "zoom", "votes",
    "vote_radius", "temperature",
)  # fmt: skip
"""What video benchmarks do not read; what only they read is in add_video_arguments."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments; three ways to get answers: a model, an endpoint, or a file of them."""
    names = ", ".join([*BENCHMARKS, *VIDEO_BENCHMARKS])
    parser.add_argument("--benchmark", required=True, metavar="NAME", help=names)
    parser.add_argument("--data", type=Path, metavar="PATH", help="folder or file of annotations")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/eval/...")
    parser.add_argument("--quiet", action="store_true", help="plain lines, no bars")
    _add_answers(parser)
    _add_reading(parser)
    _add_data(parser)
    _add_strategy(parser)
    add_video_arguments(parser)
    # Set by the deepspeed launcher; LOCAL_RANK in the environment says the same.
    parser.add_argument("--local_rank", type=int, default=None, help=argparse.SUPPRESS)


def refuse_unread(args: argparse.Namespace) -> None:
    """ConfigError for options that are given and that only the other kind of benchmark reads."""
    every = argparse.ArgumentParser(add_help=False)
    add_arguments(every)
    usual = vars(every.parse_args(["--benchmark", args.benchmark]))
    videos = argparse.ArgumentParser(add_help=False)
    add_video_arguments(videos)
    kind, known, names = "GUI", [*BENCHMARKS], [*PICTURES_ONLY]
    if args.benchmark in BENCHMARKS:
        kind, known, names = "video", [*VIDEO_BENCHMARKS], [*vars(videos.parse_args([]))]
    given = ["--" + name.replace("_", "-") for name in names if getattr(args, name) != usual[name]]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: read on {kind} benchmarks only ({', '.join(known)}), not on "
            f"{args.benchmark!r}"
        )


def _add_answers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who answers (one of --model, --predictions)")
    group.add_argument("--model", metavar="NAME", help="checkpoint folder or hub name")
    group.add_argument("--endpoint", metavar="URL", help="ask --model there, e.g. http://.../v1")
    group.add_argument("--predictions", type=Path, metavar="FILE", help="answers made elsewhere")
    group.add_argument("--precision", choices=("bf16", "fp32"), help="default: bf16 on a GPU")
    group.add_argument("--attn", default="sdpa", help="sdpa, flash_attention_2, eager")
    group.add_argument("--batch-size", type=whole(1), default=32)
    group.add_argument("--max-new-tokens", type=whole(1))
    group.add_argument("--concurrency", type=whole(1), default=8, help="calls at once (endpoint)")
    group.add_argument(
        "--timeout-s", type=number(above=0), default=120.0, help="of one call (endpoint)"
    )
    group.add_argument("--max-tries", type=whole(1), default=4, help="of one call (endpoint)")
    group.add_argument("--api-key-env", metavar="VARIABLE", help="variable that holds the key")
    group.add_argument("--answer-field", default="output", help="of --predictions")
    group.add_argument("--id-field", default="id", help="of --predictions")
    group.add_argument(
        "--allow-missing", action="store_true", help="items without an answer count as failed"
    )


def _add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is asked and read (default: the model's vlrl.json)")
    group.add_argument("--profile", metavar="NAME", help="coordinate profile of the family")
    group.add_argument("--prompt", help="the question, with {instruction}")
    group.add_argument("--min-pixels", type=whole(1), help="least area of the resized image")
    group.add_argument("--max-pixels", type=whole(1), help="largest area of the resized image")
    group.add_argument(
        "--refusal-words", nargs="*", default=[], help="texts that say the target is not there"
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data, where it differs from the published layout")
    group.add_argument("--format", help="reader, e.g. screenspot_pro, osworld_g_mai, rows, hub")
    group.add_argument("--box", choices=get_args(Convention), help="how boxes are written")
    group.add_argument("--files", nargs="*", default=[], metavar="GLOB")
    group.add_argument("--images", type=Path, metavar="FOLDER")
    group.add_argument("--columns", nargs="*", default=[], metavar="OURS=THEIRS")
    group.add_argument("--wording", metavar="FIELD", help="field with the instruction")
    group.add_argument(
        "--negatives", action="store_true", help="ask for what is not there (negative_instruction)"
    )
    group.add_argument("--limit", type=whole(0), default=0, help="items, spread evenly; 0 = all")


def _add_strategy(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("test-time options")
    group.add_argument("--zoom", type=float, metavar="SHARE", help="second look at a window")
    group.add_argument("--votes", type=int, metavar="N", help="sample N answers, the most agreed")
    group.add_argument(
        "--vote-radius", type=number(least=0), default=0.02, help="relative to the long side"
    )
    group.add_argument(
        "--temperature", type=number(least=0), help="of sampled answers (--votes); default: 0.7"
    )
