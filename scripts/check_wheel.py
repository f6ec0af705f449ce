"""Checks an installed wheel; run by check_wheel.sh, isolated, with the wheel's Python.

python -I check_wheel.py CHECKOUT WHEEL
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

PLUGINS = ("rewards", "tasks", "eval")
DATA = ("configs", "deepspeed_configs")


def modules_of(checkout: Path) -> set[str]:
    """Every module of the checkout, by its import name."""
    names = set()
    for room in ("vlrl", *PLUGINS):
        prefix = "" if room == "vlrl" else "vlrl."
        for path in (checkout / room).rglob("*.py"):
            parts = path.relative_to(checkout).with_suffix("").parts
            names.add(prefix + ".".join(p for p in parts if p != "__init__"))
    return names


def main(checkout: Path, wheel: Path) -> None:
    """Raise AssertionError at the first failed check."""
    assert not [p for p in sys.path if Path(p).resolve() == checkout], sys.path
    import vlrl

    site = Path(sysconfig.get_path("purelib"))
    assert Path(vlrl.__file__).is_relative_to(site), f"vlrl comes from {vlrl.__file__}"
    names = {"vlrl"} | {m.name for m in pkgutil.walk_packages(vlrl.__path__, "vlrl.", fail)}
    assert names == modules_of(checkout), f"differ: {sorted(names ^ modules_of(checkout))}"
    for name in sorted(names - {"vlrl.__main__"}):
        module = importlib.import_module(name)
        assert Path(str(module.__file__)).is_relative_to(site), f"{name}: {module.__file__}"
    assert importlib.util.find_spec("vlrl.vlrl") is None, "every module would have a second name"
    for other in (*PLUGINS, *DATA):
        assert importlib.util.find_spec(other) is None, f"{other} would be a top-level package"

    files = ZipFile(wheel).namelist()
    tests = ("tests", "__pycache__", "scripts", "benchmarks", "assets")
    stray = [f for f in files if set(Path(f).parts) & set(tests) or f.endswith(".pyc")]
    assert not stray, f"not for a wheel: {stray}"
    top = {Path(f).parts[0] for f in files}
    assert all(t == "vlrl" or t.endswith(".dist-info") for t in top), top
    for folder in ("vlrl", *PLUGINS, *DATA):
        prefix = "" if folder == "vlrl" else "vlrl/"
        found = [path for path in (checkout / folder).rglob("*") if path.is_file()]
        wanted = {
            prefix + str(path.relative_to(checkout))
            for path in found
            if "__pycache__" not in path.parts
        }
        assert wanted <= set(files), f"left out: {sorted(wanted - set(files))}"
    print(f"check_wheel: {len(names)} modules, {len(files)} files, version {vlrl.__version__}")


def fail(name: str) -> None:
    """A package that cannot be imported."""
    raise ImportError(f"{name} cannot be imported")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
