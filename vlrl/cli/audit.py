"""`vlrl audit`: what rewards do on answers that exist, as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlrl.audit.options import AuditOptions
from vlrl.cli.checks import out_folder
from vlrl.cli.options import add_options, given
from vlrl.config.resolve import check
from vlrl.errors import ConfigError

ABOUT = """\
compare rewards on answers that exist: how far apart they are and which answers they order
differently, how stable the best policy is, whether the right answer comes before known wrong ones,
which of the best answers an independent reward dislikes, and what learnt rewards see.

The answers are the groups that a run has recorded (log.rollouts_every, log.num_rollout_groups),
finished or not, or the rows of a JSONL file. The run's own reward is the first one; --rewards adds
others: recipes or files with `reward:`. Answers are scored again through the real tree; values that
the rollouts hold are taken instead where a model would be needed. See docs/audit.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl audit`."""
    parser.description = ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", nargs="?", type=Path, metavar="RUN", help="runs/<name>")
    parser.add_argument(
        "--answers", type=Path, metavar="FILE",
        help="JSONL with `sample`, `output` and optionally `group`, `reward`, `parts`, `labels`",
    )  # fmt: skip
    parser.add_argument(
        "--config", nargs="+", default=[], metavar="FILE",
        help="the task of --answers, or of RUN instead of its own config; merged in order",
    )  # fmt: skip
    parser.add_argument(
        "--rewards", nargs="+", default=[], metavar="FILE",
        help="more rewards: recipes, or files with `reward:`; each is named by its file",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="for audit.html, audit.json and features/; default: RUN, or runs/audit/<file>",
    )  # fmt: skip
    add_options(parser, AuditOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Audit, write the page, print its path."""
    from vlrl.audit.answers import read_answers_file, read_run_answers
    from vlrl.audit.audit import audit
    from vlrl.audit.scoring import RewardConfig, read_reward_configs, score_answers
    from vlrl.audit.write import write_audit
    from vlrl.build import build_scored, build_task
    from vlrl.config.resolve import load_run_config

    options = check(AuditOptions, given(args, AuditOptions))
    if (args.folder is None) == (args.answers is None):
        raise ConfigError("give the folder of a run, or --answers FILE with --config")
    if args.answers is not None and not args.config:
        raise ConfigError("--answers: give the task of the answers too: --config FILE")
    files = args.config or [args.folder / "config.yaml"]
    if args.folder is not None and not args.config and not files[0].is_file():
        raise ConfigError(f"{args.folder}: no config.yaml there; is it the folder of a run?")
    config = load_run_config(files)
    use = config.task["use"]
    first = RewardConfig(
        "run" if args.folder else Path(files[-1]).stem, config.reward, str(files[-1])
    )
    configs = [first, *read_reward_configs(args.rewards, [first.name])]
    default = args.folder if args.folder is not None else Path("runs/audit") / args.answers.stem
    out = out_folder(args.out or default)
    task = build_task(config)
    split = options.split or config.train_split
    if args.folder is not None:
        answers = read_run_answers(args.folder, task, split, options.limit)
    else:
        answers = read_answers_file(args.answers, task, split, options.limit)
    own = build_scored(use, config.reward, "reward", type(task))
    again = options.load_models
    rewards = [score_answers(one, answers, use, own, load_models=again) for one in configs]
    found = audit(answers, rewards, use, options)
    title = (args.folder or args.answers).resolve().name
    print(write_audit(found, out, title))
    return 0
