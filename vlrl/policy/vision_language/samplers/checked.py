"""An engine kept at the policy's weights, and caught where it is not.

Before it draws, weights that are newer than its own are published. The first answers after each
publication are scored by the trainer too: an engine that still has an old tensor somewhere, or
another distribution, shows as a gap of log-probs that rounding does not make.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vlrl.errors import EngineError
from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.decode import Decoded
from vlrl.policy.vision_language.samplers.sampler import Engine, Export, mean_gap
from vlrl.types import Sample

log = logging.getLogger(__name__)

CANARY_TOKENS = 16
"""Of the answers that are drawn for the comparison alone."""

Score = Callable[[TokenTrajectory], Tensor]
"""Log-probs of some answers under the weights now, [B, T], nats."""


class CheckedSampler:
    """A sampler with weights of its own, under the policy's eye."""

    def __init__(
        self,
        inner: Engine,
        current: Callable[[], int],
        export: Export,
        score: Score,
        *,
        max_gap: float,
        num_rows: int,
    ) -> None:
        """current: the policy's version; the others as in EngineOptions."""
        self.inner, self.current, self.export, self.score = inner, current, export, score
        self.max_gap, self.num_rows = max_gap, num_rows
        self.is_checked = False
        self.is_published = False
        self.gap = 0.0

    @property
    def is_beside(self) -> bool:
        """Whether it draws while the module is trained."""
        return self.inner.is_beside

    @property
    def version(self) -> int | None:
        """Of the weights that it draws with."""
        return self.inner.version

    def publish(self, export: Export, version: int) -> None:
        """Hand the weights over; the next answers are checked."""
        self.inner.publish(export, version)
        self.is_published, self.is_checked = True, False

    def forget(self) -> None:
        """Publish again before the next answers."""
        self.is_published = False

    def _update(self) -> None:
        if not self.is_published or self.version != self.current():
            self.publish(self.export, self.current())

    def sample(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        num_each: int,
        seeds: Sequence[int],
        *,
        greedy: bool,
        most_tokens: int | None = None,
    ) -> Decoded:
        """`num_each` answers to each prompt; raises EngineError for weights that look stale."""
        self._update()
        made = self.inner.sample(
            prompts, samples, num_each, seeds, greedy=greedy, most_tokens=most_tokens
        )
        if not self.is_checked and not greedy:
            self._check(made, prompts, num_each)
            self.is_checked = True
        return made

    def refresh(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """Publish newer weights, and compare short answers drawn with them at once."""
        self._update()
        if not self.is_checked:
            self.sample(
                [prompt],
                [sample],
                self.num_rows,
                range(self.num_rows),
                greedy=False,
                most_tokens=CANARY_TOKENS,
            )

    def begin(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        num_each: int,
        seeds: Sequence[int],
    ) -> Callable[[], Decoded]:
        """Answers of the weights that were published last."""
        return self.inner.begin(prompts, samples, num_each, seeds)

    def _check(self, made: Decoded, prompts: Sequence[EncodedPrompt], num_each: int) -> None:
        group = torch.arange(len(prompts)).repeat_interleave(num_each)
        whole = TokenTrajectory(made.tokens, made.mask, made.logp, group, tuple(prompts))
        # From all groups, so that pictures and texts are among them.
        step = max(1, len(whole) // self.num_rows)
        some = whole.select(list(range(0, len(whole), step))[: self.num_rows])
        self.gap = mean_gap(self.score(some), some.logp, some.mask)
        log.info("engine at version %s: mean gap %.2e nats a token", self.version, self.gap)
        if not self.gap <= self.max_gap:  # nan too
            raise EngineError(
                f"after version {self.version} was published, the engine's log-probs differ from "
                f"the trainer's by {self.gap:.3g} nats a token on average (policy.engine.max_gap "
                f"is {self.max_gap:g}): some of its weights look stale (tied embeddings are, after "
                "a reload on vLLM's CPU build), or it draws from another distribution than the one "
                "that it reports (--logprobs-mode processed_logprobs); what was learnt is saved"
            )

    def facts(self) -> Mapping[str, float]:
        """The inner sampler's, and the last gap."""
        return {**self.inner.facts(), "engine/gap": self.gap}
