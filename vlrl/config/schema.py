"""Every key of a run, its type, its default and what it means.

`task`, `reward` and `policy` name plug-ins; their own options are checked by the plug-in's own
model. Rules across sections stand in `RunConfig._check`, so that a bad combination fails before
any weight is loaded.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from vlrl.config.algo import AlgoConfig as AlgoConfig
from vlrl.config.algo import BalanceConfig as BalanceConfig
from vlrl.config.algo import ClipConfig as ClipConfig
from vlrl.config.algo import CorrectionConfig as CorrectionConfig
from vlrl.config.algo import NftConfig as NftConfig
from vlrl.config.algo import idle_keys
from vlrl.config.curriculum import StageConfig, check_stages
from vlrl.config.optim import OptimConfig as OptimConfig
from vlrl.config.section import MAX_WHOLE, Section
from vlrl.config.supervised import DpoConfig, SftConfig


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


class RolloutsConfig(Section):
    """When answers are drawn: in step with the updates, or ahead of them; docs/engines.md."""

    ahead: int = Field(
        0,
        ge=0,
        le=64,
        description="while a step is learnt from, the answers of the step this many later are "
        "drawn; 0 = each step waits for its own. An engine draws beside the update",
    )
    order: Literal["given", "finished"] = Field(
        "given",
        description="finished: a step learns from the groups that are done first, instead of "
        "waiting for the longest answer; which those are depends on the machine",
    )
    max_staleness: int | None = Field(
        None,
        ge=0,
        description="steps that lie at most between the weights that began an answer and those "
        "that learn from it; None = ahead",
    )
    too_old: Literal["discard", "keep"] = Field(
        "discard",
        description="keep: answers above max_staleness are waited for and learnt from, as "
        "algo.rollout_correction weighs them",
    )

    @model_validator(mode="after")
    def _check(self) -> RolloutsConfig:
        if not self.ahead and self.order == "finished":
            raise ValueError("order: finished has no effect without ahead")
        if not self.ahead and self.max_staleness is not None:
            raise ValueError("max_staleness has no effect without ahead")
        if self.order == "given" and self.too_old == "keep":
            raise ValueError("too_old: keep has no effect with order: given, where none is too old")
        if self.order == "given" and self.staleness < self.ahead:
            raise ValueError(
                f"max_staleness: {self.staleness} would discard every answer, since all are drawn "
                f"{self.ahead} steps ahead; raise it, or lower ahead"
            )
        return self

    @property
    def staleness(self) -> int:
        """Of the oldest answers that are learnt from, steps."""
        return self.ahead if self.max_staleness is None else self.max_staleness


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
    curriculum: tuple[StageConfig, ...] = Field(
        (), description="stages of the training, one after the other; see docs/curricula.md"
    )
    sft: SftConfig = SftConfig()
    dpo: DpoConfig = DpoConfig()
    algo: AlgoConfig = AlgoConfig()
    optim: OptimConfig = OptimConfig()
    dist: DistConfig = DistConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
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
        for name, place in idle_keys(algo):
            raise ValueError(f"algo.{name}: no effect under algo.{place}; leave it out")
        has_ratio = algo.objective not in ("nft", "trajectory_balance")
        trusts = algo.rollout_correction is None and algo.old_logp == "recompute"
        if self.rollouts.ahead and has_ratio and trusts:
            raise ValueError(
                "rollouts.ahead: older weights draw the answers, and nothing corrects for it; set "
                "algo.rollout_correction (docs/engines.md), or algo.old_logp: rollout"
            )
        if algo.objective == "trajectory_balance" and algo.aggregate != "sequence":
            raise ValueError(
                "algo.aggregate: must be sequence under algo.objective: trajectory_balance, which "
                f"has one loss per answer; it is {algo.aggregate}"
            )
        if algo.resample_rounds and not algo.drop_zero_variance:
            raise ValueError("algo.resample_rounds needs algo.drop_zero_variance: true")
        check_stages(self.curriculum, self.num_steps, self.health.canaries)
        if "/" in self.name or self.name in (".", ".."):
            raise ValueError(f"name {self.name!r} is a folder's name, without slashes")
        return self
