"""Rollouts for rewards that learn, and such rewards on separate ranks.

A module without tests, for spawned processes to import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers_fork import start_processes
from PIL import Image
from torch import distributed

from vlrl.reward.tree import build_reward
from vlrl.tasks.text_to_image import ImageAnswer, ImageTarget
from vlrl.types import Finish, Rollout, Sample

Rounds = Sequence[Sequence[Rollout]]


def save_stripes(folder: Path, num: int = 6) -> list[str]:
    """Striped references; what `plain` generates is not striped."""
    paths = []
    for i in range(num):
        image = np.full((28, 28, 3), 30 * i, dtype=np.uint8)
        image[:, ::2] = 255 - 30 * i
        paths.append(str(folder / f"{i}.png"))
        Image.fromarray(image).save(paths[-1])
    return paths


def plain(references: Sequence[str], num: int = 6, seed: int = 0, each: int = 1) -> list[Rollout]:
    """Images of one colour, two per group; `each` references per caption."""
    rng = np.random.default_rng(seed)
    rollouts = []
    for i in range(num):
        known = tuple(references[(i + j) % len(references)] for j in range(each))
        target = ImageTarget(f"stripes {i // 2}", known)
        image = np.full((28, 28, 3), rng.integers(0, 253), dtype=np.uint8)
        image += rng.integers(0, 3, image.shape, dtype=np.uint8)
        sample = Sample(f"s{i // 2}", "text_to_image", (), target)
        rollouts.append(
            Rollout(sample, i // 2, i % 2, image, Finish.STOP, 2, 0, parsed=ImageAnswer(image))
        )
    return rollouts


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether two state dicts agree to the bit."""
    return all(torch.equal(a[name], b[name]) for name in {**a, **b})


def on_ranks(folder: Path, nodes: Mapping[str, dict], shares: Sequence[Rounds]) -> list[Any]:
    """`learn` on as many ranks as there are shares; returns each rank's result, by node."""
    start_processes(_rank, (str(folder), dict(nodes), list(shares)), len(shares))
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(len(shares))]


def learn(node: dict, rounds: Rounds) -> dict[str, Any]:
    """Score and learn, round by round: metrics, values of the last round after it, the state."""
    reward: Any = build_reward(node)
    metrics, values = [], []
    for rollouts in rounds:
        reward(rollouts)
        metrics.append(dict(reward.update(rollouts)))
        values = [score.value for score in reward(rollouts)]
    return {"figures": metrics, "values": values, "state": reward.state_dict()}


def _rank(rank: int, folder: str, nodes: dict[str, dict], shares: list[Rounds]) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", len(shares))
    distributed.init_process_group(
        "gloo",
        store=store,
        rank=rank,
        world_size=len(shares),
        timeout=timedelta(seconds=60),  # ranks that diverge fail, and do not hang
    )
    found = {name: learn(node, shares[rank]) for name, node in nodes.items()}
    torch.save(found, Path(folder) / f"rank{rank}.pt")
    distributed.destroy_process_group()
