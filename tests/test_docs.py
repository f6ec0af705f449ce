"""Docs are true: links lead somewhere, named files exist, commands parse, configs are accepted."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from helpers_runs import ROOT

from vlrl.build import check_plugins
from vlrl.cli.main import main
from vlrl.config.resolve import load_run_config
from vlrl.config.shipped import find

PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "assets/**/*.md", "requirements/*.md", ".github/*.md")
    for path in ROOT.glob(pattern)
)
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
ROOMS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"runs", "build", "dist"}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

LAUNCHED = {
    "scripts/train_grpo.py": "train",
    "scripts/train_judge.py": "train-judge",
    "scripts/evaluate.py": "eval",
}
"""Programs for the launcher, and the command that each of them is."""

A_RECIPE = "gui_grounding/tiny"

MADE = {"assets/new_clips/train.jsonl", "assets/new_clips/held_out.jsonl"}
"""Files that `make setup` draws."""


def named(pages: Sequence[Path]) -> list[str]:
    return [str(page) for page in pages]


# --- links and files -------------------------------------------------------------------------


def anchor(title: str) -> str:
    """What a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=named(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    prose = FENCED.sub("", TEXTS[page])
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("http://", "https://")):
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page}: ({target}) is not there"
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in map(anchor, titles), f"{page}: {target} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=named(PAGES))
def test_named_files_exist(page: Path) -> None:
    """Paths in backticks that begin with a folder of the repository; `.py` may be left out."""
    for word in re.findall(r"`([\w./{},-]+)`", FENCED.sub("", TEXTS[page])):
        if word.split("/")[0] not in ROOMS or "/" not in word:
            continue
        for path in written_out(word):
            there = (ROOT / path).exists() or (ROOT / f"{path}.py").exists()
            assert there or path in MADE, f"{page}: `{path}` is not there"


def written_out(word: str) -> list[str]:
    """a{1,2}.json -> a1.json, a2.json."""
    before, brace, rest = word.partition("{")
    if not brace:
        return [word]
    choices, _, after = rest.partition("}")
    return [path for one in choices.split(",") for path in written_out(before + one + after)]


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=str)
def test_named_modules_exist(page: Path) -> None:
    """Dotted names of the package, wherever they are written."""
    for name in re.findall(r"\bvlrl\.[a-z_]+(?:\.\w+)+", TEXTS[page]):
        parts, rest = name.split("."), []
        if parts[1] in ("rewards", "tasks", "eval"):
            parts = parts[1:]
        while parts and not (found := module_file(parts)):
            rest.insert(0, parts.pop())
        assert found, f"{page}: there is no module {name}"
        if rest:
            code = found.read_text(encoding="utf-8")
            pattern = rf"^\s*(def|class) {rest[0]}\b|^{rest[0]}\b|import .*\b{rest[0]}\b"
            assert re.search(pattern, code, re.MULTILINE), f"{page}: {name} is not there"


def module_file(parts: Sequence[str]) -> Path | None:
    path = ROOT.joinpath(*parts)
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


# --- commands --------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A command as some text shows it."""

    where: str
    words: tuple[str, ...]
    whole: bool
    """Whether it can be run as it is: not a mention in a sentence, and without `...`."""

    @property
    def program(self) -> str | None:
        """`vlrl`, or the Python program that it runs."""
        if self.words[0] == "vlrl":
            return "vlrl"
        programs = (w for w in self.words if re.fullmatch(r"(scripts|benchmarks)/[\w/]+\.py", w))
        return next(programs, None) if self.words[0] in ("python", "deepspeed") else None

    @property
    def arguments(self) -> list[str]:
        """What follows the program; `--config ...` names a recipe, other placeholders go."""
        text = " ".join(map(shlex.quote, self.words[self.words.index(self.program) + 1 :]))
        return shlex.split(text.replace("--config ...", f"--config {A_RECIPE}").replace("...", ""))


def commands(where: str, text: str, *, whole: bool = True) -> Iterator[Shown]:
    """Lines that begin with a program, continued lines joined, comments and pipes cut off."""
    for line in re.sub(r"\\{1,2}\n\s*#?", " ", text).splitlines():
        line = line.strip().lstrip("#$ ").strip()
        if not line.startswith(("vlrl ", "python ", "deepspeed ")) or "[" in line.split("  #")[0]:
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        stop = next((i for i, word in enumerate(words) if word in ("|", "&&", ";")), len(words))
        shown = Shown(where, tuple(words[:stop]), whole and "..." not in words)
        if shown.program is not None:
            yield shown


def all_commands() -> list[Shown]:
    """Of the pages' code, the configs' comments and the programs' docstrings."""
    found: dict[tuple[str, ...], Shown] = {}
    for page, text in TEXTS.items():
        blocks = [code for kind, code in FENCED.findall(text) if kind == "bash"]
        indented = re.findall(r"^(?: {4}.*\n)+", FENCED.sub("", text), re.MULTILINE)
        mentioned = re.findall(r"`((?:vlrl|python|deepspeed) [^`\n]+)`", FENCED.sub("", text))
        for part in (*blocks, *indented):
            for shown in commands(str(page), part):
                found.setdefault(shown.words, shown)
        for part in mentioned:
            for shown in commands(str(page), part, whole=False):
                found.setdefault(shown.words, shown)
    for path in sorted([*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("scripts/*.py")]):
        where = str(path.relative_to(ROOT))
        for shown in commands(where, path.read_text(encoding="utf-8")):
            found.setdefault(shown.words, shown)
    return list(found.values())


COMMANDS = all_commands()


class ArgumentsRead(Exception):  # noqa: N818, it is no error
    """A program has read its arguments; nothing of it runs."""


def shown_id(shown: Shown) -> str:
    return f"{shown.where}: {' '.join(shown.words)[:80]}"


@pytest.mark.parametrize("shown", COMMANDS, ids=shown_id)
def test_commands_parse(shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """By the program's own parser; the program ends there."""
    read = argparse.ArgumentParser.parse_known_args

    def stop(self, args=None, namespace=None):
        for action in self._actions:
            action.required = action.required and shown.whole
        _, rest = read(self, args, namespace)
        wrong = [word for word in rest if not re.fullmatch(r"[\w.]+=.*", word, re.DOTALL)]
        raise ArgumentsRead(f"unknown: {wrong}" if wrong else "")

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        if shown.program == "vlrl" or shown.program in LAUNCHED:
            command = [LAUNCHED[shown.program]] if shown.program in LAUNCHED else []
            status: object = main([*command, *shown.arguments])
        else:
            monkeypatch.setattr(sys, "argv", [shown.program, *shown.arguments])
            runpy.run_path(str(ROOT / shown.program), run_name="__main__")
            status = "it reads no arguments"
    except ArgumentsRead as end:
        status = str(end) or 0
    except SystemExit as end:
        status = end.code
    assert not status, f"{shown.where}: {status} {capsys.readouterr().err}"


def training(command: str) -> list[Shown]:
    """Commands of a training that name what they train."""
    runs = []
    for shown in COMMANDS:
        words = shown.arguments
        is_it = LAUNCHED.get(shown.program) == command or words[:1] == [command]
        if is_it and "--config" in words and not {"NAME", "FILE", "<recipe>"} & set(words):
            runs.append(shown)
    return runs


@pytest.mark.parametrize("shown", training("train") + training("train-judge"), ids=shown_id)
def test_trainings_are_accepted(shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """As `--dry-run` reads them, which loads nothing."""
    monkeypatch.chdir(ROOT)
    command = [LAUNCHED[shown.program]] if shown.program in LAUNCHED else []
    missing = [w for w in shown.arguments if w.endswith(".yaml") and not (ROOT / w).exists()]
    if missing == ["reward.yaml"]:
        pytest.skip("by choice: the example of CONTRIBUTING.md, which test_contributing.py runs")
    dropped = ("--resume", "--dry-run", "--plan")
    arguments = [word for word in shown.arguments if word not in dropped]
    if "train" in (*command, arguments[0]):
        arguments.append("plan.gpu=null")  # test_plan.py plans; here it would take minutes
    status = main([*command, *arguments, "--dry-run"])
    assert status == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=named(PAGES))
def test_recipes_that_are_named_exist(page: Path) -> None:
    """Names after --config and --reward, also on lines that begin with `...`."""
    for line in TEXTS[page].replace("\\\n", " ").splitlines():
        for names in re.findall(r"--(?:config|reward)((?: [a-z_0-9]+/[a-z_0-9./]+)+)", line):
            for name in names.split():
                assert find(name, "configs") or (ROOT / name).exists(), f"{page}: {name}"


# --- configs ---------------------------------------------------------------------------------

BASES = {
    "README.md": "gui_grounding/tiny",
    "docs/data.md": "gui_grounding/tiny",
    "docs/gpus.md": "gui_grounding/gui_g2_qwen2_5_vl_7b",
    "docs/rewards.md": "gui_grounding/tiny",
    "docs/training.md": "gui_grounding/tiny",
    "docs/image_rewards.md": "image_generation/tiny",
    "docs/judge.md": "image_generation/tiny",
    "docs/reward_server.md": "image_generation/tiny",
    "docs/text_to_3d.md": "text_to_3d/tiny",
}
"""The recipe over which a page's examples are laid."""
OTHERS = {"benchmark", "rewards"}
"""First keys of examples that are no part of a run: `vlrl eval --config`, a reward server."""

EXAMPLES = [
    (page, code)
    for page in BASES
    for kind, code in FENCED.findall(TEXTS[Path(page)])
    if kind == "yaml" and not OTHERS & set(yaml.safe_load(code))
]


@pytest.mark.parametrize(
    ("page", "code"), EXAMPLES, ids=[f"{page}-{i}" for i, (page, _) in enumerate(EXAMPLES)]
)
def test_config_examples_are_accepted(
    page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Laid over a recipe of the page's task and read as a run is, without loading anything."""
    program = next(c for kind, c in FENCED.findall(TEXTS[Path("README.md")]) if kind == "python")
    (tmp_path / "my_rewards.py").write_text(program, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("REWARD_TOKEN", "0123456789abcdef" * 2)
    example = tmp_path / "example.yaml"
    example.write_text(code, encoding="utf-8")
    monkeypatch.chdir(ROOT)
    check_plugins(load_run_config([BASES[page], str(example)], []))
