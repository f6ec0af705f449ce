"""`vlrl eval` and `deepspeed scripts/evaluate.py`: a model, an endpoint or precomputed answers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vlrl.cli.options import add_launcher, add_section, launch, named, values
from vlrl.config.resolve import check
from vlrl.errors import ConfigError, did_you_mean
from vlrl.eval.gui.benchmarks import BENCHMARKS
from vlrl.eval.gui.options import GuiEvalOptions
from vlrl.eval.video.benchmarks import VIDEO_BENCHMARKS
from vlrl.eval.video.options import VideoEvalOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of both kinds of benchmark."""
    add_section(parser, GuiEvalOptions, VideoEvalOptions)
    add_launcher(parser)
    names = f"GUI: {', '.join(BENCHMARKS)}; videos: {', '.join(VIDEO_BENCHMARKS)}"
    parser.epilog = f"benchmarks of {names}"
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate on the benchmark; status 1 where calls failed."""
    data = values(args)
    name = data.get("benchmark")
    if name in VIDEO_BENCHMARKS:
        _refuse("GUI", [*BENCHMARKS], data, VideoEvalOptions, GuiEvalOptions)
        from vlrl.eval.video.command import evaluate as evaluate_videos

        return evaluate_videos(check(VideoEvalOptions, data))
    if name in BENCHMARKS:
        _refuse("video", [*VIDEO_BENCHMARKS], data, GuiEvalOptions, VideoEvalOptions)
    options = check(GuiEvalOptions, data)
    if name not in BENCHMARKS:
        hint = did_you_mean(options.benchmark, [*BENCHMARKS, *VIDEO_BENCHMARKS])
        raise ConfigError(f"unknown benchmark {name!r}; {hint}")
    from vlrl.eval.gui.command import evaluate

    return evaluate(options)


def _refuse(
    kind: str,
    names: Sequence[str],
    data: dict[str, object],
    own: type[GuiEvalOptions] | type[VideoEvalOptions],
    other: type[GuiEvalOptions] | type[VideoEvalOptions],
) -> None:
    """ConfigError for options that only the other kind of benchmark reads."""
    strange = {
        key: value
        for key, value in data.items()
        if key in other.model_fields and key not in own.model_fields
    }
    if strange:
        raise ConfigError(
            f"{named(strange)}: read on {kind} benchmarks only ({', '.join(names)}), not on "
            f"{data['benchmark']!r}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of scripts/evaluate.py."""
    return launch(add_arguments, "Evaluate a model on a benchmark.", argv)
