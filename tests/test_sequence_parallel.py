"""Rows divided over ranks (dist.sequence_parallel): the same numbers, half the columns each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from families.tiny import make
from families.trained import TRAINED
from helpers_ranks import Ranks, zero
from helpers_runs import curve, run_job, small_run
from safetensors.torch import load_file
from transformers import AutoConfig

from vlrl.families.known import FAMILIES
from vlrl.families.qwen_vl import QwenVL

pytestmark = pytest.mark.ranks
SAME = ("update/loss", "update/grad_norm", "update/kl", "update/entropy", "update/ratio",
        "update/sampling_gap", "update/clip_fraction", "reward/mean")  # fmt: skip
QWEN3 = {"task__profile": "qwen3_vl", "policy__min_pixels": 65536}
CASES: dict[str, dict[str, Any]] = {
    "zero0": {},
    "zero1": {},
    "zero2": {"policy__train_vision": False},
    "zero3": {"dist__gradient_checkpointing": True, "dist__max_tokens_per_chunk": 35},
    "zero3_lora": {
        "policy__lora": {"rank": 2, "alpha": 4},
        "policy__train_vision": False,
        "dist__gradient_checkpointing": True,
    },
    "zero2_steps": {
        "algo__objective": "gspo",
        "algo__num_minibatches": 2,
        "algo__entropy_coef": 0.01,
        "algo__drop_zero_variance": True,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "options", "names"),
    [
        ("qwen2_5_vl", {}, tuple(CASES)),
        # Features of earlier layers of the tower go into later columns too.
        (
            "qwen3_vl",
            {"task__profile": "qwen3_vl", "policy__min_pixels": 65536},
            ("zero2", "zero3"),
        ),
    ],
    ids=["qwen2_5_vl", "qwen3_vl"],
)
def test_divided_rows_train_like_whole_ones(
    checkpoints: dict[str, Path],
    screens: Path,
    tmp_path: Path,
    ranks: Ranks,
    family: str,
    options: dict[str, Any],
    names: tuple[str, ...],
) -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        stage = {"optim__eps": 1e-3, "dist__deepspeed": zero(int(name[4]))}
        over = {**stage, **options, **CASES[name]}
        budget = over.pop("dist__max_tokens_per_chunk", 16_384)
        runs[name] = [
            small_run(
                checkpoints[family], screens, tmp_path, f"{name}_{each}", **over,
                dist__sequence_parallel=each, dist__max_tokens_per_chunk=2 * budget // each,
            )
            for each in (1, 2)
        ]  # fmt: skip
    ranks.run([{"config": job, "divided": True} for pair in runs.values() for job in pair])
    for name, (whole, divided) in runs.items():
        for one, other in zip(curve(whole), curve(divided), strict=True):
            for key in SAME:
                if key in one:
                    assert other[key] == pytest.approx(one[key], abs=1e-6), (name, key)
        weights = load_file(tmp_path / f"{name}_1" / "weights.safetensors")
        found = load_file(tmp_path / f"{name}_2" / "weights.safetensors")
        assert max(float((weights[n] - found[n]).abs().max()) for n in weights) < 1e-6, name
        columns = {
            each: [read(tmp_path / f"{name}_{each}" / f"columns{rank}.json") for rank in (0, 1)]
            for each in (1, 2)
        }
        assert columns[2][0] == columns[2][1]  # in step
        num_whole, num_divided = (sum(map(sum, columns[each])) for each in (1, 2))
        assert num_whole <= num_divided <= num_whole + len(columns[2][0]) * 2, name


@pytest.mark.slow
def test_a_resumed_run_may_divide_rows(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    def config(name: str, num: int) -> dict[str, Any]:
        return small_run(
            checkpoints["qwen2_5_vl"], screens, tmp_path, name, dist__deepspeed=zero(3),
            dist__sequence_parallel=num, optim__eps=1e-3, checkpoint__every=1,
        )  # fmt: skip

    jobs = [{"config": config("whole", 1)}, {"config": config("cut", 1), "stop_at": 2}]
    ranks.run([*jobs, {"config": config("cut", 2), "resume": "auto"}])
    one, other = (curve(config(name, 1))[-1] for name in ("whole", "cut"))
    assert one["step"] == other["step"] == 3
    for key in SAME:
        assert other[key] == pytest.approx(one[key], abs=1e-6), key


# GLM's image processor copies arrays in a way that numpy will drop.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("kind", TRAINED)
def test_other_families_divide_rows_too(
    kind: str, screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    """Towers that do not see frames apart run whole on every rank."""
    model = make(kind, TRAINED[kind], tmp_path / "model")
    shape = AutoConfig.from_pretrained(model)
    kinds = set(shape.get_text_config().to_dict().get("layer_types") or ())
    is_divided = FAMILIES[kind].why_not_packed(shape) is None and kinds <= {"full_attention"}

    def config(num: int) -> dict[str, Any]:
        job = small_run(
            model, screens, tmp_path, f"on{num}", dist__deepspeed=zero(3), num_steps=1,
            dist__sequence_parallel=num,
        )  # fmt: skip
        if isinstance(FAMILIES[kind], QwenVL):
            job["task"] |= {"profile": "qwen3_vl", "min_pixels": 3136, "max_pixels": 1003520}
        else:
            job["policy"].pop("min_pixels")
            job["task"]["profile"] = "internvl"
        return job

    if not is_divided:
        ranks.run([{"config": config(2), "refused": str(tmp_path)}])
        for rank in (0, 1):
            told = (tmp_path / f"refused{rank}.txt").read_text(encoding="utf-8")
            assert "dist.sequence_parallel" in told
        return
    ranks.run([{"config": config(num)} for num in (1, 2)])
    (one,), (other,) = curve(config(1)), curve(config(2))
    assert one["update/grad_norm"] > 0
    for key in SAME:
        assert other[key] == pytest.approx(one[key], abs=2e-6), key


@pytest.mark.slow
def test_prompts_without_an_image_on_some_ranks(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    """A trained tower, one prompt a rank and step, some with an image and some without."""

    def config(name: str, stage: int, **over: Any) -> dict[str, Any]:
        return small_run(
            checkpoints["qwen2_5_vl"], screens, tmp_path, name, dist__deepspeed=zero(stage),
            algo__num_prompts=2, policy__num_prompt_threads=0, optim__eps=1e-3, **over,
        )  # fmt: skip

    whole = config("whole", 2)
    run_job({"config": whole, "some_text_only": True})
    jobs = [config(f"zero{stage}", stage) for stage in (2, 3)]
    jobs += [config(f"divided{stage}", stage, dist__sequence_parallel=2) for stage in (2, 3)]
    ranks.run([{"config": job, "some_text_only": True} for job in jobs])
    for job in jobs:
        for one, other in zip(curve(whole), curve(job), strict=True):
            for key in SAME:
                if key in one:
                    assert other[key] == pytest.approx(one[key], abs=2e-6), (job["name"], key)


@pytest.mark.slow
def test_weights_that_are_used_twice_in_half_precision(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    """Tied embeddings serve twice in a pass (DeepSpeed#8224 lost one of the two gradients)."""

    def config(name: str) -> dict[str, Any]:
        over = {"dist__precision": "bf16", "dist__deepspeed": zero(2), "num_steps": 1}
        return small_run(checkpoints["qwen2_vl"], screens, tmp_path, name, **over)

    one, two = config("one"), config("two")
    run_job({"config": one})
    ranks.run([{"config": two}])
    norms = [curve(job)[0]["update/grad_norm"] for job in (one, two)]
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def read(path: Path) -> list[int]:
    found: list[int] = json.loads(path.read_text(encoding="utf-8"))
    return found
