"""The one module that DeepSpeed wraps: latents, noise levels and prompts to velocities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vlrl.families.adapters import adapter_off, base_model
from vlrl.families.interfaces import FlowTransformer
from vlrl.policy.flow.families import FlowFamily

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin
    from peft import PeftModel


class Velocity(nn.Module):
    """A flow-matching transformer with its guidance; sampling and update share this forward."""

    def __init__(
        self,
        transformer: ModelMixin | PeftModel,
        family: FlowFamily,
        cfg_scale: float | None,
        distilled_scale: float | None,
        detach_unconditional: bool,
    ) -> None:
        """cfg_scale: None = no classifier-free guidance; distilled_scale: None = no such input."""
        super().__init__()
        self.transformer = transformer
        self.family = family
        self.cfg_scale, self.distilled_scale = cfg_scale, distilled_scale
        self.detach_unconditional = detach_unconditional

    @property
    def core(self) -> FlowTransformer:
        """The diffusers model below a possible LoRA wrapper."""
        return base_model(self.transformer)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        pooled: Tensor,
        negative_context: Tensor | None = None,
        negative_pooled: Tensor | None = None,
        reference: bool = False,
    ) -> Tensor:
        """Velocities, float32 [R, C, H, W].

        x: [R, C, H, W]; sigma: [R]; context: [R, L, D]; pooled: [R, D']; the negatives, [1, ...],
        only with classifier-free guidance. `reference` disables a LoRA adapter.
        """
        dtype = next(self.transformer.parameters()).dtype
        x, context, pooled = x.to(dtype), context.to(dtype), pooled.to(dtype)
        with adapter_off(self.transformer, reference):
            if self.cfg_scale is None:
                return self._velocity(x, sigma, context, pooled)
            assert negative_context is not None
            assert negative_pooled is not None
            R = x.shape[0]
            no_context = negative_context.to(dtype).expand(R, -1, -1)
            no_pooled = negative_pooled.to(dtype).expand(R, -1)
            if self.detach_unconditional:  # in sampling too: same batches, same rounding
                with torch.no_grad():
                    unconditional = self._velocity(x, sigma, no_context, no_pooled)
                conditional = self._velocity(x, sigma, context, pooled)
            else:
                unconditional, conditional = self._velocity(
                    torch.cat([x, x]),
                    torch.cat([sigma, sigma]),
                    torch.cat([no_context, context]),
                    torch.cat([no_pooled, pooled]),
                ).chunk(2)
            return unconditional + self.cfg_scale * (conditional - unconditional)

    def _velocity(self, x: Tensor, sigma: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        out = self.family.velocity(
            self.transformer, x, sigma, context, pooled, self.distilled_scale
        )
        return out.float()
