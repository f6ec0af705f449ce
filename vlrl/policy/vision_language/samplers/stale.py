"""Which weights of an engine look stale, once its log-probs have turned out wrong.

Found by asking again, so it is said only where an answer shows it:

    it draws the same as before the publication               all
    its log-probs are those of the checkpoint's head          the head, which tied embeddings share
    answers to a prompt's texts without its pictures agree    the vision tower
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils.hub import cached_file

from vlrl.errors import DataError, EngineError
from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.decode import Decoded
from vlrl.policy.vision_language.head import LanguageHead
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.samplers.sampler import Engine, mean_gap
from vlrl.policy.vision_language.samplers.servable import EMBEDDING, HEAD
from vlrl.types import Message, Sample, TextPart

CANARY_TOKENS, NUM_ANSWERS = 16, 4
"""Of answers that are drawn for a comparison alone, and how many."""
SAME, AGREES = 0.1, 0.25
"""Shares of the gap: log-probs closer than these are the same, or agree; kernels round."""

Score = Callable[[TokenTrajectory], Tensor]
"""Log-probs of some answers under the weights now, [B, T], nats."""


@dataclass(frozen=True)
class Trial:
    """The beginning of one group's answers, which an engine with seeds can repeat."""

    sample: Sample
    seeds: tuple[int, ...]
    tokens: Tensor
    """[G, T]"""
    mask: Tensor
    logp: Tensor
    """[G, T], nats."""

    @classmethod
    def of(cls, sample: Sample, seeds: tuple[int, ...], made: Decoded) -> Trial:
        """The first group of what was made."""
        num = len(seeds)
        width = min(CANARY_TOKENS, int(made.mask[:num].sum(1).max()))  # other groups are longer
        part = slice(num), slice(width)
        return cls(sample, seeds, made.tokens[part], made.mask[part], made.logp[part])

    def is_repeated(self, made: Decoded, within: float) -> bool:
        """Whether these are the same tokens, and their log-probs within so many nats a token."""
        other = Trial.of(self.sample, self.seeds, made)
        if other.mask.shape != self.mask.shape or not torch.equal(other.mask, self.mask):
            return False
        same = torch.equal(other.tokens[self.mask], self.tokens[self.mask])
        return same and mean_gap(other.logp, self.logp, self.mask) <= within


@dataclass(frozen=True)
class Suspects:
    """Asks an engine and the trainer again to tell which weights look stale."""

    encode: Callable[[Sample], EncodedPrompt]
    score: Score
    module: TokenLogProbs
    max_gap: float
    """Nats a token; below it, log-probs may agree."""
    checkpoint: Callable[[], Path | None]
    """The files that the engine was started with; None: they or the module are not here whole."""

    def told(
        self,
        engine: Engine | None,
        wrong: TokenTrajectory,
        gap: float,
        before: Trial | None,
        samples: Sequence[Sample],
    ) -> str:
        """What looks stale, for a message.

        engine: None where it cannot be asked. wrong: answers with that gap, to some of `samples`.
        before: drawn with the weights before these.
        """
        by_text, right = None, min(AGREES * gap, self.max_gap)
        with suppress(EngineError, DataError):
            if self._is_unchanged(engine, before, SAME * gap):
                return "all of its weights look stale: it draws what it drew before"
            by_head = self._scored_by_first_head(wrong)
            if by_head is not None and mean_gap(by_head, wrong.logp, wrong.mask) < right:
                return (
                    "its head looks stale: it is the checkpoint's (tied embeddings are, after "
                    "a reload on vLLM's CPU build: `vlrl serve-vllm` serves a head of its own)"
                )
            plain = next((one for one in map(without_pictures, samples) if one is not None), None)
            if engine is not None and plain is not None:
                by_text = self._gap(engine, plain)
        if by_text is not None and by_text < right:
            return (
                "its vision tower looks stale, or what joins it to the language model: answers to "
                f"a text without pictures agree ({by_text:.2g} nats)"
            )
        also = "" if by_text is None else f" (answers to a text alone differ by {by_text:.2g})"
        return (
            f"some of its weights look stale{also}, or it draws from another distribution than the "
            "one that it reports (--logprobs-mode processed_logprobs)"
        )

    def _is_unchanged(self, engine: Engine | None, before: Trial | None, within: float) -> bool:
        if engine is None or before is None:
            return False
        sample, seeds = before.sample, before.seeds
        made = engine.sample(
            [self.encode(sample)], [sample], len(seeds), seeds,
            greedy=False, most_tokens=CANARY_TOKENS,
        )  # fmt: skip
        return before.is_repeated(made, within)

    def _scored_by_first_head(self, trajectory: TokenTrajectory) -> Tensor | None:
        """Log-probs with the checkpoint's head over the embeddings of now, [B, T], nats."""
        head = self.module.core.get_output_embeddings()
        folder = self.checkpoint()
        first = None if folder is None else head_of(folder)
        own = head.weight
        if first is None or not isinstance(head, LanguageHead) or first.shape != own.shape:
            return None
        head.weight = nn.Parameter(first.to(own), requires_grad=False)
        try:
            return self.score(trajectory)
        finally:
            head.weight = own

    def _gap(self, engine: Engine, sample: Sample) -> float:
        """Of short answers to a sample, nats a token."""
        prompt, seeds = self.encode(sample), range(NUM_ANSWERS)
        made = engine.sample(
            [prompt], [sample], len(seeds), seeds, greedy=False, most_tokens=CANARY_TOKENS
        )
        group = torch.zeros(len(seeds), dtype=torch.long)
        whole = TokenTrajectory(made.tokens, made.mask, made.logp, group, (prompt,))
        return mean_gap(self.score(whole), made.logp, made.mask)


def without_pictures(sample: Sample) -> Sample | None:
    """A sample's texts alone; None where it has no pictures, or no texts."""
    messages = []
    for message in sample.prompt:
        texts = tuple(part for part in message.parts if isinstance(part, TextPart))
        messages += [Message(message.role, texts)] if texts else []
    same = sum(len(message.parts) for message in sample.prompt)
    num = sum(len(message.parts) for message in messages)
    return replace(sample, prompt=tuple(messages)) if 0 < num < same else None


def head_of(folder: Path) -> Tensor | None:
    """The head of a checkpoint's files, or the embeddings that it is tied to; None: not there."""
    for ending in (HEAD, EMBEDDING):
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, "pt") as opened:
                name = next((one for one in opened.keys() if one.endswith(ending)), None)  # noqa: SIM118
                if name is not None:
                    return opened.get_tensor(name)
    return None


def files_of(name: str, revision: str | None) -> Path | None:
    """The folder of a checkpoint, of a hub's in the cache; None where it is not on this machine."""
    try:
        found = cached_file(name, "config.json", revision=revision or "main", local_files_only=True)
    except OSError:
        return None
    return None if found is None else Path(found).parent
