"""The laws of the house: core imports no domain, no domain another; importing has no effect."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOMAINS = ("gui", "video", "image", "mesh", "judge", "reasoning")
GROUND = (
    "errors", "types", "protocols", "registry", "seeds", "stats", "hub", "tensor_files", "geometry",
    "media", "families", "http",
)  # fmt: skip
POLICIES = {"vision_language": "", "flow": "image", "image_tokens": "image", "voxel_tokens": "mesh"}
TASKS = {
    "gui_grounding": "gui",
    "video_grounding": "video",
    "text_to_image": "image",
    "text_to_3d": "mesh",
    "preference_judgement": "judge",
    "visual_reasoning": "reasoning",
}
PLUGINS = ("rewards", "tasks", "eval")
EXCEPTIONS = {
    # An interface is checked with the options that it declares.
    ("vlrl.protocols.policy", "vlrl.config.section"),
    # Objects have captions, as images do.
    ("vlrl.tasks.text_to_3d", "vlrl.image.data.caption_options"),
}
"""(importer, imported) that break a law, each with its reason; fewer than five."""
TORCH_FREE = (
    "vlrl/errors.py", "vlrl/registry.py", "vlrl/types.py", "vlrl/protocols", "vlrl/stats.py",
    "vlrl/config", "vlrl/data", "vlrl/geometry", "vlrl/gui", "vlrl/reward", "vlrl/video",
    "vlrl/reasoning", "rewards/reasoning", "rewards/gui", "rewards/video",
)  # fmt: skip
DOMAIN_WORDS = ("gui", "tiou", "viou", "t_iou", "v_iou", "geneval", "voxelstage", "screenspot")
"""What the core's code does not name; prose may give an example."""


def files(*places: str) -> list[Path]:
    """Python files of some folders, or the files themselves."""
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts).removesuffix(".__init__")
    return name if name.startswith("vlrl") else f"vlrl.{name}"


def imports(path: Path) -> list[tuple[str, bool]]:
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
            # `from vlrl import gui` imports a module too.
            found += [
                (f"{node.module}.{alias.name}", id(node) in typing_only)
                for alias in node.names
                if node.module == "vlrl"
            ]
    return found


def room(module: str) -> tuple[str, str]:
    """(layer, domain) of a module: ground, core, domain or plug-in."""
    _, *parts = module.split(".")
    first, rest = (parts[0], parts[1:]) if parts else ("", [])
    if not first or first in GROUND:
        return "ground", ""
    if first in DOMAINS:
        return "domain", first
    if first == "tasks":
        return "plug-in", TASKS.get(rest[0], "") if rest else ""
    if first in PLUGINS:
        return "plug-in", rest[0] if rest and rest[0] in DOMAINS else ""
    if first == "policy" and rest and rest[0] in POLICIES:
        return "plug-in", POLICIES[rest[0]]
    return "core", ""


def breaks_a_law(importer: str, imported: str) -> str:
    """The law that an import breaks; empty where it breaks none."""
    if imported.split(".")[0] != "vlrl" or (importer, imported) in EXCEPTIONS:
        return ""
    (layer, domain), (other, other_domain) = room(importer), room(imported)
    if layer == "ground" and other != "ground":
        return "ground imports only ground"
    if layer == "core" and other == "domain":
        return "core imports no domain"
    if layer == "core" and other == "plug-in":
        return "core imports no plug-in; it finds them in the registry"
    if layer == "domain" and other == "domain" and domain != other_domain:
        return "no domain imports another"
    if layer == "domain" and imported.split(".")[1] in PLUGINS:
        return "no domain imports a reward, a task or an evaluation"
    if layer == "plug-in" and other == "domain" and domain != other_domain:
        return "a plug-in imports core and its own domain"
    return ""


@pytest.mark.parametrize("place", ["vlrl", "rewards", "tasks", "eval"])
def test_imports_keep_the_laws(place: str) -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {module}: {law}"
        for path in files(place)
        for module, _ in imports(path)
        if (law := breaks_a_law(module_of(path), module))
    ]
    assert not broken, "\n".join(broken)


def test_every_exception_is_still_needed() -> None:
    assert len(EXCEPTIONS) < 5
    by_module = {module_of(path): path for path in files("vlrl", "rewards", "tasks", "eval")}
    for importer, imported in EXCEPTIONS:
        assert imported in {module for module, _ in imports(by_module[importer])}


def test_the_laws_refuse_what_they_should() -> None:
    assert breaks_a_law("vlrl.train.trainer", "vlrl.image.geneval")
    assert breaks_a_law("vlrl.gui.answers", "vlrl.video.tubes")
    assert breaks_a_law("vlrl.rewards.gui.box_hit", "vlrl.mesh.mesh")
    assert breaks_a_law("vlrl.geometry.boxes", "vlrl.train.trainer")
    assert breaks_a_law("vlrl.log.metrics", "vlrl.tasks.gui_grounding")
    assert not breaks_a_law("vlrl.rewards.gui.box_hit", "vlrl.gui.box_rewards")


def test_rewards_and_tasks_never_import_each_other() -> None:
    for path in files("rewards", "tasks"):
        for module, _ in imports(path):
            assert not module.startswith(("vlrl.rewards", "vlrl.tasks")), path


def test_the_core_names_no_domain() -> None:
    named = []
    for path in files("vlrl"):
        module = module_of(path)
        if room(module)[0] != "core" or module == "vlrl.registry":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "id", None) or getattr(node, "attr", None) or ""
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                # Docstrings and messages are prose; a single word is a name.
                name = node.value if node.value.isidentifier() else ""
            if name.lower() in DOMAIN_WORDS:
                named.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    assert not named, "\n".join(named)


@pytest.mark.parametrize("place", TORCH_FREE)
def test_the_config_side_imports_no_torch(place: str) -> None:
    for path in files(place):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lazy = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for inner in ast.walk(node)
        }
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in lazy:
                names = [alias.name for alias in node.names]
                module = node.module if isinstance(node, ast.ImportFrom) else names[0]
                assert (module or "").split(".")[0] != "torch", f"{path} imports torch"


def test_no_tests_package_shadows_a_plugin_folder() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_module_has_two_names() -> None:
    code = (
        "import importlib, sys\n"
        "for name in ('vlrl.vlrl', 'vlrl.scripts', 'vlrl.tests', 'vlrl.benchmarks'):\n"
        "    try:\n        importlib.import_module(name)\n"
        "    except ModuleNotFoundError:\n        continue\n"
        "    sys.exit(f'{name} can be imported')\n"
        "import vlrl.rewards.gui.box_hit, vlrl.tasks, vlrl.eval\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_config_side_prints_nothing() -> None:
    places = (
        "vlrl/config",
        "vlrl/geometry",
        "vlrl/gui",
        "vlrl/reward",
        "vlrl/algo",
        "vlrl/stats.py",
    )
    code = "import importlib\n" + "\n".join(
        f"importlib.import_module({module_of(path)!r})"
        for path in files(*places)
        if path.name != "__init__.py"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_no_long_files_or_functions() -> None:
    for path in files("vlrl", "rewards", "tasks", "eval", "scripts"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, f"{path.relative_to(ROOT)} has over 400 lines"
        assert path.name != "utils.py"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length <= 80, f"{path.relative_to(ROOT)}: {node.name} is {length} lines"
