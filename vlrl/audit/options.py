"""What `vlrl audit` can be told beside its answers and rewards."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from vlrl.config.section import Section


class AuditOptions(Section):
    """Options of the audit."""

    reward: str | None = Field(
        None, description="name of the reward that is searched for hacks; default: the first"
    )
    independent: str | None = Field(
        None, description="name of the reward that judges them; default: the second"
    )
    split: str | None = Field(
        None, description="split of the task's data; default: the one that the run trained on"
    )
    limit: NonNegativeInt = Field(0, description="groups that are read, spread evenly; 0 = all")
    beta: PositiveFloat = Field(
        0.1, description="weight of the entropy term (KL to the group's answers) for stability"
    )
    perturb: float = Field(
        0.1, gt=0, lt=1, description="share by which weights are changed up and down"
    )
    top: float = Field(
        0.2, gt=0, le=1, description="share of the best answers that is searched for hacks"
    )
    num_hacks: PositiveInt = Field(8, description="hacks that are shown, one per prompt")
    num_pairs: PositiveInt = Field(8, description="pairs in another order that are named")
    num_known: PositiveInt = Field(
        200, description="samples of which right and wrong answers are made, spread evenly"
    )
    load_models: bool = Field(
        False,
        description="ask models again although the rollouts hold what they said, so that known "
        "answers are ranked and features probed",
    )
    labels: tuple[str, ...] = Field(
        (), description="probe these labels only: strata or metrics of the task, or of the rows"
    )
    seed: NonNegativeInt = 0
