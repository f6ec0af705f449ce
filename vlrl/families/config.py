"""A checkpoint's own config.json, or what is wrong with the type that it states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlrl.errors import ConfigError, did_you_mean
from vlrl.families.known import FAMILIES

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def config_of(name: str, revision: str | None = None) -> PretrainedConfig:
    """The config of a folder or hub name.

    Raises ConfigError where transformers has no such type, and what it raises for damaged files.
    """
    import transformers

    given, _ = transformers.PretrainedConfig.get_config_dict(name, revision=revision)
    kind = given.get("model_type")
    if isinstance(kind, str) and kind not in transformers.CONFIG_MAPPING:
        raise ConfigError(
            f"transformers {transformers.__version__} has no model_type {kind!r}, which the "
            f"config.json of {name!r} states; {did_you_mean(kind, FAMILIES)}; docs/families.md "
            "lists the types that are trained and shows how one is added"
        )
    config: PretrainedConfig = transformers.AutoConfig.from_pretrained(name, revision=revision)
    return config
