"""The linter's findings in the log, once for all ranks."""

from __future__ import annotations

import logging
import os

from vlrl.config.schema import AlgoConfig
from vlrl.protocols import Reward

log = logging.getLogger(__name__)


def warn_of(reward: Reward, algo: AlgoConfig) -> None:
    """Log what the rules find; called when a config is read, before anything is loaded."""
    from vlrl.reward.lint.rules import lint

    if os.environ.get("RANK", "0") != "0":
        return
    for finding in lint(reward, algo):
        log.warning("%s", finding)
