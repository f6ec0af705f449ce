"""Where a run's metrics go: JSON lines always, the console, and trackers by choice."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from vlrl.config.schema import LogConfig
from vlrl.errors import ConfigError, MissingExtraError, first_line, writing

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Something that takes a step's metrics."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """`metrics.jsonl`: one object per step; a resumed run cuts it back to where it resumes."""

    def __init__(self, path: Path, resume_step: int) -> None:
        kept: list[str] = []
        if path.is_file() and resume_step:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            # A kill may leave half a line at the end; it is written again.
            for number, line in enumerate(lines, start=1):
                step = _step(line)
                if step is None and number < len(lines):
                    log.warning("%s, line %d is damaged and left out", path, number)
                elif step is not None and step <= resume_step:
                    kept.append(line)
        self.path = path
        with writing(path):
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one step; nan and inf, which JSON lacks, become null."""
        clean = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        # Opened for each line: a run that fails half-way leaves no open file.
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **clean}) + "\n")

    def close(self) -> None:
        """Nothing to do: the file is open only while a line is written."""


def _step(line: str) -> int | None:
    """The step of a line; None where it is no line of metrics."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return step if type(step) is int else None


class TensorBoard:
    """TensorBoard event files."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("log.tensorboard", "tensorboard") from error
        # What a killed run wrote after the step that is resumed from is not shown.
        purge = resume_step + 1 if resume_step else None
        self.writer: Any = SummaryWriter(str(folder), purge_step=purge)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar a name."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()


class Tracker:
    """Weights & Biases or trackio, which share their interface."""

    def __init__(self, module_name: str, project: str, name: str, config: Mapping[str, Any]):
        import importlib

        try:
            self.module: Any = importlib.import_module(module_name)
        except ImportError as error:
            raise _missing(f"log.{module_name}", module_name) from error
        try:
            self.module.init(project=project, name=name, config=dict(config))
        except Exception as error:
            login = "`wandb login`, WANDB_MODE=offline or " if module_name == "wandb" else ""
            raise ConfigError(
                f"log.{module_name}: true, but {module_name} does not start "
                f"({type(error).__name__}: {first_line(error)}); use {login}"
                f"log.{module_name}=false"
            ) from error

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """All metrics of a step at once."""
        self.module.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self.module.finish()


def _missing(key: str, package: str) -> MissingExtraError:
    return MissingExtraError(
        f"{key}: true needs the package {package!r}: uv pip install -e '.[tracking]'"
    )


def open_sinks(
    log: LogConfig, folder: Path, name: str, config: Mapping[str, Any], resume_step: int
) -> list[Sink]:
    """The sinks that the config asks for; called on the main rank only."""
    sinks: list[Sink] = [JsonLines(folder / "metrics.jsonl", resume_step)]
    if log.tensorboard:
        sinks.append(TensorBoard(folder / "tensorboard", resume_step))
    if log.wandb:
        sinks.append(Tracker("wandb", log.project, name, config))
    if log.trackio:
        sinks.append(Tracker("trackio", log.project, name, config))
    return sinks
