"""Options of `policy: {use: flow}`: an image model whose actions are denoising steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from vlrl.config.section import MAX_RANK, MAX_SIDE_PX, Section
from vlrl.protocols import PolicyOptions

if TYPE_CHECKING:
    from vlrl.protocols.planned import PlannedPolicy, PlannedRun

MAX_STEPS = 10_000
"""Denoising steps of an image."""


class FlowLoraConfig(Section):
    """A low-rank adapter on the transformer; the reference policy is the adapter switched off."""

    rank: int = Field(32, ge=1, le=MAX_RANK)
    alpha: PositiveInt = 64
    target_modules: tuple[str, ...] = Field((), description="empty = the family's own")


class WindowConfig(Section):
    """Which steps are stochastic, and so trained; all others follow the ODE.

    The same steps on all ranks and for every seed: they depend on the number of optimizer steps
    alone.
    """

    num_steps: PositiveInt = 2
    placement: Literal["fixed", "random", "sliding"] = "fixed"
    start: NonNegativeInt = Field(0, description="first step that may be in the window")
    stop: PositiveInt | None = Field(
        None, description="first step that may not; None = the last of the schedule"
    )
    slide_every: PositiveInt = Field(
        25, description="optimizer steps after which a sliding window moves by one step (MixGRPO)"
    )


class FlowConfig(PolicyOptions):
    """A diffusers flow-matching pipeline as a policy."""

    model: str = Field(description="a pipeline's folder or hub name")
    revision: str | None = None
    width_px: int = Field(ge=1, le=MAX_SIDE_PX)
    height_px: int = Field(ge=1, le=MAX_SIDE_PX)
    lora: FlowLoraConfig | None = None
    num_steps: int = Field(10, ge=1, le=MAX_STEPS, description="denoising steps of a rollout")
    num_eval_steps: int = Field(
        40, ge=1, le=MAX_STEPS, description="of an evaluation, along the ODE"
    )
    guidance: Literal["cfg", "off", "distilled"] = Field(
        "cfg", description="distilled: the model takes the scale as an input (FLUX.1-dev)"
    )
    guidance_scale: NonNegativeFloat = 4.5
    negative_prompt: str = ""
    detach_unconditional: bool = Field(
        False, description="no gradient through the unconditional half of cfg"
    )
    dynamics: Literal["flow_sde", "cps", "dance_sde"] = "flow_sde"
    noise_level: float = Field(0.7, gt=0, description="cps: at most 1")
    window: WindowConfig | None = Field(
        None, description="None = every step but the last is stochastic and trained"
    )
    logp_scale: Literal["dims", "sqrt_dims", "one", "cps_published"] = Field(
        "dims", description="what a log-density is divided by; see vlrl/algo/flow.py"
    )
    kl: Literal["exact", "without_dt", "mean_distance", "velocity"] = "exact"
    ratio: Literal["plain", "guard"] = Field("plain", description="guard: GRPO-Guard's RatioNorm")
    guard_by_dt: bool = Field(
        False, description="with ratio: guard, weigh each step's objective, not its KL, by 1 / -dt"
    )
    latent_dtype: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="latents are rounded to it before their log-prob is taken"
    )
    same_noise: bool = Field(False, description="all images of a group start from the same noise")
    stack_steps: bool = Field(True, description="all trained steps of a chunk in one forward pass")
    max_prompt_tokens: int = Field(128, ge=1, le=8192, description="T5's part of the prompt")
    prompt_cache: str | None = Field(
        None, description="folder of encoded prompts, kept between runs; None = in memory"
    )
    sample_batch_size: PositiveInt = Field(32, description="images denoised together")
    decode_batch_size: PositiveInt = Field(8, description="images decoded together")

    def models(self) -> Mapping[str, str]:
        """The checkpoint."""
        return {"model": self.model}

    def planned(self, run: PlannedRun) -> PlannedPolicy:
        """The policy without its weights."""
        from vlrl.policy.flow.planned import PlannedFlow

        return PlannedFlow(self, run)

    def unused_under(self, objective: str) -> list[str]:
        """Options that are set but have no effect under an objective.

        DiffusionNFT follows the ODE and trains finished images at noise levels of its own; with the
        same noise, all images of a group would be identical.
        """
        names = ("dynamics", "noise_level", "window", "logp_scale", "kl", "ratio", "guard_by_dt",
                 "same_noise") if objective == "nft" else ()  # fmt: skip
        fields, values = type(self).model_fields, dict(self)
        return [name for name in names if values[name] != fields[name].default]

    def refuses(self, objective: str) -> str:
        """Trajectory balance needs the probability of an answer, which an image has none of."""
        if objective != "trajectory_balance":
            return ""
        return "balances the probabilities of answers, and an image only has that of its path"

    @model_validator(mode="after")
    def _check(self) -> FlowConfig:
        if self.dynamics == "cps" and self.noise_level > 1:
            raise ValueError("noise_level: cps takes at most 1 (all noise is fresh)")
        if self.guard_by_dt and self.ratio != "guard":
            raise ValueError("guard_by_dt needs ratio: guard")
        if self.ratio == "guard" and self.logp_scale != "dims":
            raise ValueError("ratio: guard is defined for logp_scale: dims")
        stop = self.num_steps - 1
        if self.window is not None:
            last = self.window.stop if self.window.stop is not None else stop
            if last > stop:
                raise ValueError(
                    f"window.stop ({last}): the last of {self.num_steps} steps adds almost no "
                    f"noise and is never trained; at most {stop}"
                )
            if self.window.start + self.window.num_steps > last:
                raise ValueError(
                    f"window: {self.window.num_steps} steps do not fit between start "
                    f"({self.window.start}) and stop ({last})"
                )
        elif stop < 1:
            raise ValueError("num_steps: at least 2, since the last step is never trained")
        return self
