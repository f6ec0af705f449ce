"""`vlrl describe`."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from vlrl.cli import describe
from vlrl.registry import REGISTRY


def printed(capsys, *words) -> tuple[int, str]:
    """Exit code and output of the command."""
    parser = argparse.ArgumentParser()
    describe.add_parser(parser.add_subparsers())
    args = parser.parse_args(["describe", *words])
    return args.run(args), capsys.readouterr().out


@pytest.mark.parametrize("kind", describe.KINDS)
def test_everything_registered_is_described(capsys, kind):
    code, listing = printed(capsys, kind)
    assert code == 0
    for name in REGISTRY[kind]:
        assert f"\n{name} " in "\n" + listing
        code, text = printed(capsys, kind, name)
        assert code == 0
        assert text.startswith(name)
        if kind != "task":
            assert "formula" in text


def test_a_reward(capsys):
    _, text = printed(capsys, "reward", "gaussian_point")
    for piece in ("[0, 1]", "alpha: float = 0.5", "gt=0", "2507.15846", "parsed.box", "exp("):
        assert piece in text, piece


def test_a_task_lists_its_nested_options(capsys):
    _, text = printed(capsys, "task", "gui_grounding")
    data = "data: dict[str, SourceOptions | list[SourceOptions]]  (required)"
    for piece in (data, "clip_px: float = 0.0", "profile"):
        assert text.count(piece) == 1 or piece == "profile", piece


def test_unknown_name(capsys):
    code, text = printed(capsys, "reward", "gausian_point")
    assert code == 2
    assert "did you mean 'gaussian_point'" in text


def test_no_torch_is_imported():
    code = (
        "import sys, argparse; from vlrl.cli import describe;"
        "describe.list_all('reward'); describe.list_all('combinator'); describe.list_all('task');"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_reader_may_stop_early():
    """`vlrl describe ... | head -1` ends without a traceback."""
    code = "import sys; from vlrl.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "describe", "reward"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as running:
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (0, b"")
