"""Models with and without a LoRA adapter, on a real one at tiny size."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from vlrl.families.adapters import adapter_off, base_model, merged


class Plain(nn.Module):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def adapted() -> PeftModel:
    """`Plain` with an adapter that changes its output."""
    torch.manual_seed(0)
    return get_peft_model(
        Plain(), LoraConfig(target_modules=["layer"], init_lora_weights=False, r=2)
    )


def test_a_model_without_adapter_is_its_own_base() -> None:
    model = Plain()
    assert base_model(model) is model
    assert merged(model) is model
    with adapter_off(model, False):
        pass
    with pytest.raises(ValueError, match="Plain has no adapter"):
        adapter_off(model, True)


def test_the_adapter_is_switched_off_only_inside() -> None:
    model, x = adapted(), torch.ones(1, 4)
    plain, changed = base_model(model), model(x)
    assert isinstance(plain, Plain)
    with adapter_off(model, True):
        without = model(x)
    with adapter_off(model, False):
        assert torch.equal(model(x), changed)
    assert torch.equal(model(x), changed)
    assert not torch.allclose(without, changed)


def test_merging_adds_the_adapter_to_the_weights() -> None:
    model, x = adapted(), torch.ones(1, 4)
    changed = model(x)
    whole = merged(model)
    assert isinstance(whole, Plain)
    assert type(whole.layer) is nn.Linear
    assert torch.allclose(whole(x), changed, atol=1e-6)
