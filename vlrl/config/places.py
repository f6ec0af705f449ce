"""Models and folders that a config names, checked before anything is loaded or written.

A relative path that is not there may be a name of the model hub, or be made by another run, so
only what cannot become a model is refused.
"""

from __future__ import annotations

import os
from pathlib import Path

from vlrl.errors import ConfigError

MODEL_FILES = ("config.json", "model_index.json", "adapter_config.json", "adapter_base.json")
"""One is in the folder of every model: of transformers, diffusers, peft, a flow run's adapter."""


def check_model(key: str, name: str) -> None:
    """Raise ConfigError, with the key, where a name is neither a model's folder nor of the hub."""
    path = Path(os.path.expanduser(name))
    if not name.strip():
        raise ConfigError(f"{key}: must be a model's folder or hub name, not {name!r}")
    if path.is_dir():
        if not any((path / file).is_file() for file in MODEL_FILES):
            raise ConfigError(
                f"{key}: the folder {name!r} holds no model: none of {', '.join(MODEL_FILES)} is "
                "in it (a run's model is in runs/<name>/model)"
            )
    elif path.exists():
        raise ConfigError(f"{key}: must be a model's folder or hub name; {name!r} is a file")
    elif name.startswith(("/", "~")):
        raise ConfigError(f"{key}: there is no folder {name!r}")


def check_folder(key: str, name: str) -> None:
    """Raise ConfigError, with the key, where no folder of this name can be made."""
    path = Path(name)
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise ConfigError(f"{key}: must be a folder; {str(place)!r} is a file")
            return
