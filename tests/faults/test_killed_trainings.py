"""Trainings that are killed at random moments go on to the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from forks import Forks
from killing import try_trainings
from trying import Tally

pytestmark = pytest.mark.faults

NUM = 70


def test_trainings(
    forks: Forks, tally: Tally, tmp_path: Path, checkpoints: dict[str, Path], screens: Path
) -> None:
    """Killed trainings, one rank"""
    try_trainings(forks, tally, tmp_path, checkpoints["qwen2_5_vl"], screens, 1, NUM)
