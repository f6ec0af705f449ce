"""`vlrl references`: images by the untrained policy, or its best of N, as references."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vlrl.build import build_policy, build_task, check_plugins, read_parts
from vlrl.cli.options import add_config, add_options, section_beside_run
from vlrl.config.loader import compose
from vlrl.config.schema import RunConfig
from vlrl.config.section import Section
from vlrl.errors import ConfigError
from vlrl.protocols import Policy, PolicySetup, Task
from vlrl.types import Rollout, Sample


class ReferenceOptions(Section):
    """The section `references:` of files and overrides."""

    out: Path = Field(description="folder for the images")
    split: str | None = Field(None, description="default: the training split")
    num: PositiveInt = Field(1, description="images drawn for each prompt")
    keep: PositiveInt = Field(1, description="of them, the best by --score")
    score: str | None = Field(
        None, description="a reward file (`reward:`); without it the first ones are kept"
    )
    limit: NonNegativeInt = Field(0, description="prompts; 0 = all")
    batch: PositiveInt = Field(16, description="prompts sampled together")
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _check(self) -> ReferenceOptions:
        if self.keep > self.num:
            raise ValueError(f"--keep {self.keep} is not between 1 and --num {self.num}")
        if self.score is None and self.num != self.keep:
            raise ValueError("--num above --keep needs --score: the best by what?")
        return self


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl references`."""
    add_config(parser, "a run's config; merged in order", required=True)
    add_options(parser, ReferenceOptions)
    parser.description = "Reference images for `yes_token` with `references: cache`."
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sample, choose, write images and `references.jsonl`."""
    run_config, options = section_beside_run(ReferenceOptions, "references", args)
    config = check_plugins(run_config)
    task = build_task(config)
    samples = list(task.samples(options.split or config.train_split))[: options.limit or None]
    file = options.out / "references.jsonl"
    if file.exists():
        raise ConfigError(f"{file} exists already; remove it or choose another --out")
    options.out.mkdir(parents=True, exist_ok=True)
    make(config, task, samples, options, file)
    print(f"{file}: {len(samples)} prompts, {options.keep} of {options.num} images each")
    return 0


def make(
    config: RunConfig,
    task: Task,
    samples: Sequence[Sample],
    options: ReferenceOptions,
    file: Path,
) -> None:
    """The images of all samples, batch by batch; the file gets its name when it is complete."""
    from vlrl.reward.tree import build_reward
    from vlrl.train.scoring import score_rollouts

    reward = None
    if options.score is not None:
        node = compose([options.score]).get("reward")
        if node is None:
            raise ConfigError(f"{options.score}: a reward file has the single key `reward:`")
        reward = build_reward(node)
    policy = _policy(config)
    policy.prepare(samples)
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as lines:
        for start in range(0, len(samples), options.batch):
            part = samples[start : start + options.batch]
            rollouts, _ = policy.sample(part, options.num, options.seed)
            scores = [0.0] * len(rollouts)
            if reward is not None:
                scores = score_rollouts(task, reward, rollouts).nan_to_num(-1e30).tolist()
            for place, sample in enumerate(part):
                own = range(place * options.num, (place + 1) * options.num)
                best = sorted(own, key=lambda i: (-scores[i], i))[: options.keep]
                number = start + place
                names = [_write(rollouts[i], file.parent, number, k) for k, i in enumerate(best)]
                lines.write(json.dumps({"id": sample.id, "references": names}) + "\n")
    partial.rename(file)


def _policy(config: RunConfig) -> Policy[Any]:
    """The initial policy, outside any engine, on this process's device."""
    import torch

    from vlrl.distributed import comm

    world = comm.init(config.dist.timeout_s, config.dist.num_threads)
    dtype = torch.bfloat16 if config.dist.precision == "bf16" else torch.float32
    setup = PolicySetup(dtype=dtype, max_tokens_per_chunk=config.dist.max_tokens_per_chunk)
    policy = build_policy(read_parts(config), setup)
    policy.module.to(world.device)
    return policy


def _write(rollout: Rollout, folder: Path, number: int, place: int) -> str:
    from PIL import Image

    from vlrl.errors import RewardError

    if not isinstance(rollout.output, np.ndarray) or rollout.output.ndim != 3:
        raise RewardError(f"sample {rollout.sample.id!r}: the policy made no image")
    name = f"{number:06d}-{place}.png"
    Image.fromarray(rollout.output).save(folder / name)
    return name
