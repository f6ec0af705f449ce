"""Options of the command line are the fields of section models, like files and overrides."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, PositiveInt

from vlrl.cli.main import COMMANDS, main
from vlrl.cli.options import add_section, parse, section
from vlrl.config.section import Section
from vlrl.errors import ConfigError


class Asked(Section):
    """What is asked."""

    name: str = Field(description="who, in 100 % of cases")
    size: PositiveInt = 3
    share: float | None = Field(None, ge=0, allow_inf_nan=False)


class More(Asked):
    """The rest."""

    on: bool = False
    kind: Literal["a", "b"] = "a"
    first: Literal[0, 1] = 0
    words: tuple[str, ...] = ()
    columns: dict[str, str] = Field({})
    file: Path | None = None
    inner: Asked | None = None


def parser_of() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_section(parser, More)
    return parser


def read(*words: str) -> More:
    return section(More, parse(parser_of(), words))


def test_options_are_read_by_the_type_of_their_field() -> None:
    found = read(
        "--name", "a: b", "--size", "5", "--share", "0.5", "--on", "--kind", "b", "--first", "1",
        "--words", "1", "yes", "--columns", "a=b", "c=d=e", "--file", "x/y",
    )  # fmt: skip
    wanted: dict[str, Any] = {
        "name": "a: b", "size": 5, "share": 0.5, "on": True, "kind": "b", "first": 1,
        "words": ("1", "yes"), "columns": {"a": "b", "c": "d=e"}, "file": Path("x/y"),
        "inner": None,
    }  # fmt: skip
    assert dict(found) == wanted


def test_a_file_an_override_and_an_option_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: n\nsize: 5\ninner: {name: m}\n")
    expected = More(name="n", size=5, inner=Asked(name="m", size=2))
    assert read("--config", str(file), "inner.size=2") == expected
    assert read("--config", str(file), "size=4", "--size", "5", "inner.size=2") == expected
    assert read("--size", "5", "name=n", "inner={name: m, size: 2}") == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "2"], "required: --name"),
        (["--name", "n", "--size", "0"], "argument --size: a whole number of at least 1, not '0'"),
        (["--name", "n", "--share", "nan"], "argument --share: a number of at least 0, not 'nan'"),
        (["--name", "n", "--kind", "c"], "invalid choice: 'c'"),
        (["--name", "n", "--columns", "a"], "argument --columns: takes NAME=VALUE, not 'a'"),
        (["--name", "n", "--sise", "2"], "unrecognized arguments: --sise"),
        (["--name", "n", "stray"], "stray"),
    ],
)
def test_a_mistake_names_its_option(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises((SystemExit, ConfigError)) as found:
        read(*words)
    assert said in capsys.readouterr().err + str(found.value)


def test_a_mistake_in_a_file_names_its_key(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: n\nsise: 5\n")
    with pytest.raises(ConfigError, match="unknown key 'sise'; did you mean 'size'"):
        read("--config", str(file))


def test_help_comes_from_the_fields_by_their_class() -> None:
    text = parser_of().format_help()
    places = [text.rindex(part) for part in ("the rest:", "--kind", "what is asked:", "--size N")]
    assert places == sorted(places)
    assert "who, in 100 % of cases" in text
    assert "default: 3" in text
    assert "--inner" not in text


# The table of commands


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"usage: vlrl {command}" in capsys.readouterr().out


def test_the_list_of_commands_imports_none_of_them() -> None:
    code = (
        "import sys; from vlrl.cli.main import main; status = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'transformers', 'vlrl.eval', 'vlrl.build'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_an_unknown_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["trian"]) == 2
    assert "no command 'trian'; did you mean 'train'?" in capsys.readouterr().err
    assert main([]) == 2


def test_recipes_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("gui_grounding/tiny ") and "demo" in line for line in lines)
    assert main(["recipes", "rewards/hit"]) == 0
    assert capsys.readouterr().out.endswith("reward: {use: box_hit}\n")
    assert main(["recipes", "rewards/hitt"]) == 2
    assert "did you mean 'rewards/hit'" in capsys.readouterr().err


def test_a_judge_recipe_is_resolved_without_torch() -> None:
    code = (
        "import sys; from vlrl.cli.main import main\n"
        "status = main(['train-judge', '--config', 'judge/tiny_judge', '--dry-run', 'seed=3'])\n"
        "sys.exit('torch' if 'torch' in sys.modules else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nseed: 3\n" in done.stdout
