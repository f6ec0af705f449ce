"""Keys and names of earlier versions: read with a warning that says the new one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

KEYS = {("scoring", "beside_sampling"): "overlap_sampling"}
"""(section, old key) -> new key."""
VALUES = {("algo", "advantage", "given"): "precomputed"}
"""(section, key, old value) -> new value."""
PLUGINS = {"picture_class": "image_class"}
"""Old name after `use:` -> new name."""
OPTIONS = {("adversarial_dino", "picture_weight"): "image_weight"}
"""(plug-in, old option) -> new option."""


def with_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the names of today; each that was replaced is logged as a warning."""
    renamed = {key: _plugins(value) for key, value in config.items()}
    for (section, old), new in KEYS.items():
        inner = renamed.get(section)
        if isinstance(inner, dict) and old in inner:
            _warn(f"{section}.{old}", f"{section}.{new}")
            renamed[section] = {new if key == old else key: v for key, v in inner.items()}
    for (section, key, old), new in VALUES.items():
        inner = renamed.get(section)
        if isinstance(inner, dict) and inner.get(key) == old:
            _warn(f"{section}.{key}: {old}", f"{section}.{key}: {new}")
            renamed[section] = {**inner, key: new}
    return renamed


def _plugins(value: Any) -> Any:
    """Every mapping with `use:` below a value, with the plug-in's and the options' new names."""
    if isinstance(value, list):
        return [_plugins(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    inner = {key: _plugins(item) for key, item in value.items()}
    name = inner.get("use")
    if isinstance(name, str) and name in PLUGINS:
        _warn(f"use: {name}", f"use: {PLUGINS[name]}")
        inner["use"] = name = PLUGINS[name]
    for (plugin, old), new in OPTIONS.items():
        if name == plugin and old in inner:
            _warn(f"{plugin}: {old}", f"{plugin}: {new}")
            inner = {new if key == old else key: item for key, item in inner.items()}
    return inner


def _warn(old: str, new: str) -> None:
    log.warning("config: %r has a new name, %r; please change it in your file", old, new)
