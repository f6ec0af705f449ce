"""Every key of a run, its type, its default and what it means.

`task`, `reward` and `policy` name plug-ins; their own options are checked by the plug-in's own
model. Rules across sections stand in `RunConfig._check`, so that a bad combination fails before
any weight is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from vlrl.config.section import MAX_WHOLE, Section


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
    group_size: int = Field(8, ge=2, description="answers to each prompt")
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
    objective: Literal["clip", "gspo", "cispo", "nft", "trajectory_balance"] = Field(
        "clip",
        description="nft: without log-probs, for flow policies; trajectory_balance: keeps many "
        "answers, for policies that write tokens",
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

    @property
    def needs_reference(self) -> bool:
        """Whether the log-probs of the policy of the start are asked for."""
        balances = self.objective == "trajectory_balance" and self.balance.prior == "reference"
        return self.kl_beta > 0 or balances

    @property
    def num_steps_each(self) -> int:
        """Optimizer steps on each batch of rollouts."""
        return self.num_epochs * self.num_minibatches


Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Section):
    """AdamW and its schedule."""

    lr: float = Field(1e-6, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    num_warmup_steps: int = Field(0, ge=0)
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    grad_clip_norm: NonNegativeFloat = Field(1.0, description="0 switches clipping off")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="running average of the trained weights, for evaluation; 0 = off",
    )
    ema_every: PositiveInt = Field(1, description="optimizer steps between updates of the average")
    ema_repeats: PositiveInt = Field(
        1, description="times that each update is applied; flow_grpo: once per micro-batch"
    )


class DistConfig(Section):
    """How the step is laid over processes."""

    deepspeed: str = Field(
        "deepspeed_configs/zero2.json", description="sharding only; the rest is owned by this file"
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    max_tokens_per_chunk: PositiveInt = Field(
        16_384,
        description="budget of a forward of the update; share_prompt: off counts padding too",
    )
    sequence_parallel: PositiveInt = Field(
        1,
        description="ranks that share each row of the update, for answers or videos that are too "
        "long for one GPU (DeepSpeed-Ulysses); each holds max_tokens_per_chunk of it",
    )
    gradient_checkpointing: bool = False
    num_threads: int = Field(
        0, ge=0, le=4096, description="CPU threads per rank; 0 = cores / ranks"
    )
    timeout_s: PositiveInt = Field(
        1800, description="longest wait for other ranks: at the start, and for one that is busy"
    )
    hang_timeout_s: int = Field(
        240,
        ge=5,
        description="after the first step: a rank without a sign of life for so long, or all "
        "waiting for each other, ends the run",
    )


class EvalConfig(Section):
    """Greedy evaluation on held-out splits, before, during and after training."""

    splits: tuple[str, ...] = ()
    every: int = Field(0, ge=0, description="steps between evaluations; 0 = only before and after")
    limit: int = Field(0, ge=0, description="samples per split, spread evenly; 0 = all")
    batch_size: PositiveInt = 32
    before: bool = True
    after: bool = True
    num_bootstrap: int = Field(2000, ge=1, le=1_000_000)


class CheckpointConfig(Section):
    """What is kept, and how often."""

    every: int = Field(0, ge=0, description="steps between checkpoints; 0 = by time only")
    every_minutes: float = Field(
        30.0, ge=0, description="minutes between checkpoints, at the end of a step; 0 = off"
    )
    beside_training: Literal["auto", "on", "off"] = Field(
        "auto",
        description="copy a checkpoint into the host's memory and write it while training goes "
        "on; auto = on GPUs, where that memory has room for it",
    )
    keep_last: PositiveInt = 2
    at_end: bool = True
    export: bool = Field(True, description="safetensors that from_pretrained loads, at the end")


class ScoringConfig(Section):
    """When rollouts are scored."""

    overlap_sampling: Literal["auto", "on", "off"] = Field(
        "auto",
        description="score groups while the next are sampled; auto = where a reward waits for "
        "another machine",
    )


class HealthConfig(Section):
    """Is the reward still worth following? See vlrl/train/health.py."""

    canaries: tuple[str, ...] = Field(
        (), description="names under `metrics` that also score training rollouts"
    )
    every: PositiveInt = Field(10, description="steps between the canaries' scorings")


class LogConfig(Section):
    """Where metrics go. JSONL is always written."""

    console: bool = True
    quiet: bool = Field(False, description="plain lines without bars, for log files")
    tensorboard: bool = False
    wandb: bool = False
    trackio: bool = False
    project: str = "vlrl"
    rollouts_every: int = Field(10, ge=0, description="steps between records of best and worst")
    num_rollout_groups: PositiveInt = 2
    report: bool = True


MAX_ROLLOUTS = 1_048_576
"""Answers per step, over all ranks."""


def _idle(algo: AlgoConfig) -> Iterator[tuple[str, str]]:
    """Keys that are set and belong to what is not chosen, each with what is."""
    if algo.population_std and algo.advantage != "group_zscore":
        yield "population_std", f"advantage: {algo.advantage}"
    if algo.nft != NftConfig() and algo.objective != "nft":
        yield "nft", f"objective: {algo.objective}"
    if algo.objective == "trajectory_balance":
        for name in ("advantage", "advantage_eps", "advantage_clip", "stage_carry"):
            if name in algo.model_fields_set and _differs(algo, name):
                yield name, "objective: trajectory_balance"
    elif algo.balance != BalanceConfig():
        yield "balance", f"objective: {algo.objective}"
    length = AlgoConfig.model_fields["constant_length"].default
    if algo.constant_length != length and algo.aggregate != "constant":
        yield "constant_length", f"aggregate: {algo.aggregate}"


def _differs(algo: AlgoConfig, name: str) -> bool:
    return bool(dict(algo)[name] != AlgoConfig.model_fields[name].default)


GpuKind = Literal[
    "b200_180gb",
    "h200_141gb",
    "h100_80gb",
    "a100_80gb",
    "a100_40gb",
    "l40s_48gb",
    "rtx_4090_24gb",
]


class PlanConfig(Section):
    """The GPUs that a run is meant for; `vlrl train --plan` says whether it fits them."""

    gpu: GpuKind | None = Field(None, description="rates and memory: vlrl/plan/gpus.py")
    num_gpus: PositiveInt = 1
    max_prompt_tokens: PositiveInt | None = Field(
        None, description="the longest prompt, visual tokens included; None = by policy.max_pixels"
    )
    mean_prompt_tokens: PositiveInt | None = Field(
        None, description="a typical prompt, for times; None = the longest"
    )
    mean_answer_tokens: PositiveInt | None = Field(
        None, description="a typical answer, for times; None = the longest"
    )


class RunConfig(Section):
    """A whole run. The resolved form is saved with every checkpoint and can be run again."""

    name: str = Field(min_length=1)
    out: str = Field("runs", min_length=1)
    seed: int = Field(0, ge=0, le=MAX_WHOLE)
    num_steps: PositiveInt = 100
    task: dict[str, Any]
    policy: dict[str, Any]
    reward: dict[str, Any]
    metrics: dict[str, dict[str, Any]] = Field(
        {}, description="reward nodes by name that are only measured, at every evaluation"
    )
    train_split: str = "train"
    algo: AlgoConfig = AlgoConfig()
    optim: OptimConfig = OptimConfig()
    dist: DistConfig = DistConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    scoring: ScoringConfig = ScoringConfig()
    health: HealthConfig = HealthConfig()
    log: LogConfig = LogConfig()
    plan: PlanConfig = PlanConfig()

    @property
    def num_steps_total(self) -> int:
        """Optimizer steps of the whole run."""
        return self.num_steps * self.algo.num_steps_each

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        algo = self.algo
        if algo.num_minibatches > algo.num_prompts:
            raise ValueError(
                f"algo.num_minibatches ({algo.num_minibatches}) cannot exceed algo.num_prompts "
                f"({algo.num_prompts}): a group is never split"
            )
        if algo.kl_estimator == "k1" and algo.kl_beta > 0:
            raise ValueError(
                "algo.kl_estimator: k1 has zero expected gradient as a loss; use k2 or k3"
            )
        if algo.num_prompts * algo.group_size > MAX_ROLLOUTS:
            raise ValueError(
                f"algo.num_prompts ({algo.num_prompts}) times algo.group_size ({algo.group_size}) "
                f"must be at most {MAX_ROLLOUTS:,} answers per step"
            )
        strangers = [name for name in self.health.canaries if name not in self.metrics]
        if strangers:
            raise ValueError(f"health.canaries: {strangers[0]!r} is no name under `metrics`")
        idle = {
            "clip": algo.clip != ClipConfig(),
            "entropy_coef": algo.entropy_coef > 0,
            "old_logp": algo.old_logp != "recompute",
        }
        if algo.objective == "nft" and any(idle.values()):
            names = ", ".join(f"algo.{name}" for name, is_set in idle.items() if is_set)
            raise ValueError(f"{names}: no effect under algo.objective: nft, which has no ratio")
        for name, place in _idle(algo):
            raise ValueError(f"algo.{name}: no effect under algo.{place}; leave it out")
        if algo.objective == "trajectory_balance" and algo.aggregate != "sequence":
            raise ValueError(
                "algo.aggregate: must be sequence under algo.objective: trajectory_balance, which "
                f"has one loss per answer; it is {algo.aggregate}"
            )
        if algo.resample_rounds and not algo.drop_zero_variance:
            raise ValueError("algo.resample_rounds needs algo.drop_zero_variance: true")
        if "/" in self.name or self.name in (".", ".."):
            raise ValueError(f"name {self.name!r} is a folder's name, without slashes")
        return self
