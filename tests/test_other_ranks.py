"""A run of two ranks goes on with one and with four, to the same losses.

    pytest tests/test_other_ranks.py -m slow -s

prints the table of docs/training.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_flow import flow_run, save_sd3, write_captions
from helpers_images import save_dinov2
from helpers_ranks import Ranks, zero
from helpers_runs import curve, run_job

pytestmark = [pytest.mark.ranks, pytest.mark.slow]
STAGES = (1, 2, 3)
FIGURES = ("update/grad_norm", "reward/mean", "trainable_reward/adversarial_dino_loss")
"""Rounding depends on how many images a rank has in a batch, and steps add to it."""


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    made = Ranks(tmp_path_factory.mktemp("four"), num_ranks=4)
    yield made
    made.stop()


def test_a_run_goes_on_with_another_number_of_ranks(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, ranks: Ranks, four: Ranks
) -> None:
    """ZeRO 1 to 3, an average of the weights, and a reward that learns along."""
    parts = tmp_path_factory.mktemp("parts")
    model, data = save_sd3(parts / "sd3"), write_captions(parts / "data")
    reward = {
        "use": "adversarial_dino", "model": str(save_dinov2(parts / "dino")), "device": "cpu",
        "width": 8, "lr": 1e-3, "num_patches": 0,
    }  # fmt: skip

    def config(name: str, stage: int) -> dict[str, Any]:
        return flow_run(
            model, data, tmp_path, name, reward=reward, num_steps=5, algo__num_prompts=4,
            policy__latent_dtype="fp32", dist__deepspeed=zero(stage), optim__ema_decay=0.9,
            checkpoint__every=2, checkpoint__keep_last=9,
            algo__kl_beta=1.0,  # without it the loss of a first step is 0
            optim__eps=1e-4,  # Adam makes steps of lr out of the rounding of smaller gradients
        )  # fmt: skip

    whole = {stage: config(f"whole{stage}", stage) for stage in STAGES}
    ranks.run([{"config": job} for job in whole.values()])
    saved = {s: str(tmp_path / f"whole{s}/checkpoints/step-000002") for s in STAGES}
    on = {(n, s): config(f"on{n}_{s}", s) for n in (1, 4) for s in STAGES}
    for stage in STAGES:
        run_job({"config": on[1, stage], "resume": saved[stage]})
    four.run([{"config": on[4, stage], "resume": saved[stage]} for stage in STAGES])
    print("\n| ZeRO | step | 2 ranks throughout | 2, then 1 | 2, then 4 |\n|---|---|---|---|---|")
    for stage in STAGES:
        after = {n: curve(on[n, stage]) for n in (1, 4)}
        for i, row in enumerate(curve(whole[stage])[2:]):
            columns = [row, after[1][i], after[4][i]]
            losses = [f"{c['update/loss']:.9f}, {c[FIGURES[2]]:.7f}" for c in columns]
            print(f"| {stage} | {row['step']:.0f} | {' | '.join(losses)} |")
    for (num, stage), job in on.items():
        rows = curve(job)
        assert [row["step"] for row in rows] == [3, 4, 5]
        for mine, theirs in zip(rows, curve(whole[stage])[2:], strict=True):
            assert mine["update/loss"] == pytest.approx(theirs["update/loss"], abs=1e-6)
            for name in FIGURES:
                assert mine[name] == pytest.approx(theirs[name], rel=1e-4), (num, stage, name)
