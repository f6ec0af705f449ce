"""`vlrl merge`: a whole model from the adapter that a LoRA run leaves behind."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl merge`."""
    parser.description = (
        "Example: vlrl merge runs/NAME/model --out merged. The weights keep their number format; "
        "what lies beside the adapter (processor, vlrl.json) is copied."
    )
    parser.add_argument("adapter", help="the folder of an adapter")
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--revision", help="of the adapter's model on the hub")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the merged model."""
    from vlrl.families.merging import merge

    base = merge(args.adapter, args.out, args.revision)
    print(f"{args.out}: {base} with {args.adapter} in its weights")
    return 0
