"""The one module that DeepSpeed wraps: prompt and image tokens in, log-probs of the tokens out.

Guidance is part of the policy: the tokens are drawn from the softmax of
unconditional + s (conditional - unconditional), so that is the distribution whose log-probs, KL
and entropy the update computes, with gradient through both halves.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vlrl.families.adapters import adapter_off, base_model
from vlrl.policy.distribution import Sampling, entropy, is_one_of, log_probs
from vlrl.policy.image_tokens.loading import Special

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Cache, JanusForConditionalGeneration


class ImageTokenLogProbs(nn.Module):
    """Log-probs and entropies of image tokens under a Janus model."""

    nothing: Tensor
    kept: Tensor

    def __init__(
        self,
        model: JanusForConditionalGeneration | PeftModel,
        sampling: Sampling,
        guidance_scale: float,
        special: Special,
        num_head_chunks: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.sampling = sampling
        self.guidance_scale = guidance_scale
        self.special = special
        self.num_head_chunks = num_head_chunks
        # No image token is forbidden: each has a code.
        self.register_buffer("nothing", torch.zeros(0, dtype=torch.long), persistent=False)
        self.register_buffer("kept", torch.tensor(special.kept), persistent=False)

    @property
    def core(self) -> JanusForConditionalGeneration:
        """The transformers model below a possible LoRA wrapper."""
        return base_model(self.model)

    @property
    def passes(self) -> int:
        """Rows of the language model for each image: two with guidance."""
        return 2 if self.guidance_scale > 1 else 1

    def forward(
        self,
        prompt_ids: Tensor,
        positions: Tensor,
        mask: Tensor,
        tokens: Tensor,
        reference: bool = False,
        entropy_grad: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of image tokens [R, T], float32 [R, T] each.

        prompt_ids, positions, mask: [R, P], padded on the left. `reference` disables a LoRA
        adapter: the model before training.
        """
        R, T = tokens.shape
        first = prompt_ids.shape[1] - 1
        with adapter_off(self.model, reference):
            # The last token predicts nothing, so it needs no column.
            embeds = torch.cat([self.embed_prompt(prompt_ids), self.embed(tokens[:, :-1])], 1)
            steps = torch.arange(1, T, device=tokens.device)
            places = torch.cat([positions, positions[:, -1:] + steps], 1)
            seen = torch.cat([mask, mask.new_ones(R, T - 1)], 1)
            hidden = self.hidden(embeds, places, seen)[:, first:]
            # Both halves of a guided action next to each other: [R T, passes, D].
            hidden = hidden.reshape(self.passes, R * T, -1).transpose(0, 1)
            logp, ent = self._score(hidden, tokens.flatten(), entropy_grad)
        return logp.view(R, T), ent.view(R, T)

    def embed_prompt(self, prompt_ids: Tensor) -> Tensor:
        """Embeddings of prompts [R, P] -> [passes x R, P, D], the unconditional ones last.

        As Janus builds them: of the same length, padding except the begin of text and of image.
        """
        if self.passes == 2:
            empty = torch.where(is_one_of(prompt_ids, self.kept), prompt_ids, self.special.pad)
            prompt_ids = torch.cat([prompt_ids, empty])
        return self.core.model.language_model.get_input_embeddings()(prompt_ids)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings of image tokens, [R, S] -> [passes x R, S, D]."""
        core = self.core.model
        embeds = core.generation_aligner(core.generation_embeddings(tokens))
        return embeds.repeat(self.passes, 1, 1)

    def hidden(
        self, embeds: Tensor, positions: Tensor, mask: Tensor, cache: Cache | None = None
    ) -> Tensor:
        """Last hidden states [passes x R, S, D]; positions [R, S] and mask [R, L] are repeated."""
        return self.core.model.language_model(
            inputs_embeds=embeds,
            position_ids=positions.repeat(self.passes, 1),
            attention_mask=mask.repeat(self.passes, 1),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def log_probs(self, hidden: Tensor, taken: Tensor | None = None) -> Tensor:
        """The sampling distribution, guided: [A, passes, D] -> float32 [A, V]."""
        logits = self.core.model.generation_head(hidden).float()
        if self.passes == 2:
            conditional, empty = logits.unbind(1)
            guided = empty + self.guidance_scale * (conditional - empty)
        else:
            guided = logits[:, 0]
        return log_probs(guided, self.sampling, self.nothing, taken)

    def _score(self, hidden: Tensor, targets: Tensor, entropy_grad: bool) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies in chunks, since [A, V] at once would not fit.

        The number of chunks is the same on every rank.
        """
        logps, entropies = [], []
        for rows, wanted in zip(
            hidden.tensor_split(self.num_head_chunks),
            targets.tensor_split(self.num_head_chunks),
            strict=True,
        ):
            if torch.is_grad_enabled() and rows.requires_grad:
                # The logits of a chunk are recomputed in the backward pass, not stored.
                logp, ent = checkpoint(
                    self._score_chunk, rows, wanted, entropy_grad, use_reentrant=False
                )
            else:
                logp, ent = self._score_chunk(rows, wanted, entropy_grad)
            logps.append(logp)
            entropies.append(ent)
        return torch.cat(logps), torch.cat(entropies)

    def _score_chunk(
        self, hidden: Tensor, targets: Tensor, entropy_grad: bool
    ) -> tuple[Tensor, Tensor]:
        logp = self.log_probs(hidden, targets)
        chosen = logp.gather(-1, targets[:, None])[:, 0]
        with nullcontext() if entropy_grad else torch.no_grad():
            ent = entropy(logp)
        return chosen, ent
