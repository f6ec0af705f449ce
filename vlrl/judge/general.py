"""A judge of a family whose images only its own processor can lay out: every question by itself.

Each question is a prompt of the family's encoder, with its own images. Where the family packs, the
prompts lie end to end in one row; nothing is shared between questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from vlrl.errors import DataError, RewardError
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.known import family_of
from vlrl.judge.local import LocalJudge
from vlrl.judge.question import Ask, ImageBook
from vlrl.judge.yes_token import Reading, problem_of
from vlrl.policy.vision_language.loading import reader_of
from vlrl.policy.vision_language.rows import prefill
from vlrl.policy.vision_language.vision_features import by_size
from vlrl.types import ImagePart, Message, TextPart

if TYPE_CHECKING:
    from vlrl.families.reading import Reader
    from vlrl.judge.interfaces import Processor


class GeneralJudge(LocalJudge):
    """Any family of vlrl/families/known.py; frozen. One copy per rank."""

    def _read_with(
        self, core: Any, processor: Processor, min_pixels: int | None, max_pixels: int | None
    ) -> None:
        self.packs = family_of(core.config).why_not_packed(core.config) is None
        self.reader: Reader = reader_of(processor, core, min_pixels, max_pixels)  # type: ignore[arg-type]

    @property
    def context_tokens(self) -> int | None:
        """Longest question that the model can read; None = not checked."""
        return self.reader.context_tokens

    @torch.no_grad()
    def ask(self, book: ImageBook, asks: Sequence[Ask]) -> list[Reading]:
        """One reading per question, in order."""
        prompts = [self.prompt(ask, book) for ask in asks]
        texts, cut = [""] * len(asks), [False] * len(asks)
        readings: list[Reading] = []
        for members in by_size(range(len(asks)), [p.num_tokens for p in prompts], self.max_tokens):
            some = [prompts[i] for i in members]
            if self.reasoning is not None:
                found = self._reasonings(some, share_prompt=self.packs)
                some = [continued(p, more) for p, (_, more, _) in zip(some, found, strict=True)]
                for i, (text, _, is_cut) in zip(members, found, strict=True):
                    texts[i], cut[i] = text, is_cut
            logp = self.next_log_probs(some)
            yes, no = (logp[:, ids].logsumexp(-1).tolist() for ids in (self.yes, self.no))
            for i, of_yes, of_no in zip(members, yes, no, strict=True):
                readings.append(Reading(of_yes, of_no, texts[i], cut[i]))
                problem = problem_of(readings[-1])
                if problem is not None:
                    raise RewardError(f"judge {self.name}, {asks[i].where}: {problem}")
        return readings

    def prompt(self, ask: Ask, book: ImageBook) -> EncodedPrompt:
        """A question as the family encodes it; raises RewardError where it cannot be read."""

        def opened(part: ImagePart) -> Image.Image:
            return book.images[int(part.path)]

        parts = tuple(
            TextPart(part)
            if isinstance(part, str)
            else ImagePart(str(part), *book.images[part].size)
            for part in ask.parts
        )
        reader = replace(self.reader, opens=opened)
        try:
            prompt = reader.family.encode(reader, (Message("user", parts),))
        except (OSError, ValueError, DataError) as error:
            raise RewardError(f"judge, {ask.where}: {error}") from error
        if self.context_tokens is not None and prompt.num_tokens > self.context_tokens:
            raise RewardError(
                f"judge, {ask.where}: it has {prompt.num_tokens} tokens and the judge reads at "
                f"most {self.context_tokens}; shorten its texts"
            )
        return prompt

    def next_log_probs(self, prompts: Sequence[EncodedPrompt]) -> Tensor:
        """Log-probs of the token after each prompt, from the raw logits, float32 [P, V]."""
        pad = self.processor.tokenizer.pad_token_id
        rows = prefill(self.module, prompts, 1, pad, share_prompt=self.packs)
        return self.module.logits(rows.first).float().log_softmax(-1)

    def greedy(
        self, ask: Ask, book: ImageBook, num_tokens: int, max_tokens: int
    ) -> tuple[list[int], list[Tensor]]:
        """The likeliest tokens, and the log-probs at each position, [V]."""
        prompt = self.prompt(ask, book)
        self._check_room(prompt.num_tokens, num_tokens, max_tokens)
        return self._likeliest(
            lambda said: self.next_log_probs([continued(prompt, said)])[0].cpu(), num_tokens
        )


def continued(prompt: EncodedPrompt, tokens: Sequence[int]) -> EncodedPrompt:
    """A prompt with more text after it."""
    more = torch.tensor(list(tokens), dtype=torch.long)
    steps = (prompt.next_position + torch.arange(len(more))).expand(len(prompt.positions), -1)
    zeros = torch.zeros(len(more), dtype=torch.long)
    return replace(
        prompt,
        input_ids=torch.cat([prompt.input_ids, more]),
        positions=torch.cat([prompt.positions, steps], 1),
        token_inputs={n: torch.cat([x, zeros]) for n, x in prompt.token_inputs.items()},
    )
