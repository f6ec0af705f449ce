"""True answers as they are written, and answers of the same kind that are wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from vlrl.geometry.boxes import Box, Frame
from vlrl.reasoning.boxes import BoxesTruth
from vlrl.reasoning.choices import LETTERS
from vlrl.reasoning.routes import RouteProblem, Segment, write_route
from vlrl.reasoning.truths import (
    ChoiceTruth,
    ExpressionTruth,
    ListTruth,
    NumberTruth,
    RouteTruth,
    TextTruth,
    Truth,
    YesNoTruth,
)


def written(truth: Truth, frame: Frame) -> str | None:
    """A right answer as a model would write it; None where there is none, or it cannot be found.

    frame: what the numbers of written boxes are in.
    """
    if isinstance(truth, ChoiceTruth):
        return truth.letter
    if isinstance(truth, NumberTruth):
        return _number(truth.value.value, truth.value.unit)
    if isinstance(truth, YesNoTruth):
        return "yes" if truth.value else "no"
    if isinstance(truth, TextTruth | ExpressionTruth):
        return truth.text
    if isinstance(truth, ListTruth):
        return ", ".join(truth.items)
    if isinstance(truth, BoxesTruth):
        return _boxes(truth.boxes, frame)
    if isinstance(truth, RouteTruth):
        route = shortest_route(truth.problem)
        return write_route(route) if route else None
    return None


def near_misses(truth: Truth, frame: Frame) -> dict[str, str]:
    """Wrong answers by kind; also both answers at once, which a lenient reader would pay."""
    if isinstance(truth, ChoiceTruth):
        letters = LETTERS[: max(2, len(truth.options))]
        other = letters[(letters.index(truth.letter) + 1) % len(letters)]
        return {
            "other_option": other,
            "all_options": " or ".join(f"({x})" for x in letters),
            "denied": f"not ({truth.letter})",
        }
    if isinstance(truth, NumberTruth):
        return _numbers(truth)
    if isinstance(truth, YesNoTruth):
        said, other = ("yes", "no") if truth.value else ("no", "yes")
        return {"other": other, "both": f"{said} or {other}", "denied": f"not {said}"}
    if isinstance(truth, TextTruth):
        return {"negated": f"not {truth.text}", "longer": f"{truth.text} and more"}
    if isinstance(truth, ExpressionTruth):
        return {"plus_one": f"{truth.text}+1", "negative": f"-({truth.text})"}
    if isinstance(truth, ListTruth):
        return _lists(truth)
    if isinstance(truth, BoxesTruth):
        return _misplaced(truth.boxes, frame)
    if isinstance(truth, RouteTruth):
        return _routes(truth.problem)
    return {}


def _number(value: float, unit: str) -> str:
    text = f"{value:.10g}"
    return f"{text}%" if unit == "%" else f"{text} {unit}".strip()


def _numbers(truth: NumberTruth) -> dict[str, str]:
    value, unit = truth.value.value, truth.value.unit
    slack = max(truth.absolute, truth.relative * abs(value))
    step = max(1.0, 2 * slack)
    near, far = _number(value + step, unit), _number(10 * value, unit)
    true = _number(value, unit)
    found = {"near": near, "both": f"{true} or {near}", "denied": f"not {true}"}
    return {**found, "ten_times": far} if abs(9 * value) > slack else found


def _lists(truth: ListTruth) -> dict[str, str]:
    items = truth.items
    found = {"one_more": ", ".join([*items, items[0]])} if items else {}
    if len(items) > 1:
        found["one_missing"] = ", ".join(items[:-1])
    if truth.ordered and items != items[::-1]:
        found["backwards"] = ", ".join(items[::-1])
    return found


def _boxes(boxes: Sequence[Box], frame: Frame) -> str:
    own = [box.to(frame).xyxy for box in boxes]
    digits = 4 if max(frame.extent) <= 1 else 0
    return ", ".join("[" + ", ".join(f"{v:.{digits}f}" for v in one) + "]" for one in own)


def _misplaced(boxes: Sequence[Box], frame: Frame) -> dict[str, str]:
    image = boxes[0].frame
    moved = []
    for box in boxes:
        width = box.x2 - box.x1
        x = width if box.x2 + width <= image.width else -min(width, box.x1)
        moved.append(Box(box.x1 + x, box.y1, box.x2 + x, box.y2, image))
    whole = [Box(0.0, 0.0, image.width, image.height, image)] * len(boxes)
    found = {"beside": _boxes(moved, frame), "everything": _boxes(whole, frame)}
    if len(boxes) > 1:
        found["one_missing"] = _boxes(boxes[:-1], frame)
    return found


def _routes(problem: RouteProblem) -> dict[str, str]:
    route = shortest_route(problem)
    if not route:
        return {}
    back = [Segment(one.line, one.arrival, one.departure) for one in reversed(route)]
    one_ride = Segment(route[0].line, problem.start, problem.end)
    found = {"backwards": write_route(back)}
    if len(route) > 1:
        found |= {"too_short": write_route(route[:-1]), "no_change": write_route([one_ride])}
    return found


def shortest_route(problem: RouteProblem) -> tuple[Segment, ...]:
    """A route with the fewest rides; () where none leads there."""
    before: dict[str, Segment | None] = {problem.start: None}
    queue = deque([problem.start])
    while queue and problem.end not in before:
        here = queue.popleft()
        for line, stations in problem.lines.items():
            if here not in stations:
                continue
            for there in stations:
                if there not in before:
                    before[there] = Segment(line, here, there)
                    queue.append(there)
    route: list[Segment] = []
    ride = before.get(problem.end)
    while ride is not None:
        route.append(ride)
        ride = before[ride.departure]
    return tuple(reversed(route))
