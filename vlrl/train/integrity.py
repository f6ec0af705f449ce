"""Checksums of a checkpoint's files, so that a damaged one is refused before it is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from vlrl.distributed.comm import World, all_gather
from vlrl.errors import CheckpointError, first_line

log = logging.getLogger(__name__)

FILE = "checksums.json"
_DIGESTS = TypeAdapter(dict[str, str])
"""SHA-256 in hex by file."""


def write_checksums(folder: Path, world: World) -> None:
    """Write the SHA-256 of every file below the folder; all ranks call this and share the work."""
    parts = all_gather(_digests(folder, _files(folder), world), world)
    if world.is_main:
        _write(folder, {name: digest for part in parts for name, digest in part.items()})


def write_known_checksums(folder: Path, known: Mapping[str, str]) -> None:
    """As above, on one rank alone; `known` are those of files that need not be read again."""
    rest = {name: _digest(folder / name) for name in _files(folder) if name not in known}
    _write(folder, {**known, **rest})


def digest_of(path: Path) -> str:
    """The SHA-256 of a file in hex; empty where it cannot be read."""
    return _digest(path)


def _write(folder: Path, digests: Mapping[str, str]) -> None:
    text = json.dumps(dict(sorted(digests.items())), indent=1)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def verify_checksums(folder: Path, world: World) -> None:
    """Raise CheckpointError on every rank where a file is missing, damaged or not listed."""
    path = folder / FILE
    if not path.is_file():
        log.warning("%s has no checksums (an earlier version saved it): it is not checked", folder)
        return
    try:
        wanted = _DIGESTS.validate_json(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged ({first_line(error)}); resume from another step"
        ) from error
    found = _digests(folder, sorted(wanted), world)
    broken = [name for name, digest in found.items() if digest != wanted[name]]
    problems = sorted(name for part in all_gather(broken, world) for name in part)
    strangers = sorted(set(_files(folder)) - set(wanted))
    if problems or strangers:
        named = ", ".join((problems or strangers)[:5])
        what = "missing or damaged" if problems else "not among the files that were saved"
        raise CheckpointError(
            f"{folder}: {named}: {what}; resume from another checkpoint of this run "
            "(--resume FOLDER), or copy this one again"
        )


def _files(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != FILE
    )


def _digests(folder: Path, names: list[str], world: World) -> dict[str, str]:
    """Of this rank's share of the files; empty for a file that cannot be read."""
    return {name: _digest(folder / name) for name in names[world.rank :: world.size]}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):  # a damaged list may hold what is no name at all
        return ""
