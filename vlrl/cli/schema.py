"""`vlrl schema`: the JSON schema of a config file, for editors."""

from __future__ import annotations

import argparse
import json

from vlrl.config.json_schema import file_schema, run_schema
from vlrl.registry import REGISTRY, resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl schema`."""
    kinds = ("run", *REGISTRY["config_file"])
    parser.add_argument("kind", nargs="?", default="run", choices=kinds, help="default: run")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    print(schema_text(args.kind))
    return 0


def schema_text(kind: str) -> str:
    """The schema of a kind of config file, as configs/schema/ holds it."""
    if kind == "run":
        schema = run_schema()
    else:
        schema = file_schema(resolve("config_file", kind), f"vlrl: {kind}")
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
