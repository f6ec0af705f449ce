"""The warm-up run: data, TRL's trainer, a log line and a checkpoint every few minutes."""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoProcessor,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig

from vlrl.distributed.memory import keep_freed_memory
from scripts.assets.models.gui_and_video.collate import TurnCollator
from scripts.assets.models.gui_and_video.data import ScreenTargets, load_screens
from scripts.assets.models.gui_and_video.evaluate import hit_rates
from scripts.assets.models.gui_and_video.model import build_model, use_default_attention, use_fast_attention
from scripts.assets.models.gui_and_video.tokenizer import build_processor, corpus_from_rows, train_tokenizer
from scripts.assets.models.gui_and_video.trainer import MuonWithAdam, WarmupTrainer

VOCABULARY = 704
STORED = {"bf16": torch.bfloat16, "float8": torch.float8_e4m3fn}
"""How a model's matrices may be stored on disk."""


@dataclass
class WarmupPlan:
    """The settings of a warm-up run."""

    assets: Path
    out: Path
    pages: list[Path]
    screens: list[Path]
    screen_repeats: int = 1
    held_out: Path | None = None
    start: Path | None = None
    steps: int = 2000
    max_minutes: float = 40.0
    batch: int = 8
    lr: float = 1.5e-3
    muon_lr: float = 0.0
    floor: float = 0.05
    turns: int = 8
    augment: float = 0.5
    pointer_weight: float = 0.5
    word_weight: float = 0.5
    eval_minutes: float = 4.0
    eval_limit: int = 256
    threads: int = 2
    seed: int = 0


def init_assets(plan: WarmupPlan) -> None:
    """Write the tokenizer, the processor and random weights to the assets folder."""
    tokenizer = train_tokenizer(corpus_from_rows([*plan.pages, *plan.screens]), VOCABULARY)
    build_processor(tokenizer).save_pretrained(plan.assets)
    save_model(build_model(tokenizer, plan.seed), plan.assets)


def save_model(
    model: Qwen2_5_VLForConditionalGeneration, folder: Path, storage: str = "bf16"
) -> None:
    """Write config and weights so that a reader never sees half a file.

    storage: bf16, or float8: matrices in e4m3, half the bytes at 3 % rounding of a weight.
    transformers loads either in the requested dtype.
    """
    staging = folder.parent / f".{folder.name}.staging"
    shutil.rmtree(staging, ignore_errors=True)
    stored: dict[int, torch.Tensor] = {}
    weights = {}
    for name, value in model.state_dict().items():
        narrow = STORED[storage] if value.dim() > 1 else torch.bfloat16
        # One tensor for tied weights, so that they are written once.
        weights[name] = stored.setdefault(value.data_ptr(), value.detach().to(narrow))
    model.save_pretrained(staging, state_dict=weights)
    folder.mkdir(parents=True, exist_ok=True)
    for file in staging.iterdir():
        file.replace(folder / file.name)
    staging.rmdir()


def training_data(plan: WarmupPlan) -> Dataset:
    """One row per screenshot; real screens are repeated so that they weigh more."""
    groups = [(path, 1) for path in plan.pages] + [(p, plan.screen_repeats) for p in plan.screens]
    rows: list[dict[str, Any]] = []
    for path, repeats in groups:
        screens = [
            {"image": screen.image, "targets": [asdict(target) for target in screen.targets]}
            for screen in load_screens(path)
        ]
        rows += screens * repeats
    return Dataset.from_list(rows)


class Watch(TrainerCallback):
    """Measures held-out hits and saves the model every few minutes, and stops in time."""

    def __init__(
        self,
        plan: WarmupPlan,
        model: Qwen2_5_VLForConditionalGeneration,
        processor: Qwen2_5_VLProcessor,
        screens: list[ScreenTargets],
    ) -> None:
        self.plan, self.model, self.processor, self.screens = plan, model, processor, screens
        self.begun = self.measured = time.monotonic()
        self.log_file = plan.out / "warmup_log.jsonl"
        plan.out.mkdir(parents=True, exist_ok=True)

    def share(self, step: int) -> float:
        """Share of the run that has passed."""
        minutes = (time.monotonic() - self.begun) / 60
        return max(step / self.plan.steps, minutes / self.plan.max_minutes)

    def write(self, record: dict[str, Any]) -> None:
        """Append one line to the log."""
        record = {"minutes": round((time.monotonic() - self.begun) / 60, 2), **record}
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Keep the training metrics."""
        kept = (
            "loss",
            "pointer_loss",
            "word_loss",
            "mean_token_accuracy",
            "learning_rate",
            "grad_norm",
        )
        metrics = {key: round(float(logs[key]), 6) for key in kept if logs and key in logs}
        if metrics:
            self.write({"step": state.global_step, **metrics})

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Measure when due; stop when the time is up."""
        threads = self.plan.out / "threads"
        if threads.exists():  # lets a run take or give back a core without a restart
            torch.set_num_threads(int(threads.read_text()))
        now = time.monotonic()
        if (now - self.begun) / 60 >= self.plan.max_minutes:
            control.should_training_stop = True
        elif (now - self.measured) / 60 >= self.plan.eval_minutes:
            self.measure(state.global_step)
            self.measured = time.monotonic()

    def measure(self, step: int) -> None:
        """Save a checkpoint and log its greedy hit rate."""
        folder = self.plan.out / f"step_{step:05d}"
        save_model(self.model, folder)
        self.processor.save_pretrained(folder)
        if not self.screens:
            return
        use_default_attention(self.model)
        rates = hit_rates(self.model, self.processor, self.screens, limit=self.plan.eval_limit)
        use_fast_attention(self.model)
        self.write({"step": step, "held_out": asdict(rates)})
        print(f"step {step}: held-out {rates}", flush=True)


def cosine(step: int, share: float, *, warmup: int = 50, floor: float = 0.05) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`.

    `share` is the share of the run that has passed, in steps or in time, whichever is more: on a
    shared machine the number of steps that fit into the time is not known beforehand.
    """
    if step < warmup:
        return (step + 1) / warmup
    share = min(1.0, share)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))


def sft_config(
    out: Path, steps: int, batch: int, seed: int, *, precision: str = "bf16"
) -> SFTConfig:
    """TRL's options of a warm-up on CPU; the watch saves and measures."""
    return SFTConfig(
        output_dir=str(out / "trl"),
        max_steps=steps,
        per_device_train_batch_size=batch,
        max_grad_norm=1.0,
        bf16=precision == "bf16",
        use_cpu=True,
        logging_steps=20,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        gradient_checkpointing=False,
        max_length=None,
        seed=seed,
        disable_tqdm=True,
    )


def warm_up(plan: WarmupPlan) -> None:
    """Train from the assets' tokenizer and write checkpoints and the log to `plan.out`."""
    keep_freed_memory()
    torch.set_num_threads(plan.threads)
    processor = AutoProcessor.from_pretrained(plan.assets)
    if plan.start is not None:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(plan.start, dtype=torch.float32)
    else:
        model = build_model(processor.tokenizer, plan.seed)
    use_fast_attention(model)
    if plan.muon_lr:
        optimizer: torch.optim.Optimizer = MuonWithAdam(
            model.named_parameters(), plan.muon_lr, plan.lr, weight_decay=0.01
        )
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), plan.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
    screens = load_screens(plan.held_out) if plan.held_out else []
    watch = Watch(plan, model, processor, screens)
    watch.write({"plan": {key: str(value) for key, value in asdict(plan).items()}})
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine(step, watch.share(step), floor=plan.floor)
    )
    data = training_data(plan)
    collator = TurnCollator(
        processor,
        turns=plan.turns,
        augment_strength=plan.augment,
        seed=plan.seed,
    )
    trainer = WarmupTrainer(
        model=model,
        args=sft_config(plan.out, plan.steps, plan.batch, plan.seed),
        train_dataset=data,
        data_collator=collator,
        processing_class=processor,
        optimizers=(optimizer, schedule),
        pointer_weight=plan.pointer_weight,
        word_weight=plan.word_weight,
        callbacks=[watch],
    )
    trainer.train()
    watch.measure(trainer.state.global_step)
