"""A hierarchy's small network, which learns over the run which answers its pairs prefer."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlrl.protocols import TrainableReward
from vlrl.reward.combinators.hierarchy import Hierarchy, compared
from vlrl.types import Rollout

if TYPE_CHECKING:
    from torch import Tensor, nn


class LearntHierarchy(Hierarchy, TrainableReward):
    """bound x tanh(h(factors) / bound), h trained by -log sigmoid(h_i - h_j) on decided pairs.

    0 for every answer until it has learnt. All ranks learn from the pairs of all, in the same
    steps, so that they hold the same network to the last bit. Factors of finite range are seen
    as shares of it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pending: list[tuple[list[float], list[float]]] = []
        """Factors of the better and the worse answer of this rank's pairs since the last update."""
        self._network: nn.Module | None = None

    def _values(self, factors: np.ndarray) -> Sequence[float]:
        D = compared(factors, self._margins(factors))
        seen = self._seen(factors)
        wins = np.argwhere(D > 0)
        self.pending += [(seen[i].tolist(), seen[j].tolist()) for i, j in wins]
        return [self._value(row) for row in seen.tolist()]

    def _seen(self, factors: np.ndarray) -> np.ndarray:
        """What the network sees: shares of finite ranges, 0 where a factor does not apply."""
        seen = factors.copy()
        for place, child in enumerate(self.children):
            low, high = child.range
            if math.isfinite(low) and math.isfinite(high) and low < high:
                own = seen[:, place] * self.signs[place]
                seen[:, place] = self.signs[place] * (own - low) / (high - low)
        return np.where(np.isnan(seen), 0.0, seen)

    def _value(self, row: list[float]) -> float:
        import torch

        if self._network is None:
            return 0.0
        with torch.no_grad():
            # One row at a time: a batch is summed in another order, and is not the same bit by bit.
            logit = float(self._network(torch.tensor(row, dtype=torch.float64)))
        return self.head.bound * math.tanh(logit / self.head.bound)

    def _load_once(self) -> None:
        import torch
        from torch import nn

        if self._network is not None:
            return
        num = len(self.children)
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.head.seed)
            last = nn.Linear(self.head.width, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            first = nn.Linear(num, self.head.width)
            self._network = nn.Sequential(first, nn.Tanh(), last).double()
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=self.head.lr)

    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """A few steps on the pairs of all ranks; called on all ranks."""
        import torch

        from vlrl.distributed.comm import all_gather, current

        # In an order of their own: sums depend on it to the last bit.
        found = sorted(pair for part in all_gather(self.pending, current()) for pair in part)
        self.pending = []
        if not found:
            return {"pairs": 0.0}
        self._load_once()
        assert self._network is not None
        with torch.inference_mode(False):
            better, worse = (
                torch.tensor(side, dtype=torch.float64) for side in zip(*found, strict=True)
            )
            losses = [self._step(better, worse) for _ in range(self.head.num_updates)]
            with torch.no_grad():
                right = float((self._network(better) > self._network(worse)).double().mean())
        return {"pairs": float(len(found)), "loss": losses[0], "accuracy": right}

    def _step(self, better: Tensor, worse: Tensor) -> float:
        from torch.nn.functional import logsigmoid

        assert self._network is not None
        self._optimizer.zero_grad(set_to_none=True)
        loss = -logsigmoid(self._network(better) - self._network(worse)).mean()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    def state_dict(self) -> Mapping[str, Any]:
        """Network and optimizer; empty before the first pair."""
        if self._network is None:
            return {}
        state = {
            "network": dict(self._network.state_dict()),
            "optimizer": self._optimizer.state_dict(),
        }
        return copy.deepcopy(state)  # the run goes on while a checkpoint is written

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them; RewardError where the factors or the width have changed."""
        from vlrl.errors import RewardError

        if not state:
            return
        self._load_once()
        assert self._network is not None
        try:
            self._network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise RewardError(
                f"reward {self.name!r}: the saved network does not fit; factors or head.width have "
                f"changed since: {error}"
            ) from error
        self._optimizer.load_state_dict(state["optimizer"])
