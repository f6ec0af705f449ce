"""What policies whose actions are tokens share: sampling in batches, log-probs, the reference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vlrl.algo.kl import KL_ESTIMATORS
from vlrl.errors import ConfigError
from vlrl.policy.batches import in_batches
from vlrl.policy.distribution import HEAD_CHUNK_TOKENS
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.protocols import Evaluation, Policy, PolicySetup, Ready
from vlrl.types import Rollout, Sample


class TokenPolicy(Policy[TokenTrajectory]):
    """Every token of an answer is an action."""

    def __init__(self, module: torch.nn.Module, setup: PolicySetup, sample_batch_size: int) -> None:
        super().__init__(module)
        self.max_tokens_per_chunk = setup.max_tokens_per_chunk
        self.kl_estimator = "k3" if setup.kl_estimator == "auto" else setup.kl_estimator
        self.sample_batch_size = sample_batch_size

    def sample(
        self,
        samples: Sequence[Sample],
        num_each: int,
        seed: int,
        *,
        greedy: bool = False,
        ready: Ready | None = None,
    ) -> tuple[list[Rollout], TokenTrajectory]:
        """`num_each` answers per sample, group by group; `greedy` takes the likeliest tokens."""

        def batch(some: Sequence[Sample], first: int) -> tuple[list[Rollout], TokenTrajectory]:
            return self._sample_batch(some, num_each, seed, greedy, first)

        with self._sampling():
            rollouts, parts = in_batches(samples, num_each, self.sample_batch_size, batch, ready)
        return rollouts, type(parts[0]).join(parts)

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        """Inside, the module has its weights whole, and no dropout."""
        self.module.eval()
        with self._serving():
            yield
        self.module.train()

    def evaluate(
        self, trajectory: TokenTrajectory, *, with_entropy_grad: bool = False
    ) -> Evaluation:
        """Log-probs, KL and entropy of the tokens under the current weights, with gradient."""
        logp, entropy = self._forward(self._call, trajectory, entropy_grad=with_entropy_grad)
        kl = None
        if self.kl_estimator and trajectory.reference is not None:
            kl = KL_ESTIMATORS[self.kl_estimator](logp, trajectory.reference.to(logp.device))
        return Evaluation(logp, kl, entropy)

    @torch.no_grad()
    def reference(self, trajectory: TokenTrajectory) -> Tensor:
        """Log-probs under the reference policy, [B, T], nats."""
        if self._reference is not None:
            return self._forward(self._reference, trajectory)[0].cpu()
        return self._forward(self._call, trajectory, reference=True)[0].cpu()

    @abstractmethod
    def _sample_batch(
        self, samples: Sequence[Sample], num_each: int, seed: int, greedy: bool, first: int
    ) -> tuple[list[Rollout], TokenTrajectory]:
        """Decode whole groups together; `first`: index of the first one."""

    @abstractmethod
    def _forward(
        self, call: Callable[..., Any], trajectory: TokenTrajectory, **options: bool
    ) -> tuple[Tensor, Tensor]:
        """One forward pass over the trajectory -> log-probs and entropies, [B, T]."""


def refuse_regression(setup: PolicySetup) -> None:
    """Raise ConfigError for an objective without log-probs."""
    if setup.regression is not None:
        raise ConfigError(
            "algo.objective: nft noises the latents of flow policies; a policy that writes tokens "
            "has log-probs: use clip, gspo or cispo"
        )


def num_head_chunks(max_tokens_per_chunk: int) -> int:
    """Number of pieces in which the language head processes the largest chunk."""
    return -(-max_tokens_per_chunk // HEAD_CHUNK_TOKENS)
