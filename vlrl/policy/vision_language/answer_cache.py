"""The keys and values of answers while they are written: columns set aside, filled in place.

Nothing is copied from one token to the next, and no address changes while rows and columns are
enough, so that a recorded step (recorded.py) can be played again. Columns are added by doubling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin, LinearAttentionLayer

FIRST_COLUMNS = 64
"""Also a multiple of what fused kernels want of a mask's rows."""


@dataclass
class Columns:
    """Where all rows and layers write next; every row has written equally many tokens."""

    next: Tensor
    """The column of the next token, on the device, [1]; counted up in place."""
    num_columns: int
    """Columns set aside."""
    num_read: int = 0
    """Columns that attention reads, the newest included."""


class AnswerLayer(CacheLayerMixin):
    """One layer's keys and values, [R, heads, columns, D]."""

    is_sliding = False

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Set the first columns aside, now that heads and type are known."""
        shape = (*key_states.shape[:2], self.columns.num_columns)
        # Zeros: what attention reads and masks must be finite.
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write one token's keys and values, [R, heads, 1, D]; returns the columns to read."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        self.keys.index_copy_(2, self.columns.next, key_states)
        self.values.index_copy_(2, self.columns.next, value_states)
        num = self.columns.num_read
        return self.keys[:, :, :num], self.values[:, :, :num]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Sizes of the mask, which a plan of shared prompts replaces."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Columns read so far."""
        return self.columns.num_read

    def get_max_length(self) -> int:
        """None: columns are added."""
        return -1

    def widen(self) -> None:
        """As many columns as `columns` says now; what was written stays."""
        if self.keys is None or self.values is None:
            return
        more = self.columns.num_columns - self.keys.shape[2]
        self.keys = torch.nn.functional.pad(self.keys, (0, 0, 0, more))
        self.values = torch.nn.functional.pad(self.values, (0, 0, 0, more))

    def keep(self, rows: Tensor) -> None:
        """Only these rows, [R']."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


class AnswerCache(Cache):
    """The answers' keys and values in all layers of a model."""

    def __init__(
        self,
        num_layers: int,
        device: torch.device,
        states: Mapping[int, LinearAttentionLayer] | None = None,
    ) -> None:
        """states: the recurrent layers by their index, with the states of the prompts."""
        self.states = dict(states or {})
        start = torch.zeros(1, dtype=torch.long, device=device)
        self.columns = Columns(start, FIRST_COLUMNS)
        own = {i: AnswerLayer(self.columns) for i in range(num_layers) if i not in self.states}
        self.own_layers = list(own.values())
        super().__init__(layers=[self.states.get(i) or own[i] for i in range(num_layers)])

    def fork(self, prompts: Tensor) -> None:
        """Give every row the state of its prompt, [R], an index."""
        for state in self.states.values():
            state.reorder_cache(prompts)  # type: ignore[arg-type]

    def reserve(self, num_columns: int, most: int | None = None) -> bool:
        """Make room for so many columns; returns whether anything moved.

        most: as many as will ever be asked for; None = not known.
        """
        columns = self.columns
        if num_columns <= columns.num_columns:
            return False
        while columns.num_columns < num_columns:
            columns.num_columns *= 2
        if most is not None:
            needed = -(-most // FIRST_COLUMNS) * FIRST_COLUMNS
            columns.num_columns = min(columns.num_columns, needed)
        for layer in self.own_layers:
            layer.widen()
        return True

    def keep(self, rows: Tensor) -> None:
        """Only these rows, [R']."""
        for layer in self.own_layers:
            layer.keep(rows)
        self.fork(rows)
