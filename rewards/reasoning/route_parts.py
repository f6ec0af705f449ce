"""Routes, and what of them is right: RewardMap's details.

RewardMap's release takes 5 off for the last segment of every right route, since it compares the
number of segments with that of transfers. Here a right route has all of every part, however many
transfers it makes.
"""

from __future__ import annotations

from vlrl.reasoning.routes import RouteCheck, RouteProblem
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout

NEEDS = ("route",)
SOURCE = "RewardMap (arXiv 2510.02240)"


@reward_function(
    range=(0.0, 1.0),
    formula="1 if the route leads from start to end on lines that exist, else 0",
    source=SOURCE,
    needs=NEEDS,
)
def route_valid(rollout: Rollout, *, extra_transfers: int | None = None) -> float | None:
    """1 for a valid route; other kinds of questions do not apply.

    extra_transfers: how many more than the best route a valid one may make; None = any number.
    """
    asked = _asked(rollout)
    if asked is None:
        return None
    problem, check = asked
    if not check.is_valid:
        return 0.0
    if extra_transfers is None or problem.num_transfers is None:
        return 1.0
    return float(len(check.joins) <= problem.num_transfers + extra_transfers)


@reward_function(
    range=(0.0, 1.0),
    formula="(departs at the start + arrives at the end) / 2",
    source=SOURCE + ", which pays only for both",
    needs=NEEDS,
)
def route_ends(rollout: Rollout) -> float | None:
    """The share of the two ends that is right."""
    asked = _asked(rollout)
    return None if asked is None else (asked[1].starts + asked[1].ends) / 2


@reward_function(
    range=(0.0, 1.0),
    formula="right rides / max(rides given, rides needed)",
    source=SOURCE + ", which pays for the names of lines",
    needs=NEEDS,
)
def route_rides(rollout: Rollout) -> float | None:
    """The share of rides on a line that stops at both of their stations; of a valid route all.

    Rides beyond those that the best route needs are a loss in a wrong route, so that adding rides
    does not pay.
    """
    asked = _asked(rollout)
    if asked is None:
        return None
    problem, check = asked
    if check.is_valid:
        return 1.0
    needed = 1 if problem.num_transfers is None else problem.num_transfers + 1
    return sum(check.rides) / max(len(check.rides), needed)


@reward_function(
    range=(0.0, 1.0),
    formula="changes that fit / max(changes given, changes needed)",
    source=SOURCE,
    needs=NEEDS,
)
def route_changes(rollout: Rollout) -> float | None:
    """The share of changes where one ride departs from where the last one arrives.

    Where none is needed or made it does not apply: a direct route has not earned it.
    """
    asked = _asked(rollout)
    if asked is None:
        return None
    problem, check = asked
    if check.is_valid and check.joins:
        return 1.0
    needed = max(len(check.joins), 0 if check.is_valid else problem.num_transfers or 0)
    return sum(check.joins) / needed if needed else None


def _asked(rollout: Rollout) -> tuple[RouteProblem, RouteCheck] | None:
    """The problem and what is right of the answer; None where no route is asked for."""
    problem: RouteProblem | None = rollout.sample.target.route
    if problem is None:
        return None
    answer = rollout.parsed
    check: RouteCheck | None = None if answer is None else answer.route_check
    return problem, check or RouteCheck(False, False, (), ())
