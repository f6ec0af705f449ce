"""Rewards that learn along with the policy: what all of them share.

scoring: images ──> look (frozen, cached) ──> values ──> reward, for the policy's step
update:  the same, and random references ───> learn ───> the reward's own steps, after it

A subclass loads its networks in `load` and defines `look`, `values` and `learn`. torch is imported
on use, so that a config is checked without it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from vlrl.config.optim import Beta
from vlrl.config.section import MAX_WHOLE
from vlrl.errors import RewardError
from vlrl.protocols import TrainableReward
from vlrl.reward.image_reward import ImageReward, ModelOptions, image_of
from vlrl.types import Rollout

if TYPE_CHECKING:
    import torch
    from torch import nn

Seen = TypeVar("Seen")
"""The frozen part's output for one image."""
MAX_REMEMBERED = 4096
"""Images whose frozen part is cached from scoring to learning."""


class LearntOptions(ModelOptions):
    """How it learns, and when the policy may learn from it."""

    betas: tuple[Beta, Beta] = (0.5, 0.999)
    """Adam's, as published."""
    policy_every: PositiveInt = 1
    """The policy learns from every n-th batch of rollouts; the reward learns from all.
    Published for DINO: 10, with the other batches discarded."""
    warmup_rounds: NonNegativeInt = 0
    """First batches of rollouts that only the reward learns from."""
    learn_rounds: PositiveInt | None = None
    """Number of first rounds in which it learns, after which it is fixed; None = always learns."""
    seed: int = Field(0, ge=0, le=MAX_WHOLE)


class LearntReward(ImageReward, TrainableReward, Generic[Seen]):
    """Tells references from generated images of the same caption, and learns to.

    Does not apply to samples without references. Between updates it is constant and needs no
    gradient. All ranks take the same steps, including those without an image.
    """

    Options = LearntOptions
    noisy = True
    options: LearntOptions
    needs = frozenset({"image", "references"})
    learner_key: str
    """The learner's name in `state_dict`."""

    # Set by `load`.
    device: torch.device
    learner: nn.Module
    """The only part that learns."""
    optimizer: torch.optim.Optimizer
    _random: torch.Generator

    def __init__(self, options: LearntOptions, max_steps: int) -> None:
        super().__init__(options)
        self.max_steps = max_steps
        self.round = 0
        self._remembered: dict[int, tuple[Rollout, Seen]] = {}

    @abstractmethod
    def look(self, images: Sequence[np.ndarray]) -> Sequence[Seen]:
        """The frozen part's output for images, one entry each; there may be no images."""

    @abstractmethod
    def learn(
        self, rollouts: Sequence[Rollout], seen: Sequence[Seen], num: float
    ) -> dict[str, float]:
        """One step, or none: then `skipped` is 1. Called on all ranks; `num`: all ranks' rollouts.

        A rank may have no rollouts. The metrics are over all ranks.
        """

    def close_round(self, seen: Sequence[Seen]) -> Mapping[str, float]:
        """After the last step of a round; returns further metrics."""
        return {}

    @property
    def policy_learns(self) -> bool:
        """Whether this round's rollouts are scored for the policy."""
        done = self.round - self.options.warmup_rounds
        return done >= 0 and (done + 1) % self.options.policy_every == 0

    def applies(self, rollout: Rollout) -> bool:
        """Whether there is a reference, in rounds that the policy learns from."""
        return self.policy_learns and bool(rollout.sample.target.references)

    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """Learn from these rollouts and references of the same captions; called on all ranks.

        Metrics are means over the steps; a skipped step counts too, and ends the round.
        """
        from vlrl.distributed.comm import all_sum, current

        self._load_once()
        mine = [
            rollout
            for rollout in rollouts
            if rollout.parsed is not None and rollout.sample.target.references
        ]
        seen = self.seen([image_of(rollout) for rollout in mine], mine)
        (num,) = all_sum([len(mine)], current())
        steps: list[dict[str, float]] = []
        is_fixed = self.round >= (self.options.learn_rounds or self.round + 1)
        self.learner.requires_grad_(True)
        while num and not is_fixed and len(steps) < self.max_steps:
            steps.append(self.learn(mine, seen, num))
            if steps[-1]["skipped"]:
                break
        self.learner.requires_grad_(False)
        self.optimizer.zero_grad(set_to_none=True)
        more = self.close_round(seen)
        self._remembered.clear()
        self.round += 1
        if not steps:
            return {"skipped": 1.0, "steps": 0.0, **more}
        means = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
        taken = sum(1 - step["skipped"] for step in steps)
        return {**means, "skipped": float(not taken), "steps": taken, **more}

    def seen(self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]) -> list[Seen]:
        """`look` of images; each is computed once per round."""
        new = [i for i, rollout in enumerate(rollouts) if id(rollout) not in self._remembered]
        found = dict(zip(new, self.look([images[i] for i in new]), strict=True))
        for i in new:
            if len(self._remembered) < MAX_REMEMBERED:
                # With the rollout, so that its id cannot be reused.
                self._remembered[id(rollouts[i])] = (rollouts[i], found[i])
        return [
            found[i] if i in found else self._remembered[id(rollout)][1]
            for i, rollout in enumerate(rollouts)
        ]

    def draw(self, rollouts: Sequence[Rollout]) -> list[str]:
        """A random reference of each rollout's caption."""
        choices = [rollout.sample.target.references for rollout in rollouts]
        return [paths[self.integers(len(paths), 1)[0]] for paths in choices]

    def integers(self, below: int, num: int) -> list[int]:
        """`num` random integers in [0, below)."""
        import torch

        return torch.randint(below, (num,), generator=self._random).tolist()

    def step(self) -> None:
        """One step along the gradients of all ranks; raises RewardError if one is not finite."""
        from vlrl.distributed.comm import current, sum_gradients

        sum_gradients(self.learner.parameters(), current())
        for name, parameter in self.learner.named_parameters():
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                raise RewardError(
                    f"reward {self.name!r}: in round {self.round} the gradient of {name} is not "
                    "finite; lower its lr, or inspect that round's images and references"
                )
        self.optimizer.step()

    def state_dict(self) -> Mapping[str, Any]:
        """Learner, optimizer, round and random state of this rank."""
        if not self._loaded:
            return {"round": self.round}
        return {
            "round": self.round,
            self.learner_key: {name: t.cpu() for name, t in self.learner.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "random": self._random.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of the same rank; RewardError if the learner is a different one."""
        self.round = state["round"]
        if self.learner_key not in state:
            return
        self._load_once()
        try:
            self.learner.load_state_dict(state[self.learner_key])
        except RuntimeError as error:
            raise RewardError(
                f"reward {self.name!r}: the saved {self.learner_key!r} does not fit; the "
                f"options have changed since: {error}"
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        if "random" in state:
            self._random.set_state(state["random"])

    def resharded(
        self, states: Sequence[Mapping[str, Any]], rank: int, num_ranks: int
    ) -> Mapping[str, Any]:
        """What all ranks hold alike, and a random state: further ranks begin one of their own."""
        if rank < len(states):
            return states[rank]
        return {name: value for name, value in states[0].items() if name != "random"}
