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

@pytest.mark.skipif(True, reason="no GPU")
def test_asks_for_hardware():
    pass
"""


@pytest.mark.parametrize(
    ("require", "lack", "outcome"),
    [
        ("", "", "2 skipped"),
        ("1", "", "1 failed, 1 skipped"),
        ("1", "no_such_tool", "2 skipped"),
    ],
)
def test_a_missing_tool_fails_where_all_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: str, lack: str, outcome: str
) -> None:
    monkeypatch.setenv("VLRL_REQUIRE_ALL", require)
    monkeypatch.setenv("VLRL_MAY_LACK", lack)
    (tmp_path / "test_it.py").write_text(CODE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "conftest"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path / "test_it.py")],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout, done.stdout + done.stderr
