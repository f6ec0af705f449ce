"""The embedded video model: a checkpoint like any other, and a better start than a constant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from vlrl.config.recipe import read_recipe
from vlrl.config.schema import VisionLanguageConfig
from vlrl.tasks.video_grounding import VideoGrounding

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "assets/models/tiny_qwen2_5_vl_video"
CLIPS = ROOT / "assets/clips"


def held_out() -> VideoGrounding:
    recipe = read_recipe(str(MODEL))
    options = {"data": {"held_out": {"path": str(CLIPS / "held_out.jsonl")}}, **recipe.video}
    return VideoGrounding(VideoGrounding.Options(prompt=recipe.prompt, **options))


def test_it_is_small_and_says_how_it_is_asked() -> None:
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 12.6e6
    recipe = read_recipe(str(MODEL))
    assert recipe.prompt == "Find: {sentence}"
    assert recipe.video["edges"] == "after"
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    for tag in ("<time>", "</think_bbox>", "<pred_bbox>"):
        assert len(tokenizer(tag)["input_ids"]) == 1
    lines = (MODEL / "warmup_log.jsonl").read_text(encoding="utf-8").splitlines()
    plans = [json.loads(line)["plan"] for line in lines if "plan" in json.loads(line)]
    assert plans
    # No photograph of the held-out clips was trained on.
    for plan in plans:
        assert "chelsea" not in plan["photographs"]
        assert "rocket" not in plan["photographs"]


@pytest.mark.slow
def test_its_spans_are_better_than_one_span_for_all() -> None:
    import torch

    from vlrl.policy.vision_language import VisionLanguagePolicy

    task = held_out()
    samples = task.samples("held_out")[::4]
    policy = VisionLanguagePolicy(
        VisionLanguageConfig(model=str(MODEL), max_new_tokens=220),
        dtype=torch.float32,
        max_tokens_per_chunk=4096,
    )
    rollouts, _ = policy.sample(samples, 1, seed=0, greedy=True)
    for rollout in rollouts:
        rollout.parsed = task.parse(rollout.sample, rollout.output)
    figures = task.metrics(rollouts)
    assert sum(figures["well_formed"]) / len(samples) > 0.9
    assert sum(figures["t_iou"]) / len(samples) > 0.54
