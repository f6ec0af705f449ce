"""`vlrl sft` and `vlrl dpo`: learning from given answers, with a run's own config."""

from __future__ import annotations

import argparse
import os
from functools import partial

from vlrl.build import AnswersOf, build_trainer, policy_options, read_parts
from vlrl.cli.options import add_config, add_launcher, launch
from vlrl.cli.train import finish
from vlrl.config.loader import to_yaml
from vlrl.config.resolve import check, load_run_config, plain
from vlrl.config.schema import RunConfig
from vlrl.config.supervised import Kind, derived
from vlrl.train.given_answers import pairs, right_answers
from vlrl.train.stopping import POLITE, StopRequest

SFT = "Teach a policy the right answers of its task: the same config as RL, its `sft:` section."
DPO = "Teach a policy the better of two answers: the same config as RL, its `dpo:` section."


def add_sft(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl sft`."""
    _add(parser, "sft")
    parser.add_argument(
        "--answers", metavar="SOURCE", help="task, column:NAME or a JSON-lines file (sft.answers)"
    )


def add_dpo(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl dpo`."""
    _add(parser, "dpo")
    parser.add_argument(
        "--pairs", metavar="SOURCE", help="a run's folder or a JSON-lines file (dpo.pairs)"
    )


def _add(parser: argparse.ArgumentParser, kind: Kind) -> None:
    add_config(parser, "files or names of recipes; merged in order", required=True)
    parser.add_argument(
        "--resume", nargs="?", const="auto", metavar="CHECKPOINT", help="go on; default: the latest"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument("--quiet", action="store_true", help="plain lines, no bars")
    add_launcher(parser)
    parser.set_defaults(run=partial(run, kind), answers=None, pairs=None)


def run(kind: Kind, args: argparse.Namespace) -> int:
    """Learn, or print the resolved config with --dry-run; weights go to `OUT/NAME-sft/model`."""
    overrides = [*args.overrides, "log.quiet=true"] if args.quiet else list(args.overrides)
    for key, given in (("sft.answers", args.answers), ("dpo.pairs", args.pairs)):
        if given is not None:
            overrides.append(f"{key}={given}")
    config = load_run_config(args.config, overrides, None)
    policy = policy_options(config).for_given_answers()
    supervised = check(RunConfig, derived(config, kind, policy))
    if args.dry_run:
        print(to_yaml(plain(read_parts(supervised).config)), end="")
        return 0
    is_main = os.environ.get("RANK", "0") == "0"
    with StopRequest(is_main=is_main, signals=POLITE) as start:
        trainer = build_trainer(supervised, args.resume, answers_of(config, kind))
        trainer.train(start)
        finish(trainer)
    return 0


def answers_of(config: RunConfig, kind: Kind) -> AnswersOf:
    """Where the config says that they are."""
    if kind == "sft":
        return lambda task, samples: right_answers(config.sft, task, samples)
    return lambda task, samples: pairs(config.dpo, samples)


def main(kind: Kind, argv: list[str] | None = None) -> int:
    """Entry of scripts/train_sft.py and scripts/train_dpo.py."""
    return launch(add_sft, SFT, argv) if kind == "sft" else launch(add_dpo, DPO, argv)
