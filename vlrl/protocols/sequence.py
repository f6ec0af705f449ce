"""Sequence parallelism, as a policy sees it: ranks that hold one row of a forward pass together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class SequenceGroup(Protocol):
    """The ranks of one row, each with an equal slice of its columns; all of them call these."""

    @property
    def size(self) -> int:
        """Number of ranks, N."""

    @property
    def rank(self) -> int:
        """This one's place among them: it holds the slice of that number."""

    def to_heads(self, x: Tensor, /) -> Tensor:
        """All columns of this rank's heads, [1, L/N, H, D] -> [1, L, H/N, D]; differentiable."""

    def to_columns(self, x: Tensor, /) -> Tensor:
        """The way back, [1, L, H/N, D] -> [1, L/N, H, D]; differentiable."""

    def gathered(self, part: Tensor, sizes: Sequence[int], /) -> Tensor:
        """All ranks' parts side by side, [K, sizes[rank], D] -> [K, sum of sizes, D].

        The gradient of a part is the sum of what all ranks did with it.
        """

    def whole(self, part: Tensor, /) -> Tensor:
        """The sum of all ranks' parts; its gradient is that of this rank's part alone.

        So where every rank computes the same loss from it, the ranks' gradients add up to that of
        one loss.
        """
