"""From losses [B, T] to one number: a sum here, divided by ONE global denominator.

The numerator of every chunk on every rank adds up, and the denominator counts the whole step,
so the gradient is the same for any micro-batch, chunk, accumulation and number of ranks.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

AGGREGATES = ("sequence", "token", "constant")


def numerator(
    loss: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    kind: str,
    row_weight: Float[Tensor, " B"],
    constant_length: int,
) -> Float[Tensor, ""]:
    """The chunk's share of the loss.

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


def share(
    loss: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    kind: str,
    row_weight: Float[Tensor, " B"],
    constant_length: int,
    totals: Float[Tensor, " S"],
    stage: Int[Tensor, "B T"] | None,
) -> Float[Tensor, ""]:
    """The chunk's share of the step's loss, divided by the step's denominators.

    `stage_token`: every action of a stage counts the same, the stages are added: the sum of a
        token average each (Hi-GRPO, arXiv 2512.10949).
    totals: what `denominators` gave for the whole step.
    """
    if kind == "stage_token":
        each = (1 / totals.clamp(min=1)).to(loss)
        if stage is not None:
            each = each[stage.to(loss.device).clamp(max=len(totals) - 1)]
        return numerator(loss * each, mask, "token", row_weight, constant_length)
    return numerator(loss, mask, kind, row_weight, constant_length) / float(totals[0])


def denominators(
    mask: Bool[Tensor, "B T"], kind: str, stage: Int[Tensor, "B T"] | None, num_stages: int
) -> list[float]:
    """What this rank adds to the step's denominators: one number, or one per stage."""
    if kind != "stage_token":
        return [float(denominator(mask, kind))]
    if stage is None:
        return [float(mask.sum()), *[0.0] * (num_stages - 1)]
    at = stage.clamp(max=num_stages - 1)
    return [float((mask & (at == s)).sum()) for s in range(num_stages)]


def denominator(mask: Bool[Tensor, "B T"], kind: str) -> Int[Tensor, ""]:
    """What the sum over all chunks and ranks is divided by: actions, or answers."""
    if kind == "token":
        return mask.sum()
    return mask.any(1).sum()
