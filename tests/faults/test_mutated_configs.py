"""Mutated configs are valid, or refused in words, within seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from forks import Forks
from trying import Tally, try_all

pytestmark = pytest.mark.faults

NUM = 600
LIMIT_S = 5.0


def test_configs(forks: Forks, tally: Tally, tmp_path: Path) -> None:
    """Mutated configs"""
    try_all(forks, tally, "mutated_configs:config", tmp_path, NUM, LIMIT_S)
    tally.check(NUM)
