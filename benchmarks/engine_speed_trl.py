"""Time of TRL's GRPO steps with vLLM in its process; `engine_speed.py` starts it.

    ENGINE_ENV/bin/python benchmarks/engine_speed_trl.py --tokens 32 --prompts 4 --group 8

Runs in the engine's environment, which then needs TRL too. On vLLM's CPU build one thing is not
TRL's: its own loading of weights, tensor by tensor into a running model, fails where that build has
packed them, so the same tensors go through vLLM's `reload_weights`. Prints its medians as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MODEL = ROOT / "assets/models/tiny_qwen2_5_vl"
CONTEXT_TOKENS, BATCHED_TOKENS = 2048, 16_384

from vlrl.policy.vision_language.samplers.servable import environment, served_as

for key, value in {**environment({}, is_cpu=True), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}.items():
    os.environ.setdefault(key, value)

import torch
import trl.generation.vllm_generation as engine
from datasets import Dataset
from PIL import Image
from torch import Tensor
from transformers import (
    AutoProcessor,
    PrinterCallback,
    Qwen2_5_VLForConditionalGeneration,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer


def letters(completions: list[Any], **kwargs: Any) -> list[float]:
    """The reward of `engine_speed.py`."""
    return [(sum(ord(c) for c in chat[0]["content"]) % 17) / 17 for chat in completions]


def serve_on_cpu() -> None:
    """TRL's engine with what vLLM's CPU build needs to serve the embedded model."""
    served, laid = served_as(str(MODEL), untie=True)
    plain = engine.LLM

    def started(**options: Any) -> Any:
        own = {"model": served, "hf_overrides": laid, "enforce_eager": True, "dtype": "float32"}
        own["max_num_batched_tokens"] = BATCHED_TOKENS
        return plain(**{**options, **own})

    def sync(self: Any) -> None:
        def named() -> Iterator[tuple[str, Tensor]]:
            for name, weight in self._iter_named_params():
                yield name, weight
                if name.endswith("embed_tokens.weight"):
                    yield "lm_head.weight", weight

        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": named()})
        self.llm.reset_prefix_cache()
        self.llm.reset_mm_cache()  # reloading has emptied a part of it
        self.llm.llm_engine.reset_encoder_cache()

    engine.LLM = started
    engine.VLLMGeneration.sync_weights = sync


def trainer_of(folder: str, args: argparse.Namespace) -> GRPOTrainer:
    """GRPO on the demo's screens as in `engine_speed.py`: answers of one length, no KL term."""
    file = ROOT / "assets/new_screens/train.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = rows[: args.prompts * (args.repeats + 1)]
    prompts = []
    for row in rows:
        content = [{"type": "image"}, {"type": "text", "text": f"Click: {row['instruction']}"}]
        picture = Image.open(file.parent / row["image"]).convert("RGB")
        prompts.append({"prompt": [{"role": "user", "content": content}], "image": picture})

    settings = {
        "output_dir": folder, "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
        "report_to": "none", "save_strategy": "no", "logging_strategy": "no",
        "disable_tqdm": True, "max_steps": args.repeats + 1, "num_generations": args.group,
        "per_device_train_batch_size": args.group * args.prompts, "shuffle_dataset": False,
        "max_completion_length": args.tokens, "beta": 0.0, "temperature": 1.0, "top_k": 0,
        "learning_rate": 1e-5, "remove_unused_columns": False, "loss_type": "grpo", "seed": 0,
        "generation_kwargs": {
            "ignore_eos": True, "min_tokens": args.tokens,
            # TRL lets an answer hold tokens of images, and its own forward pass then fails.
            "logit_bias": dict.fromkeys(visual_tokens(), -100.0),
        },
        "use_vllm": True, "vllm_mode": "colocate", "vllm_max_model_length": CONTEXT_TOKENS,
        "vllm_importance_sampling_correction": False,
    }  # fmt: skip
    trainer = GRPOTrainer(
        model=Qwen2_5_VLForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32),
        processing_class=AutoProcessor.from_pretrained(MODEL),
        reward_funcs=letters,
        train_dataset=Dataset.from_list(prompts),
        args=GRPOConfig(**settings),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def visual_tokens() -> list[int]:
    """Ids that stand for pixels."""
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    return [config[name] for name in ("image_token_id", "video_token_id")]


class Clock(TrainerCallback):
    """Seconds of every step, and of the drawing inside it."""

    def __init__(self, trainer: GRPOTrainer) -> None:
        """Listens to a trainer."""
        self.sampling_s: list[float] = []
        self.step_s: list[float] = []
        self.lengths: set[int] = set()
        self.generate = trainer._generate
        trainer._generate = self.timed
        trainer.add_callback(self)

    def timed(self, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        found = self.generate(*args, **kwargs)
        self.sampling_s.append(time.perf_counter() - started)
        self.lengths |= {len(ids) for ids in found[1]}
        return found

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.step_s.append(time.perf_counter() - self.started)


def main() -> None:
    """Train; print medians without the first step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    serve_on_cpu()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(folder, args)
        clock = Clock(trainer)
        trainer.train()
    if clock.lengths != {args.tokens}:
        raise SystemExit(f"TRL: answers have {sorted(clock.lengths)} tokens")
    times = {"sampling": clock.sampling_s, "step": clock.step_s}
    print(json.dumps({name: median(each[1:]) for name, each in times.items()}))


if __name__ == "__main__":
    main()
