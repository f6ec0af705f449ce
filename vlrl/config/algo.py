"""How a policy is updated: the `algo:` section of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from vlrl.config.section import Section


class ClipConfig(Section):
    """The trust region of the importance ratio, [1 - low, 1 + high]."""

    low: float = Field(0.2, ge=0, le=1)
    high: NonNegativeFloat = 0.2


class CorrectionConfig(Section):
    """Weights for answers that another distribution drew, see vlrl/algo/correction.py."""

    level: Literal["token", "sequence"] = "token"
    mode: Literal["truncate", "mask"] = Field(
        "truncate", description="of ratios above the limit; mask: below 1 / limit too"
    )
    limit: float = Field(2.0, gt=1)
    off_policy_mask: PositiveFloat | None = Field(
        None,
        description="leave answers worse than their group out, whose log-probs fell by more than "
        "this a token since they were drawn",
    )
    unbiased_kl: bool = Field(
        False, description="weight the KL penalty by the ratio too, so that its gradient is exact"
    )


class DifficultyConfig(Section):
    """Weight of a sample by the relative size of its target: clamp((reference / area)^power)."""

    reference: float = Field(0.005, gt=0, description="area of the target / area of the image")
    power: NonNegativeFloat = 0.5
    low: NonNegativeFloat = 0.5
    high: NonNegativeFloat = 2.0

    @model_validator(mode="after")
    def _check(self) -> DifficultyConfig:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is above high ({self.high:g})")
        return self


class NftConfig(Section):
    """DiffusionNFT; see vlrl/algo/nft.py."""

    beta: float = Field(1.0, gt=0, description="how far the implicit policies lie apart")
    advantage_scale: float = Field(
        5.0, gt=0, description="an advantage of this size counts as wholly good or bad"
    )
    num_levels: PositiveInt = Field(2, description="noise levels an image is trained at")


class BalanceConfig(Section):
    """Trajectory balance; see vlrl/algo/trajectory_balance.py."""

    beta: float = Field(
        1.0, gt=0, description="answers are drawn in proportion to exp(beta x reward)"
    )
    prior: Literal["none", "reference"] = Field(
        "none", description="reference: and to their probability under the policy of the start"
    )
    per_token: bool = Field(
        False, description="log-probs are means over the tokens (FlowRL), not sums"
    )
    lr: float = Field(
        0.3, gt=0, le=1, description="step of a prompt's log Z to what its answers say"
    )


class AlgoConfig(Section):
    """Group-relative policy optimisation; see vlrl/algo for the formulas and their papers."""

    num_prompts: PositiveInt = Field(8, description="prompts per step, over all ranks")
    group_size: PositiveInt = Field(8, description="answers to each prompt")
    advantage: Literal[
        "group_zscore",
        "group_centre",
        "batch_std",
        "global_std",
        "leave_one_out",
        "gdpo",
        "precomputed",
    ] = Field(
        "group_zscore",
        description="batch_std: of the centred rewards; global_std: of the rewards themselves "
        "(Flow-GRPO); gdpo: z-scores of each reward of a `sum`, added; precomputed: the reward is "
        "one already (a `pair` node)",
    )
    population_std: bool = Field(
        False,
        description="group_zscore divides by the population's deviation, as flow_grpo's code does, "
        "instead of the sample's, as TRL's: advantages are 2.2 % larger in groups of 24",
    )
    advantage_eps: float = Field(1e-4, gt=0, description="keeps a group of equal rewards finite")
    advantage_clip: NonNegativeFloat = Field(0.0, description="largest size; 0 = no limit")
    objective: Literal["clip", "gspo", "cispo", "likelihood", "nft", "trajectory_balance"] = Field(
        "clip",
        description="likelihood: advantage x log-prob, no ratio; nft: without log-probs, for "
        "flow policies; trajectory_balance: keeps many answers, for policies that write tokens",
    )
    nft: NftConfig = NftConfig()
    balance: BalanceConfig = BalanceConfig()
    clip: ClipConfig = ClipConfig()
    old_logp: Literal["recompute", "rollout"] = Field(
        "recompute",
        description="what ratios compare with; recompute: the policy of before the first step, in "
        "the update's own chunks, one more pass where there are several steps; rollout: what "
        "sampling noted down, no pass (see update/sampling_gap for what that costs)",
    )
    rollout_correction: CorrectionConfig | None = Field(
        None,
        description="for rollouts of an engine, or older than the policy; null = trust them",
    )
    aggregate: Literal["sequence", "token", "constant", "stage_token"] = "sequence"
    constant_length: PositiveInt = Field(64, description="divisor of `aggregate: constant`")
    stage_carry: NonNegativeFloat = Field(
        1.0, description="of a reward with stages: weight of a later one in those before it"
    )
    kl_beta: NonNegativeFloat = 0.0
    kl_estimator: Literal["auto", "k1", "k2", "k3"] = Field(
        "auto", description="auto = k3 for tokens; denoising steps have a closed form instead"
    )
    entropy_coef: NonNegativeFloat = 0.0
    num_epochs: PositiveInt = Field(1, description="passes over each batch of rollouts")
    num_minibatches: PositiveInt = Field(1, description="optimizer steps a pass")
    drop_zero_variance: bool = Field(False, description="leave equal-reward groups out of the loss")
    resample_rounds: int = Field(
        0, ge=0, description="further draws to replace zero-variance groups (DAPO)"
    )
    mask_truncated: bool = Field(
        False, description="leave answers cut at the limit out of the loss"
    )
    difficulty: DifficultyConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> AlgoConfig:
        if self.group_size < 2 and self.advantage != "precomputed":
            raise ValueError(
                f"group_size: must be 2 or more under advantage: {self.advantage}, which compares "
                "the answers of a group"
            )
        return self

    @property
    def needs_reference(self) -> bool:
        """Whether the log-probs of the policy of the start are asked for."""
        balances = self.objective == "trajectory_balance" and self.balance.prior == "reference"
        return self.kl_beta > 0 or balances

    @property
    def num_steps_each(self) -> int:
        """Optimizer steps on each batch of rollouts."""
        return self.num_epochs * self.num_minibatches


def idle_keys(algo: AlgoConfig) -> Iterator[tuple[str, str]]:
    """Keys that are set and belong to what is not chosen, each with what is."""
    if algo.population_std and algo.advantage != "group_zscore":
        yield "population_std", f"advantage: {algo.advantage}"
    if algo.nft != NftConfig() and algo.objective != "nft":
        yield "nft", f"objective: {algo.objective}"
    if algo.objective == "trajectory_balance":
        for name in ("advantage", "advantage_eps", "advantage_clip", "stage_carry"):
            if name in algo.model_fields_set and algo.differs(name):
                yield name, "objective: trajectory_balance"
    elif algo.balance != BalanceConfig():
        yield "balance", f"objective: {algo.objective}"
    if algo.rollout_correction is not None:
        yield from _idle_of_correction(algo, algo.rollout_correction)
    if algo.differs("constant_length") and algo.aggregate != "constant":
        yield "constant_length", f"aggregate: {algo.aggregate}"


def _idle_of_correction(algo: AlgoConfig, own: CorrectionConfig) -> Iterator[tuple[str, str]]:
    if algo.objective in ("trajectory_balance", "nft"):  # its own ratio weighs answers, or none
        yield "rollout_correction", f"objective: {algo.objective}"
    if algo.old_logp == "rollout" and own.off_policy_mask is None and not own.unbiased_kl:
        yield "rollout_correction", "old_logp: rollout"
    if own.unbiased_kl and not algo.kl_beta:
        yield "rollout_correction.unbiased_kl", "kl_beta: 0"
    if own.unbiased_kl and algo.kl_estimator == "k2":
        yield "rollout_correction.unbiased_kl", "kl_estimator: k2, whose gradient it would bias"
