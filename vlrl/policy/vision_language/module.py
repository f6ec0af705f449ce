"""The one module that DeepSpeed wraps: vision tower, language model and log-probs of actions.

Everything that an update computes happens in this one forward pass, so that ZeRO-3's gathering
hooks meet the parameters in the same order on every rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vlrl.families.adapters import adapter_off, base_model
from vlrl.families.encoded import Features, Media
from vlrl.families.family import Family
from vlrl.families.interfaces import VisionLanguageModel
from vlrl.families.known import family_of
from vlrl.policy.distribution import HEAD_CHUNK_TOKENS, Sampling, entropy, log_probs
from vlrl.policy.vision_language.group_attention import SharedPrompts
from vlrl.policy.vision_language.head import LanguageHead, Logits, use_in
from vlrl.policy.vision_language.packed.frames import divided_features
from vlrl.policy.vision_language.packed.plan import PackedGroups
from vlrl.policy.vision_language.packed.slices import SlicedGroups
from vlrl.policy.vision_language.vision_features import on_device

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Cache, PreTrainedModel


class TokenLogProbs(nn.Module):
    """Log-probs and entropies of answer tokens under a vision-language model."""

    forbidden: Tensor

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        sampling: Sampling,
        forbidden: Tensor,
        num_head_chunks: int,
        keeps_features: bool = False,
        blank: Media | None = None,
    ) -> None:
        """The model under its sampling distribution.

        keeps_features: the tower is frozen, and prompts hold its features. blank: the smallest
        image, for passes without any; None = the family's own.
        """
        super().__init__()
        config = base_model(model).config
        self.family: Family = family_of(config)
        self.after_head = self.family.after_head(config)
        self.blank = blank
        use_in(base_model(model).get_output_embeddings())
        self.keeps_features = keeps_features
        self.model = model
        self.sampling = sampling
        self.num_head_chunks = num_head_chunks
        self.register_buffer("forbidden", forbidden, persistent=False)

    @property
    def core(self) -> VisionLanguageModel:
        """The transformers model below a possible LoRA wrapper."""
        return base_model(self.model)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        attention_mask: Tensor | None,
        media: Media | None,
        predictor: Tensor,
        targets: Tensor,
        groups: PackedGroups | SlicedGroups | None = None,
        features: Features | None = None,
        shown: Tensor | None = None,
        token_inputs: Mapping[str, Tensor] | None = None,
        reference: bool = False,
        entropy_grad: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the targets, float32 [A] each; shapes as in layout.Layout.

        `reference` disables a LoRA adapter: the model before training.
        """
        with adapter_off(self.model, reference):
            if isinstance(groups, SlicedGroups) and features is None and media is not None:
                features = divided_features(self.family, self.core, media, groups.sequence)
            hidden = self.hidden(
                input_ids, positions, attention_mask, media, None, groups, features, shown,
                token_inputs,
            )  # fmt: skip
            if isinstance(groups, SlicedGroups):

                def score(own: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
                    return self._score(own, targets[which], entropy_grad)

                return groups.scored(hidden, predictor[1], score, entropy_grad=entropy_grad)
            hidden = hidden[predictor[0], predictor[1]]
            return self._score(hidden, targets, entropy_grad)

    def hidden(
        self,
        input_ids: Tensor,
        positions: Tensor,
        attention_mask: Tensor | None,
        media: Media | None = None,
        cache: Cache | None = None,
        groups: PackedGroups | SlicedGroups | SharedPrompts | None = None,
        features: Features | None = None,
        shown: Tensor | None = None,
        token_inputs: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Last hidden states, [R, L, D]. A rank without an image encodes a blank one.

        Without it, ZeRO-3 would gather the vision tower on some ranks only, and with a trained
        tower ZeRO-2 would reduce its gradients on some ranks only: both hang. With precomputed
        features no rank runs the tower here.
        """
        core = self.core
        blank = media is None and cache is None and not self.keeps_features
        if blank:
            own = self.blank or self.family.blank(core, None)
            media = on_device(own, input_ids.device)
        if features is None and media is not None:
            features = self.family.features(core, media)
        outputs = None
        if features is not None and not blank:
            seen = features if shown is None else features.select(shown)
            outputs = self.family.outputs(core, input_ids, seen)
        # transformers passes unknown arguments on to the attention function.
        plan = {} if groups is None else {"groups": groups}
        state = self.family.body(core)(
            input_ids=input_ids,
            position_ids=positions if len(positions) > 1 else positions[0],
            attention_mask=attention_mask,
            mm_encoder_outputs=outputs,
            past_key_values=cache,
            use_cache=cache is not None,
            **plan,
            **(token_inputs or {}),
        ).last_hidden_state
        if blank and features is not None:
            state = state + 0.0 * features.levels.sum()
        return state

    def logits(self, hidden: Tensor) -> Tensor:
        """The language head and what follows it, [A, D] -> float32 [A, V]."""
        return self._finished(self.core.get_output_embeddings()(hidden))

    def _finished(self, logits: Tensor) -> Tensor:
        """What follows the language head, before the softmax."""
        return logits if self.after_head is None else self.after_head(logits)

    def log_probs(self, hidden: Tensor, kinds: Tensor | None = None) -> Tensor:
        """The sampling distribution, [A, D] -> float32 [A, V]."""
        return self.distribution(self.logits(hidden), kinds)

    def distribution(
        self, logits: Tensor, kinds: Tensor | None = None, taken: Tensor | None = None
    ) -> Tensor:
        """The sampling distribution of logits, [A, V] -> float32 [A, V]; `taken` as there.

        kinds: which tokens are allowed, [A]; a plain language model has one kind and ignores it.
        """
        return log_probs(logits, self.sampling, self.forbidden, taken)

    def _score(
        self, hidden: Tensor, targets: Tensor, entropy_grad: bool, kinds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies in chunks: [A, V] for all actions at once would not fit."""
        head = self.core.get_output_embeddings()
        if isinstance(head, LanguageHead):
            num = max(1, -(-len(targets) // HEAD_CHUNK_TOKENS))

            def over(hidden: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
                return self._score_chunks(hidden, targets, entropy_grad, kinds, num, logits)

            return head(hidden, over)
        # An adapter inside the head: under ZeRO-3 each call gathers its weight from all ranks, so
        # the number of calls must be the same on all, for any number of actions.
        num = self.num_head_chunks
        return self._score_chunks(hidden, targets, entropy_grad, kinds, num, head)

    def _score_chunks(
        self,
        hidden: Tensor,
        targets: Tensor,
        entropy_grad: bool,
        kinds: Tensor | None,
        num: int,
        logits: Logits,
    ) -> tuple[Tensor, Tensor]:
        logps, entropies = [], []
        of_kind = [None] * num if kinds is None else kinds.tensor_split(num)
        for rows, wanted, kind in zip(
            hidden.tensor_split(num), targets.tensor_split(num), of_kind, strict=True
        ):
            if torch.is_grad_enabled() and rows.requires_grad:
                # The logits of a chunk are recomputed in the backward pass, not stored.
                logp, ent = checkpoint(
                    self._score_chunk, rows, wanted, entropy_grad, kind, logits,
                    use_reentrant=False,
                )  # fmt: skip
            else:
                logp, ent = self._score_chunk(rows, wanted, entropy_grad, kind, logits)
            logps.append(logp)
            entropies.append(ent)
        return torch.cat(logps), torch.cat(entropies)

    def _score_chunk(
        self,
        hidden: Tensor,
        targets: Tensor,
        entropy_grad: bool,
        kinds: Tensor | None,
        logits: Logits,
    ) -> tuple[Tensor, Tensor]:
        logp = self.distribution(self._finished(logits(hidden)), kinds, targets)
        chosen = logp.gather(-1, targets[:, None])[:, 0]
        with nullcontext() if entropy_grad else torch.no_grad():
            ent = entropy(logp)
        return chosen, ent
