"""`vlrl train-judge` and `deepspeed scripts/train_judge.py`: train a judge and export it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vlrl.cli.options import add_config, add_launcher, launch
from vlrl.config.loader import compose, to_yaml
from vlrl.config.places import check_folder, check_model
from vlrl.config.resolve import check, plain
from vlrl.config.sharding import read_sharding
from vlrl.judge.train.config import JudgeTrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a judge's training."""
    add_config(parser, "merged in order", required=True)
    parser.add_argument("--resume", action="store_true", help="resume from the latest checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    add_launcher(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train to the end and export, or print the resolved config with --dry-run."""
    config = check(JudgeTrainConfig, compose(args.config, args.overrides))
    check_model("model", config.model)
    read_sharding(config.dist.deepspeed)
    check_folder("out", config.out)
    if args.dry_run:
        print(to_yaml(plain(config)), end="")
        return 0
    from vlrl.distributed.comm import shutdown
    from vlrl.judge.train.build import build_trainer, export

    trainer = build_trainer(config, resume=args.resume)
    trainer.train()
    folder = export(trainer)
    if trainer.world.is_main:
        print(f"judge: {folder}", flush=True)
    shutdown()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of scripts/train_judge.py."""
    return launch(add_arguments, "Train a judge.", argv)
