"""What a rank of a run with divided rows computes, written down for the tests."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import save_file

from vlrl.types import Sample, TextPart


def noting_columns_and_weights(trainer: Any) -> None:
    """Writes down the columns of each update pass through the language model; then the weights."""
    columns: list[int] = []
    model = trainer.policy.module.core.get_decoder()

    def note(module: Any, args: Any, inputs: dict[str, Any], output: Any) -> None:
        if torch.is_grad_enabled():
            columns.append(output.last_hidden_state.shape[1])

    model.register_forward_hook(note, with_kwargs=True)
    plain = trainer.train

    def train() -> None:
        plain()
        rank = trainer.world.rank
        (trainer.folder / f"columns{rank}.json").write_text(json.dumps(columns), encoding="utf-8")
        with trainer.engine.weights(trainer.folder) as weights:
            if trainer.world.is_main:
                kept = {name: tensor.clone() for name, tensor in weights.items()}
                save_file(kept, trainer.folder / "weights.safetensors")

    trainer.train = train


def text_only_for_some(trainer: Any) -> None:
    """Every other sample's prompt loses its image, so that some ranks have none in a pass."""
    encoder = trainer.policy.encoder
    plain = encoder.encode

    def encode(sample: Sample) -> Any:
        if int(sample.id[1:]) % 2:
            return plain(sample)
        message = sample.prompt[-1]
        words = tuple(part for part in message.parts if isinstance(part, TextPart))
        return plain(replace(sample, prompt=(*sample.prompt[:-1], replace(message, parts=words))))

    encoder.encode = encode
