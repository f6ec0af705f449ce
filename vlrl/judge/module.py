"""A judge as a module: questions in, log-probs of answers or scores out; wrapped by DeepSpeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vlrl.families.interfaces import VisionLanguageModel
from vlrl.policy.distribution import Sampling
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.packed.plan import PackedGroups

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class JudgeModule(TokenLogProbs):
    """Log-probs of target answers, or with a head one score per question."""

    def __init__(self, model: PreTrainedModel | PeftModel, *, head: bool) -> None:
        super().__init__(model, Sampling(), torch.zeros(0, dtype=torch.long), 1, True)
        self.head = PreferenceHead(self.core) if head else None

    # Its inputs differ from those of the policy whose methods it uses.
    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        positions: Tensor,
        attention_mask: Tensor | None,
        groups: PackedGroups | None,
        pixel_values: Tensor,
        grid_thw: Tensor,
        shown: Tensor,
        predictor: Tensor,
        targets: Tensor,
    ) -> Tensor:
        """Log-probs [A] of `targets` at the positions `predictor` [2, A]; with a head, scores.

        pixel_values, grid_thw: the distinct images. shown: the feature of each image token of the
        row, an index into the features of all of them.
        """
        media = {"pixel_values": pixel_values, "grid_thw": grid_thw}
        features = self.family.features(self.core, media)
        hidden = self.hidden(
            input_ids, positions, attention_mask, groups=groups, features=features, shown=shown
        )[predictor[0], predictor[1]]
        if self.head is not None:
            return self.head(hidden)
        return self.logits(hidden).float().log_softmax(-1).gather(-1, targets[:, None])[:, 0]


class PreferenceHead(nn.Module):
    """A linear score of the last hidden state (Bradley-Terry reward models)."""

    def __init__(self, core: VisionLanguageModel) -> None:
        super().__init__()
        width = core.config.get_text_config().hidden_size
        self.score = nn.Linear(width, 1, dtype=core.get_output_embeddings().weight.dtype)
        nn.init.normal_(self.score.weight, std=1.0 / (width + 1) ** 0.5)
        nn.init.zeros_(self.score.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[A, D] -> [A], float32."""
        return self.score(hidden.to(self.score.weight.dtype))[:, 0].float()
