"""`vlrl train --plan`: what a run takes of its GPUs, from the model's config alone."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlrl.build import RunParts
from vlrl.errors import ConfigError

if TYPE_CHECKING:
    from vlrl.plan.fit import Plan


def plan_of(parts: RunParts, gpu: str | None = None, num_gpus: int | None = None) -> Plan | None:
    """The plan on the GPUs that the config states, or on others; None for an unknown policy.

    Raises ConfigError where neither states a kind of GPU.
    """
    stated = parts.config.plan
    kind = gpu or stated.gpu
    if kind is None:
        raise ConfigError("plan.gpu: no kind of GPU is stated; set it, or give --gpu")
    with _quiet():
        from vlrl.plan.plan import plan_run

        num = num_gpus or stated.num_gpus
        rewards = [stage.reward for stage in parts.stages]
        return plan_run(parts.config, parts.policy_options, kind, num, rewards)


def planned_text(parts: RunParts, plan: Plan | None) -> str:
    """The plan for people, or why there is none."""
    if plan is None:
        return (
            f"no plan: policy {parts.config.policy['use']!r} does not say what it takes; its "
            "options need a method `planned` (vlrl/protocols/planned.py)"
        )
    from vlrl.plan.text import plan_text

    return plan_text(plan)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No word from libraries about models that are never loaded."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
