"""TRL's SFTTrainer with a second loss that teaches two attention heads where to look."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from trl import SFTTrainer

from vlrl.warmup.model import TAP


class WarmupTrainer(SFTTrainer):
    """Supervised training; `pointer_weight` scales the looking loss.

    The box's digits alone are a faint teacher for a model that starts from random weights:
    telling two heads directly which image tokens hold the element makes it find them several
    times sooner. Nothing is added to the model.
    """

    def __init__(
        self,
        *args: Any,
        pointer_weight: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.pointer_weight = pointer_weight
        self.image_start = len(self.data_collator.head)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Cross-entropy of the answers plus the looking loss."""
        index, cover = inputs.pop("pointer_index"), inputs.pop("pointer_cover")
        TAP.scores, TAP.enabled = [], True
        try:
            loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        finally:
            TAP.enabled = False
        looking = pointer_loss(TAP.scores, index, cover, self.image_start)
        TAP.scores = []
        self._metrics["train"]["pointer_loss"].append(looking.item())
        return loss + self.pointer_weight * looking


def pointer_loss(scores: list[Tensor], index: Tensor, cover: Tensor, image_start: int) -> Tensor:
    """-log of the attention that falls on the element, among the image tokens."""
    losses = []
    for score in scores:
        rows = score[index[:, 0], index[:, 1], image_start : image_start + cover.shape[1]].float()
        rows = rows.masked_fill(cover < 0, -1e4)
        inside = torch.logsumexp(rows.masked_fill(cover <= 0, -1e4), dim=-1)
        losses.append((torch.logsumexp(rows, dim=-1) - inside).mean())
    return torch.stack(losses).mean()


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices, AdamW for the rest, in one optimizer."""

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        adam_lr: float,
        weight_decay: float,
    ) -> None:
        matrices, rest = [], []
        for name, parameter in named:
            inner = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if inner else rest).append(parameter)
        super().__init__(
            [
                {"params": matrices, "lr": lr, "muon": True, "weight_decay": weight_decay},
                {"params": rest, "lr": adam_lr, "muon": False, "weight_decay": 0.0},
            ],
            {"momentum": 0.95, "betas": (0.9, 0.98)},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._matrix if group["muon"] else self._adam)(parameter, group)

    def _matrix(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        update = orthogonalise(parameter.grad.lerp(state["momentum"], group["momentum"]))
        # Scaled to the size of an Adam update, so that one learning rate fits all shapes.
        scale = 0.2 * max(parameter.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * scale)

    def _adam(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["first"] = torch.zeros_like(parameter)
            state["second"] = torch.zeros_like(parameter)
            state["count"] = 0
        state["count"] += 1
        low, high = group["betas"]
        state["first"].lerp_(parameter.grad, 1 - low)
        state["second"].lerp_(parameter.grad.square(), 1 - high)
        first = state["first"] / (1 - low ** state["count"])
        second = state["second"] / (1 - high ** state["count"])
        parameter.add_(first / (second.sqrt() + 1e-8), alpha=-group["lr"])


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration: all singular values of the update near one."""
    a, b, c = 3.4445, -4.7750, 2.0315
    work = functional.normalize(matrix.bfloat16(), dim=(0, 1))
    wide = work.shape[0] > work.shape[1]
    work = work.T if wide else work
    for _ in range(steps):
        square = work @ work.T
        work = a * work + (b * square + c * square @ square) @ work
    return work.T if wide else work
