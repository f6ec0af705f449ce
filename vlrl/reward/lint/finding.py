"""What a rule says, and the trees that it looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlrl.config.schema import AlgoConfig
from vlrl.protocols import Reward
from vlrl.reward.combinators.combine import Joined


@dataclass(frozen=True)
class Place:
    """A node of a tree with what is above it, nearest last."""

    node: Reward
    above: tuple[Reward, ...]
    algo: AlgoConfig


@dataclass(frozen=True)
class Finding:
    """A warning: the rule, the node's place in the config, and what to do."""

    rule: str
    place: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.message} (rule {self.rule}; silence it there with "
            f"`allow: {{{self.rule}: your reason}}`)"
        )


def places(reward: Reward, algo: AlgoConfig) -> Iterator[Place]:
    """Every node that counts, from the top."""

    def below(node: Reward, above: tuple[Reward, ...]) -> Iterator[Place]:
        yield Place(node, above, algo)
        for child in counting(node):
            yield from below(child, (*above, node))

    yield from below(reward, ())


def counting(node: Reward) -> Sequence[Reward]:
    """Its children but for those of weight 0, which are only measured."""
    if not isinstance(node, Joined):
        return node.children
    pairs = zip(node.weights, node.children, strict=True)
    return [child for weight, child in pairs if weight]


def all_counting(node: Reward) -> Iterator[Reward]:
    """The node and everything below it that counts."""
    yield node
    for child in counting(node):
        yield from all_counting(child)
