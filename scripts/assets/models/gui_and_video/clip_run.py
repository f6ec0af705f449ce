"""The video warm-up: the embedded GUI model is trained further, on clips drawn during training."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from scripts.assets.clips.scene import Pool, Question
from vlrl.eval.recipe import Recipe
from vlrl.train.recipe import write_recipe
from vlrl.distributed.memory import keep_freed_memory
from vlrl.geometry.boxes import iou
from vlrl.video.track_answers import read_track
from scripts.assets.models.gui_and_video.clips import (
    FIND_PROMPT,
    Clip,
    ClipCollator,
    draw_clip,
    sampled_boxes,
    sampled_span,
    video_patches,
)
from scripts.assets.models.gui_and_video.model import use_default_attention, use_fast_attention
from scripts.assets.models.gui_and_video.run import Watch, cosine, save_model, sft_config
from scripts.assets.models.gui_and_video.trainer import MuonWithAdam, WarmupTrainer

TAGS = ("<time>", "</time>", "<think_bbox>", "</think_bbox>", "<pred_bbox>", "</pred_bbox>")
"""Single tokens: as ordinary text they would be a third of an answer."""
MAX_NEW_TOKENS = 220
RECIPE = Recipe(
    profile="qwen2_5_vl",
    prompt=FIND_PROMPT,
    max_new_tokens=MAX_NEW_TOKENS,
    video={"answer": "stvg_o1", "edges": "after", "fps": 2.0, "longer_side_px": 112},
)
"""How the model is prompted, written next to it."""


@dataclass
class ClipPlan:
    """The settings of a video warm-up run."""

    start: Path
    """The model to start from; tags that its tokenizer does not know are added to it."""
    out: Path
    sprites: Path
    photographs: list[Path]
    held_out: list[Path]
    """Photographs of the clips that progress is measured on."""
    steps: int = 100_000
    max_minutes: float = 15.0
    batch: int = 4
    lr: float = 1e-3
    muon_lr: float = 2e-3
    floor: float = 0.05
    turns: int = 4
    thinking: float = 0.5
    pointer_weight: float = 0.5
    eval_minutes: float = 5.0
    num_eval: int = 48
    precision: str = "fp32"
    """bf16 if the processor multiplies it faster."""
    storage: str = "bf16"
    """How the last model's matrices are stored, a key of `scripts.assets.models.gui_and_video.run.STORED`."""
    threads: int = 1
    seed: int = 0


def load_start(folder: Path) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """The model and its processor, with the tags as tokens of their own.

    A new token starts as the mean of the tokens that it was spelt with.
    """
    processor = AutoProcessor.from_pretrained(folder)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    tokenizer = processor.tokenizer
    new = [tag for tag in TAGS if tag not in tokenizer.get_vocab()]
    if new:
        pieces = [tokenizer(tag)["input_ids"] for tag in new]
        tokenizer.add_tokens(new)
        model.resize_token_embeddings(-(-len(tokenizer) // 64) * 64, mean_resizing=False)
        embeddings: Any = model.get_input_embeddings()
        weight = embeddings.weight
        with torch.no_grad():
            for tag, ids in zip(new, pieces, strict=True):
                weight[tokenizer.convert_tokens_to_ids(tag)] = weight[ids].mean(0)
    return model, processor


class ClipWatch(Watch):
    """Saves the model and measures tubes on clips over unseen photographs."""

    def __init__(self, plan: ClipPlan, model: Any, processor: Any, clips: Sequence[Any]) -> None:
        super().__init__(plan, model, processor, [])  # type: ignore[arg-type]
        self.clips = clips

    def measure(self, step: int) -> None:
        """Save a checkpoint and log mean tIoU and vIoU on sampled frames, greedy."""
        folder = self.plan.out / f"step_{step:05d}"
        save_model(self.model, folder)
        self.processor.save_pretrained(folder)
        use_default_attention(self.model)
        metrics = tube_metrics(self.model, self.processor, self.clips)
        use_fast_attention(self.model)
        self.write({"step": step, "held_out": metrics})
        print(f"step {step}: held-out {metrics}", flush=True)


def eval_clips(pool: Pool, count: int, seed: int) -> list[tuple[Clip, Question]]:
    """One question per clip about `count` clips, the same ones for the same seed."""
    rng = random.Random(f"eval-{seed}")
    clips = [draw_clip(pool, rng) for _ in range(count)]
    return [(clip, rng.choice(clip.questions)) for clip in clips]


@torch.no_grad()
def tube_metrics(
    model: Any, processor: Any, asked: Sequence[tuple[Clip, Question]], batch_size: int = 24
) -> dict[str, float]:
    """Share of well-formed answers, mean tIoU, mean vIoU and the box IoU inside the overlap."""
    was_training = model.training
    model.eval()
    answers: list[str] = []
    for start in range(0, len(asked), batch_size):
        answers += _generate(model, processor, asked[start : start + batch_size])
    model.train(was_training)
    rows = [_score(answer, question) for answer, (_, question) in zip(answers, asked, strict=True)]
    columns = np.array([row[:3] for row in rows])
    inside = [row[3] for row in rows if row[3] is not None]
    return {
        "well_formed": round(float(columns[:, 0].mean()), 4),
        "t_iou": round(float(columns[:, 1].mean()), 4),
        "v_iou": round(float(columns[:, 2].mean()), 4),
        "iou_inside": round(float(np.mean(inside)) if inside else 0.0, 4),
    }


def _score(answer: str, question: Question) -> tuple[float, float, float, float | None]:
    written = read_track(answer, "stvg_o1")
    if not written.spans or written.final is None:
        return 0.0, 0.0, 0.0, None
    first, last = sampled_span(question)
    a, b = (int(end) for end in written.spans[0])
    shared = max(0, min(last, b) - max(first, a) + 1)
    union = (last - first + 1) + max(0, b - a + 1) - shared
    true = dict(zip(range(first, last + 1), sampled_boxes(question), strict=True))
    boxes = {int(n): box for n, box in written.final}
    both = [k for k in range(max(first, a), min(last, b) + 1) if k in boxes]
    ious = [float(iou(np.array([boxes[k]]), np.array([true[k]]))[0]) for k in both]
    inside = float(np.mean(ious)) if ious else None
    return float(written.well_formed), shared / union, sum(ious) / union, inside


def _generate(model: Any, processor: Any, asked: Sequence[tuple[Clip, Question]]) -> list[str]:
    pixels, grids, texts = [], [], []
    for clip, question in asked:
        patches, grid = video_patches(clip.frames, processor)
        pixels.append(patches)
        grids.append(grid)
        text = {"type": "text", "text": FIND_PROMPT.format(sentence=question.sentence)}
        message: dict[str, Any] = {"role": "user", "content": [{"type": "video"}, text]}
        prompt = processor.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True
        )
        num = grid[0] * grid[1] * grid[2] // processor.video_processor.merge_size**2
        texts.append(prompt.replace(processor.video_token, processor.video_token * num))
    inputs = processor.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    ids = inputs["input_ids"]
    output = model.generate(
        input_ids=ids,
        attention_mask=inputs["attention_mask"],
        mm_token_type_ids=2 * (ids == processor.video_token_id).int(),
        pixel_values_videos=torch.cat(pixels).to(model.dtype),
        video_grid_thw=torch.tensor(grids),
        second_per_grid_ts=torch.ones(len(grids)),
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        temperature=None,
        top_k=None,
        top_p=None,
    )
    return processor.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)


def warm_up_on_clips(plan: ClipPlan) -> None:
    """Train from `plan.start` and write checkpoints and the log to `plan.out`.

    Without steps the start is only written again, as `plan.storage` says.
    """
    keep_freed_memory()
    torch.set_num_threads(plan.threads)
    model, processor = load_start(plan.start)
    if not plan.steps:
        return write_final(plan, model, processor)
    use_fast_attention(model)
    optimizer = MuonWithAdam(model.named_parameters(), plan.muon_lr, plan.lr, weight_decay=0.01)
    pool = Pool.load(plan.sprites, plan.photographs)
    asked = eval_clips(Pool.load(plan.sprites, plan.held_out), plan.num_eval, plan.seed)
    watch = ClipWatch(plan, model, processor, asked)
    shown = {key: str(value) for key, value in asdict(plan).items() if key != "photographs"}
    shown |= {
        name: str([p.name for p in getattr(plan, name)]) for name in ("photographs", "held_out")
    }
    watch.write({"plan": json.loads(json.dumps(shown))})
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine(step, watch.share(step), warmup=15, floor=plan.floor)
    )
    vision: Any = model.config.vision_config
    collator = ClipCollator(
        processor,
        pool,
        tokens_per_second=vision.tokens_per_second,
        turns=plan.turns,
        thinking=plan.thinking,
        seed=plan.seed,
    )
    trainer = WarmupTrainer(
        model=model,
        args=sft_config(plan.out, plan.steps, plan.batch, plan.seed, precision=plan.precision),
        train_dataset=Dataset.from_list([{"image": str(k)} for k in range(100_000)]),
        data_collator=collator,
        processing_class=processor,
        optimizers=(optimizer, schedule),
        pointer_weight=plan.pointer_weight,
        word_weight=0.0,
        callbacks=[watch],
    )
    trainer.train()
    watch.measure(trainer.state.global_step)
    write_final(plan, model, processor)


def write_final(plan: ClipPlan, model: Any, processor: Any) -> None:
    """`plan.out`/model: the weights as `plan.storage` says, and how to prompt the model."""
    final = plan.out / "model"
    save_model(model, final, plan.storage)
    processor.save_pretrained(final)
    write_recipe(final, RECIPE.model_dump(mode="json"))
