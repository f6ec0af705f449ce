"""TRL's SFTTrainer with two more losses: where to look, and what the ink spells."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from trl import SFTTrainer

from vlrl.warmup.model import TAP


class WarmupTrainer(SFTTrainer):
    """Supervised training with the pointer loss and the word loss beside the answers' own.

    The box's digits alone are a faint teacher for a model that starts from random weights.
    The pointer loss tells two attention heads which image tokens hold the element; the word
    loss pulls image tokens towards the embeddings of the words drawn in them. Both use what
    the model has already: nothing is added to it.
    """

    def __init__(
        self,
        *args: Any,
        pointer_weight: float = 0.5,
        word_weight: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.pointer_weight, self.word_weight = pointer_weight, word_weight
        self._seen: Any = None
        network: Any = self.model
        collator: Any = self.data_collator
        self._vocabulary = network.get_input_embeddings()
        network.model.visual.register_forward_hook(self._keep_image_tokens)
        self.image_start = len(collator.head)

    def _keep_image_tokens(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._seen = output.pooler_output

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Cross-entropy of the answers plus the looking loss."""
        index, cover = inputs.pop("pointer_index"), inputs.pop("pointer_cover")
        share = inputs.pop("pointer_share")
        words, word_cover = inputs.pop("word_index"), inputs.pop("word_cover")
        counts = inputs["image_grid_thw"].prod(-1) // 4
        TAP.scores, TAP.enabled = [], True
        try:
            loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        finally:
            TAP.enabled = False
        places = pointer_loss(TAP.scores, index, cover, self.image_start)
        looking = (places * share).sum() / share.sum()
        TAP.scores = []
        embeddings = self._vocabulary.weight
        reading = word_loss(self._seen, counts, embeddings, words, word_cover)
        self._seen = None
        self._metrics["train"]["pointer_loss"].append(places[share == 1].mean().item())
        self._metrics["train"]["word_loss"].append(reading.item())
        return loss + self.pointer_weight * looking + self.word_weight * reading


def pointer_loss(scores: list[Tensor], index: Tensor, cover: Tensor, image_start: int) -> Tensor:
    """-log of the attention on the element, among the image tokens, for every place."""
    losses = []
    for score in scores:
        rows = score[index[:, 0], index[:, 1], image_start : image_start + cover.shape[1]].float()
        rows = rows.masked_fill(cover < 0, -1e4)
        inside = torch.logsumexp(rows.masked_fill(cover <= 0, -1e4), dim=-1)
        losses.append(torch.logsumexp(rows, dim=-1) - inside)
    return torch.stack(losses).mean(dim=0)


def word_loss(
    image_tokens: Tensor,
    counts: Tensor,
    embeddings: Tensor,
    words: Tensor,
    cover: Tensor,
    sharpness: float = 14.0,
) -> Tensor:
    """Contrast both ways: which image tokens show this word, and which word they show."""
    if len(words) == 0:
        return image_tokens.sum() * 0.0
    screens = functional.normalize(image_tokens.float(), dim=-1).split(counts.tolist())
    vocabulary = functional.normalize(embeddings.float(), dim=-1)
    losses = []
    for row, screen in enumerate(screens):
        mine = words[:, 0] == row
        token, inside = words[mine, 1], cover[mine, : len(screen)] > 0
        if len(token) == 0:
            continue
        likeness = sharpness * screen @ vocabulary.T
        where = likeness[:, token].T
        held = torch.logsumexp(where.masked_fill(~inside, -1e4), dim=-1)
        losses.append(torch.logsumexp(where, dim=-1) - held)
        # An element shows a word if any of its image tokens does.
        shown = torch.einsum("wi,iv->wv", inside.float(), likeness.exp()).clamp(min=1e-9).log()
        losses.append(functional.cross_entropy(shown, token, reduction="none"))
    return torch.cat(losses).mean()


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices, AdamW for the rest, in one optimizer."""

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        adam_lr: float,
        weight_decay: float,
    ) -> None:
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
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
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._matrix if group["muon"] else self._adam)(parameter, group)

    def _matrix(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        gradient: Any = parameter.grad
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonalise(gradient.lerp(state["momentum"], group["momentum"]))
        # Scaled to the size of an Adam update, so that one learning rate fits all shapes.
        scale = 0.2 * max(parameter.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * scale)

    def _adam(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        gradient: Any = parameter.grad
        if not state:
            state["first"] = torch.zeros_like(parameter)
            state["second"] = torch.zeros_like(parameter)
            state["count"] = 0
        state["count"] += 1
        low, high = group["betas"]
        state["first"].lerp_(gradient, 1 - low)
        state["second"].lerp_(gradient.square(), 1 - high)
        first = state["first"] / (1 - low ** state["count"])
        second = state["second"] / (1 - high ** state["count"])
        parameter.add_(first / (second.sqrt() + 1e-8), alpha=-group["lr"])


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration: all singular values of the update near one."""
    a, b, c = 3.4445, -4.7750, 2.0315
    work = matrix.bfloat16()
    work = work / work.norm().clamp(min=1e-12)
    wide = work.shape[0] > work.shape[1]
    work = work.T if wide else work
    for _ in range(steps):
        square = work @ work.T
        work = a * work + (b * square + c * square @ square) @ work
    return work.T if wide else work
