"""Starts a JupyterLab with a few files, for the screens of an application never trained on."""

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.assets.screens.screen_apps import JUPYTER_PACKAGE

START_SECONDS = 60


def jupyter_command(cache: Path, command: Path | None) -> Path:
    """A jupyter command: the one given, or one in a virtual environment in the cache."""
    if command:
        return command
    env = cache / "jupyterlab-env"
    if not (env / "bin" / "jupyter").exists():
        subprocess.run(["uv", "venv", "-q", "--python", "3.11", str(env)], check=True)
        environ = {**os.environ, "VIRTUAL_ENV": str(env)}
        subprocess.run(["uv", "pip", "install", "-q", JUPYTER_PACKAGE], check=True, env=environ)
    return env / "bin" / "jupyter"


def _files(folder: Path) -> None:
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Sales\nBy region."},
        {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": None, "outputs": [],
         "source": "total = sum(range(10))\nprint(total)"},
    ]  # fmt: skip
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "report.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    (folder / "notes.md").write_text("# Notes\n\n- first\n- second\n", encoding="utf-8")
    (folder / "sales.csv").write_text("city,total\nOslo,12\nRome,7\n", encoding="utf-8")
    for name in ("figures", "archive", "models"):
        (folder / name).mkdir()


@contextmanager
def jupyter_server(cache: Path, command: Path | None) -> Iterator[dict[str, str]]:
    """Runs JupyterLab on 127.0.0.1 and yields the addresses of its views by name."""
    program = jupyter_command(cache, command)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as root:
        work = Path(root) / "work"
        work.mkdir()
        _files(work)
        environ = {**os.environ, "HOME": root, "JUPYTER_CONFIG_DIR": root}
        server = subprocess.Popen(
            [str(program), "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
             f"--port={port}",
             "--IdentityProvider.token=", f"--ServerApp.root_dir={work}",
             "--LabApp.extension_manager=readonly"],
            env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        base = f"http://127.0.0.1:{port}/lab"
        try:
            _wait(base)
            yield {
                "lab": f"{base}?reset",
                "notebook": f"{base}/tree/report.ipynb?reset",
                "markdown": f"{base}/tree/notes.md?reset",
                "csv": f"{base}/tree/sales.csv?reset",
            }
        finally:
            server.terminate()
            server.wait(timeout=20)


def _wait(url: str) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"JupyterLab did not answer within {START_SECONDS} s")
