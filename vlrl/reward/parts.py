"""The named parts of a tree's score: every leaf's value, under a name of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vlrl.protocols import Reward
from vlrl.types import Score


def walk(reward: Reward) -> Iterator[Reward]:
    """The node and everything below it."""
    yield reward
    for child in reward.children:
        yield from walk(child)


def leaves(reward: Reward) -> Iterator[Reward]:
    """The nodes without children, left to right."""
    return (node for node in walk(reward) if not node.children)


def unique_names(root: Reward) -> None:
    """Rename leaves below `root` that share a name: `box_iou`, `box_iou_2`, in tree order.

    Done when the tree is built, so that a name means the same leaf for every rollout.
    """
    taken: set[str] = set()
    for leaf in {id(leaf): leaf for leaf in leaves(root)}.values():
        # A subtree was named when it was built: begin again from the leaf's first name.
        leaf.first_name = leaf.first_name or leaf.name
        leaf.name = fresh_name(leaf.first_name, taken)
        taken.add(leaf.name)


def fresh_name(name: str, taken: Iterable[str]) -> str:
    """`name`, or the first of `name_2`, `name_3`, ... that is free."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def join_parts(scored: Iterable[tuple[Reward, Score]]) -> dict[str, float]:
    """All children's parts of one rollout; a reward without parts of its own is one part."""
    parts: dict[str, float] = {}
    for reward, score in scored:
        mine = dict(score.parts)
        if not mine and score.value is not None and not reward.children:
            mine = {reward.name: score.value}
        for name, value in mine.items():
            parts[fresh_name(name, parts)] = value
    return parts
