"""TRL's SFTTrainer with two more losses: where to look, and what the drawn text spells."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from trl import SFTTrainer

from scripts.assets.models.gui_and_video.model import TAP


class WarmupTrainer(SFTTrainer):
    """Supervised training with the pointer loss and the word loss next to the answers' own.

    The box's digits alone are a weak signal for a model that starts from random weights.
    The pointer loss trains two attention heads to look at the element's image tokens; the word
    loss pulls image tokens towards the embeddings of the words drawn in them. Neither adds
    parameters to the model.
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
        """Cross-entropy of the answers plus the pointer loss and the word loss."""
        index, cover = inputs.pop("pointer_index"), inputs.pop("pointer_cover")
        share = inputs.pop("pointer_share")
        words, word_cover = inputs.pop("word_index"), inputs.pop("word_cover")
        grids = inputs["image_grid_thw" if "image_grid_thw" in inputs else "video_grid_thw"]
        counts = grids.prod(-1) // 4
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
    """Contrastive in both directions: which image tokens show this word, and which word they show."""
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


class MuonWithAdam(torch.optim.Optimizer):
    """torch's Muon for the matrices and AdamW for the rest, as the one optimizer TRL takes."""

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
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            # Updates as large as Adam's, so that one learning rate fits all shapes.
            torch.optim.Muon(
                matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
        )
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            # Loading a state, as accelerate does at the start, replaces groups and state here.
            part.param_groups, part.state = [group], self.state
            part.step()
