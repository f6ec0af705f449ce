"""Checkpoints said in vLLM's words: sections of rotary frequencies, and heads of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_runs import ROOT
from safetensors.torch import load_file

from vlrl.policy.vision_language.samplers import servable

EMBEDDED = ROOT / "assets/models/tiny_qwen2_5_vl"


def interleaved_axes(counts: list[int]) -> list[int]:
    """vLLM's rule for `mrope_interleaved`, frequency by frequency."""
    found = []
    for place in range(sum(counts)):
        axis = place % 3
        found.append(axis if axis and place < 3 * counts[axis] else 0)
    return found


@pytest.mark.parametrize(
    ("section", "counts", "interleaved"),
    [
        ([1] * 32, [11, 11, 10], True),
        ([1] * 4, [2, 1, 1], True),
        ([1, 1, 1, 1, 1, 1, 5], [7, 2, 2], True),
        ([4, 6, 6], [4, 6, 6], False),
        ([4, 6, 6, 0, 0, 0], [4, 6, 6], False),
        ([1, 1, 1], [1, 1, 1], False),
    ],
)
def test_the_same_frequencies_in_three_sections(
    section: list[int], counts: list[int], interleaved: bool
) -> None:
    assert servable.three_sections(section) == (counts, interleaved)
    wanted = servable.axes(section)
    assert len(wanted) == sum(section)
    assert wanted == (interleaved_axes(counts) if interleaved else servable.axes(counts))


def test_axes_are_those_that_transformers_takes() -> None:
    """Of three position ids that name their axis, every frequency takes one."""
    from transformers import Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    config = Qwen2_5_VLConfig.from_pretrained(EMBEDDED).text_config
    section = [1] * 20 + [12]
    config.rope_parameters["mrope_section"] = section
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = 0, 8, 0
    rotary = Qwen2_5_VLTextModel(config).rotary_emb
    place = torch.zeros(3, 1, 3)
    place[0, :, 0] = place[1, :, 1] = place[2, :, 2] = 1  # token n moves along axis n
    moved = rotary(torch.zeros(1), place)[1][0, :, : sum(section)] > 0
    assert moved.int().argmax(0).tolist() == servable.axes(section)


def test_sections_without_such_a_form_are_refused() -> None:
    config = {"text_config": {"rope_parameters": {"mrope_section": [2, 2, 2, 2, 2, 2]}}}
    with pytest.raises(ValueError, match=r"\[2, 2, 2, 2, 2, 2\] cannot be served by vLLM.*own"):
        servable.overrides(config)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"text_config": {}},
        {"rope_scaling": {"rope_type": "yarn"}},
        {"text_config": {"rope_parameters": {"mrope_section": [16, 24, 24]}}},
        {"rope_scaling": {"xdrope_section": [16, 16, 16, 16]}},
    ],
)
def test_what_vllm_knows_is_left_as_it_is(config: dict[str, Any]) -> None:
    assert servable.overrides(config) == {}


def test_an_old_config_keeps_its_names() -> None:
    laid = servable.overrides({"rope_scaling": {"type": "mrope", "mrope_section": [1] * 5}})
    assert laid == {
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 1], "mrope_interleaved": True}
    }


def test_the_embedded_model_is_served_with_a_head_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = servable.command(str(EMBEDDED), 8001, ["--seed", "3"], is_cpu=True, untie=True)
    folder = Path(own[1])
    config = json.loads((folder / "config.json").read_text())
    laid = json.loads(own[own.index("--hf-overrides") + 1])
    assert laid["tie_word_embeddings"] is False
    assert laid["text_config"]["rope_parameters"]["mrope_section"] == [11, 11, 10]
    assert own[own.index("--served-model-name") + 2] == str(EMBEDDED)
    assert own[-2:] == ["--seed", "3"]
    assert not servable.is_tied(config)
    assert servable.is_tied(json.loads((EMBEDDED / "config.json").read_text())), "left as it is"
    head = load_file(folder / servable.HEAD_FILE)[servable.HEAD]
    weights = load_file(EMBEDDED / "model.safetensors")
    table = next(x for name, x in weights.items() if name.endswith(servable.EMBEDDING))
    assert torch.equal(head, table)
    assert (folder / "tokenizer.json").is_file()
    again = servable.command(str(EMBEDDED), 8001, is_cpu=True, untie=True)
    assert again[1] == own[1]
    assert [*tmp_path.iterdir()] == [folder], "made once"
    assert servable.command(str(EMBEDDED), 8001, is_cpu=True, untie=False)[1] == str(EMBEDDED)


def test_the_file_needs_nothing_but_python() -> None:
    """It runs in the server's environment, where there is no vlrl."""
    code = (
        f"import runpy; f = runpy.run_path({servable.__file__!r});"
        f"print(f['command']('Qwen/Qwen2.5-VL-3B-Instruct', 8000, is_cpu=False, untie=True))"
    )
    run = [sys.executable, "-S", "-P", "-c", code]
    out = subprocess.run(run, env={}, capture_output=True, text=True, check=True).stdout
    assert "'serve', 'Qwen/Qwen2.5-VL-3B-Instruct', '--hf-overrides', '{}'" in out
    assert "float32" not in out


def test_a_head_is_added_once_and_to_the_index(tmp_path: Path) -> None:
    shutil.copy(EMBEDDED / "model.safetensors", tmp_path / "model-1.safetensors")
    names = dict.fromkeys(load_file(tmp_path / "model-1.safetensors"), "model-1.safetensors")
    index = tmp_path / servable.INDEX
    index.write_text(json.dumps({"weight_map": names}))
    for _ in range(2):
        servable.add_head(tmp_path)
    assert json.loads(index.read_text())["weight_map"][servable.HEAD] == servable.HEAD_FILE
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"has 0 tensors named embed_tokens\.weight"):
        servable.add_head(empty)
