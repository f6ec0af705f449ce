"""Processes forked from one that has imported everything: importing costs more than most cases.

    python tests/faults/forks.py MODULE ...

imports the modules, says "ready", and forks a child for each line of JSON that it reads:
{"call": "module:function", "args": {...}, "out": FILE, "env": {...}}. It answers with the child's
process id, and writes its exit status (negative: a signal) to FILE.status.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [str(ROOT / name) for name in ("", "tests", "tests/faults")]


@dataclass(frozen=True)
class Fork:
    """A child, and the file of all that it prints."""

    pid: int
    out: Path

    @property
    def status(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        try:
            return int(self.out.with_suffix(".status").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    @property
    def said(self) -> str:
        return self.out.read_text(encoding="utf-8", errors="replace")

    def send(self, number: int) -> None:
        """A signal, unless it has ended."""
        if self.status is None:
            os.kill(self.pid, number)

    def wait(self, limit_s: float) -> int | None:
        """Its status; None, and the child killed, where it runs longer than the limit."""
        until = time.monotonic() + limit_s
        while self.status is None:
            if time.monotonic() > until:
                self.send(signal.SIGKILL)
                return None
            time.sleep(0.01)
        return self.status


class Forks:
    """The parent of the children; `start` may be called from one thread."""

    def __init__(self, folder: Path, modules: tuple[str, ...]) -> None:
        self.folder, self.num = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(FOLDERS),
            "HF_DATASETS_CACHE": str(folder / "datasets"),
            "OMP_NUM_THREADS": "1",
            "FAULT_TOKEN": "t" * 32,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )
        assert self._line() == "ready"

    def start(self, call: str, args: dict[str, Any], env: dict[str, str] | None = None) -> Fork:
        self.num += 1
        out = self.folder / f"{self.num}.out"
        job = {"call": call, "args": args, "out": str(out), "env": env or {}}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return Fork(int(self._line()), out)

    def stop(self) -> None:
        self.process.communicate(timeout=30)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def serve(modules: list[str]) -> None:
    """Fork as asked until there is nobody to ask, then end the children."""
    for module in modules:
        importlib.import_module(module)
    running: dict[int, str] = {}
    print("ready", flush=True)
    while True:
        if select.select([sys.stdin], [], [], 0.01)[0]:
            line = sys.stdin.readline()
            if not line:
                break
            job = json.loads(line)
            child = os.fork()
            if child == 0:
                run(job)
            running[child] = job["out"]
            print(child, flush=True)
        for child, out in list(running.items()):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                del running[child]
                aside = Path(out).with_suffix(".half")
                aside.write_text(str(os.waitstatus_to_exitcode(status)), encoding="utf-8")
                aside.replace(Path(out).with_suffix(".status"))
    for child in running:
        os.kill(child, signal.SIGKILL)


def run(job: dict[str, Any]) -> None:
    """The child: all that it prints goes to a file."""
    status = 1
    try:
        handle = os.open(job["out"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(job["env"])
        module, _, function = job["call"].partition(":")
        status = getattr(importlib.import_module(module), function)(**job["args"]) or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1:])
