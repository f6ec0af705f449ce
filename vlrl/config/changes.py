"""What two resolved configs say differently, key by key."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlrl.config.loader import to_yaml
from vlrl.config.yaml_text import parse_yaml
from vlrl.errors import ConfigError

log = logging.getLogger(__name__)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> list[str]:
    """`section.key: old -> new` for every value that differs; an absent key counts as null."""
    found: list[str] = []
    for key in (*old, *(key for key in new if key not in old)):
        one, other = old.get(key), new.get(key)
        name = f"{above}{key}"
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differences(one, other, f"{name}.")
        elif one != other:
            found.append(f"{name}: {one!r} -> {other!r}")
    return found


def say_changes(path: Path, resolved: Mapping[str, Any]) -> None:
    """Warn of what the resumed run does otherwise than the one that was saved."""
    file = path / "config.yaml"
    try:
        saved = parse_yaml(file.read_text(encoding="utf-8", errors="replace"), str(file))
    except (ConfigError, OSError) as error:
        log.warning("what was changed since the run was saved is not known: %s", error)
        return
    now = parse_yaml(to_yaml(resolved), "the config")
    changes = differences(saved if isinstance(saved, Mapping) else {}, now)
    if changes:
        log.warning("resumed with other settings than were saved: %s", "; ".join(changes))
