"""The rules: each says what is wrong with one node, or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from vlrl.config.schema import AlgoConfig
from vlrl.protocols import Reward
from vlrl.reward.combinators.blend import Blend
from vlrl.reward.combinators.combine import Mean, Sum
from vlrl.reward.combinators.detail import Detail
from vlrl.reward.combinators.gate import Gate
from vlrl.reward.combinators.group import Group
from vlrl.reward.combinators.hierarchy import Hierarchy
from vlrl.reward.combinators.progress import Progress
from vlrl.reward.combinators.shape import Shape
from vlrl.reward.combinators.stages import Stages
from vlrl.reward.lint.finding import Finding, Place, all_counting, counting, places

Rule = Callable[[Place], str | None]
TINY_EPS = 1e-6
"""Below it a group whose rewards hardly differ gets advantages of full size."""
SMALL = 0.05
"""Share of the largest reach of its neighbours below which a part hardly counts."""
SCALE_FREE = ("group_zscore", "batch_std", "global_std", "gdpo")
"""Advantages that a factor common to all rewards does not change."""


def affine_shaper(place: Place) -> str | None:
    """An affine shape whose effect the advantage takes out again."""
    node, algo = place.node, place.algo
    if not isinstance(node, Shape) or node.shaper.affine == "no" or algo.advantage == "precomputed":
        return None
    balances = algo.objective == "trajectory_balance"
    if node.shaper.by_prompt and algo.advantage == "global_std" and not balances:
        return None  # prompts are set less far apart, and with them changes what all is divided by
    above = [one for one in place.above if not isinstance(one, Stages)]
    if algo.advantage == "gdpo":
        above = above[1:]  # each reward of the sum is normalised by itself
    taken_by = "the normaliser of algo.objective: trajectory_balance"
    if not balances:
        taken_by = f"algo.advantage: {algo.advantage}"
    if node.shaper.affine == "shift" and all(isinstance(one, Sum | Mean) for one in above):
        return (
            f"kind {node.kind} adds a constant within a group, which {taken_by} takes out again; "
            "remove it, or use a kind that bends (par, tanh)"
        )
    is_alone = all(isinstance(one, Sum | Mean) and len(counting(one)) == 1 for one in above)
    scales = not balances and algo.advantage in SCALE_FREE
    if node.shaper.affine == "scale" and is_alone and scales:
        return (
            f"kind {node.kind} shifts and scales, which {taken_by} takes out again; remove it, or "
            "use a kind that bends (par, tanh)"
        )
    return None


def tiny_epsilon(place: Place) -> str | None:
    """A shape that saturates under z-scores that blow up what is left."""
    node, algo = place.node, place.algo
    if not isinstance(node, Shape) or not node.shaper.saturates:
        return None
    if algo.objective == "trajectory_balance":
        return None  # it has no advantages
    if algo.advantage not in ("group_zscore", "gdpo") or algo.advantage_eps >= TINY_EPS:
        return None
    return (
        f"kind {node.kind} makes rewards far from its middle almost equal, and algo.advantage_eps "
        f"{algo.advantage_eps:g} gives their group advantages of full size again; set it to 1e-4, "
        "or algo.advantage: batch_std"
    )


def best_view_alone(place: Place) -> str | None:
    """The best of several views, without one that all views count in."""
    if place.node.pooled != "max":
        return None
    stage = next((i for i, one in enumerate(place.above) if isinstance(one, Stages)), -1)
    around = (*place.above, place.node)[stage + 1]
    if any(one.pooled in ("mean", "min") for one in all_counting(around)):
        return None
    return (
        "the best view alone counts, so one lucky side is enough; use pool: mean, or add a second "
        "reward of the views with pool: mean or min"
    )


def margins_in_order(place: Place) -> str | None:
    """An order made of comparisons with margins, which have none."""
    node = place.node
    if not isinstance(node, Group) or node.to == "centre":
        return None
    found = (one for one in all_counting(node.of) if isinstance(one, Hierarchy))
    if not any(one.margins.any() for one in found):
        return None
    return (
        f"to: {node.to} makes an order of a hierarchy with margins, whose comparisons go round in "
        "circles; use the hierarchy's own value, or margins of 0"
    )


def unbounded_part(place: Place) -> str | None:
    """A reward without limits, added to one with limits."""
    parent = place.above[-1] if place.above else None
    if not isinstance(parent, Sum | Mean | Blend) or _is_bounded(place.node):
        return None
    others = [one for one in counting(parent) if one is not place.node and _is_bounded(one)]
    if not others:
        return None
    low, high = place.node.range
    return (
        f"{place.node.name!r} has the range [{low:g}, {high:g}] and is added to "
        f"{others[0].name!r}, whose range is finite: it may grow until nothing else counts; put "
        "it under `shape` (tanh, par) or `clip`"
    )


def noisy_gate(place: Place) -> str | None:
    """A gate that a judge opens or shuts by chance."""
    node = place.node
    if isinstance(node, Gate):
        conditions: Sequence[Reward] = (node.condition,)
        what = f"at_least {node.at_least:g}"
    elif isinstance(node, Progress):
        conditions, what = node.required, "what is required"
    elif isinstance(node, Detail):
        conditions, what = (node.correct,), f"the high end of `correct`, {node.correct.range[1]:g},"
    else:
        return None
    noisy = [one.name for part in conditions for one in all_counting(part) if one.noisy]
    if not noisy:
        return None
    return (
        f"{noisy[0]!r} is a judge, and answers near {what} pass or fail by its noise; use its "
        "value as a factor (`product`), or a gate on a rule"
    )


def small_weight(place: Place) -> str | None:
    """A part that moves the whole by less than its neighbours' noise."""
    parent = place.above[-1] if place.above else None
    if not isinstance(parent, Sum | Mean | Blend | Detail):
        return None
    by_weight = place.algo.advantage == "gdpo" and len(place.above) == 1
    reaches = _reaches(parent, by_weight=by_weight)
    index = next(i for i, child in enumerate(parent.children) if child is place.node)
    own, most = reaches[index], max((one for one in reaches if math.isfinite(one)), default=0.0)
    if not 0 < own < SMALL * most:
        return None
    largest, factor = parent.children[reaches.index(most)], f"{SMALL * most / own:.2g} times"
    if isinstance(parent, Blend) and index:
        advice = f"make `most` {factor} as large or more"
    elif isinstance(parent, Detail) and index:
        advice = f"make the detail's `weight`, or its own beside other parts, {factor} as large"
    elif isinstance(parent, Sum | Mean):
        advice = f"give it a weight of {factor} as much or more, or use algo.advantage: gdpo"
    else:
        advice = f"make its range {factor} as wide or more, or that of the others smaller"
    return (
        f"{place.node.name!r} can move the {parent.name} by {own:.3g}, {largest.name!r} by "
        f"{most:.3g}: it hardly counts; {advice}"
    )


def _reaches(parent: Sum | Mean | Blend | Detail, *, by_weight: bool) -> list[float]:
    """How far each child can move the whole; by_weight: each is normalised by itself."""
    widths = [child.range[1] - child.range[0] for child in parent.children]
    if isinstance(parent, Blend):
        return [widths[0], *(parent.most * width for width in widths[1:])]
    if isinstance(parent, Detail):
        total = math.fsum(parent.weights)
        return [widths[0], *(parent.weight * weight / total for weight in parent.weights)]
    return [
        abs(weight) * (1.0 if by_weight else width)
        for weight, width in zip(parent.weights, widths, strict=True)
    ]


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        affine_shaper,
        tiny_epsilon,
        best_view_alone,
        margins_in_order,
        unbounded_part,
        noisy_gate,
        small_weight,
    )
}


def lint(reward: Reward, algo: AlgoConfig) -> Iterator[Finding]:
    """What the rules find in a tree that is to be trained on, but for what its config allows."""
    for place in places(reward, algo):
        for name, rule in RULES.items():
            message = rule(place)
            if message is not None and name not in place.node.allowed:
                yield Finding(name, place.node.place or "reward", message)


def _is_bounded(reward: Reward) -> bool:
    return all(math.isfinite(end) for end in reward.range)
