"""In CI nothing is skipped for what could be installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = """
import pytest

def test_asks_for_a_tool():
    pytest.importorskip("no_such_tool")

def test_asks_for_a_tool_that_may_lack():
    pytest.importorskip("another_tool")

@pytest.mark.skipif(True, reason="no GPU")
def test_asks_for_hardware():
    pass
"""


def test_a_missing_tool_fails_where_all_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLRL_REQUIRE_ALL", "1")
    monkeypatch.setenv("VLRL_MAY_LACK", "another_tool")
    (tmp_path / "test_it.py").write_text(CODE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "conftest"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path / "test_it.py")],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 2 skipped" in done.stdout, done.stdout + done.stderr
    assert "this would be skipped" in done.stdout
