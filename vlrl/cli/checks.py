"""Checks of numbers and folders on the command line, and how a failure is reported."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from vlrl.errors import ConfigError, VlrlError, first_line


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type for argparse: whole numbers from `least` up to `most`, both included."""

    def read(text: str) -> int:
        # A ValueError would hide these words behind "invalid read value".
        reach = f"of at least {least}" if most is None else f"from {least} to {most}"
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"a whole number {reach}, not {text!r}")
        return value

    return read


def number(*, above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """A type for argparse: finite numbers above one bound, or from one on."""

    def read(text: str) -> float:
        reach = f"above {above:g}" if least is None else f"of at least {least:g}"
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        high = (above is None or value > above) and (least is None or value >= least)
        if not (math.isfinite(value) and high):
            raise argparse.ArgumentTypeError(f"a number {reach}, not {text!r}")
        return value

    return read


def out_folder(out: Path) -> Path:
    """The folder for results, made where it is missing; ConfigError where nothing can be written.

    Asked before the work starts: hours of answers must not end at a folder that takes no file.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        reason = (
            "there is a file of that name" if isinstance(error, FileExistsError) else error.strerror
        )
        raise ConfigError(
            f"--out {str(out)!r}: cannot write there: {reason}; choose another folder"
        ) from error
    return out


def told(error: VlrlError | OSError) -> str:
    """A user's mistake, or what the system refused with its path, as one message."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{type(error).__name__}: {error.filename}: {error.strerror or first_line(error)}"
    return f"{type(error).__name__}: {error}"


def interrupted() -> int:
    """The exit status after Ctrl-C, which is no error of the program's; says so in a line."""
    print("interrupted", file=sys.stderr)
    return 128 + signal.SIGINT


def run_program(main: Callable[[], None]) -> int:
    """Run a program of scripts/ or benchmarks/; a mistake is one clear message and status 2."""
    try:
        main()
    except (VlrlError, OSError) as error:
        print(told(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return interrupted()
    return 0
