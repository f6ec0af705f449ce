"""`vlrl describe`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

import pytest

from vlrl.cli import describe
from vlrl.config.schema import RunConfig
from vlrl.families.profiles import PROFILES
from vlrl.registry import REGISTRY


def printed(capsys, *words) -> tuple[int, str]:
    """Exit code and output of the command."""
    parser = argparse.ArgumentParser()
    describe.add_arguments(parser)
    args = parser.parse_args([*words])
    return args.run(args), capsys.readouterr().out


@pytest.mark.parametrize("kind", describe.KINDS)
def test_everything_registered_is_described(capsys, kind):
    code, listing = printed(capsys, kind)
    assert code == 0
    names = {"run": RunConfig.model_fields, "profile": PROFILES}.get(kind) or REGISTRY[kind]
    for name in names:
        assert re.search(rf"^{name}\b", listing, re.M)
        code, text = printed(capsys, kind, name)
        assert code == 0
        assert text.startswith(name)
        if kind in ("reward", "combinator"):
            assert "formula" in text


def test_a_reward_is_described_with_options_range_formula_and_source(capsys):
    _, text = printed(capsys, "reward", "gaussian_point")
    for piece in ("[0, 1]", "alpha: float = 0.5", "gt=0", "2507.15846", "parsed.box", "exp("):
        assert piece in text, piece


def test_a_node_is_described_by_the_keys_that_a_config_has(capsys):
    _, text = printed(capsys, "combinator", "gate")
    assert "  if: a reward node  (required)" in text
    assert "  else: float = 0.0" in text
    _, text = printed(capsys, "shape", "par")
    assert "from: Literal['group', 'file', 'policy'] = 'group'" in text


def test_a_task_lists_its_nested_options(capsys):
    _, text = printed(capsys, "task", "gui_grounding")
    data = "data: dict[str, SourceOptions | list[SourceOptions]]  (required)"
    for piece in (data, "clip_px: float = 0.0", "profile"):
        assert text.count(piece) == 1 or piece == "profile", piece


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("reward", "gausian_point", "gaussian_point"),
        ("policy", "flowe", "flow"),
        ("run", "optin", "optim"),
        ("profile", "qwen2_5vl", "qwen2_5_vl"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_one(capsys, kind, name, meant):
    code, text = printed(capsys, kind, name)
    assert code == 2
    assert f"did you mean {meant!r}" in text


def test_options_say_what_they_mean(capsys):
    _, text = printed(capsys, "policy", "flow")
    assert "num_eval_steps: int = 40" in text
    assert "# of an evaluation, along the ODE" in text
    assert "\n      slide_every: int = 25" in text
    _, text = printed(capsys, "run", "optim")
    assert text.startswith("optim: OptimConfig")
    assert "\n    lr: float" in text
    assert "num_prompts" not in text
    # The docstring under a field is its meaning too.
    _, text = printed(capsys, "task", "text_to_image")
    assert re.search(r"quoted_text: bool = False  # \w+", text)


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
