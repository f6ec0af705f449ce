"""The recipes and sharding files that come with vlrl, found by name from any folder.

In a checkout they are next to the package, in a wheel inside it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from vlrl.errors import ConfigError

Kind = Literal["configs", "deepspeed_configs"]
SUFFIXES: dict[Kind, str] = {"configs": ".yaml", "deepspeed_configs": ".json"}
PACKAGE = Path(__file__).resolve().parent.parent


def shipped_folder(kind: Kind) -> Path:
    """Where the shipped files of a kind lie; raises ConfigError where they are missing."""
    found = [folder / kind for folder in (PACKAGE, PACKAGE.parent) if (folder / kind).is_dir()]
    if not found:
        raise ConfigError(f"this vlrl has no folder {kind!r}: install it again, or give a path")
    return found[0]


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Name -> file; the name is the path below the folder, without its suffix."""
    folder, suffix = shipped_folder(kind), SUFFIXES[kind]
    files = sorted(folder.rglob(f"*{suffix}"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def find(name: str | Path, kind: Kind, base: Path | None = None) -> Path | None:
    """The file that a name means: an existing path first, then a shipped one; None for neither.

    base: the folder that a relative path starts from, if not the working one. The suffix may be
    left out.
    """
    path, suffix = Path(name).expanduser(), SUFFIXES[kind]
    own = path if base is None else base / path
    for candidate in (own, own.with_name(own.name + suffix) if own.name else own):
        if candidate.is_file():
            return candidate
    short = Path(*path.parts[1:]) if path.parts[:1] == (kind,) else path
    return shipped_files(kind).get(short.as_posix().removesuffix(suffix))


def nearest(name: str | Path, kind: Kind) -> str:
    """A hint with the shipped names that are most like this one."""
    names = list(shipped_files(kind))
    text = Path(name).as_posix().removeprefix(f"{kind}/").removesuffix(SUFFIXES[kind])
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.6)
    last = text.rpartition("/")[2]
    lasts = {one.rpartition("/")[2]: one for one in reversed(names)}
    near += [lasts[one] for one in difflib.get_close_matches(last, lasts, n=3, cutoff=0.75)]
    if near:
        return f"did you mean {', '.join(map(repr, list(dict.fromkeys(near))[:3]))}?"
    if kind == "configs":
        return "`vlrl recipes` lists those that come with vlrl"
    return f"known: {', '.join(names)}"


def sharding_file(name: str) -> Path:
    """The file of `dist.deepspeed`; raises ConfigError with the nearest names."""
    found = find(name, "deepspeed_configs")
    if found is None:
        hint = nearest(name, "deepspeed_configs")
        raise ConfigError(f"dist.deepspeed: there is no file {name!r}; {hint}")
    return found
