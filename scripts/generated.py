"""What scripts/evaluate_images.py and scripts/evaluate_meshes.py share: one answer a sample."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.build import build_policy, read_parts
from vlrl.config.resolve import load_run_config
from vlrl.errors import VlrlError
from vlrl.eval.generation import answers, summary_of
from vlrl.protocols import PolicySetup
from vlrl.types import Rollout


@dataclass(frozen=True)
class Generated:
    """The answers of one model to one split, and the figures that need no others."""

    task: Any
    rollouts: list[Rollout]
    found: dict[str, Any]


def options(doc: str) -> argparse.ArgumentParser:
    """The options of both commands."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--config", nargs="+", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--model", help="another checkpoint than the config's")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=47)
    parser.add_argument("--seed", type=int, help="sampled with this seed; without: the likeliest")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    return parser


def generate(args: argparse.Namespace) -> Generated:
    """Sample, parse, and take the task's figures and the config's metrics."""
    import torch

    torch.set_num_threads(args.threads)
    overrides = [*args.overrides]
    if args.model is not None:
        overrides.append(f"policy.model={args.model}")
        if (Path(args.model) / "codec").is_dir():
            overrides.append(f"policy.codec={args.model}/codec")
    parts = read_parts(load_run_config(args.config, overrides, None))
    task = parts.task_class(parts.task_options)
    policy = build_policy(parts, PolicySetup(dtype=torch.float32, max_tokens_per_chunk=16_384))
    task.check_policy(policy.size_seen, args.split)
    samples = list(task.samples(args.split))[: args.limit or None]
    rollouts = answers(policy, task, samples, batch_size=args.batch_size, seed=args.seed)
    found = summary_of(task, rollouts, parts.metrics, 2000)
    found |= {"model": parts.config.policy["model"], "split": args.split, "seed": args.seed}
    return Generated(task, rollouts, found)


def run(
    parser: argparse.ArgumentParser, evaluate: Callable[[argparse.Namespace], dict[str, Any]]
) -> int:
    """Evaluate, write, print; a user's mistake is one clear message and exit status 2.

    Samples' own figures go to a file beside --out, a line each.
    """
    args = parser.parse_intermixed_args()
    try:
        found = evaluate(args)
    except VlrlError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    lines = [json.dumps(sample, ensure_ascii=False) for sample in found.pop("samples")]
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")
        args.out.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(text)
    return 0
