"""Broken checkpoints of a training, through the resume of a trainer that is there already."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from damage import damaged
from trying import Case, Outcome

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.errors import CheckpointError

STEP = "step-000002"
STATES: list[dict[str, Any]] = [
    {"step": -5}, {"step": 0}, {"step": "x"}, {"step": None}, {"step": 1.5}, {"step": [2]},
    {"sampler": -1}, {"version": -1}, {"num_ranks": 0}, {"num_ranks": 2}, {"zero": 3}, {"zero": -1},
    {"precision": "bf16"}, {"fingerprint": "other"}, {"trainable_rewards": 1}, {"more": 1},
]  # fmt: skip
"""Edits of trainer.json that have to be refused, with checksums or without."""
LISTS = ["[]", "null", "5", '"text"', "{}", '{"a": null}', '{"a": 1}', "[" * 3000, '{"../x": "y"}',
         '{"a\\u0000b": "x"}', '{"' + "a" * 5000 + '": "x"}', "", "\ufeff{}"]  # fmt: skip
"""Edits of checksums.json."""
POINTERS = [b"", b"\xff\xfe\x00", b"nothing\n", b"../..\n", b"a\x00b", b"x" * 5000, b"/etc\n"]
"""Edits of `latest`."""


@cache
def trainer(folder: Path) -> Any:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return build_trainer(check(RunConfig, {**config, "name": "resumed"}), None)


def digest(made: Any) -> str:
    """Of all that a resume changes."""
    found = hashlib.sha256(f"{made.step} {made.version} {made.curriculum.position}".encode())
    for parameter in made.policy.module.parameters():
        found.update(parameter.detach().numpy().tobytes())
    return found.hexdigest()


@cache
def resumed(folder: Path) -> str:
    """After a resume from the whole checkpoint."""
    made = build_trainer(
        check(RunConfig, {**json.loads((folder / "config.json").read_text()), "name": "good"}), None
    )
    made.resume(folder / STEP)
    return digest(made)


def checkpoint(folder: Path, number: int, rng: random.Random) -> Case:
    """A checkpoint with one fault."""
    whole = folder / STEP
    path = folder / f"case{number}" / STEP
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    name = files[number % len(files)]
    kinds = ["bytes", "bytes", "bytes", "gone", "swapped", "added", "state", "list", "pointer"]
    kind = kinds[number // len(files) % len(kinds)]
    place, how = name.name, kind
    change: Callable[[], object]
    if kind == "bytes":
        others = [b"{}", b"PK\x03\x04", b"\x80\x02}q\x00."]
        how, data = damaged((whole / name).read_bytes(), rng, others)
        change = lambda: (path / name).write_bytes(data)  # noqa: E731
        # Which of the two is damaged, a digest or its file, nothing can tell.
        place = "" if name.name == "checksums.json" else place
    elif kind == "gone":
        change = (path / name).unlink
    elif kind == "swapped":
        other = rng.choice([file for file in files if file != name])
        change = lambda: _swap(path / name, path / other)  # noqa: E731
        place = "" if {"checksums.json", "trainer.json"} & {name.name, other.name} else place
    elif kind == "added":
        place = f"more{number}.pt"
        change = lambda: (path / place).write_bytes(b"x")  # noqa: E731
    elif kind == "state":
        edit, unlisted = rng.choice(STATES), rng.random() < 0.5
        how, place = f"{edit}, {'no' if unlisted else 'with'} checksums", ""
        change = lambda: _edit(path, edit, unlisted)  # noqa: E731
    elif kind == "list":
        text = rng.choice(LISTS)
        how, place = f"checksums.json: {text[:30]}", ""
        change = lambda: (path / "checksums.json").write_text(text, encoding="utf-8")  # noqa: E731
    else:
        pointer = rng.choice(POINTERS)
        how, place = f"latest: {pointer[:20]!r}", "latest"
        change = lambda: (path.parent / "latest").write_bytes(pointer)  # noqa: E731

    def run() -> Outcome:
        shutil.copytree(whole, path)
        (path.parent / "latest").write_text(STEP + "\n", encoding="utf-8")
        change()
        made = trainer(folder)
        before = digest(made)
        try:
            made.checkpoints.folder = path.parent
            found = made.checkpoints.latest()
            assert found is not None
            made.resume(found)
        except CheckpointError:
            if digest(made) != before:
                return "wrong"  # a part of it was loaded
            raise
        finally:
            shutil.rmtree(path.parent)
        return "same" if digest(made) == resumed(folder) else "wrong"

    return Case(f"{name}: {how}", run, place)


def _swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _edit(path: Path, edit: dict[str, Any], unlisted: bool) -> None:
    file = path / "trainer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **edit}), encoding="utf-8")
    if unlisted:  # as an earlier version saved it
        (path / "checksums.json").unlink()
