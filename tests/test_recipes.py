"""Recipes: found by name from any folder, and built on one another with `extends`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vlrl.build import check_plugins
from vlrl.config.loader import compose, read_yaml
from vlrl.config.resolve import load_run_config, plain
from vlrl.config.shipped import find, sharding_file, shipped_files, shipped_folder
from vlrl.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
RECIPES = shipped_files("configs")
EXTENDING = [name for name in RECIPES if "extends" in read_yaml(name)]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "name",
    ["gui_grounding/tiny", "gui_grounding/tiny.yaml", "configs/gui_grounding/tiny.yaml"],
)
def test_a_recipe_is_found_by_name_from_any_folder(empty: Path, name: str) -> None:
    assert load_run_config([name]).name == "tiny_gui"


def test_a_path_that_exists_wins_over_a_shipped_name(empty: Path) -> None:
    (empty / "gui_grounding").mkdir()
    (empty / "gui_grounding/tiny.yaml").write_text("name: mine\n")
    assert compose(["gui_grounding/tiny.yaml"]) == {"name": "mine"}
    assert compose(["gui_grounding/tiny"]) == {"name": "mine"}


def test_an_unknown_recipe_is_answered_with_the_nearest_ones(empty: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gui_grounding/tinny'; did you mean .*grounding/tiny'"):
        compose(["gui_grounding/tinny"])
    with pytest.raises(ConfigError, match="did you mean 'image_generation/tiny_words'"):
        compose(["tiny_word"])
    with pytest.raises(ConfigError, match="`vlrl recipes` lists"):
        compose(["/no/qqqq.yaml"])


@pytest.mark.parametrize("name", ["zero2", "zero2.json", "deepspeed_configs/zero2.json"])
def test_a_sharding_file_is_found_by_name(empty: Path, name: str) -> None:
    assert sharding_file(name) == ROOT / "deepspeed_configs/zero2.json"
    with pytest.raises(ConfigError, match=r"dist\.deepspeed: .*did you mean 'zero2'"):
        sharding_file("zero22")


def test_a_reward_is_found_by_name(empty: Path) -> None:
    config = load_run_config(["gui_grounding/tiny"], [], "rewards/gui_g1")
    assert config.reward == read_yaml(ROOT / "configs/rewards/gui_g1.yaml")["reward"]


def test_the_shipped_folders_of_a_wheel_lie_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vlrl/configs/a").mkdir(parents=True)
    (tmp_path / "vlrl/configs/a/b.yaml").write_text("{}")
    monkeypatch.setattr("vlrl.config.shipped.PACKAGE", tmp_path / "vlrl")
    assert shipped_folder("configs") == tmp_path / "vlrl/configs"
    assert find("a/b", "configs") == tmp_path / "vlrl/configs/a/b.yaml"
    with pytest.raises(ConfigError, match="no folder 'deepspeed_configs'"):
        shipped_folder("deepspeed_configs")


# extends


def test_a_file_goes_over_those_that_it_extends(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        base="algo: {a: 1, b: 1, c: 1}\nreward: {sum: [{use: x}]}\nmetrics: {m: {use: x}}\n",
        middle="extends: base.yaml\nalgo: {b: 2}\n",
        top="extends: [middle, base]\nalgo: {c: 3}\nreward: {use: y}\nmetrics: {}\n",
    )
    assert compose([folder / "top.yaml"]) == {
        "algo": {"a": 1, "b": 2, "c": 3},
        "reward": {"use": "y"},
        "metrics": {},
    }


def test_a_base_given_again_stays_below_what_was_laid_over_it(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        base="a: 1\nb: 1\n",
        one="extends: base.yaml\na: 2\n",
        other="extends: base.yaml\nb: 2\n",
    )
    both = {"a": 2, "b": 2}
    base, one, other = (folder / f"{name}.yaml" for name in ("base", "one", "other"))
    assert compose([one, other]) == compose([base, one, other]) == both
    assert compose([base, one]) == compose([one]) == {"a": 2, "b": 1}


def test_a_file_extends_a_shipped_recipe_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: gui_grounding/tiny\nname: mine\n")
    config = load_run_config([tmp_path / "mine.yaml"])
    assert (config.name, config.num_steps) == ("mine", 60)
    assert "extends" not in plain(config)


def test_a_circle_names_its_chain(tmp_path: Path) -> None:
    folder = written(tmp_path, a="extends: b.yaml\n", b="extends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: extends: .*b\.yaml: extends: .*a\.yaml: a c"):
        compose([folder / "a.yaml"])


def test_a_missing_base_names_its_chain(tmp_path: Path) -> None:
    folder = written(tmp_path, a="extends: b\n", b="extends: nowhere.yaml\n", c="extends: {d: e}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: extends: .*b\.yaml: extends: there is no c"):
        compose([folder / "a.yaml"])
    with pytest.raises(ConfigError, match=r"c\.yaml: extends: a file or a list of files, not"):
        compose([folder / "c.yaml"])


@pytest.mark.parametrize("name", EXTENDING)
def test_a_recipe_that_extends_another_is_enough_by_itself(empty: Path, name: str) -> None:
    config = check_plugins(load_run_config([name]))
    first = read_yaml(name)["extends"]
    bases = [first] if isinstance(first, str) else first
    files = [RECIPES[name].parent / base for base in bases]
    assert check_plugins(load_run_config([*files, name])) == config


# From any folder


def test_a_dry_run_in_an_empty_folder(empty: Path) -> None:
    command = [sys.executable, "-m", "vlrl", "train", "--dry-run", "--config"]
    done = subprocess.run(
        # Without its plan, which test_plan.py makes: it takes ten seconds.
        [*command, "gui_grounding/gui_g2_qwen2_5_vl_7b", "plan.gpu=null"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"name: gui_g2_qwen2_5_vl_7b\n")
