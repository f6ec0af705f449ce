"""`vlrl report`: write a run's report again from its files."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlrl.log.report.write import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl report`."""
    parser.add_argument("folder", type=Path, help="runs/<name>")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the path of the report."""
    print(write_report(args.folder))
    return 0
