"""This trainer's side of flow_step.py, and what both sides share: case, model and reward."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for key, value in {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}.items():
    os.environ.setdefault(key, value)

import diffusers
import numpy as np
import torch
import transformers

from scripts.assets.models.image.pipeline import PipelineSize, new_pipeline

PHASES = ("sampling", "scoring", "update", "step")
CAPTIONS = [
    f"a {size} {thing} on a {colour} background"
    for thing in ("apple", "car", "dog", "cat", "house", "tree")
    for size in ("red", "big", "small")
    for colour in ("blue", "pink", "white")
]

for library in (diffusers, transformers):
    library.utils.logging.disable_progress_bar()


def brightness(rollout: Any) -> float:
    """A reward without cost."""
    return mean_brightness(rollout.parsed.image)


def mean_brightness(image: np.ndarray) -> float:
    """Of a uint8 image, between 0 and 1."""
    return float(image.mean() / 255)


@dataclass
class Times:
    """Seconds of every step, by phase, peak bytes kept for backward, and bytes of weights held."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {p: [] for p in PHASES})
    cpu_s: list[float] = field(default_factory=list)
    """CPU seconds of every step, all threads; least affected by other jobs."""
    peak_bytes: int = 0
    weight_bytes: int = 0

    def median(self, phase: str) -> float:
        """Over the steps, without the first one, which is the warm-up."""
        return median(self.seconds[phase][1:])

    @property
    def median_cpu_s(self) -> float:
        """Likewise."""
        return median(self.cpu_s[1:])


@dataclass(frozen=True)
class Case:
    """One comparison. A micro-batch is that many images at one denoising step.

    It is also what the published loop samples at once; this trainer samples whole groups.
    """

    folder: Path
    size: PipelineSize
    num_prompts: int = 4
    group_size: int = 9
    micro_batch: int = 9
    num_minibatches: int = 1
    """Optimizer steps per training step; the published recipes take two."""
    num_steps: int = 10
    guidance: float = 4.5
    noise: float = 0.7
    clip: float = 1e-4
    lr: float = 1e-5
    num_threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_images % self.micro_batch:
            raise SystemExit("prompts x group must be a multiple of the micro-batch")
        if self.num_prompts % self.num_minibatches:
            raise SystemExit("prompts must be a multiple of the minibatches")
        if self.num_prompts > len(CAPTIONS):
            raise SystemExit(f"at most {len(CAPTIONS)} prompts")

    @property
    def num_images(self) -> int:
        """Of one step."""
        return self.num_prompts * self.group_size

    @property
    def latent_px(self) -> int:
        """Side of the latents."""
        return int(self.size.image_px // 2 ** (len(self.size.vae_channels) - 1))

    @property
    def tokens_per_forward(self) -> int:
        """Image and text tokens of a guided micro-batch; text is CLIP's, then T5's."""
        return self.micro_batch * 2 * (self.latent_px**2 + 2 * self.size.max_tokens)


def checkpoint(case: Case) -> Path:
    """The model with random weights, as a pipeline folder."""
    torch.manual_seed(case.seed)
    pipeline: Any = new_pipeline(CAPTIONS, case.size)
    with torch.no_grad():
        for parameter in pipeline.transformer.parameters():
            # New transformers start with layers that output 0, and their gradients would be 0 too.
            parameter.add_(0.02 * torch.randn_like(parameter))
        # A newly initialised decoder outputs grey for every latent.
        pipeline.vae.decoder.conv_out.weight.mul_(6)
    target = case.folder / "model"
    pipeline.save_pretrained(target)
    return target


# --- ours ------------------------------------------------------------------------------------


def our_config(case: Case, model: Path, name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The published recipe in this trainer's options; `recipe` replaces options of the policy,
    except for `old_logp`, which is algo's."""
    options = {key: value for key, value in recipe.items() if key != "old_logp"}
    data = case.folder / "captions.jsonl"
    rows = [{"id": f"c{i}", "caption": text} for i, text in enumerate(CAPTIONS[: case.num_prompts])]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    size = {"width_px": case.size.image_px, "height_px": case.size.image_px}
    return {
        "name": name,
        "out": str(case.folder),
        "seed": case.seed,
        "task": {"use": "text_to_image", **size, "data": {"train": {"path": str(data)}}},
        "policy": {
            "use": "flow",
            "model": str(model),
            **size,
            "num_steps": case.num_steps,
            "guidance_scale": case.guidance,
            "noise_level": case.noise,
            "max_prompt_tokens": case.size.max_tokens,
            "sample_batch_size": case.micro_batch,
            **options,
        },
        "reward": {"use": f"{Path(__file__).stem}:brightness"},
        "algo": {
            "num_prompts": case.num_prompts,
            "group_size": case.group_size,
            "advantage": "group_zscore",
            "clip": {"low": case.clip, "high": case.clip},
            "num_minibatches": case.num_minibatches,
            "old_logp": recipe.get("old_logp", "recompute"),
        },
        "optim": {"lr": case.lr, "weight_decay": 1e-4},
        "dist": {
            "deepspeed": str(ROOT / "deepspeed_configs/zero0.json"),
            # As many tokens per forward as in the published loop, however they are split.
            "max_tokens_per_chunk": case.tokens_per_forward,
            "num_threads": case.num_threads,
        },
        "checkpoint": {"at_end": False, "export": False},
        "log": {"console": False, "report": False, "rollouts_every": 0},
    }


def our_trainer(case: Case, model: Path, name: str, recipe: Mapping[str, Any], **dist: Any) -> Any:
    """This project's trainer; its prompts are encoded here, before the first step.

    dist: replaces options of that section.
    """
    from vlrl.build import build_trainer
    from vlrl.config.resolve import check
    from vlrl.config.schema import RunConfig

    config = our_config(case, model, name, recipe)
    config["dist"].update(dist)
    return build_trainer(check(RunConfig, config), None)


def our_step(trainer: Any, times: Times) -> None:
    """One training step; its own clock gives the phases."""
    started = time.perf_counter()
    metrics = trainer.train_step()
    times.seconds["step"].append(time.perf_counter() - started)
    for phase in ("sampling", "scoring", "update"):
        times.seconds[phase].append(metrics[f"time/{phase}_s"])


def weight_bytes(pipeline: Any, *others: torch.nn.Module) -> int:
    """Of the modules that stay in memory during a step, each once."""
    modules = [*pipeline.components.values(), *others]
    tensors = {
        p.data_ptr(): p.nbytes
        for part in modules
        if isinstance(part, torch.nn.Module)
        for p in part.parameters()
    }
    return sum(tensors.values())
