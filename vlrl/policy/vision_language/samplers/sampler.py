"""What the policy asks of whoever draws its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from vlrl.errors import DataError
from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.vision_language.decode import Decoded
from vlrl.types import Sample


class Export(Protocol):
    """The whole model as it is now."""

    def __call__(self, folder: str) -> None:
        """Write it into a folder that `from_pretrained` reads."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Its weights under the names that the folder's files would have."""


class Engine(Protocol):
    """Draws groups of answers with log-probs of the distribution that it drew from."""

    @property
    def version(self) -> int | None:
        """Of the weights that it draws with (`Policy.version`); None: it has the policy's own."""

    @property
    def is_beside(self) -> bool:
        """Whether it draws while the policy's module is trained."""

    def publish(self, export: Export, version: int) -> None:
        """Take the policy's weights; raises EngineError."""

    def check_room(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """Raise DataError where the engine's context holds no whole answer after the prompt."""

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
        """`num_each` answers to each prompt; seeds: one per row. Raises EngineError.

        most_tokens: of an answer; None = as many as the policy writes.
        """

    def begin(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        num_each: int,
        seeds: Sequence[int],
    ) -> Callable[[], Decoded]:
        """`sample` with the weights that it has, for a thread of the caller's."""

    def abandon(self) -> None:
        """Give up what was begun: nobody waits for it, and nothing is asked afterwards."""

    def facts(self) -> Mapping[str, float]:
        """What a step logs, by the metric's name, since the last call."""


class Sampler(Engine, Protocol):
    """What a policy draws with: it is kept at the policy's weights."""

    def forget(self) -> None:
        """What was published is out of date, although the version is the same."""

    def refresh(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """Have it draw with the weights of now, tried on a prompt; raises EngineError."""


def refuse_long(
    prompt: EncodedPrompt, sample: Sample, longest: int, room: int | None, hint: str
) -> None:
    """Raise DataError where a context of `room` tokens holds no answer of `longest` whole."""
    if room is not None and prompt.num_tokens + longest > room:
        raise DataError(
            f"sample {sample.id!r}: its prompt has {prompt.num_tokens} tokens, its answer up "
            f"to {longest}, and the engine's context holds {room}: {hint}"
        )


def mean_gap(trainer_logp: Tensor, sampler_logp: Tensor, mask: Tensor) -> float:
    """Mean difference of two log-probs of the same tokens, nats; 0 where there is no token."""
    if not mask.any():
        return 0.0
    return float((trainer_logp - sampler_logp)[mask].abs().mean())
