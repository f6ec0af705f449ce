"""From YAML files and `a.b=c` overrides to one plain mapping; composed left to right.

A later file wins key by key, except below `reward:` and `metrics:`, which are replaced as a whole:
two reward trees merged into one would be neither of them, and metrics belong to their task.
A file's `extends:` names the files that are merged before it, each once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlrl.config.renamed import with_current_names
from vlrl.config.shipped import find, nearest
from vlrl.config.yaml_text import dump_yaml, parse_yaml
from vlrl.errors import ConfigError

REPLACED_WHOLE = ("reward", "metrics")
EXTENDS = "extends"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """One YAML file as it is written, by path or shipped name; ConfigError where there is none."""
    path = _file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error}; save the file as UTF-8") from error
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a config file holds a mapping, not {type(data).__name__}")
    return data


def _file(name: str | Path, base: Path | None = None, chain: Sequence[Path] = ()) -> Path:
    """The file of a path or a shipped name; `chain` are the files that lead to it."""
    found = find(name, "configs", base)
    if found is None:
        hint = nearest(name, "configs")
        raise ConfigError(f"{_named(chain)}there is no config file {str(name)!r}; {hint}")
    return found


def _named(chain: Sequence[Path]) -> str:
    return "".join(f"{path}: {EXTENDS}: " for path in chain)


def _layers(path: Path, chain: Sequence[Path] = ()) -> dict[Path, dict[str, Any]]:
    """The files that make up one file, in the order of merging, with what each says itself."""
    key = path.resolve()
    if key in [one.resolve() for one in chain]:
        raise ConfigError(f"{_named(chain)}{path}: a circle: a file cannot extend itself")
    data = read_yaml(path)
    bases = data.pop(EXTENDS, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: {EXTENDS}: a file or a list of files, not {bases!r}")
    chain = [*chain, path]
    found: dict[Path, dict[str, Any]] = {}
    for base in bases:
        for file, layer in _layers(_file(base, path.parent, chain), chain).items():
            found.setdefault(file, layer)
    return {**found, key: data}


def merge(base: Mapping[str, Any], over: Mapping[str, Any], _top: bool = True) -> dict[str, Any]:
    """`base` with every key of `over` laid on top, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        whole = _top and key in REPLACED_WHOLE
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not whole:
            result[key] = merge(old, value, _top=False)
        else:
            result[key] = value
    return result


def apply_override(config: dict[str, Any], assignment: str) -> None:
    """Set one dotted key from `a.b.c=value`, read as YAML; in a list a part is a place from 0.

    `reward.sum.1.weight=0.5` is the weight of the second reward. Raises ConfigError.
    """
    key, sign, text = assignment.partition("=")
    if not sign or not key:
        raise ConfigError(f"an override is written key=value, not {assignment!r}")
    place: dict[Any, Any] | list[Any] = config
    *path, last = key.split(".")
    for part in path:
        entry = _entry(place, part, assignment)
        inner = place.setdefault(entry, {}) if isinstance(place, dict) else place[entry]
        if not isinstance(inner, dict | list):
            raise ConfigError(f"override {assignment!r}: {part!r} is a value, not a section")
        place[entry] = place = inner.copy()  # the config that it came from stays as it was
    place[_entry(place, last, assignment)] = parse_yaml(text, f"override {key}")


def _entry(place: dict[Any, Any] | list[Any], part: str, assignment: str) -> Any:
    """The key, or the place in a list, that a part of a dotted key names."""
    if isinstance(place, dict):
        return part
    if not part.isdecimal() or int(part) >= len(place):
        places = f"0 to {len(place) - 1}" if place else "none"
        raise ConfigError(
            f"override {assignment!r}: {part!r} is no place in the list, which has {places}"
        )
    return int(part)


def compose(
    files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    replaced: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All files merged left to right, then whole sections replaced, then the overrides.

    `--config a.yaml b.yaml key=value` reads naturally: what is written key=value is no file.
    """
    config: dict[str, Any] = {}
    assigned: list[str] = []
    merged: set[Path] = set()
    for name in files:
        if "=" in str(name) and not Path(name).is_file():
            assigned.append(str(name))
            continue
        layers = _layers(_file(name))
        own = list(layers)[-1]
        for file, layer in layers.items():
            # A base that was given before stays below what was laid over it.
            if file == own or file not in merged:
                config = merge(config, layer)
                merged.add(file)
    config |= replaced or {}
    for assignment in [*assigned, *overrides]:
        apply_override(config, assignment)
    return with_current_names(config)


def to_yaml(config: Mapping[str, Any]) -> str:
    """A config as YAML that `compose` reads back to the same mapping."""
    return dump_yaml(config)
