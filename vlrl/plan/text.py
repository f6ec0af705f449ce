"""A plan as text, and as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping

from vlrl.plan.fit import Plan
from vlrl.plan.gpus import GIB

WIDTH = 36


def plan_text(plan: Plan) -> str:
    """Memory by phase and part, then seconds by part; what does not occur is left out."""
    number = f"{plan.weights.num / 1e9:.2f} billion weights"
    trained = f"{plan.weights.num_trained / 1e6:,.0f} million trained"
    lines = [
        f"plan for {plan.num_gpus} x {plan.gpu}: {number}, {trained}",
        f"memory of each GPU, GiB (not known here: {', '.join(_unknown(plan))})",
        *_parts("always", plan.always),
        *_parts(f"sampling {plan.rows_at_once} rows at once", plan.sampling),
        *_parts(f"update, chunks of {plan.chunk_tokens:,} tokens{_over(plan)}", plan.update),
        *[_row(f"= {phase}", size / GIB) for phase, size in plan.phases().items()],
        _row("usable", plan.usable / GIB),
        f"largest that fit: dist.max_tokens_per_chunk {plan.largest_chunk:,}, "
        f"{plan.largest_batch} rows sampled at once",
        "a step, estimated, s (scoring is not known)",
        *[_row(name, seconds) for name, seconds in plan.seconds.items()],
        _row("= all", sum(plan.seconds.values())),
    ]
    return "\n".join(lines)


def _unknown(plan: Plan) -> list[str]:
    return ["kernels' own", *(f"the reward's {name}" for name in plan.unknown_scorers)]


def _over(plan: Plan) -> str:
    return "" if plan.num_sharers == 1 else f" over {plan.num_sharers} GPUs"


def _parts(title: str, parts: Mapping[str, float]) -> list[str]:
    rows = [_row(name, size / GIB) for name, size in parts.items() if size]
    return [f"  {title}", *["  " + row for row in rows]]


def _row(name: str, number: float) -> str:
    return f"  {name:<{WIDTH}} {number:8.2f}"


HEADER = (
    "| recipe | GPUs | weights | always | sampling | update | usable | chunk | largest | rows "
    "| largest | sampling s | other s |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def table_row(name: str, plan: Plan) -> str:
    """A line of the table of docs/gpus.md, in GiB, tokens, rows and seconds."""
    phases = plan.phases()
    gib = [sum(plan.always.values()), phases["sampling"], phases["update"], plan.usable]
    sampling = plan.seconds["sampling"]
    cells = [
        f"`{name}`",
        f"{plan.num_gpus} x {plan.gpu}",
        f"{plan.weights.num / 1e9:.1f} B",
        *[f"{size / GIB:.1f}" for size in gib],
        f"{plan.chunk_tokens:,}",
        f"{plan.largest_chunk:,}",
        str(plan.rows_at_once),
        str(plan.largest_batch),
        f"{sampling:.1f}",
        f"{sum(plan.seconds.values()) - sampling:.1f}",
    ]
    return f"| {' | '.join(cells)} |"
