"""What the user sees: a bar with the time left and a line of metrics, or plain lines for logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlrl.protocols import Task

Columns = Sequence[tuple[str, str, str]]
"""(label, metric, format)"""

COLUMNS: Columns = (
    ("kl", "update/kl", "{:.4f}"),
    ("entropy", "update/entropy", "{:.3f}"),
    ("length", "rollout/num_actions", "{:.1f}"),
    ("grad", "update/grad_norm", "{:.3g}"),
)
TIMES = ("sampling", "scoring", "reference", "update")


class StepConsole:
    """Progress of a loop; silent on every rank but the main one."""

    def __init__(
        self,
        title: str,
        total: int,
        done: int,
        *,
        show: bool,
        quiet: bool,
        columns: Columns = (),
    ) -> None:
        self.title, self.total, self.done = title, total, done
        self.show, self.columns = show, columns
        # A bar drawn into a file is a mess of control characters.
        self.plain = quiet or not sys.stderr.isatty()
        self.console = Console(stderr=True, highlight=False)
        self.started, self.first = time.monotonic(), done
        self.last_line = 0.0
        self.bar: Progress | None = None
        if show and not self.plain:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}"),
                console=self.console,
            )
            self.task = self.bar.add_task(title, total=total, completed=done, metrics="")

    def __enter__(self) -> StepConsole:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, count: int = 1, metrics: Mapping[str, float] | None = None) -> None:
        """Some units of work are done; metrics are those of a training step."""
        self.done += count
        if not self.show:
            return
        text = describe(metrics, self.columns) if metrics else ""
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, metrics=text)
        elif metrics or self.done >= self.total or time.monotonic() - self.last_line > 10:
            self.last_line = time.monotonic()
            self.console.print(
                f"{self.title} {self.done}/{self.total}  left {self._left()}  {text}",
                soft_wrap=True,
            )

    def note(self, metrics: Mapping[str, float]) -> None:
        """A line for a measurement between two steps; nothing where it is empty."""
        if self.show and metrics:
            text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.console.print(f"{self.title} {self.done}/{self.total}  {text}", soft_wrap=True)

    def _left(self) -> str:
        worked = self.done - self.first
        if not worked:
            return "?"
        seconds = (time.monotonic() - self.started) / worked * (self.total - self.done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def task_columns(task: type[Task]) -> Columns:
    """The reward, the task's main metrics and the trainer's."""
    labels = {name: task.metric_labels.get(name, name) for name in task.main_metrics}
    own = [
        (label, f"rollout/{name}", "{:.1%}" if label.endswith(" rate") else "{:.3f}")
        for name, label in labels.items()
    ]
    return (("reward", "reward/mean", "{:.3f}"), *own, *COLUMNS)


def describe(metrics: Mapping[str, float], columns: Columns) -> str:
    """A step in one line: the metrics that tell whether it learns, and where its time went."""
    parts = [
        f"{label} {form.format(metrics[name])}" for label, name, form in columns if name in metrics
    ]
    times = [
        f"{name} {metrics[f'time/{name}_s']:.1f}" for name in TIMES if f"time/{name}_s" in metrics
    ]
    return "  ".join(parts) + (f"  | s: {', '.join(times)}" if times else "")
