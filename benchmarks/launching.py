"""Trainings that a benchmark compares: the real command under the real launcher, one by one."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def launch(script: str, arguments: Sequence[str], ranks: int) -> None:
    """`deepspeed --num_gpus RANKS SCRIPT ARGUMENTS` in the repository; stops if that fails."""
    folder = Path(sys.executable).parent
    command = [
        str(folder / "deepspeed"),
        f"--num_gpus={ranks}",
        f"--master_port={_free_port()}",
        script,
        *arguments,
    ]
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PATH": path})


def train(
    configs: Sequence[str],
    overrides: Sequence[str],
    *,
    out: Path,
    name: str,
    seed: int,
    ranks: int,
    reward: str | None = None,
) -> None:
    """One run of scripts/train_grpo.py, unless it is already there."""
    if (out / name / "evaluations" / "after").is_dir():
        return
    chosen = ["--reward", reward] if reward else []
    own = [f"name={name}", f"out={out}", f"seed={seed}", "checkpoint.at_end=false"]
    arguments = ["--config", *configs, *chosen, "--quiet", *own, *overrides]
    launch("scripts/train_grpo.py", arguments, ranks)


def options(doc: str, out: str, name: str, sides: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a comparison; `name` is what its sides are called on the command line."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(f"--{name}", dest="sides", nargs="+", default=list(sides), choices=sides)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run")
    return parser


def _free_port() -> int:
    """A free port, so that other launches on the machine do not interfere."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
