"""The distribution that tokens are sampled from, the same in sampling and in the update.

Log-probs are those of this distribution: temperature, top-k, top-p and forbidden tokens included.
A ratio of log-probs at another temperature or on another support would not be 1 on the first
update, and would bias every later one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HEAD_CHUNK_TOKENS = 2048
"""Actions whose distributions are in memory at a time in an update."""


@dataclass(frozen=True)
class Sampling:
    """How logits become a distribution."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


def log_probs(
    logits: Tensor, sampling: Sampling, forbidden: Tensor, taken: Tensor | None = None
) -> Tensor:
    """Log-probs of the sampling distribution, [A, V] -> float32 [A, V]; -inf off its support.

    `forbidden` names tokens that are never sampled, [N], or says so of every action, bool [A, V].
    `taken` [A] keeps those tokens on the support: after an update a token may have left the top-p
    set that it was drawn from.
    """
    logits = logits.float() / sampling.temperature
    if forbidden.dtype == torch.bool:
        logits = logits.masked_fill(forbidden, float("-inf"))
    elif forbidden.numel():
        logits = logits.index_fill(-1, forbidden, float("-inf"))
    keep = _support(logits, sampling)
    if keep is not None:
        if taken is not None:
            keep.scatter_(-1, taken[:, None], True)
        logits = logits.masked_fill(~keep, float("-inf"))
    return torch.log_softmax(logits, dim=-1)


def _support(logits: Tensor, sampling: Sampling) -> Tensor | None:
    """The tokens that top-k and then top-p leave, bool [A, V]; None where both are off."""
    if not sampling.top_k and sampling.top_p >= 1.0:
        return None
    with torch.no_grad():
        keep = torch.ones_like(logits, dtype=torch.bool)
        if sampling.top_k:
            k = min(sampling.top_k, logits.shape[-1])
            keep = logits >= logits.topk(k, dim=-1).values[..., -1:]
        if sampling.top_p < 1.0:
            probs = logits.masked_fill(~keep, float("-inf")).softmax(-1)
            ordered, order = probs.sort(dim=-1, descending=True)
            # A token stays while the mass before it is below top_p, so at least one always does.
            stays = ordered.cumsum(-1) - ordered < sampling.top_p
            keep = keep & torch.zeros_like(keep).scatter(-1, order, stays)
        return keep


def entropy(logp: Tensor) -> Tensor:
    """Entropy of distributions from their log-probs, [A, V] -> [A], nats; -inf counts as 0."""
    return -(logp.exp() * logp.clamp(min=-1e4)).sum(-1)


def is_one_of(tokens: Tensor, listed: Tensor) -> Tensor:
    """Whether each token [...] is among those listed [N].

    Without `torch.isin`, which sorts where N is large beside the number of tokens: the host would
    wait for that, and no CUDA graph could hold it.
    """
    return (tokens[..., None] == listed).any(-1)


def draw(logp: Tensor, uniform: Tensor) -> Tensor:
    """Tokens by inverse transform: one uniform number in [0, 1) per row, [A, V] x [A] -> [A].

    With one number per row a draw depends on its own seed alone, not on the rest of the batch.
    """
    cumulative = logp.double().exp().cumsum(-1)
    point = uniform.double()[:, None] * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, point, right=True)[:, 0]
    # Rounding may step past the last token that has any probability.
    last = logp.shape[-1] - 1 - logp.isfinite().flip(-1).int().argmax(-1)
    return torch.minimum(token, last)
