"""`vlrl train` and `deepspeed scripts/train_grpo.py`: the same arguments, the same run."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from vlrl.build import build_trainer, read_parts
from vlrl.cli.checks import whole
from vlrl.cli.options import add_config, add_launcher, launch
from vlrl.cli.plan import plan_of, planned_text
from vlrl.cli.stages import stage_lines
from vlrl.config.loader import to_yaml
from vlrl.config.resolve import load_run_config, plain
from vlrl.config.schema import RunConfig
from vlrl.train.finished import mark_finished
from vlrl.train.stopping import POLITE, StopRequest

if TYPE_CHECKING:
    from vlrl.train.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a training run."""
    add_config(parser, "files or names of recipes; merged in order", required=True)
    parser.add_argument("--reward", metavar="FILE", help="a file that replaces the reward")
    parser.add_argument(
        "--resume", nargs="?", const="auto", metavar="CHECKPOINT", help="go on; default: the latest"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument(
        "--plan",
        action="store_true",
        help="print memory and time on the GPUs of `plan:` and stop; needs no GPU, no weights",
    )
    parser.add_argument("--gpu", metavar="KIND", help="plan for this kind, e.g. h200_141gb")
    parser.add_argument("--gpus", type=whole(1), metavar="N", help="plan for so many GPUs")
    parser.add_argument("--quiet", action="store_true", help="plain lines, no bars")
    add_launcher(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, or print the resolved config with --dry-run."""
    overrides = [*args.overrides, "log.quiet=true"] if args.quiet else args.overrides
    config = load_run_config(args.config, overrides, args.reward)
    if args.dry_run or args.plan:
        prepare(config, args)
        return 0
    is_main = os.environ.get("RANK", "0") == "0"
    with StopRequest(is_main=is_main, signals=POLITE) as start:
        trainer = build_trainer(config, args.resume)
        trainer.train(start)
        finish(trainer)
    return 0


def prepare(config: RunConfig, args: argparse.Namespace) -> None:
    """Print the resolved config, the plan, or both; ConfigError where the run would not fit.

    In a dry run stages and plan stand in comments, so that the whole is still a config.
    """
    parts = read_parts(config)
    if args.dry_run:
        print(to_yaml(plain(parts.config)), end="")
        for line in stage_lines(parts):
            print(f"# {line}")
    if not args.plan and parts.config.plan.gpu is None:
        return
    plan = plan_of(parts, args.gpu, args.gpus)
    mark = "# " if args.dry_run else ""
    for line in planned_text(parts, plan).splitlines():
        print(mark + line, flush=True)
    if plan is not None:
        plan.check(parts.config)


def export(trainer: Trainer[Any]) -> None:
    """Write `model/`: the weights, averaged where an average is kept; all ranks call this."""
    from vlrl.tensor_files import exporting
    from vlrl.train.finite import check_finite
    from vlrl.train.recipe import recipe_of, write_recipe

    with trainer.engine.averaged(), trainer.engine.weights(trainer.folder) as weights:
        check_finite(weights, trainer.world)
        if trainer.world.is_main:
            model = trainer.folder / "model"
            precision = trainer.config.dist.precision
            recipe = recipe_of(trainer.task, trainer.policy.options, precision)
            with exporting(model):
                trainer.policy.save_pretrained(str(model), weights)
                if recipe is not None:
                    write_recipe(model, recipe)


def finish(trainer: Trainer[Any]) -> None:
    """Export the weights and write the report, on all ranks together."""
    from vlrl.distributed.comm import barrier, shutdown
    from vlrl.log.report.write import write_report

    config = trainer.config
    if config.checkpoint.export:
        export(trainer)
    if config.log.report and trainer.world.is_main:
        print(f"report: {write_report(trainer.folder)}", flush=True)
    if trainer.world.is_main:
        mark_finished(trainer.folder, trainer.step)
    barrier(trainer.world)
    shutdown()


def main(argv: list[str] | None = None) -> int:
    """Entry of scripts/train_grpo.py."""
    return launch(add_arguments, "Train a policy with group-relative RL.", argv)
