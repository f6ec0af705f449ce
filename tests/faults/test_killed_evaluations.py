"""Evaluations that are killed at random moments lose no answer and double none."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from forks import Forks
from helpers_runs import ROOT
from killing import LIMIT_S, started, survives
from trying import SEED, Tally, random_of

pytestmark = pytest.mark.faults

NUM = 40


def test_evaluations(forks: Forks, tally: Tally, tmp_path: Path, screens: Path) -> None:
    """Killed evaluations"""
    words = ["eval", "--benchmark", "custom", "--data", str(screens), "--max-new-tokens", "6",
             "--model", str(ROOT / "assets/models/tiny_qwen2_5_vl"), "--profile", "qwen2_5_vl",
             "--batch-size", "2", "--quiet", "--out"]  # fmt: skip
    began = time.monotonic()
    (whole,) = started(forks, [*words, str(tmp_path / "whole")], 1)
    assert whole.wait(LIMIT_S) == 0, whole.said[-3000:]
    seconds = time.monotonic() - began
    wanted = answers(tmp_path / "whole")
    for number in range(NUM):
        rng = random_of(SEED, "evaluation", number)
        out = tmp_path / f"run{number}"
        outcome, story = survives(forks, [*words, str(out)], 1, rng, seconds, {"answers": 6})
        if outcome == "same" and answers(out) != wanted:
            outcome = "wrong"
        tally.add(outcome, f"evaluation {number}: {story}")
    tally.check(NUM)


def answers(folder: Path) -> list[Any]:
    """What every item was answered, in order, and the table."""
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row.pop("seconds", None)
    stored = (folder / "answers.rank0.jsonl").read_text(encoding="utf-8").splitlines()
    asked = sorted(json.loads(line)["id"] for line in stored)
    return [rows, asked]
