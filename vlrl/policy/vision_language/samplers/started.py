"""A vLLM server that runs for as long as it is needed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from vlrl.errors import ConfigError, EngineError
from vlrl.policy.vision_language.samplers import servable

START_S = 1800.0
"""Large weights from a slow disk take long; a server that ends is noticed at once."""
STOP_S = 30.0
POLL_S = 0.5
HOW_TO_SET_UP = (
    "scripts/setup_vllm.sh of the repository makes such an environment, on a GPU "
    "`pip install vllm==0.32.0` too (docs/engines.md)"
)
TAIL_CHARS = 3000
"""Of a server's log, in the message of its failure."""


def refuse_without_vllm(venv: Path) -> None:
    """Raise ConfigError where an environment has no vLLM."""
    if not (venv / "bin/vllm").is_file():
        raise ConfigError(
            f"there is no vLLM in {venv}: {HOW_TO_SET_UP}; or name servers that run already"
        )


@contextmanager
def started(
    model: str, venv: Path, flags: Mapping[str, str], *, publishes: bool = False
) -> Iterator[str]:
    """The url of a server of a checkpoint, which ends with the block.

    flags: of `vllm serve`, without the dashes. publishes: it is given new weights. Raises
    ConfigError, and EngineError with the end of the server's log where it does not start.
    """
    refuse_without_vllm(venv)
    port = _free_port()
    more = [f"--{name}={value}" for name, value in flags.items()]
    program = [str(venv / "bin/python"), "-P", servable.__file__, model, str(port), *more]
    environment = {**os.environ, "UNTIE": "yes" if publishes else "no"}
    environment.pop("PYTHONPATH", None)
    with tempfile.NamedTemporaryFile(prefix="vlrl-vllm-", suffix=".log") as log:
        process = subprocess.Popen(
            program, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, Path(log.name))
            yield url
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    with httpx2.Client(timeout=5.0, trust_env=False) as client:  # by no proxy: it runs here
        while time.monotonic() < until and process.poll() is None:
            with suppress(httpx2.HTTPError):
                if client.get(f"{url}/health").status_code == 200:
                    return
            time.sleep(POLL_S)
    tail = log.read_text(encoding="utf-8", errors="replace")[-TAIL_CHARS:]
    why = f"did not answer within {START_S:g} s" if process.poll() is None else "ended"
    raise EngineError(f"the vLLM server {why} while it started; its log ends with:\n{tail}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and the processes that it made."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            return
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            continue
