"""`vlrl recipes`: the configs that come with vlrl, and what each is."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlrl.config.shipped import find, nearest, shipped_files
from vlrl.errors import ConfigError

SCHEMA_LINE = "# yaml-language-server:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl recipes`."""
    parser.add_argument("name", nargs="?", help="print this one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table, or one recipe's file."""
    if args.name is None:
        print(table())
        return 0
    file = find(args.name, "configs")
    if file is None:
        raise ConfigError(f"there is no recipe {args.name!r}; {nearest(args.name, 'configs')}")
    print(file.read_text(encoding="utf-8"), end="")
    return 0


def table() -> str:
    """Name and first comment line of every recipe."""
    files = shipped_files("configs")
    width = max(map(len, files))
    return "\n".join(f"{name:<{width}}  {_title(file)}".rstrip() for name, file in files.items())


def _title(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    # The first line is for editors: the file's schema.
    first = next((line for line in lines if not line.startswith(SCHEMA_LINE)), "")
    return first.removeprefix("#").strip() if first.startswith("#") else ""
