"""Train a judge: `deepspeed --num_gpus N scripts/train_judge.py --config FILE [KEY=VALUE ...]`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Runs from a bare checkout too, without an install.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.errors import VlrlError


def main() -> int:
    """Train to the end and export; a user's mistake is one clear message and status 2."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--resume", action="store_true", help="go on from the latest checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--local_rank", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args()
    try:
        from vlrl.judge.train.build import build_trainer, export, load_config

        files = [item for item in args.config if "=" not in item]
        overrides = [item for item in args.config if "=" in item] + args.overrides
        config = load_config(files, overrides)
        if args.dry_run:
            from vlrl.config.loader import to_yaml
            from vlrl.config.resolve import plain

            print(to_yaml(plain(config)), end="")
            return 0
        trainer = build_trainer(config, resume=args.resume)
        trainer.train()
        folder = export(trainer)
        if trainer.world.is_main:
            print(f"judge: {folder}", flush=True)
    except VlrlError as error:
        rank = os.environ.get("RANK", "0")
        print(f"[rank {rank}] {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    from vlrl.distributed.comm import shutdown

    shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
