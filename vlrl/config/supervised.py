"""Learning from given answers before or beside RL: `sft:` and `dpo:` of a run's config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from vlrl.config.optim import OptimConfig
from vlrl.config.section import Section

if TYPE_CHECKING:
    from vlrl.config.schema import RunConfig

Kind = Literal["sft", "dpo"]


class GivenConfig(Section):
    """What both have."""

    num_steps: PositiveInt = 100
    batch_size: PositiveInt = Field(16, description="samples a step, over all ranks")
    optim: OptimConfig = OptimConfig(lr=1e-5)


class SftConfig(GivenConfig):
    """`vlrl sft`: the likelihood of right answers."""

    answers: str = Field(
        "task",
        description="task: the right answers that the task knows; column:NAME: of the data; or "
        "JSON lines of {id, output}, several of a sample take turns",
    )


class DpoConfig(GivenConfig):
    """`vlrl dpo`: better answers against worse ones (arXiv 2305.18290)."""

    pairs: str | None = Field(
        None,
        description="a run's folder, whose best and worst recorded answers are paired; or JSON "
        "lines of {id, chosen, rejected}",
    )
    min_gap: NonNegativeFloat = Field(
        0.1, description="least difference of two recorded answers' rewards"
    )
    beta: float = Field(0.1, gt=0, description="how dear it is to leave the policy of the start")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="share of pairs taken to be the wrong way round (cDPO)"
    )


def derived(config: RunConfig, kind: Kind, policy: Mapping[str, Any]) -> dict[str, Any]:
    """The run that learns from given answers: the same task, policy, metrics and evaluation.

    policy: what its options are then (`PolicyOptions.for_given_answers`).
    """
    from vlrl.config.resolve import plain

    options = config.sft if kind == "sft" else config.dpo
    given = plain(config)
    for name in ("curriculum", "rollouts", "health", "scoring"):
        given.pop(name, None)
    algo: dict[str, Any] = {
        "num_prompts": options.batch_size,
        "group_size": 1 if kind == "sft" else 2,
        "advantage": "precomputed",
        "objective": "likelihood",
        "aggregate": "token",
    }
    if kind == "dpo":  # the log-prob of the whole answer
        algo |= {"aggregate": "constant", "constant_length": 1}
    return {
        **given,
        "name": f"{config.name}-{kind}",
        "policy": {**config.policy, **policy},
        "num_steps": options.num_steps,
        "algo": algo,
        "optim": plain(options.optim),
    }
