"""`vlrl serve-vllm`: a checkpoint behind vLLM for rollouts, from vLLM's own environment."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vlrl.cli.options import whole
from vlrl.policy.vision_language.samplers import servable
from vlrl.policy.vision_language.samplers.started import refuse_without_vllm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "--engine-env",
        type=Path,
        default=Path(".venv-vllm"),
        help="environment with vLLM; default: .venv-vllm",
    )
    parser.add_argument("model", help="a folder or a hub name")
    parser.add_argument(
        "port", nargs="?", type=whole(0, 65_535), default=8000, help="default: 8000"
    )
    parser.add_argument(
        "flags", nargs=argparse.REMAINDER, help="further options of `vllm serve`, after the port"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Become the server; raises ConfigError where there is no vLLM in the environment."""
    refuse_without_vllm(args.engine_env)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = str(args.engine_env / "bin/python")
    words = [program, "-P", servable.__file__, args.model, str(args.port), *args.flags]
    os.execve(program, words, environment)
