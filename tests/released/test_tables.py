"""Every table of released values is compared with, large enough, and says where it comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers_released import MIN_ROWS, TABLES

TESTS = TABLES.parent
PAGE = (TESTS.parents[1] / "docs" / "released.md").read_text(encoding="utf-8")
FILES = sorted(TABLES.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_table(path: Path) -> None:
    table = json.loads(path.read_text(encoding="utf-8"))
    assert len(table["rows"]) >= MIN_ROWS
    assert all(table[key] for key in ("repository", "commit", "file"))
    sources = [one.read_text(encoding="utf-8") for one in TESTS.glob("test_*.py")]
    assert any(f'"{path.stem}"' in source for source in sources)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_page_names_its_commit_and_cases(path: Path) -> None:
    table = json.loads(path.read_text(encoding="utf-8"))
    named = rf"{re.escape(table['repository'])} [^,|]*{table['commit'][:7]}"
    # A package has a version instead.
    assert re.search(named, PAGE) is not None or "/" not in table["repository"]
    lines = PAGE.split("\n")
    cases = [line.split(" | ") for line in lines if line.startswith(f"| `{path.stem}` |")]
    assert all(str(len(table["rows"])) in cells for cells in cases)
