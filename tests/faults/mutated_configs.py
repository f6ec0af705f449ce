"""Configs with faults, through all that `--dry-run` does."""

from __future__ import annotations

import copy
import random
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from damage import damaged
from trying import Case, Outcome

from vlrl.build import check_plugins
from vlrl.config.loader import compose, to_yaml
from vlrl.config.resolve import check, load_run_config, plain
from vlrl.judge.train.config import JudgeTrainConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ALIASES = "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
    for before, name in ("bc", "cd", "de", "ef", "fg", "gh")
)
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, -0.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"),
    2**31, 2**63, 2**70, -(2**70), 10**30, 0.5, 1.5, "", " ", "on", "off", "yes", "~", "null",
    "1e-6",
    "１２", "nan", "\u202e", "é" * 300, "💥", "a\0b", "../../etc/passwd", "/dev/zero", "x" * 20_000,
    ":",
    "os:system", "vlrl.nothing:Nobody", "http://u:p@host", [], {}, [[]], [None], [{}],
    {"use": None},
    {"use": ":"}, {"use": "hit"}, {"sum": []}, {"sum": [{}]}, {"": ""}, {1: 2}, {None: 1}, b"bytes",
    {"use": "gaussian_point", "weight": "much"}, {"gate": {}}, {"product": 3}, ["a"] * 1000,
]  # fmt: skip
LINES = [
    "\t- tab", "a: b: c", "? [a, b]\n: 1", "<<: *nobody", "<<: {a: 1}",
    "!!python/name:os.system ''",
    "x: !!binary '%%%'", "x: 2001-99-99", "x: 1" + "0" * 5000, "%YAML 9.9", "--- ", "...",
    "x: &x [*x]",
    "x: " + "[" * 3000, "x: " + "{a: " * 70, "\ufeff", "x: \x07", "'", '"', "x: |\n  a\n b",
    ALIASES,
    "reward: {use: ':'}", "extends: .", "extends: [nothing]", "extends: {a: 1}",
    "extends: /dev/null",
    "x: 0x" + "f" * 4000, "x: !!float abc", "x: !!int ''", "x: !!timestamp x", "x: !!set {a, b}",
    "x: !!omap [a: 1]", "1: 2", "null: 3", "[a]: 1", "{a: 1}: 2", "seed: 1\nseed: 2", "x: .nan",
]  # fmt: skip
KEYS = [
    "",
    "x",
    "seeds",
    "num_step",
    "use",
    "💥",
    "algo",
    "reward",
    "policy",
    "extends",
    "a.b",
    "0",
]


@cache
def recipes() -> list[Path]:
    found = sorted(CONFIGS.rglob("*.yaml"))
    assert len(found) > 30
    return found


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    entries = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree))
    found = [(tree, key) for key, _ in entries]
    for _, value in entries:
        if isinstance(value, dict | list):
            found += places(value)
    return found


def mutated_tree(tree: dict[str, Any], rng: random.Random) -> tuple[str, dict[str, Any]]:
    tree = copy.deepcopy(tree)
    story = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        holder, key = rng.choice(places(tree))
        kind = rng.choice(("value", "value", "value", "value", "gone", "more", "renamed", "moved"))
        story.append(f"{kind} at {key!r}")
        if kind == "value":
            holder[key] = copy.deepcopy(rng.choice(VALUES))
            story[-1] += f" {holder[key]!r:.60}"
        elif kind == "gone":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(rng.choice(VALUES)))
        elif kind == "more":
            holder[rng.choice(KEYS)] = copy.deepcopy(rng.choice(VALUES))
        elif kind == "renamed":
            holder[rng.choice(KEYS)] = holder.pop(key)
        else:
            holder[key] = {key: holder[key]}
        if not tree:
            break
    return ", ".join(story), tree


def mutated_text(text: str, rng: random.Random) -> tuple[str, bytes]:
    if rng.random() < 0.5:
        lines = text.split("\n")
        line, place = rng.choice(LINES), rng.randrange(len(lines) + 1)
        lines.insert(place, line)
        return f"line {place}: {line[:60]!r}", "\n".join(lines).encode()
    return damaged(text.encode(), rng, [b"\x89PNG\r\n", b"{}", b"[1, 2]"], is_text=True)


def whole_of(path: Path) -> list[Path]:
    """The files that make a complete config with this one."""
    if path.parent.name == "rewards":
        base = "video_grounding" if "stvg" in path.name or "tube" in path.name else "gui_grounding"
        base = "text_to_3d" if path.name == "hi_grpo.yaml" else base
        base = "image_generation" if path.name.startswith("image") else base
        return [CONFIGS / base / "tiny.yaml", path]
    return [path]


def config(folder: Path, number: int, rng: random.Random) -> Case:
    """A mutated config: of a shipped recipe, its text or its tree; overrides too."""
    recipe = recipes()[number % len(recipes())]
    path = folder / recipe.parent.name / f"fault{number}.yaml"
    path.parent.mkdir(exist_ok=True)
    before = whole_of(recipe)[:-1]
    overrides: list[str] = []
    kind = rng.choice(("text", "tree", "tree", "override"))
    # `extends` of shipped files is found by name from any folder.
    text = recipe.read_text(encoding="utf-8")
    if kind == "text":
        how, data = mutated_text(text, rng)
    elif kind == "tree":
        how, tree = mutated_tree(compose([recipe]), rng)
        data = yaml.safe_dump(tree, allow_unicode=rng.random() < 0.5).encode("utf-8", "replace")
    else:
        where = key_path(compose([recipe]), rng)
        value = yaml.safe_dump(rng.choice(VALUES), default_flow_style=True)
        overrides, data = [f"{where}={value.removesuffix('...' + chr(10)).strip()}"], text.encode()
        how = f"override {overrides[0]!r:.80}"

    def run() -> Outcome:
        path.write_bytes(data)
        files = [*before, path]
        if recipe.parent.name == "judge":
            judge = check(JudgeTrainConfig, compose(files, overrides))
            again = check(JudgeTrainConfig, plain(judge))
            return "other" if again == judge else "wrong"
        found = check_plugins(load_run_config(files, overrides))
        resolved = folder / "resolved.yaml"
        resolved.write_text(to_yaml(plain(found)), encoding="utf-8")
        # What is printed and saved says the same when it is run again.
        return "other" if plain(load_run_config([resolved])) == plain(found) else "wrong"

    return Case(f"{recipe.parent.name}/{recipe.name}: {how}", run)


def key_path(tree: Any, rng: random.Random) -> str:
    """One dotted key of a tree."""
    parts = []
    while isinstance(tree, dict | list) and tree:
        key = rng.choice(list(tree) if isinstance(tree, dict) else list(range(len(tree))))
        parts.append(str(key))
        tree = tree[key]
        if rng.random() < 0.3:
            break
    return ".".join(parts)
