"""What LoRA runs leave behind, of every policy: loaded again, merged, and read by every command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers_flow import flow_run, make_flow, save_flux, save_sd3, write_captions
from helpers_janus import make_janus, save_janus
from helpers_judge import group, with_words
from helpers_voxels import make_voxel_policy, save_voxel_model, voxel_run
from helpers_voxels import samples as shapes
from safetensors.torch import load_file, save_file
from test_lora_exports import trained
from test_policy import make_policy, problems

from vlrl.cli.main import main
from vlrl.errors import ConfigError
from vlrl.families.adapters import adapter_base
from vlrl.families.pipeline_adapters import pipeline_base
from vlrl.reward.tree import build_reward

ROOT = Path(__file__).resolve().parent.parent
LORA = {"rank": 2, "alpha": 8}
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "adapter_base.json",
                 "pytorch_lora_weights.safetensors"}  # fmt: skip


@dataclass
class Kind:
    """A policy's models, and what to sample for it where that is cheap."""

    base: Callable[[Path], Path]
    make: Callable[..., Any]
    asked: Callable[[], Any] | None = None
    """Samples on which log-probs are compared; test_lora_exports.py does it for the others."""


def weights_of(policy: Any) -> dict[str, torch.Tensor]:
    return {name: x.detach() for name, x in policy.module.named_parameters()}


@pytest.fixture(scope="module")
def kinds(checkpoints: dict[str, Path], screens: Path) -> dict[str, Kind]:
    def vision(folder: Path, **options: Any) -> Any:
        return make_policy(folder, train_vision=False, **options)

    def flux(folder: Path, **options: Any) -> Any:
        return make_flow(folder, guidance="distilled", **options)

    return {
        "qwen2_5_vl": Kind(
            lambda _: checkpoints["qwen2_5_vl"], vision, lambda: problems(screens, 1)
        ),
        "sd3": Kind(save_sd3, make_flow),
        "flux": Kind(save_flux, flux),
        "janus": Kind(save_janus, make_janus),
        "voxels": Kind(save_voxel_model, make_voxel_policy, lambda: shapes("a red chair")),
    }


KINDS = ("qwen2_5_vl", "sd3", "flux", "janus", "voxels")


def exported(policy: Any, folder: Path) -> Path:
    """The adapter of a policy after some training."""
    trained(policy.module)
    weights = {name: x.detach() for name, x in policy.module.named_parameters()}
    policy.save_pretrained(str(folder), weights)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_an_adapter_is_loaded_again_and_merged(
    kinds: dict[str, Kind], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = kinds[name]
    base = kind.base(tmp_path / "base")
    policy = kind.make(base, lora=LORA)
    adapter = exported(policy, tmp_path / "model")
    (adapter / "vlrl.json").write_text('{"profile": "gta1"}')
    again, plain = weights_of(kind.make(adapter)), weights_of(kind.make(base))
    assert again.keys() == plain.keys()
    assert max((again[key] - plain[key]).abs().max() for key in plain) > 0.01

    out = tmp_path / "merged"
    assert main(["merge", str(adapter), "--out", str(out)]) == 0
    assert f"{out}: {base} with {adapter} in its weights" in capsys.readouterr().out
    files = {path.name for path in out.rglob("*")}
    assert not files & ADAPTER_FILES
    assert "vlrl.json" in files
    assert adapter_base(str(out)) is None
    assert pipeline_base(str(out)) is None
    assert not list(tmp_path.glob(".merged*"))
    merged = kind.make(out)
    for key, value in weights_of(merged).items():
        torch.testing.assert_close(value, again[key], atol=1e-6, rtol=0)
    if kind.asked is not None:
        _, trajectory = policy.sample(kind.asked(), 1, seed=3)
        there, here = (one.evaluate(trajectory).logp.detach() for one in (policy, merged))
        torch.testing.assert_close(there, here, atol=1e-4, rtol=0)


def test_a_merged_model_keeps_its_number_format(tmp_path: Path) -> None:
    base = save_sd3(tmp_path / "base")
    (file,) = (base / "transformer").glob("*.safetensors")
    save_file({key: x.bfloat16() for key, x in load_file(file).items()}, file)
    adapter = exported(make_flow(base, lora=LORA), tmp_path / "model")
    assert main(["merge", str(adapter), "--out", str(tmp_path / "merged")]) == 0
    (file,) = (tmp_path / "merged/transformer").glob("*.safetensors")
    assert {x.dtype for x in load_file(file).values()} == {torch.bfloat16}


def test_embeddings_beside_an_adapter_are_read(adapters: dict[str, Path], tmp_path: Path) -> None:
    adapter, file = adapters["qwen2_5_vl"], "adapter_model.safetensors"
    wanted = weights_of(make_policy(adapter, train_vision=False))
    more = copied(adapter, tmp_path / "more", "adapter_config.json")
    embeddings = wanted["model.model.language_model.embed_tokens.weight"]
    name = "base_model.model.model.language_model.embed_tokens.weight"
    save_file({**load_file(adapter / file), name: embeddings.contiguous()}, more / file)
    here = weights_of(make_policy(more, train_vision=False))
    assert all(torch.equal(here[key], x) for key, x in wanted.items())


@pytest.fixture(scope="module")
def adapters(kinds: dict[str, Kind], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An adapter of a vision-language model and one of a pipeline, each with its base."""
    made = {}
    for name in ("qwen2_5_vl", "sd3"):
        folder = tmp_path_factory.mktemp(name)
        base = kinds[name].base(folder / "base")
        made[name] = exported(kinds[name].make(base, lora=LORA), folder / "model")
    return made


def copied(adapter: Path, folder: Path, file: str, **changes: Any) -> Path:
    """The adapter with another description of its model."""
    import shutil

    shutil.copytree(adapter, folder)
    found = json.loads((adapter / file).read_text())
    (folder / file).write_text(json.dumps({**found, **changes}))
    return folder


@pytest.mark.parametrize("name", ["qwen2_5_vl", "sd3"])
def test_mistakes_are_named(
    adapters: dict[str, Path],
    checkpoints: dict[str, Path],
    kinds: dict[str, Kind],
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    adapter, kind = adapters[name], kinds[name]
    file, key, weights = (
        ("adapter_config.json", "base_model_name_or_path", "adapter_model.safetensors")
        if name == "qwen2_5_vl"
        else ("adapter_base.json", "base", "pytorch_lora_weights.safetensors")
    )

    def refused(folder: Path, message: str, out: str = "merged") -> None:
        assert main(["merge", str(folder), "--out", str(tmp_path / out)]) == 2
        assert message in capsys.readouterr().err
        assert not list(tmp_path.glob(".merged*"))

    refused(tmp_path / "none", "there is no folder")
    refused(checkpoints["qwen2_5_vl"], "holds no adapter (adapter_config.json or adapter_base.json")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    refused(adapter, "is not empty; choose another folder", "full")
    lost = copied(adapter, tmp_path / "lost", file, **{key: str(tmp_path / "gone")})
    refused(lost, f"there is no file or folder '{tmp_path / 'gone'}'")
    nameless = copied(adapter, tmp_path / "nameless", file, **{key: None})
    if name == "qwen2_5_vl":
        refused(nameless, "does not say which model it belongs to")
    other = copied(adapter, tmp_path / "other", file)
    tensors = load_file(other / weights)
    renamed = {key.replace("layers.0", "layers.7").replace("blocks.0", "blocks.7"): x
               for key, x in tensors.items()}  # fmt: skip
    save_file(renamed, other / weights)
    refused(other, "does not fit its")
    with pytest.raises(ConfigError, match="does not fit its"):
        kind.make(other)
    (other / weights).write_bytes(b"\0" * 40)
    refused(other, "does not fit its")
    (other / weights).unlink()
    refused(other, "has no weights" if name == "qwen2_5_vl" else "does not fit its")


def test_evaluation_and_judges_read_an_adapter(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"], lora=LORA, train_vision=False)
    adapter = exported(policy, tmp_path / "model")
    command = ["eval", "--benchmark", "custom", "--data", str(screens), "--format", "screens"]
    command += ["--model", str(adapter), "--limit", "2", "--max-new-tokens", "4", "--quiet"]
    assert main([*command, "--out", str(tmp_path / "eval")]) == 0
    said = capsys.readouterr().out
    assert "profile: qwen2_5_vl (from its model_type 'qwen2_5_vl'" in said
    assert len((tmp_path / "eval/predictions.jsonl").read_text().splitlines()) == 2

    judge = with_words(checkpoints["qwen2_5_vl"], tmp_path / "judge")
    trained_judge = exported(make_policy(judge, lora=LORA, train_vision=False), tmp_path / "lora")
    rollouts = group("a thing", (1, 2))
    options = {"use": "yes_token", "device": "cpu"}
    scores = [
        [score.value for score in build_reward({**options, "judge": str(folder)})(rollouts)]
        for folder in (judge, trained_judge)
    ]
    assert scores[0] != pytest.approx(scores[1], abs=1e-6)


def test_the_scripts_read_an_adapter(
    adapters: dict[str, Path], kinds: dict[str, Kind], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import evaluate_images
    import evaluate_meshes

    def run(script: Any, config: dict[str, Any], model: Path, *more: str) -> dict[str, Any]:
        file, out = tmp_path / "config.yaml", tmp_path / "found.json"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        words = [script.__name__, "--config", str(file), "--split", "train", "--limit", "2"]
        words += ["--model", str(model), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [*words, *more])
        assert script.main() == 0
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found

    sd3 = adapters["sd3"]
    data = write_captions(tmp_path)
    config = flow_run(sd3.parent / "base", data, tmp_path, "flow")
    config["reward"] = {"use": "jpeg_compressibility"}
    assert run(evaluate_images, config, sd3)["model"] == str(sd3)
    base = save_voxel_model(tmp_path / "voxels")
    voxels = exported(make_voxel_policy(base, lora=LORA), tmp_path / "voxel_lora")
    lines = tmp_path / "shapes.jsonl"
    lines.write_text('{"id": "a", "caption": "a chair"}\n{"id": "b", "caption": "a box"}\n')
    shape_run = voxel_run(base, lines, tmp_path, "shapes")
    assert run(evaluate_meshes, shape_run, voxels)["num_samples"] == 2
