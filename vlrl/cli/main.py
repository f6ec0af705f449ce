"""`vlrl`: train, eval, compare, describe, screens, report, serve-rewards, and judges."""

from __future__ import annotations

import argparse
import os
import sys

from vlrl.cli import (
    compare,
    describe,
    eval,
    judge_bench,
    references,
    report,
    screens,
    serve_judge,
    serve_rewards,
    train,
)
from vlrl.cli.checks import told
from vlrl.errors import VlrlError


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one clear message and exit status 2."""
    parser = argparse.ArgumentParser(prog="vlrl", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (train, eval, compare, describe, screens, report, serve_rewards):
        command.add_parser(commands)
    for command in (judge_bench, references, serve_judge):
        command.add_parser(commands)
    args = parser.parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (VlrlError, OSError) as error:
        print(told(error), file=sys.stderr)
        return 2
