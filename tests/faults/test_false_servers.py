"""False servers against our clients, strange clients against our servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from forks import Forks
from helpers_judge import with_words
from trying import Tally, try_all

pytestmark = pytest.mark.faults

NUM_SERVERS = 700
NUM_CLIENTS = 320


def test_servers(forks: Forks, tally: Tally, tmp_path: Path) -> None:
    """False servers"""
    try_all(forks, tally, "false_servers:server", tmp_path, NUM_SERVERS)
    tally.check(NUM_SERVERS)


def test_clients(forks: Forks, tally: Tally, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    """Slow, silent and false clients"""
    with_words(checkpoints["qwen2_5_vl"], tmp_path / "judge")
    try_all(forks, tally, "false_clients:client", tmp_path, NUM_CLIENTS, limit_s=30.0)
    tally.check(NUM_CLIENTS)
