"""Rejection sampling for a judge: its own correct answers become training rows.

    python scripts/sample_judgements.py --config configs/judge/unified_reward_think_7b.yaml \\
        --out runs/right.jsonl

Samples `--num` answers to every pair of the config's training split, keeps the shortest one that
is correct and well-formed, and writes rows in the `pairs` layout with `answer` and `verdict`: data
for a cold start with `scripts/train_judge.py`. UnifiedReward-Think (arXiv 2505.03318) learns from
what it gets right, and keeps the pairs that it gets wrong for GRPO; they are written next to it, as
runs/right.wrong.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.build import build_policy, read_parts
from vlrl.config.resolve import load_run_config
from vlrl.errors import VlrlError
from vlrl.protocols import PolicySetup
from vlrl.types import ImagePart, Rollout, Sample


def main() -> int:
    """Sample, sort, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num", type=int, default=8, help="answers to each pair")
    parser.add_argument("--limit", type=int, default=0, help="samples; 0 = all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_args()
    try:
        right, wrong = sample(args)
    except VlrlError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for path, rows in ((args.out, right), (args.out.with_suffix(".wrong.jsonl"), wrong)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(lines, encoding="utf-8")
    print(f"{len(right)} right, {len(wrong)} wrong: {args.out}")
    return 0


def sample(args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the samples with a correct answer, and of those without."""
    import torch

    parts = read_parts(load_run_config(args.config, args.overrides))
    config, task = parts.config, parts.task_class(parts.task_options)
    samples = list(task.samples(config.train_split))[: args.limit or None]
    dtype = torch.bfloat16 if config.dist.precision == "bf16" else torch.float32
    setup = PolicySetup(dtype=dtype, max_tokens_per_chunk=config.dist.max_tokens_per_chunk)
    policy = build_policy(parts, setup)
    right, wrong = [], []
    for start in range(0, len(samples), args.batch):
        part = samples[start : start + args.batch]
        rollouts, _ = policy.sample(part, args.num, args.seed)
        for place, one in enumerate(part):
            best = best_of(task, rollouts[place * args.num : (place + 1) * args.num])
            (wrong if best is None else right).append(row_of(one, best))
    return right, wrong


def best_of(task: Any, rollouts: list[Rollout]) -> str | None:
    """The shortest answer that is correct, well-formed and does not contradict itself."""
    good = []
    for rollout in rollouts:
        answer = task.parse(rollout.sample, rollout.output)
        if (
            answer is not None
            and answer.verdict == rollout.sample.target.verdict
            and answer.well_formed
            and not answer.contradicts
        ):
            good.append(rollout.output)
    return min(good, key=len, default=None)


def row_of(sample: Sample, answer: str | None) -> dict[str, Any]:
    """A row of the `pairs` layout; paths are absolute, so that the file can be moved."""
    shown = [part.path for part in sample.prompt[0].parts if isinstance(part, ImagePart)]
    target = sample.target
    better = shown[target.verdict - 1]
    row = {
        "id": sample.id,
        "caption": target.caption,
        "chosen": str(Path(better).resolve()),
        "rejected": str(Path(shown[2 - target.verdict]).resolve()),
        "kind": target.kind,
    }
    return row if answer is None else {**row, "answer": answer, "verdict": target.verdict}


if __name__ == "__main__":
    sys.exit(main())
