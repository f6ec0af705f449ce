"""Rewards' models in a plan: sizes from folders, architectures and known names."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_runs import ROOT
from safetensors.torch import load_file

from vlrl.plan.scorers import num_weights, scorer_bytes
from vlrl.reward.tree import build_reward

JUDGE = ROOT / "assets/models/judge_concept"


def test_known_names_count_once_in_float32() -> None:
    dino = {"use": "dino_similarity"}
    tree = build_reward({"sum": [dino, {**dino, "weight": 2.0}, {"use": "jpeg_compressibility"}]})
    assert scorer_bytes(tree) == (4 * 86_580_480, [])
    on_cpu = build_reward({"use": "dino_similarity", "device": "cpu"})
    assert scorer_bytes(on_cpu) == (0.0, [])


def test_unknown_names_are_named() -> None:
    tree = build_reward({"use": "dino_similarity", "model": "someone/backbone"})
    assert scorer_bytes(tree) == (0.0, ["someone/backbone"])


def test_a_folder_counts_by_its_files() -> None:
    wanted = sum(x.numel() for x in load_file(JUDGE / "model.safetensors").values())
    found = num_weights(str(JUDGE))
    assert found is not None
    assert found == pytest.approx(wanted, rel=0.02)


def test_judges_count_by_their_architecture_in_half_precision() -> None:
    judge = build_reward({"use": "yes_token", "judge": "Qwen/Qwen2.5-VL-7B-Instruct"})
    found, unknown = scorer_bytes(judge)
    assert not unknown
    assert found == pytest.approx(2 * 8.29e9, rel=0.01)
    asked = {"url": "http://127.0.0.1:1/v1", "model": "x"}
    behind = build_reward({"use": "yes_token", "endpoint": asked})
    assert scorer_bytes(behind) == (0.0, [])


def test_an_empty_folder_is_unknown(tmp_path: Path) -> None:
    assert num_weights(str(tmp_path)) is None
