"""Before training: the model is found, its prompts are encoded in shares."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers_flow import CAPTIONS, make_flow, save_flux, save_sd3
from helpers_fork import start_processes
from helpers_prompts import fill_on_rank

from vlrl.errors import ConfigError
from vlrl.policy.flow.captions import BATCH_SIZE


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd3(tmp_path_factory.mktemp("pipelines") / "sd3")


@pytest.mark.ranks
def test_ranks_share_the_encoding_of_prompts(sd3: Path, tmp_path: Path) -> None:
    """Two ranks: each encodes a part, both have everything, bit-equal to one rank."""
    texts = [*CAPTIONS, ""]
    start_processes(fill_on_rank, (2, str(sd3), [*texts, texts[0]], str(tmp_path)), 2)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    batches = [texts[i : i + BATCH_SIZE] for i in range(0, len(texts), BATCH_SIZE)]
    assert len(batches) == 3
    expected = ranks[0]["alone"]
    assert expected["encoded"] == batches
    for way in ("alone", "memory", "shared", "shared again", "apart"):
        for rank in ranks:
            assert rank[way]["found"].keys() == set(texts)
            for text, (context, pooled) in rank[way]["found"].items():
                assert context.dtype == torch.bfloat16
                assert torch.equal(context, expected["found"][text][0]), (way, text)
                assert torch.equal(pooled, expected["found"][text][1]), (way, text)
    for way in ("memory", "shared", "apart"):
        # What one node lacks is encoded once and sent to both.
        assert [rank[way]["encoded"] for rank in ranks] == [batches[::2], batches[1:2]]
        assert [rank[way]["num"] for rank in ranks] == [len(texts)] * 2
    assert [rank["shared again"]["num"] for rank in ranks] == [0, 0]
    assert [rank["shared again"]["encoded"] for rank in ranks] == [[], []]
    for folder in ("shared", "node0", "node1"):
        files = [path.suffix for path in (tmp_path / folder).rglob("*") if path.is_file()]
        assert files == [".safetensors"] * len(texts)
    for rank in ranks:
        # Neither rank waits for the other.
        too_large, different = rank["refused"]
        assert too_large.startswith(f"ConfigError: policy: {len(texts)} encoded prompts take")
        assert different.startswith("ValueError: the ranks prepare different prompts")


def test_a_model_that_is_not_there_is_named(sd3: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.model '.*nowhere' cannot .* no file or folder"):
        make_flow(tmp_path / "nowhere")
    # Neither a folder nor a hub name: diffusers raises ValueError.
    with pytest.raises(ConfigError, match=r"policy\.model 'no such model' cannot be loaded"):
        make_flow(Path("no such model"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"policy\.model '.*empty' cannot be loaded"):
        make_flow(tmp_path / "empty")
    halved = tmp_path / "halved"
    shutil.copytree(sd3, halved, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ConfigError, match=r"policy\.model '.*halved' cannot be loaded"):
        make_flow(halved)


def test_guidance_is_checked_before_any_weights_are_read(sd3: Path, tmp_path: Path) -> None:
    """A folder without weights is enough to detect that the guidance does not fit."""
    flux = save_flux(tmp_path / "flux")
    for folder in (flux, sd3):
        bare = tmp_path / "bare" / folder.name
        shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    for guidance in ("off", "cfg"):
        with pytest.raises(ConfigError, match=rf"policy\.guidance is `{guidance}`.*`distilled`"):
            make_flow(tmp_path / "bare/flux", guidance=guidance)
    with pytest.raises(ConfigError, match="no guidance input"):
        make_flow(tmp_path / "bare/sd3", guidance="distilled")
    index = json.loads((tmp_path / "bare/sd3/model_index.json").read_text(encoding="utf-8"))
    index["_class_name"] = "QwenImagePipeline"
    (tmp_path / "bare/sd3/model_index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ConfigError, match="QwenImagePipeline; flow policies support"):
        make_flow(tmp_path / "bare/sd3")
