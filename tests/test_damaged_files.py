"""Damaged files, own and foreign: an error with the name of the file, never other numbers."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_runs import run_config
from safetensors.torch import load_file, save_file

from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.config.yaml_text import parse_yaml
from vlrl.data.paths import path_below
from vlrl.distributed.engine import deepspeed_config
from vlrl.errors import ConfigError, DataError, VlrlError
from vlrl.eval.gui.items import Item
from vlrl.eval.gui.passes import load
from vlrl.eval.recipe import read_recipe
from vlrl.eval.store import Store
from vlrl.eval.video.runner import stored
from vlrl.families.adapters import adapter_base
from vlrl.families.pipeline_adapters import BASE_FILE, pipeline_base
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.data.sampling import dataset_yaml
from vlrl.judge.question import JUDGE_FILE, template_of
from vlrl.log.sinks import JsonLines
from vlrl.mesh.data import ShapeSource, read_shapes
from vlrl.mesh.store import load_shape, save_shapes
from vlrl.mesh.voxelise import Voxels
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup
from vlrl.tensor_files import read_tensors, write_tensors

DEEP = "[" * 3000
PASS = {"output": "[1, 2]", "error": None, "crop": None, "seed": 0, "greedy": True,
        "resized": [8, 8], "seconds": 0.5, "num_tokens": 3}  # fmt: skip
FRAME = Frame(8, 8)
ITEMS = {"s0": Item("s0", "a.png", FRAME, "x", Box(1, 1, 2, 2, FRAME))}


# --- what an evaluation and a run have written -----------------------------------------------


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[1]", b"null", DEEP.encode(), b""])
def test_damaged_settings_of_an_evaluation_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(DataError, match=r"run\.json"):
        Store(tmp_path).open({"model": "m"})


@pytest.mark.parametrize("row", [
    {"id": "s0"}, {"id": "s0", "passes": 3}, {"id": ["s0"], "passes": [PASS]}, [1], "s0",
    {"id": "s0", "passes": [{k: v for k, v in PASS.items() if k != "crop"}]},
    {"id": "s0", "passes": [{**PASS, "output": 5}]},
    {"id": "s0", "passes": [{**PASS, "seed": "x"}]},
    {"id": "s0", "passes": [{**PASS, "output": None}]}, {"passes": [PASS]},
])  # fmt: skip
def test_a_line_that_is_no_answer_is_named(tmp_path: Path, row: Any) -> None:
    good = json.dumps({"id": "s0", "passes": [PASS]})
    (tmp_path / "answers.rank0.jsonl").write_text(f"{good}\n{json.dumps(row)}\n")
    with pytest.raises(DataError, match=r"answers\.rank0\.jsonl, line 2.*remove the line"):
        load(Store(tmp_path), ITEMS)


@pytest.mark.parametrize("gone", ["output", "error", "seconds", "num_tokens"])
def test_a_line_that_is_no_answer_about_a_video_is_named(tmp_path: Path, gone: str) -> None:
    row = {"id": "s0", "output": "x", "error": None, "seconds": 0.5, "num_tokens": 3}
    path = tmp_path / "answers.rank0.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert stored(Store(tmp_path), {"s0"})["s0"].output == "x"
    path.write_text(json.dumps({k: v for k, v in row.items() if k != gone}) + "\n")
    with pytest.raises(DataError, match=r"line 1: not an answer \(KeyError"):
        stored(Store(tmp_path), {"s0"})


@pytest.mark.parametrize("damaged", ["{", '{"step": "2"}', "3}", '{"a": 1}', '{"step": \xff'])
def test_a_damaged_line_of_metrics_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1}', damaged, '{"step": 3}', '{"step": 4}', '{"step": 5']
    path.write_bytes("\n".join(lines).encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        JsonLines(path, 3)
    assert path.read_text().splitlines() == ['{"step": 1}', '{"step": 3}']
    assert "metrics.jsonl, line 2 is damaged" in caplog.text
    assert "line 5" not in caplog.text  # what a kill leaves is no surprise


def test_tensors_have_a_checksum(tmp_path: Path) -> None:
    file = tmp_path / "a/b.safetensors"
    tensors = {"x": torch.arange(6.0).reshape(2, 3), "y": torch.tensor(2, dtype=torch.bfloat16)}
    write_tensors(file, tensors)
    found = read_tensors(file)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    whole = file.read_bytes()
    for place in range(0, len(whole), 3):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"b\.safetensors.*delete the file"):
            read_tensors(file)
    save_file(tensors, file)
    with pytest.raises(ValueError, match="checksum"):
        read_tensors(file)


# --- configs and tables ----------------------------------------------------------------------


def _sharding(folder: Path) -> object:
    parts = {"task": {"use": "gui_grounding"}, "policy": {"use": "x"}, "reward": {"use": "hit"}}
    config = run_config(folder, "r", parts, {"dist__deepspeed": str(folder / "zero.json")})
    return deepspeed_config(check(RunConfig, config))


READERS: dict[str, Callable[[Path], object]] = {
    "vlrl.json": lambda folder: read_recipe(str(folder)),
    "adapter_config.json": lambda folder: adapter_base(str(folder)),
    "zero.json": _sharding,
    JUDGE_FILE: lambda folder: template_of(str(folder)),
    BASE_FILE: lambda folder: pipeline_base(str(folder)),
}


@pytest.mark.parametrize("content", [b"{", b'{"a": "\xff"}', b"[]", b"3", DEEP.encode(), b'"x"'])
@pytest.mark.parametrize("name", READERS)
def test_damaged_records_are_config_errors(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        READERS[name](tmp_path)


@pytest.mark.parametrize(
    "value", ["!!timestamp x", "!!int ''", "!!float ''", "!!timestamp 2001-99-99"]
)
def test_tags_without_their_value_are_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="here"):
        parse_yaml(f"a: {value}", "here")
    path = tmp_path / "sets.yaml"
    path.write_text(f"datasets: [{{json_path: a.json, sampling_strategy: {value}}}]")
    with pytest.raises(DataError, match=r"sets\.yaml"):
        dataset_yaml(path)


@pytest.mark.parametrize("name", ["a" * 300, "é" * 200, "a/" * 3000, "x/" + "b" * 256 + ".png"])
def test_a_path_that_no_system_takes_is_a_bad_row(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"row 3: .*too long for a path") as error:
        path_below(tmp_path, name, "row 3", within=False)
    assert len(str(error.value)) < 200
    assert path_below(tmp_path, "a/" * 100 + "b" * 255, "row 3", within=False)


@pytest.mark.parametrize("cell", ["[" * 3000, "[" + "9" * 5000 + "]", "[x"])
def test_a_cell_that_is_no_list_is_a_bad_row(tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.csv").write_text(f'sha256,captions\n1,"{cell}"\n')
    with pytest.raises(DataError, match=r"a\.csv, row 1: field 'captions'"):
        read_shapes(ShapeSource(path=str(tmp_path / "a.csv")))


# --- shapes and models -----------------------------------------------------------------------


def _shapes(path: Path) -> bytes:
    occupancy = np.zeros((4, 4, 4), bool)
    occupancy[1:3, 1:3, 1:3] = True
    save_shapes(path, {"a": Voxels(occupancy, np.full((4, 4, 4, 3), 200, np.uint8))})
    return path.read_bytes()


def test_a_flip_in_a_file_of_shapes_is_refused_or_harmless(tmp_path: Path) -> None:
    whole = _shapes(tmp_path / "whole.npz")
    wanted = load_shape(f"{tmp_path / 'whole.npz'}#a", 4)
    refused = 0
    for place in range(len(whole)):
        path = tmp_path / f"{place}.npz"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            found = load_shape(f"{path}#a", 4)
        except DataError as error:
            refused += 1
            assert path.name in str(error)  # noqa: PT017
            continue
        assert np.array_equal(found.occupancy, wanted.occupancy)
        assert np.array_equal(found.colours, wanted.colours)
    assert refused > len(whole) // 2


@pytest.mark.parametrize("colours", [None, np.zeros(7, np.uint8), np.full(8, 255, np.uint8),
                                     np.zeros(8, np.int64)])  # fmt: skip
def test_colours_that_do_not_fit_are_refused(tmp_path: Path, colours: np.ndarray | None) -> None:
    _shapes(tmp_path / "a.npz")
    arrays = dict(np.load(tmp_path / "a.npz"))
    arrays.pop("a.colours")
    if colours is not None:
        arrays["a.colours"] = colours
    path = tmp_path / "b.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"b\.npz"):
        load_shape(f"{path}#a", 4)


@pytest.mark.parametrize(("ending", "content"), [
    ("glb", b"glTF\x63\x00\x00\x00" + bytes(40)), ("obj", b"v 1 2\nv 3 4\nv 5 6\nf 1 2 3\n"),
    ("obj", b"v 1 2 3\nv 1 2 3\nv 1 2 3\nf 1 2 3\n"), ("ply", b"ply\nformat ascii 1.0\n"),
    ("obj", b"v 1 2 nan\nv 3 4 5\nv 5 6 5\nf 1 2 3\n"), ("ply", b""), ("obj", b"f 1 2 3\n"),
])  # fmt: skip
def test_broken_meshes_are_named(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"shape.{ending}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"shape\.{ending}"):
        load_shape(str(path), 8)


def _lacking(path: Path) -> None:
    weights = load_file(path)
    weights.pop(next(name for name in weights if "q_proj" in name))
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(("name", "change", "said"), [
    ("model.safetensors", _lacking, "no weights for 1 tensors.*q_proj"),
    ("model.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-99]), "copy it again"),
    ("tokenizer.json", lambda p: p.write_bytes(b"\xff"), "copy it again"),
    ("processor_config.json", lambda p: p.write_text("{"), "copy it again"),
    ("config.json", lambda p: p.write_text(DEEP), "policy.model"),
    ("config.json", lambda p: p.write_text('{"model_type": "bert"}'), "policy.model"),
])  # fmt: skip
def test_damaged_checkpoints_of_models_are_named(
    checkpoints: dict[str, Path], tmp_path: Path, name: str, change: Callable[[Path], object],
    said: str,
) -> None:  # fmt: skip
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoints["qwen2_5_vl"], folder)
    change(folder / name)
    options = VisionLanguageConfig(model=str(folder))
    setup = PolicySetup(dtype=torch.float32, max_tokens_per_chunk=64)
    with pytest.raises(VlrlError, match=rf"(?s)damaged.*{said}|{said}.*damaged"):
        VisionLanguagePolicy(options, setup)
