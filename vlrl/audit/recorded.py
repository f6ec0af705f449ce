"""Rewards whose values are known already: columns that rollouts hold, in the place of leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlrl.protocols import Reward
from vlrl.reward.node import NodeOptions
from vlrl.types import Rollout, Score


class RecordedOptions(NodeOptions):
    """Which column, and the range that its reward declares."""

    column: str
    low: float
    high: float


class Recorded(Reward):
    """The value that a rollout's score holds under a name; without one it does not apply."""

    Options = RecordedOptions
    options: RecordedOptions
    formula = "as it was recorded"

    def __init__(self, options: RecordedOptions) -> None:
        self.options = options
        self.name = options.column
        self.range = (options.low, options.high)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        values = [
            None if rollout.score is None else rollout.score.parts.get(self.options.column)
            for rollout in rollouts
        ]
        return [Score(v, {} if v is None else {self.name: v}) for v in values]


def recorded_node(node: Mapping[str, Any], leaf: Reward, column: str) -> dict[str, Any]:
    """The config node of a leaf that is read from a column instead; its weight and label stay."""
    low, high = leaf.range
    kept = {key: node[key] for key in ("weight", "allow") if key in node}
    return {
        "use": f"{Recorded.__module__}:{Recorded.__name__}",
        "label": leaf.first_name or leaf.name,
        "column": column,
        "low": low,
        "high": high,
        **kept,
    }


def with_nodes(node: Any, swaps: Mapping[str, Mapping[str, Any]], where: str = "reward") -> Any:
    """A config node with those below it exchanged that stand at some places."""
    if where in swaps:
        return dict(swaps[where])
    if isinstance(node, Mapping):
        return {key: with_nodes(value, swaps, f"{where}.{key}") for key, value in node.items()}
    if isinstance(node, list):
        return [with_nodes(value, swaps, f"{where}[{i}]") for i, value in enumerate(node)]
    return node


def node_at(node: Any, place: str, where: str = "reward") -> Mapping[str, Any] | None:
    """The config node at a place; None where there is none."""
    if where == place:
        return node if isinstance(node, Mapping) else None
    inner = (
        [(f"{where}.{key}", value) for key, value in node.items()]
        if isinstance(node, Mapping)
        else [(f"{where}[{i}]", value) for i, value in enumerate(node)]
        if isinstance(node, list)
        else []
    )
    for name, value in inner:
        if place == name or place.startswith((f"{name}.", f"{name}[")):
            found = node_at(value, place, name)
            if found is not None:
                return found
    return None
