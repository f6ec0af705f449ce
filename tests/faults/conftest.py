"""Fault injection: the process that the cases are forked from, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from forks import Forks
from trying import COLUMNS, SEED, Tally

IMPORTED = (
    "faulthandler",
    "deepspeed",
    "datasets",
    "av",
    "trimesh",
    "helpers_runs",
    "vlrl.cli.main",
    "vlrl.cli.train",
    "vlrl.eval.command",
    "vlrl.eval.gui.command",
    "vlrl.eval.gui.runner",
    "vlrl.eval.gui.local_model",
    "vlrl.train.trainer",
    "vlrl.distributed.engine",
    "vlrl.policy.vision_language.policy",
    "vlrl.tasks.gui_grounding",
    "vlrl.log.report.write",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "transformers.models.qwen2_vl.image_processing_qwen2_vl",
    "transformers.models.auto.processing_auto",
)
ROWS: list[tuple[str, list[int]]] = []


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    made = Forks(tmp_path_factory.mktemp("forks"), IMPORTED)
    yield made
    made.stop()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Its counts become a line of the table, named by the test's docstring."""
    made = Tally((request.function.__doc__ or request.node.name).partition("\n")[0].rstrip("."))
    yield made
    request.node.user_properties.append(("faults", (made.part, made.row())))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that prints the table, wherever the test ran."""
    if report.when == "teardown":
        ROWS.extend((part, row) for name, (part, row) in _properties(report) if name == "faults")


def _properties(report: pytest.TestReport) -> list[tuple[str, tuple[str, list[int]]]]:
    return report.user_properties  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ROWS:
        return
    head = ["tried", *COLUMNS.values()]
    rows = sorted(ROWS)
    total = [sum(column) for column in zip(*(row for _, row in rows), strict=True)]
    terminalreporter.section(f"fault injection, seed {SEED}")
    for name, cells in [("", head), *rows, ("all", total)]:
        terminalreporter.write_line(f"| {name} | {' | '.join(map(str, cells))} |")
        if cells is head:
            terminalreporter.write_line("|---" * (len(head) + 1) + "|")
