"""Every table of released values is compared with, large enough, and says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_released import MIN_ROWS, TABLES

TESTS = TABLES.parent
FILES = sorted(TABLES.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_table(path: Path) -> None:
    table = json.loads(path.read_text(encoding="utf-8"))
    assert len(table["rows"]) >= MIN_ROWS
    assert all(table[key] for key in ("repository", "commit", "file"))
    sources = [one.read_text(encoding="utf-8") for one in TESTS.glob("test_*.py")]
    assert any(f'"{path.stem}"' in source for source in sources)
