"""From losses [B, T] to one number: a sum here, divided by ONE global denominator.

The numerator of every chunk on every rank adds up, and the denominator counts the whole step,
so the gradient is the same for any micro-batch, chunk, accumulation and number of ranks.
"""

from __future__ import annotations

from torch import Tensor

AGGREGATES = ("sequence", "token", "constant")


def numerator(
    loss: Tensor, mask: Tensor, kind: str, row_weight: Tensor, constant_length: int
) -> Tensor:
    """The chunk's share of the loss, a scalar; losses [B, T], mask [B, T], row_weight [B].

    `sequence`: every answer counts the same, its actions averaged (GRPO, arXiv 2402.03300).
    `token`: every action of the batch counts the same (DAPO, arXiv 2503.14476, section 3.3).
    `constant`: the sum over an answer divided by a constant (Dr. GRPO, arXiv 2503.20783;
        GUI-G1's release divides by 64).
    """
    per_row = (loss * mask).sum(1)
    if kind == "sequence":
        per_row = per_row / mask.sum(1).clamp(min=1)
    elif kind == "constant":
        per_row = per_row / constant_length
    elif kind != "token":
        raise ValueError(f"unknown aggregate {kind!r}; one of {AGGREGATES}")
    return (per_row * row_weight).sum()


def denominator(mask: Tensor, kind: str) -> Tensor:
    """What the sum over all chunks and ranks is divided by: actions, or answers, a scalar."""
    if kind == "token":
        return mask.sum()
    return mask.any(1).sum()
