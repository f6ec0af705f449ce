"""The weights of a chunk whose answers another distribution drew, and what is logged about them."""

from __future__ import annotations

from torch import Tensor

from vlrl.algo.correction import Mismatch, on_policy_rows, weights
from vlrl.config.schema import CorrectionConfig
from vlrl.log.metrics import Meter


def corrected(
    now_logp: Tensor,
    trainer_logp: Tensor,
    sampler_logp: Tensor,
    mask: Tensor,
    advantage: Tensor,
    options: CorrectionConfig,
    meter: Meter | None,
) -> Tensor:
    """Weights of the tokens' losses, [B, T], without gradient.

    trainer_logp: before the first step; now_logp: under the current weights; advantage: [B] or
    [B, T].
    """
    weight = weights(trainer_logp, sampler_logp, mask, options.level, options.mode, options.limit)
    if options.off_policy_mask is not None:
        wide = advantage if advantage.dim() == 2 else advantage[:, None].expand_as(weight)
        kept = on_policy_rows(now_logp, sampler_logp, mask, wide, options.off_policy_mask)
        weight = weight * kept[:, None]
    if meter is not None:
        found = Mismatch.of(weight, trainer_logp, sampler_logp, mask, options.level)
        _record(meter, found, mask)
    return weight


def _record(meter: Meter, found: Mismatch, mask: Tensor) -> None:
    count = float(mask.sum())
    meter.add_later("correction/weight", found.weight, count)
    meter.effective_later("correction/effective_share", found.weight, found.squared, count)
    meter.add_later("correction/masked_share", found.masked, count)
    meter.add_later("correction/sampler_kl", found.kl, count)
    meter.maximum_later("correction/ratio_max", found.largest_ratio)
