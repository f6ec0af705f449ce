"""What a LoRA run exports is a model that policies, evaluation and judges load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers_flow import make_flow, samples, save_sd3
from helpers_janus import make_janus, save_janus
from helpers_janus import samples as captions
from test_policy import make_policy, problems

from vlrl.errors import ConfigError
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup


def trained(module: torch.nn.Module) -> None:
    """Adapters as after some training: no longer zero."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)


def test_an_exported_language_adapter_is_a_model(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    policy = make_policy(
        checkpoints["qwen2_5_vl"], lora={"rank": 2, "alpha": 4}, train_vision=False
    )
    trained(policy.module)
    weights = {n: p.detach() for n, p in policy.module.named_parameters()}
    policy.save_pretrained(str(tmp_path / "model"), weights)
    again = VisionLanguagePolicy(
        VisionLanguageConfig(model=str(tmp_path / "model"), max_new_tokens=6, train_vision=False),
        PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096),
    )
    trainable = {n for n, p in again.module.named_parameters() if p.requires_grad}
    assert trainable == {n for n, _ in again.module.named_parameters() if ".visual." not in n}
    asked = problems(screens, 2)
    _, trajectory = policy.sample(asked, 2, seed=3)
    there, here = policy.evaluate(trajectory).logp, again.evaluate(trajectory).logp
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="is a LoRA adapter"):
        make_policy(tmp_path / "model", lora={"rank": 2, "alpha": 4})


def test_an_exported_language_adapter_judges(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from vlrl.judge.local import load_vlm

    policy = make_policy(
        checkpoints["qwen2_5_vl"], lora={"rank": 2, "alpha": 4}, train_vision=False
    )
    trained(policy.module)
    weights = {n: p.detach() for n, p in policy.module.named_parameters()}
    policy.save_pretrained(str(tmp_path / "model"), weights)
    model, _ = load_vlm(str(tmp_path / "model"), torch.float32)
    plain, _ = load_vlm(str(checkpoints["qwen2_5_vl"]), torch.float32)
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(
        dict(model.named_parameters())[name], dict(plain.named_parameters())[name]
    )


def test_an_exported_flow_adapter_is_a_model(tmp_path: Path) -> None:
    base = save_sd3(tmp_path / "base")
    policy = make_flow(base, lora={"rank": 4, "alpha": 8})
    trained(policy.module)
    weights = {n: p.detach() for n, p in policy.module.named_parameters()}
    policy.save_pretrained(str(tmp_path / "model"), weights)
    again = make_flow(tmp_path / "model")
    assert all(p.requires_grad for p in again.module.parameters())
    asked = samples()
    one, _ = policy.sample(asked, 1, seed=1, greedy=True)
    two, _ = again.sample(asked, 1, seed=1, greedy=True)
    for a, b in zip(one, two, strict=True):
        assert abs(a.output.astype(int) - b.output.astype(int)).max() <= 2
    with pytest.raises(ConfigError, match="is a LoRA adapter"):
        make_flow(tmp_path / "model", lora={"rank": 4, "alpha": 8})


def test_an_exported_image_token_adapter_is_a_model(tmp_path: Path) -> None:
    base = save_janus(tmp_path / "base")
    policy = make_janus(base, lora={"rank": 4, "alpha": 8})
    trained(policy.module)
    weights = {n: p.detach() for n, p in policy.module.named_parameters()}
    policy.save_pretrained(str(tmp_path / "model"), weights)
    again = make_janus(tmp_path / "model")
    assert any(p.requires_grad for p in again.module.parameters())
    asked = captions("a red cup")
    _, trajectory = policy.sample(asked, 2, seed=3)
    there, here = policy.evaluate(trajectory).logp, again.evaluate(trajectory).logp
    plain = make_janus(base).evaluate(trajectory).logp
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, here, atol=1e-3)
    with pytest.raises(ConfigError, match="is a LoRA adapter"):
        make_janus(tmp_path / "model", lora={"rank": 4, "alpha": 8})
