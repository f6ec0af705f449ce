"""The one module that DeepSpeed wraps: text and voxel codes in, log-probs of the actions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlrl.families.adapters import adapter_off
from vlrl.policy.distribution import Sampling, log_probs
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.packed.plan import PackedGroups
from vlrl.policy.voxel_tokens.grammar import CODES, FORCED, FREE, WORDS, MeshTokens

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class VoxelTokenLogProbs(TokenLogProbs):
    """Log-probs under the same constraint as in sampling.

    The vision tower never runs: prompts hold no image, and its weights do not change.
    """

    banned: Tensor
    """Tokens that each kind never has, bool [kinds, V]; what is forced needs no list."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        sampling: Sampling,
        forbidden: Tensor,
        num_head_chunks: int,
        mesh: MeshTokens,
        special: Tensor,
    ) -> None:
        """`special`: special tokens, which words never contain."""
        super().__init__(model, sampling, forbidden, num_head_chunks, keeps_features=True)
        self.mesh = mesh
        size = self.core.get_output_embeddings().out_features  # ZeRO-3 leaves its weight empty
        ids = torch.arange(size)
        is_code = mesh.is_code(ids)
        # Rows of the head above the vocabulary are untrained padding.
        unused = ids > max(mesh.end, mesh.start, mesh.first + mesh.num_codes - 1)
        not_words = is_code | torch.isin(ids, special) | (ids == mesh.end) | unused
        not_words[mesh.start] = False
        banned = torch.zeros(len((WORDS, CODES, FREE, FORCED)), size, dtype=torch.bool)
        banned[WORDS], banned[CODES] = not_words, ~is_code
        banned[FREE, forbidden.cpu()] = True
        self.register_buffer("banned", banned, persistent=False)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        positions: Tensor,
        attention_mask: Tensor | None,
        predictor: Tensor,
        targets: Tensor,
        kinds: Tensor,
        groups: PackedGroups | None = None,
        reference: bool = False,
        entropy_grad: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the targets [A] of these kinds [A], float32 [A] each."""
        with adapter_off(self.model, reference):
            hidden = self.hidden(input_ids, positions, attention_mask, groups=groups)
            hidden = hidden[predictor[0], predictor[1]]
            return self._score(hidden, targets, entropy_grad, kinds)

    def distribution(
        self, logits: Tensor, kinds: Tensor | None = None, taken: Tensor | None = None
    ) -> Tensor:
        """[A, V] -> float32 [A, V], each row over the tokens that its kind allows."""
        assert kinds is not None
        return log_probs(logits, self.sampling, self.banned[kinds], taken)
