"""Packed groups in a row of which every rank of a sequence group holds a slice of the columns.

    embeddings, features   the whole row, on every rank
    language model         L/N columns a rank, all heads
    its attention          all columns, heads/N a rank, as packed groups always are
    language head          the actions that this rank's columns predict
    log-probs, entropies   all actions, on every rank

Exchanges: vlrl/distributed/sequence.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PretrainedConfig

from vlrl.errors import ConfigError
from vlrl.families.adapters import base_model
from vlrl.families.known import family_of
from vlrl.policy.vision_language.layout import Layout
from vlrl.policy.vision_language.packed.plan import GroupSpan, PackedGroups
from vlrl.protocols.sequence import SequenceGroup

Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class SlicedGroups:
    """The plan of a row whose columns the ranks of a sequence group have divided."""

    row: PackedGroups
    """The whole row, filled up to a multiple of N columns by a prompt that nobody reads."""
    sequence: SequenceGroup
    actions: Tensor
    """Which actions this rank's columns predict, indices into [A]."""

    @classmethod
    def of(cls, rows: Layout, sequence: SequenceGroup) -> SlicedGroups:
        """The plan of a layout of packed groups."""
        assert rows.groups is not None
        spans, length = rows.groups.spans, rows.groups.num_tokens
        if missing := -length % sequence.size:
            spans = (*spans, GroupSpan(length, missing, ()))
        row = PackedGroups(spans)
        holder = rows.predictor[1] // (row.num_tokens // sequence.size)
        return cls(row, sequence, (holder == sequence.rank).nonzero()[:, 0])

    @property
    def num_columns(self) -> int:
        """Columns that each rank holds."""
        return self.row.num_tokens // self.sequence.size

    @property
    def start(self) -> int:
        """This rank's first column."""
        return self.sequence.rank * self.num_columns

    def own(self, x: Tensor, dim: int) -> Tensor:
        """This rank's columns of something that has one entry for each of the real ones."""
        first = min(self.start, x.shape[dim])
        part = x.narrow(dim, first, min(self.num_columns, x.shape[dim] - first))
        after = [0, 0] * (x.dim() - 1 - dim)
        return pad(part, (*after, 0, self.num_columns - part.shape[dim]))

    def own_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The language model's inputs for this rank's columns."""
        found = {**inputs, "inputs_embeds": self.own(inputs["inputs_embeds"], 1)}
        positions = inputs["position_ids"]
        found["position_ids"] = self.own(positions, positions.dim() - 1)
        seen = inputs.get("visual_pos_masks")
        if seen is not None:
            # Qwen3-VL adds features of its tower's earlier layers, [visual tokens, D] each.
            found["visual_pos_masks"] = self.own(seen, 1)
            columns = seen[0].nonzero()[:, 0]
            is_own = (columns >= self.start) & (columns < self.start + self.num_columns)
            levels = inputs["deepstack_visual_embeds"]
            found["deepstack_visual_embeds"] = [level[is_own] for level in levels]
        return found

    def to_heads(self, x: Tensor) -> Tensor:
        """All columns of this rank's heads, [1, H, L/N, D] -> [1, max(1, H/N), L, D].

        Fewer key heads than ranks are repeated, so that each rank has the one of its queries.
        """
        missing = self.sequence.size // x.shape[1]
        if missing > 1:
            x = x.repeat_interleave(missing, 1)
        return self.sequence.to_heads(x.transpose(1, 2)).transpose(1, 2)

    def to_columns(self, x: Tensor) -> Tensor:
        """This rank's columns of all heads, [1, L, H/N, D] -> [1, L/N, H, D]."""
        return self.sequence.to_columns(x)

    def scored(
        self, hidden: Tensor, columns: Tensor, score: Score, *, entropy_grad: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of all actions, [A] each, of which each rank scores its own.

        hidden: [1, L/N, D]; columns: that predict the actions, [A]; score: takes the hidden states
        and indices of some actions.
        """
        own = self.actions.to(columns.device)
        logp, entropy = score(hidden[0, columns[own] - self.start], own)
        part = logp.new_zeros(2, len(columns)).index_copy(1, own, torch.stack([logp, entropy]))
        found = self.sequence.whole(part)
        return found[0], found[1] if entropy_grad else found[1].detach()


def slice_inputs_of(model: nn.Module) -> None:
    """Let the language model of a vision-language model take a slice where its plan says so."""
    language_model: nn.Module = base_model(model).get_decoder()
    language_model.register_forward_pre_hook(_slice_inputs, with_kwargs=True)


def _slice_inputs(
    module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    plan = inputs.get("groups")
    return (args, plan.own_inputs(inputs)) if isinstance(plan, SlicedGroups) else None


def check_heads(config: PretrainedConfig, size: int) -> None:
    """Raise ConfigError where the heads of a model's attention cannot be divided over N ranks.

    Nor can rows that hold one answer each, windows, or a state that goes from token to token.
    """
    if (why := family_of(config).why_not_packed(config)) is not None:
        raise ConfigError(
            f"dist.sequence_parallel divides rows in which answers share their prompt, and {why}; "
            "leave it out"
        )
    if set(config.get_text_config().to_dict().get("layer_types") or ()) - {"full_attention"}:
        raise ConfigError(
            f"dist.sequence_parallel does not work for {config.model_type}: its layers do not all "
            "attend to the whole row; leave it out"
        )
    text = config.get_text_config()
    heads, key_heads = text.num_attention_heads, text.num_key_value_heads
    if heads % size or (key_heads % size and size % key_heads):
        raise ConfigError(
            f"dist.sequence_parallel ({size}) must divide the model's {heads} attention heads, and "
            f"divide its {key_heads} key heads or be a multiple of them"
        )


def num_heads_each(num_heads: int, sequence: SequenceGroup | None) -> int:
    """Heads of attention that a rank has in a forward pass of the update."""
    return num_heads if sequence is None else max(1, num_heads // sequence.size)
