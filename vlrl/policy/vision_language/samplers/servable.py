"""What vLLM has to be told of a checkpoint that it cannot serve as it is.

    python servable.py MODEL [--untie]    prints a folder to serve, and overrides of its config

scripts/serve_vllm.sh runs this file in the server's environment: at the top it imports nothing but
the standard library.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
HEAD_FILE, INDEX = "model-head.safetensors", "model.safetensors.index.json"


def axes(section: Sequence[int]) -> list[int]:
    """The axis of positions (0 time, 1 height, 2 width) of every rotary frequency.

    Sections take the axes in turn; a checkpoint may have more than three of them.
    """
    return [i % 3 for i, size in enumerate(section) for _ in range(size)]


def three_sections(section: Sequence[int]) -> tuple[list[int], bool]:
    """The same frequencies as three sections, and whether those are interleaved.

    ValueError where neither form has the frequencies in this order.
    """
    wanted = axes(section)
    counts = [wanted.count(axis) for axis in range(3)]
    if axes(counts) == wanted:
        return counts, False
    interleaved = [
        axis if axis and place < 3 * counts[axis] else 0
        for place, axis in ((place, place % 3) for place in range(len(wanted)))
    ]
    if interleaved == wanted:
        return counts, True
    raise ValueError(
        f"mrope_section {list(section)} cannot be served by vLLM, which knows three sections, one "
        "after the other or interleaved; use policy.engine.use: own"
    )


def overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """What to lay over a checkpoint's config.json; ValueError where vLLM cannot serve it."""
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else config
    name = "rope_parameters" if text.get("rope_parameters") else "rope_scaling"
    rope = text.get(name)
    section = rope.get("mrope_section") if isinstance(rope, Mapping) else None
    # Three are vLLM's own form; four are axes of their own (HunYuan).
    if not isinstance(rope, Mapping) or not section or len(section) <= 4:
        return {}
    counts, interleaved = three_sections(section)
    laid = {name: {**rope, "mrope_section": counts, "mrope_interleaved": interleaved}}
    return {"text_config": laid} if text is inner else laid


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the head is the table of embeddings."""
    text = config.get("text_config")
    inner = text.get("tie_word_embeddings") if isinstance(text, Mapping) else None
    return bool(config.get("tie_word_embeddings", inner))


def add_head(folder: Path) -> None:
    """Write the head of a tied checkpoint as a tensor of its own, beside its other weights."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    tables = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            if HEAD in opened.keys():  # noqa: SIM118 (no mapping)
                return
            tables += [(file, name) for name in opened.keys() if name.endswith(EMBEDDING)]  # noqa: SIM118
    if len(tables) != 1:
        raise ValueError(f"{folder} has {len(tables)} tensors named {EMBEDDING}, and must have one")
    file, name = tables[0]
    with safe_open(file, "pt") as opened:
        save_file({HEAD: opened.get_tensor(name)}, folder / HEAD_FILE)
    index = folder / INDEX
    if index.is_file():
        listed = json.loads(index.read_text(encoding="utf-8"))
        listed["weight_map"][HEAD] = HEAD_FILE
        index.unlink()  # it may be a link into the checkpoint
        index.write_text(json.dumps(listed), encoding="utf-8")


def untied(model: Path, config: Mapping[str, Any]) -> Path:
    """A folder that links to a tied checkpoint's files and has its head as a tensor of its own."""
    folder = Path(tempfile.mkdtemp(prefix="vlrl-served-"))
    for file in model.resolve().iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file)
    own = {**config, "tie_word_embeddings": False}
    if isinstance(config.get("text_config"), Mapping):
        own["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(own), encoding="utf-8")
    add_head(folder)
    return folder


def main(model: str, *, untie: bool) -> None:
    """Print the folder to serve and the overrides, a line each; names of hubs as they are."""
    file = Path(model) / "config.json"
    served: str | Path = model
    laid: dict[str, Any] = {}
    if file.is_file():
        config = json.loads(file.read_text(encoding="utf-8"))
        laid = overrides(config)
        if untie and is_tied(config):
            served = untied(Path(model), config)
            laid["tie_word_embeddings"] = False
    print(served)
    print(json.dumps(laid))


if __name__ == "__main__":
    try:
        main(sys.argv[1], untie="--untie" in sys.argv[2:])
    except ValueError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
