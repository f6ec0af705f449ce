"""The policy's own loop as a sampler: exact, and with shared prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.vision_language.decode import Decoded, decode
from vlrl.policy.vision_language.samplers.sampler import Export
from vlrl.types import Sample

if TYPE_CHECKING:
    from vlrl.policy.vision_language.policy import VisionLanguagePolicy


class OwnSampler:
    """Draws with the module that is trained."""

    version: int | None = None
    is_beside = False

    def __init__(self, policy: VisionLanguagePolicy) -> None:
        self.policy = policy

    def publish(self, export: Export, version: int) -> None:
        """Nothing to do: the weights are the policy's."""

    def check_room(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """Nothing to do: there is no other context than the model's."""

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
        """`num_each` answers to each prompt."""
        policy = self.policy
        return decode(
            policy.module,
            prompts,
            num_each,
            seeds,
            share_prompt=policy.share_prompt,
            max_new_tokens=most_tokens or policy.options.max_new_tokens,
            stop_tokens=policy.stop_tokens.to(policy.device),
            pad_id=policy.pad_id,
            greedy=greedy,
            stops=policy.stops,
        )

    def forget(self) -> None:
        """Nothing to do, as above."""

    def refresh(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """Nothing to do, as above."""

    def begin(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        num_each: int,
        seeds: Sequence[int],
    ) -> Callable[[], Decoded]:
        """All is drawn before this returns."""
        made = self.sample(prompts, samples, num_each, seeds, greedy=False)
        return lambda: made

    def abandon(self) -> None:
        """Nothing is under way between calls."""

    def facts(self) -> Mapping[str, float]:
        """Nothing: the trainer times sampling itself."""
        return {}
