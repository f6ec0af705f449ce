"""Folders of weights: gone with their process, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from vlrl.policy.vision_language.samplers.handover import PREFIX, YOUNG_S, handover

KILLED = """
import os, signal, sys
from vlrl.policy.vision_language.samplers.handover import handover
print(handover(sys.argv[1]), flush=True)
os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "killed" else None
"""


def left_by(how: str, base: Path) -> Path:
    code = [sys.executable, "-c", KILLED, str(base), how]
    out = subprocess.run(code, capture_output=True, text=True, check=False)
    return Path(out.stdout.strip())


def test_a_later_process_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    assert not left_by("ended", tmp_path).exists()
    killed = left_by("killed", tmp_path)
    (killed / "weights").write_text("x")
    held = handover(str(tmp_path))
    assert killed.exists(), "it may be young and not locked yet"
    long_ago = time.time() - 2 * YOUNG_S
    for folder in (killed, held):
        os.utime(folder, (long_ago, long_ago))
    others = [tmp_path / "vlrl-served-1", tmp_path / f"{PREFIX}elsewhere-1"]
    for other in others:
        other.mkdir()
        os.utime(other, (long_ago, long_ago))
    new = handover(str(tmp_path))
    assert {*tmp_path.iterdir()} == {held, new, *others}
    assert new.name.startswith(PREFIX)
