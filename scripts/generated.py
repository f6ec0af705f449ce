"""What scripts/evaluate_images.py and scripts/evaluate_meshes.py share: one answer per sample."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, NonNegativeInt, PositiveInt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.build import build_policy, read_parts
from vlrl.cli.options import add_config, add_options, parse, section_beside_run
from vlrl.config.schema import RunConfig
from vlrl.config.section import Section
from vlrl.errors import VlrlError
from vlrl.eval.generation import answers, summary_of
from vlrl.protocols import PolicySetup
from vlrl.types import Rollout


class GenerationOptions(Section):
    """What is evaluated; in a file and in overrides under `evaluation:`."""

    split: str = Field(description="of the config's data")
    model: str | None = Field(None, description="another checkpoint than the config's")
    limit: NonNegativeInt = Field(0, description="samples, the first ones; 0 = all")
    batch_size: PositiveInt = 47
    seed: NonNegativeInt | None = Field(
        None, description="samples with this seed; without it, takes the likeliest answer"
    )
    threads: PositiveInt = Field(1, description="CPU threads")
    out: Path | None = Field(
        None, description="JSON file for the metrics; one line per sample in a .jsonl next to it"
    )

    def overrides(self) -> list[str]:
        """Overrides of the run's config."""
        if self.model is None:
            return []
        codec = Path(self.model) / "codec"
        own = [f"policy.model={self.model}"]
        return [*own, f"policy.codec={codec}"] if codec.is_dir() else own


Options = TypeVar("Options", bound=GenerationOptions)


@dataclass(frozen=True)
class Generated:
    """The answers of one model to one split, and their metrics."""

    task: Any
    rollouts: list[Rollout]
    found: dict[str, Any]


def generate(run_config: RunConfig, options: GenerationOptions) -> Generated:
    """Sample, parse, and compute the task's and the config's metrics."""
    import torch

    torch.set_num_threads(options.threads)
    parts = read_parts(run_config)
    task = parts.task_class(parts.task_options)
    policy = build_policy(parts, PolicySetup(dtype=torch.float32, max_tokens_per_chunk=16_384))
    task.check_policy(policy.size_seen, options.split)
    samples = list(task.samples(options.split))[: options.limit or None]
    size, seed = options.batch_size, options.seed
    rollouts = answers(policy, task, samples, batch_size=size, seed=seed)
    found = summary_of(task, rollouts, parts.metrics, 2000)
    found |= {"model": parts.config.policy["model"], "split": options.split, "seed": seed}
    return Generated(task, rollouts, found)


def run(
    doc: str, model: type[Options], evaluate: Callable[[RunConfig, Options], dict[str, Any]]
) -> int:
    """Evaluate, write, print; a user's mistake is one clear message and exit status 2.

    Per-sample metrics go to a .jsonl file next to --out, one line each.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    add_config(parser, "a run's config; merged in order", required=True)
    add_options(parser, model)
    args = parse(parser, None)
    try:
        config, options = section_beside_run(model, "evaluation", args, model.overrides)
        found = evaluate(config, options)
    except VlrlError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    lines = [json.dumps(sample, ensure_ascii=False) for sample in found.pop("samples")]
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
        options.out.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(text)
    return 0
