"""Broken checkpoints are refused with the name of the file, and nothing of them is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from broken_checkpoints import STEP
from forks import Forks
from helpers_runs import small_run
from trying import SEED, Tally, random_of, try_all

pytestmark = pytest.mark.faults

NUM_IN_PROCESS = 120
NUM_BY_COMMAND = 8


def trained(forks: Forks, folder: Path, checkpoint: Path, screens: Path) -> list[str]:
    """A run with a checkpoint of step 2 of 3; the words that go on with it."""
    over = {"checkpoint__every": 2}
    config = small_run(checkpoint, screens, folder / "runs", "whole", **over)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = ["train", "--config", str(folder / "config.json")]
    run = forks.start("killed:command", {"words": words})
    assert run.wait(60) == 0, run.said[-3000:]
    shutil.copytree(folder / "runs/whole/checkpoints" / STEP, folder / STEP)
    return words


def test_checkpoints(
    forks: Forks, tally: Tally, tmp_path: Path, checkpoints: dict[str, Path], screens: Path
) -> None:
    """Broken checkpoints, resumed"""
    words = trained(forks, tmp_path, checkpoints["qwen2_5_vl"], screens)
    try_all(forks, tally, "broken_checkpoints:checkpoint", tmp_path, NUM_IN_PROCESS)
    folder = tmp_path / "runs/whole/checkpoints" / STEP
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(NUM_BY_COMMAND):
        file, rng = files[number % len(files)], random_of(SEED, "command", number)
        whole = file.read_bytes()
        place = rng.randrange(len(whole))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        run = forks.start("killed:command", {"words": [*words, "--resume"]})
        status, what = run.wait(60), f"{file.name}, flip at {place}, by command"
        file.write_bytes(whole)
        if status is None:
            tally.add("hang", what)
        elif "Traceback" in run.said:
            tally.add("traceback", f"{what}\n{run.said[-3000:]}")
        elif status == 2:
            # Which of the two is damaged, a digest or its file, nothing can tell.
            is_named = file.name in run.said or file.name == "checksums.json"
            tally.add("refused" if is_named else "unnamed", f"{what}\n{run.said[-900:]}")
        else:
            tally.add("wrong", f"{what}: status {status}\n{run.said[-3000:]}")
    tally.check(NUM_IN_PROCESS + NUM_BY_COMMAND)
