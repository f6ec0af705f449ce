"""An engine kept at the policy's weights, and caught where it is not.

Before it draws, weights that are newer than its own are published. The first answers after each
publication are scored by the trainer too: an engine that still has an old tensor somewhere, or
another distribution, shows as a gap of log-probs that rounding does not make. Greedy answers have
no such log-probs: some short ones are drawn before them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import torch

from vlrl.errors import EngineError
from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.decode import Decoded
from vlrl.policy.vision_language.samplers.sampler import Engine, Export, mean_gap
from vlrl.policy.vision_language.samplers.stale import CANARY_TOKENS, Suspects, Trial
from vlrl.stats import evenly
from vlrl.types import Sample

log = logging.getLogger(__name__)


class CheckedSampler:
    """A sampler with weights of its own, under the policy's eye."""

    def __init__(
        self,
        inner: Engine,
        current: Callable[[], int],
        export: Export,
        suspects: Suspects,
        *,
        max_gap: float,
        num_rows: int,
    ) -> None:
        """current: the policy's version; the others as in EngineOptions."""
        self.inner, self.current, self.export, self.suspects = inner, current, export, suspects
        self.max_gap, self.num_rows = max_gap, num_rows
        self.is_checked = False
        """Of what was handed over last."""
        self.is_published = False
        self.gap = 0.0
        self._agreed: int | None = None
        """The version whose weights drew as the trainer scores, however often they came since."""
        self._trial: Trial | None = None

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

    def check_room(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """As the engine's."""
        self.inner.check_room(prompt, sample)

    def forget(self) -> None:
        """Publish again before the next answers."""
        self.is_published, self._agreed = False, None

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
        if greedy and self._agreed != self.current():
            places = evenly(range(len(prompts)), self.num_rows)
            self._try([prompts[i] for i in places], [samples[i] for i in places], 1)
            self._update()  # an engine that sleeps has freed its weights
        made = self.inner.sample(
            prompts, samples, num_each, seeds, greedy=greedy, most_tokens=most_tokens
        )
        if not self.is_checked and not greedy:
            self._check(made, prompts, samples, seeds)
        return made

    def _try(
        self, prompts: Sequence[EncodedPrompt], samples: Sequence[Sample], num_each: int
    ) -> None:
        """Draw short answers with new weights and compare them."""
        seeds = range(len(prompts) * num_each)
        made = self.inner.sample(
            prompts, samples, num_each, seeds, greedy=False, most_tokens=CANARY_TOKENS
        )
        self._check(made, prompts, samples, seeds)

    def refresh(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """Publish newer weights, and compare short answers drawn with them at once."""
        self._update()
        if not self.is_checked:
            self._try([prompt], [sample], self.num_rows)

    def begin(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        num_each: int,
        seeds: Sequence[int],
    ) -> Callable[[], Decoded]:
        """Answers of the weights that were published last."""
        return self.inner.begin(prompts, samples, num_each, seeds)

    def _check(
        self,
        made: Decoded,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        seeds: Sequence[int],
    ) -> None:
        num_each = len(seeds) // len(prompts)
        group = torch.arange(len(prompts)).repeat_interleave(num_each)
        whole = TokenTrajectory(made.tokens, made.mask, made.logp, group, tuple(prompts))
        # From all groups, so that pictures and texts are among them.
        some = whole.select(evenly(range(len(whole)), self.num_rows))
        self.gap = mean_gap(self.suspects.score(some), some.logp, some.mask)
        log.info("engine at version %d: mean gap %.2e nats a token", self.current(), self.gap)
        if not self.gap <= self.max_gap:  # nan too
            # An engine that sleeps has freed its weights: nothing can be asked of it.
            is_awake = self.version == self.current()
            what = self.suspects.told(
                self.inner if is_awake else None, some, self.gap, self._trial, samples
            )
            raise EngineError(
                f"after version {self.current()} was published, the engine's log-probs differ from "
                f"the trainer's by {self.gap:.3g} nats a token on average (policy.engine.max_gap "
                f"is {self.max_gap:g}): {what}"
            )
        self.is_checked, self._agreed = True, self.current()
        self._trial = Trial.of(samples[0], tuple(seeds[:num_each]), made)

    def abandon(self) -> None:
        """As the inner sampler does."""
        self.inner.abandon()

    def facts(self) -> Mapping[str, float]:
        """The inner sampler's, and the last gap."""
        return {**self.inner.facts(), "engine/gap": self.gap}
