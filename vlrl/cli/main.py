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
    args, rest = parser.parse_known_args(argv)
    for item in rest:
        # An override may stand behind any option; argparse alone takes those of one place.
        if item.startswith("-") or "=" not in item or not hasattr(args, "overrides"):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        args.overrides.append(item)
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
