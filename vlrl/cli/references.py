"""`vlrl references`: images of the policy before training, or the best of N, to compare with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vlrl.build import build_policy, build_task, check_plugins, read_parts
from vlrl.config.resolve import load_run_config
from vlrl.errors import ConfigError
from vlrl.protocols import PolicySetup


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `vlrl references`."""
    parser = commands.add_parser(
        "references",
        help="make reference images with the policy as it is (see docs/judge.md)",
        description="For `yes_token` with `references: cache`.",
    )
    parser.add_argument("--config", nargs="+", required=True, metavar="FILE", help="a run's config")
    parser.add_argument("--split", help="default: the training split")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--num", type=int, default=1, help="images drawn for each prompt")
    parser.add_argument("--keep", type=int, default=1, help="of them, the best by --score")
    parser.add_argument(
        "--score", metavar="FILE", help="a reward file (`reward:`); the first ones without it"
    )
    parser.add_argument("--limit", type=int, default=0, help="prompts; 0 = all")
    parser.add_argument("--batch", type=int, default=16, help="prompts sampled together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sample, choose, write images and `references.jsonl`."""
    if not 1 <= args.keep <= args.num:
        raise ConfigError(f"--keep {args.keep} is not between 1 and --num {args.num}")
    if args.score is None and args.num != args.keep:
        raise ConfigError("--num above --keep needs --score: the best by what?")
    config = check_plugins(load_run_config(args.config, args.overrides))
    task = build_task(config)
    samples = list(task.samples(args.split or config.train_split))[: args.limit or None]
    file = args.out / "references.jsonl"
    if file.exists():
        raise ConfigError(f"{file} is there already; remove it or choose another --out")
    args.out.mkdir(parents=True, exist_ok=True)
    make(config, task, samples, args, file)
    print(f"{file}: {len(samples)} prompts, {args.keep} of {args.num} images each")
    return 0


def make(config: Any, task: Any, samples: Any, args: argparse.Namespace, file: Path) -> None:
    """The images of all samples, batch by batch; the file is whole when it has its name."""
    from vlrl.config.loader import read_yaml
    from vlrl.reward.tree import build_reward
    from vlrl.train.scoring import score_rollouts

    reward = None
    if args.score is not None:
        node = read_yaml(args.score).get("reward")
        if node is None:
            raise ConfigError(f"{args.score}: a reward file holds the one key `reward:`")
        reward = build_reward(node)
    policy = _policy(config)
    policy.prepare(samples)
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as lines:
        for start in range(0, len(samples), args.batch):
            part = samples[start : start + args.batch]
            rollouts, _ = policy.sample(part, args.num, args.seed)
            scores = [0.0] * len(rollouts)
            if reward is not None:
                scores = score_rollouts(task, reward, rollouts).nan_to_num(-1e30).tolist()
            for place, sample in enumerate(part):
                own = range(place * args.num, (place + 1) * args.num)
                best = sorted(own, key=lambda i: (-scores[i], i))[: args.keep]
                number = start + place
                names = [_write(rollouts[i], file.parent, number, k) for k, i in enumerate(best)]
                lines.write(json.dumps({"id": sample.id, "references": names}) + "\n")
    partial.rename(file)


def _policy(config: Any) -> Any:
    """The policy as it starts, outside any engine, on this process's device."""
    import torch

    from vlrl.distributed import comm

    world = comm.init(config.dist.timeout_s, config.dist.num_threads)
    dtype = torch.bfloat16 if config.dist.precision == "bf16" else torch.float32
    setup = PolicySetup(dtype=dtype, max_tokens_per_chunk=config.dist.max_tokens_per_chunk)
    policy = build_policy(read_parts(config), setup)
    policy.module.to(world.device)
    return policy


def _write(rollout: Any, folder: Path, number: int, place: int) -> str:
    from PIL import Image

    from vlrl.errors import RewardError

    if getattr(rollout.output, "ndim", 0) != 3:
        raise RewardError(f"sample {rollout.sample.id!r}: the policy made no image")
    name = f"{number:06d}-{place}.png"
    Image.fromarray(rollout.output).save(folder / name)
    return name
