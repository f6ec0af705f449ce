"""A reward server's settings: its file, its address, its token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from vlrl.config.section import AddressSection
from vlrl.errors import ConfigError
from vlrl.protocols import Reward, TrainableReward
from vlrl.reward.parts import walk
from vlrl.reward.server.wire import WireLimits, check_servable
from vlrl.reward.tree import build_reward


class ServeConfig(AddressSection):
    """Rewards and limits."""

    port: int = Field(8088, ge=0, le=65_535, description="0 picks a free one")
    rewards: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name -> reward node, written as a run's `reward:`."""
    references: str | None = None
    """A folder of this machine; clients may name reference images below it by path."""
    gather_ms: float = Field(5.0, ge=0, le=10_000)
    """How long a request waits for others, to be scored together with them."""
    max_batch: PositiveInt = 256
    """Rollouts scored in one call of the reward; one request is never split."""
    max_waiting: PositiveInt = 4096
    """Rollouts that may wait for one reward; beyond it requests are answered with 503."""
    max_rollouts: PositiveInt = 256
    """Rollouts in one request."""
    max_body_mib: PositiveInt = 256
    max_connections: PositiveInt = 128
    """Requests handled at once; more are answered with 503."""
    max_pixels: PositiveInt = 4096 * 4096
    """Pixels of one image."""
    max_request_pixels: PositiveInt = 256 * 1024 * 1024
    """Pixels of all images of one request."""
    max_reference_mib: PositiveInt = 4096
    """Reference images kept in the temporary folder; the longest unused goes first."""

    @property
    def limits(self) -> WireLimits:
        """The limits that clients are told."""
        return WireLimits(
            max_body_bytes=self.max_body_mib << 20,
            max_rollouts=self.max_rollouts,
            max_pixels=self.max_pixels,
            max_request_pixels=self.max_request_pixels,
        )

    def references_folder(self) -> Path | None:
        """The folder of the server's own reference images; raises ConfigError."""
        if self.references is None:
            return None
        folder = Path(self.references)
        if not folder.is_dir():
            raise ConfigError(f"references: there is no folder {self.references!r}")
        return folder.resolve()


def build_rewards(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Reward]:
    """The reward trees by name; raises ConfigError for one that cannot be served."""
    rewards = {}
    for name, node in nodes.items():
        where = f"rewards.{name}"
        reward = build_reward(node, where)
        check_servable(reward.needs, where)
        for part in walk(reward):
            if isinstance(part, TrainableReward):
                raise ConfigError(
                    f"{where}: {part.name!r} learns with the "
                    "policy, so it belongs in the run; a server would never train it"
                )
        rewards[name] = reward
    return rewards
