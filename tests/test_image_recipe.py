"""The shipped text-to-image recipe, shortened: embedded model, images and judges."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from vlrl.build import build_trainer, check_plugins
from vlrl.cli.train import export
from vlrl.config.resolve import load_run_config
from vlrl.log.report.write import write_report

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["num_steps=2", "algo.num_prompts=2", "algo.group_size=3", "reward.warmup_rounds=1",
         "policy.num_steps=3", "policy.num_eval_steps=3", "eval.splits=[held_out]", "eval.limit=3",
         "log.rollouts_every=1", "dist.num_threads=1"]  # fmt: skip


def test_the_embedded_recipe_trains_and_reports(tmp_path: Path) -> None:
    """A round in which the discriminator alone learns, and one for both."""
    recipe = ROOT / "configs/image_generation/tiny.yaml"
    config = check_plugins(load_run_config([recipe], [*SHORT, f"out={tmp_path}/run"]))
    trainer = build_trainer(config, None)
    trainer.train()
    export(trainer)
    trainer.engine.engine.destroy()
    out = tmp_path / "run" / config.name
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = (json.loads(line) for line in lines)
    assert first["reward/not_applicable"] == 1
    assert "update/grad_norm" not in first
    assert last["reward/not_applicable"] == 0
    assert last["update/grad_norm"] > 0
    for row in (first, last):
        assert 0 <= row["trainable_reward/adversarial_dino_accuracy"] <= 1
    found = json.loads((out / "evaluations/after/held_out.json").read_text(encoding="utf-8"))
    assert {"style", "concept"} <= set(found["overall"])
    before, after = (
        load_file(next((model / "transformer").glob("*.safetensors")))
        for model in (ROOT / "assets/models/tiny_sd3", out / "model")
    )
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before)
    report = write_report(out).read_text(encoding="utf-8")
    for words in (
        "Discriminator: adversarial_dino",
        "Held-out images",
        "reference",
        "before",
        "after",
    ):
        assert words in report
