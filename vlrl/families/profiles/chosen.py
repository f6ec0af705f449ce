"""The coordinate profile of a checkpoint: told by its name where it is a GUI model, else its type.

A GUI model has the `model_type` of the family that it was trained from and often another scale,
so that its config cannot tell it: then the name of the folder or of the hub decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlrl.families.adapters import adapter_base

QWEN2, QWEN2_5 = ("qwen2_vl",), ("qwen2_5_vl",)
QWEN3 = ("qwen3_vl", "qwen3_vl_moe")


@dataclass(frozen=True)
class Named:
    """Checkpoints that are told by their name."""

    pattern: str
    """Found in the name in lower case, where `-`, `_`, `.` and spaces are all `-`."""
    profile: str
    types: tuple[str, ...] = ()
    """Their `model_type`, where it is known; a checkpoint of another type is something else."""


NAMED = (
    Named(r"ui-tars-1-5", "ui_tars_1_5", QWEN2_5),
    Named(r"ui-tars-(2|7|72)b", "ui_tars", QWEN2),
    Named(r"os-atlas-(base|pro)-7b", "os_atlas_7b", QWEN2),
    Named(r"os-atlas-(base|pro)-4b", "os_atlas_4b", ("internvl_chat",)),
    Named(r"aguvis", "aguvis", QWEN2),
    Named(r"uground-v1", "uground_v1", QWEN2),
    Named(r"uground$", "uground_v0", ("llava_llama",)),
    Named(r"showui-2b", "showui", QWEN2),
    Named(r"seeclick", "seeclick", ("qwen",)),
    Named(r"jedi-(3|7)b", "jedi", QWEN2_5),
    Named(r"gta1", "gta1", QWEN2_5),
    Named(r"holo1-5", "holo1_5", QWEN2_5),
    Named(r"holo2", "holo2", QWEN3),
    Named(r"ui-venus-1-5", "ui_venus_1_5", QWEN3),
    Named(r"ui-venus-ground", "ui_venus", QWEN2_5),
    Named(r"gui-owl-1-5", "gui_owl_1_5", QWEN3),
    Named(r"gui-owl", "gui_owl", QWEN2_5),
    Named(r"mai-ui", "mai_ui", QWEN3),
    Named(r"opencua-qwen2-7b", "opencua_qwen2"),
    Named(r"opencua-(7|32|72)b", "opencua"),
    Named(r"groundnext", "groundnext", QWEN2_5),
    Named(r"gui-g2", "gui_g2", QWEN2_5),
    Named(r"gui-g1", "gui_g1", QWEN2_5),
    Named(r"se-gui", "se_gui", QWEN2_5),
    Named(r"infigui-g1", "infigui_g1", QWEN2_5),
    Named(r"gelab-zero", "step_gui", QWEN3),
    Named(r"cogagent-9b", "cogagent_9b"),
    Named(r"cogagent-(chat|vqa)", "cogagent"),
)
"""The first one that fits counts."""

OF_TYPE = {
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "qwen3_vl_moe": "qwen3_vl",
    "qwen3_5": "qwen3_5",
    "qwen3_5_moe": "qwen3_5",
    "internvl": "internvl",
    "internvl_chat": "internvl",
    "glm4v": "glm4v",
    "glm4v_moe": "glm4v",
    "glm46v": "glm4v",
    "kimi_vl": "kimi_vl",
    "kimi_k25": "kimi_k2_5",
    "minicpmv": "minicpm_v",
}
"""`model_type` of the config -> the profile of the family itself."""


@dataclass(frozen=True)
class Choice:
    """A profile's name and what told it."""

    profile: str
    why: str


def chosen_profile(model: str) -> Choice | None:
    """The profile of a checkpoint's folder or hub name; None where nothing tells it.

    Raises ConfigError for an adapter that does not say which model it belongs to.
    """
    base = adapter_base(model)
    config = _config(base or model)
    model_type = config.get("model_type")
    for name in _names(model, base, config):
        plain = re.sub(r"[-_. ]+", "-", name.lower())
        for known in NAMED:
            fits = not known.types or model_type is None or model_type in known.types
            if fits and re.search(rf"(?<![a-z0-9]){known.pattern}", plain) is not None:
                return Choice(known.profile, f"the checkpoint's name, {name!r}")
    if isinstance(model_type, str) and model_type in OF_TYPE:
        why = f"its model_type {model_type!r}; for a model trained to answer otherwise give another"
        return Choice(OF_TYPE[model_type], why)
    return None


def _names(model: str, base: str | None, config: Mapping[str, Any]) -> Iterator[str]:
    """What the checkpoint is called: by the folder and its parent or the hub, and by its config."""
    for name in (model, base, config.get("_name_or_path")):
        if isinstance(name, str) and name:
            yield from reversed(Path(name).parts[-2:])


def _config(model: str) -> Mapping[str, Any]:
    """config.json of a folder or hub name; empty where it cannot be read."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        try:
            found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}  # said with more detail when the model is loaded
        return found if isinstance(found, dict) else {}
    from transformers import PretrainedConfig

    try:
        return dict(PretrainedConfig.get_config_dict(model)[0])
    except (OSError, ValueError):
        return {}
