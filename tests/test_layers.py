"""Dependencies go one way (design.md, section 2), and importing has no effect."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each folder may import of vlrl, as prefixes. Only build and cli may join everything.
GROUND = ("vlrl.errors", "vlrl.registry", "vlrl.config", "vlrl.measure", "vlrl.video")
RECORDS = (*GROUND, "vlrl.types", "vlrl.protocols", "vlrl.algo")
MODELS = (*RECORDS, "vlrl.policy", "vlrl.rollout", "vlrl.distributed", "vlrl.log", "vlrl.reward")
ALLOWED: dict[str, tuple[str, ...]] = {
    "vlrl/errors.py": (),
    "vlrl/registry.py": ("vlrl.errors",),
    "vlrl/config": ("vlrl.config", "vlrl.errors"),
    "vlrl/measure": GROUND,
    "vlrl/types.py": (),
    "vlrl/protocols.py": ("vlrl.types",),
    "vlrl/algo": ("vlrl.algo",),
    "vlrl/reward": (*RECORDS, "vlrl.reward"),
    "vlrl/data": (*RECORDS, "vlrl.data"),
    "vlrl/shapes": (*GROUND, "vlrl.mesh"),
    "vlrl/policy": MODELS,
    "vlrl/rollout": MODELS,
    "vlrl/dist": ("vlrl.distributed", *GROUND),
    "vlrl/log": (*MODELS, "vlrl.mesh"),
    "vlrl/train": (*MODELS, "vlrl.train"),
    "vlrl/screens": (*GROUND, "vlrl.gui.capture"),
    "vlrl/video": ("vlrl.errors", "vlrl.types", "vlrl.video"),
    "vlrl/clips": (*GROUND, "scripts.assets.clips"),
    "vlrl/warmup": (
        "vlrl.warmup",
        "vlrl.distributed",
        "vlrl.data",
        "vlrl.measure",
        "vlrl.mesh",
        "vlrl.config",
        "vlrl.policy.voxel_tokens",
        "vlrl.judge",
        "vlrl.judge.train",
        "scripts.assets.clips",
        "vlrl.video",
    ),
    "vlrl/interop": (*RECORDS, "vlrl.reward", "vlrl.interop"),
    "vlrl/serve": (*RECORDS, "vlrl.reward", "vlrl.reward.server"),
    "vlrl/scoring": (*RECORDS, "vlrl.reward", "vlrl.image.networks"),
    # A judge is a policy's model, asked instead of trained.
    "vlrl/judge": (*MODELS, "vlrl.image.networks", "vlrl.data", "vlrl.judge"),
    "vlrl/judge_train": (
        *MODELS,
        "vlrl.image.networks",
        "vlrl.data",
        "vlrl.judge",
        "vlrl.train.checkpoint",
        "vlrl.judge.train",
    ),
    "rewards": (*RECORDS, "vlrl.reward", "vlrl.image.networks", "vlrl.judge", "vlrl.mesh"),
    "tasks": (*RECORDS, "vlrl.reward", "vlrl.data", "vlrl.mesh"),
    "eval": (*MODELS, "vlrl.data", "vlrl.judge", "vlrl.mesh", "vlrl.eval"),
}
TORCH_FREE = ("errors.py", "registry.py", "types.py", "config", "measure", "reward", "data")


def _files(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def _imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, and whether only for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, id(node) in typing_only))
    return found


@pytest.mark.parametrize("place", ALLOWED)
def test_a_layer_imports_only_what_lies_below(place: str) -> None:
    for path in _files(place):
        for module, _ in _imports(path):
            if module == "vlrl" or module.startswith("vlrl."):
                allowed = any(module == p or module.startswith(p + ".") for p in ALLOWED[place])
                assert allowed, f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("place", ["rewards", "tasks"])
def test_plugins_never_import_each_other(place: str) -> None:
    for path in _files(place):
        for module, _ in _imports(path):
            assert not module.startswith(f"vlrl.{place}"), f"{path.name} imports {module}"


@pytest.mark.parametrize("place", TORCH_FREE)
def test_the_config_side_names_no_torch(place: str) -> None:
    for path in _files(f"vlrl/{place}"):
        heavy = [m for m, typing_only in _imports(path) if m.split(".")[0] == "torch"]
        assert not heavy, f"{path.relative_to(ROOT)} imports torch"


def test_no_tests_package_shadows_a_plugin_folder() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_importing_everything_prints_nothing_and_opens_nothing() -> None:
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for place in ("vlrl/config", "vlrl/measure", "vlrl/reward", "vlrl/algo")
        for path in _files(place)
        if path.name != "__init__.py"
    )
    code = "import importlib, sys\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in modules
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_no_long_files_or_functions() -> None:
    for place in ("vlrl", "rewards", "tasks", "eval", "scripts"):
        for path in _files(place):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 400, f"{path.relative_to(ROOT)} has over 400 lines"
            assert path.name != "utils.py"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    length = (node.end_lineno or 0) - node.lineno
                    assert length <= 80, f"{path.relative_to(ROOT)}: {node.name} is {length} lines"
