"""Two real ranks (gloo) under the real launcher, kept between tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers_runs import ROOT, curve

CURVE = ("update/loss", "reward/mean", "update/kl", "update/entropy", "rollout/num_actions")
TIMEOUT_S = 500


def zero(stage: int) -> str:
    return str(ROOT / f"deepspeed_configs/zero{stage}.json")


class Ranks:
    """Started at the first job; after an error the next job starts new ones."""

    def __init__(self, folder: Path, num_ranks: int = 2) -> None:
        self.base, self.num_ranks = folder, num_ranks
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = self.jobs = 0

    def start(self) -> None:
        self.starts, self.jobs = self.starts + 1, 0
        self.folder = self.base / str(self.starts)
        self.folder.mkdir()
        (self.folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            str(Path(sys.executable).parent / "deepspeed"),
            f"--num_gpus={self.num_ranks}",
            f"--master_port={port}",
            str(ROOT / "tests/helpers_runs.py"),
            str(self.folder),
        ]
        environment = {
            **os.environ,
            "DS_ACCELERATOR": "cpu",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TORCH_EXTENSIONS_DIR": str(self.base / "extensions"),
        }
        self.log = self.folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, jobs: list[dict[str, Any]]) -> None:
        """Run jobs on all ranks, one after the other; their output is shown when they fail."""
        if self.process is None:
            self.start()
        assert self.process is not None
        number, self.jobs = self.jobs, self.jobs + 1
        half = self.folder / "half"
        half.write_text(json.dumps(jobs), encoding="utf-8")
        half.rename(self.folder / f"{number}.json")
        done = [self.folder / f"{number}.done{rank}" for rank in range(self.num_ranks)]
        until = time.monotonic() + TIMEOUT_S
        while not all(path.exists() for path in done):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                pytest.fail(self.log.read_text(encoding="utf-8", errors="replace")[-8000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """End the ranks, which a hanging collective would keep alive for ever."""
        if self.process is None:
            return
        (self.folder / "stop").touch()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.process = None


def assert_same_curve(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    a, b = curve(one), curve(other)
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        for name in CURVE:
            if name in x:
                assert x[name] == pytest.approx(y[name], abs=tolerance), (x["step"], name)
