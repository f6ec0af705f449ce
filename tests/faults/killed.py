"""`vlrl` in a forked process that dies in a chosen phase, for the tests of kills."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any

PHASES = {
    "start": ("vlrl.build", None, "build_policy"),
    "sampling": ("vlrl.policy.vision_language.policy", "VisionLanguagePolicy", "sample"),
    "update": ("vlrl.distributed.engine", "Engine", "backward"),
    "saving": ("vlrl.train.checkpoint", "Checkpoints", "save"),
    "pointing": ("vlrl.train.checkpoint", "Checkpoints", "_point_at"),
    "evaluation": ("vlrl.train.trainer", "Trainer", "evaluate"),
    "answers": ("vlrl.eval.store", "Store", "append"),
    "end": ("vlrl.cli.train", None, "finish"),
}
"""Where each phase begins: module, class, function."""


def command(words: list[str], kill: dict[str, Any] | None = None) -> int:
    """Run `vlrl WORDS`; kill: {phase, nth, delay_s, signal}, sent by this process to itself."""
    from vlrl.cli.main import main

    if kill is not None:
        _arm(**kill)
    return main(words)


def _arm(phase: str, nth: int, delay_s: float, signal: int) -> None:
    module, owner, name = PHASES[phase]
    place: Any = importlib.import_module(module)
    place = place if owner is None else getattr(place, owner)
    original, calls = getattr(place, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            timer = threading.Timer(delay_s, os.kill, (os.getpid(), signal))
            timer.daemon = True
            timer.start()
        return original(*args, **kwargs)

    setattr(place, name, counted)
    sys.stderr.flush()
