"""Options of `policy: {use: vision_language}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from vlrl.config.section import (
    MAX_NEW_TOKENS,
    LoraSection,
    Section,
    Temperature,
    check_limits,
)
from vlrl.errors import ConfigError
from vlrl.protocols import PolicyOptions

if TYPE_CHECKING:
    from vlrl.protocols.planned import PlannedPolicy, PlannedRun


RESERVED = frozenset(
    (
        *("n", "seed", "temperature", "top_p", "top_k", "max_tokens", "max_new_tokens"),
        *("stop", "stop_regex", "stop_token_ids", "include_stop_str_in_output", "no_stop_trim"),
        *("logprobs", "logit_bias", "output_kind", "skip_special_tokens"),
    )
)
"""What the samplers say of a request, from the policy's own options."""


class EngineOptions(Section):
    """Who draws the rollouts; see docs/engines.md."""

    use: Literal["own", "vllm", "sglang"] = Field("own", description="own: the trainer's own loop")
    mode: Literal["server", "colocate"] = Field(
        "server", description="colocate: vLLM in the trainer's own process and on its GPU"
    )
    urls: tuple[str, ...] = Field((), description="a server for each rank, in order")
    tensor_parallel: PositiveInt = Field(1, description="GPUs of each server")
    sleep: Literal[0, 1, 2] = Field(
        0,
        description="colocate: between drawings the engine frees its cache and keeps its weights "
        "on the CPU (1), or frees them too (2); 0 = neither",
    )
    memory_share: float = Field(
        0.3, gt=0, lt=1, description="colocate: of the GPU's memory, for the engine"
    )
    sync: Literal["auto", "disk", "nccl", "ipc"] = Field(
        "auto", description="how weights are handed over; auto = by files (disk)"
    )
    key: str | None = Field(None, description="sent as a bearer key")
    sync_folder: str | None = Field(
        None, description="where weights are handed over; servers read it too; None = /tmp"
    )
    max_gap: float = Field(
        0.05,
        gt=0,
        description="largest mean difference between the engine's and the trainer's log-probs of "
        "the first answers after each publication, nats a token",
    )
    swap: Literal["between", "middle"] = Field(
        "between",
        description="new weights wait for the answers under way, or: the engine is interrupted and "
        "goes on with the new weights after the tokens that are there",
    )
    num_canary_rows: PositiveInt = Field(4, description="answers that both score")
    timeout_s: float = Field(600.0, gt=0, description="for one request, all answers of a group")
    max_tries: PositiveInt = 3
    backoff_s: float = Field(2.0, ge=0)
    sampling_params: dict[str, Any] = Field(
        {}, description="passed on to the engine with every request"
    )

    @model_validator(mode="after")
    def _check(self) -> EngineOptions:
        if self.sync == "ipc":
            raise ValueError(
                "sync: ipc is not there: vLLM takes memory handles over HTTP as pickles alone; on "
                "one machine a sync_folder in /dev/shm keeps weights in memory too"
            )
        if self.sync == "nccl" and (self.use != "vllm" or self.mode != "server"):
            raise ValueError("sync: nccl is for use: vllm with mode: server")
        taken = sorted(RESERVED & self.sampling_params.keys())
        if taken:
            raise ValueError(
                f"sampling_params must not hold {', '.join(taken)}: each request says it, by "
                "policy.temperature, top_p, top_k, stop and max_new_tokens"
            )
        if self.mode == "colocate":
            self._check_colocate()
        elif self.sleep:
            raise ValueError("sleep is for mode: colocate; a server has its GPU to itself")
        if self.use != "own" and self.mode == "server" and not self.urls:
            raise ValueError(
                f"use: {self.use} needs urls, one server for each rank (docs/engines.md)"
            )
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"urls: {url!r} must begin with http:// or https://")
        idle = [name for name in self.model_fields_set - {"use"} if self.differs(name)]
        if self.use == "own" and idle:
            raise ValueError(
                f"{', '.join(sorted(idle))}: no effect under use: own; write engine: {{use: own}}"
            )
        return self

    def _check_colocate(self) -> None:
        if self.use != "vllm":
            raise ValueError("mode: colocate needs use: vllm")
        if self.urls:
            raise ValueError("urls are of servers; mode: colocate has none")
        if self.tensor_parallel > 1:
            raise ValueError(
                "tensor_parallel above 1 needs mode: server: start servers with "
                "`vlrl serve-vllm MODEL PORT --tensor-parallel-size N`"
            )
        if self.swap == "middle":
            raise ValueError("swap: middle needs mode: server, which draws beside the update")


class VisionLanguageConfig(PolicyOptions):
    """Options of `policy: {use: vision_language}`."""

    model: str = Field(description="a folder or a hub name")
    revision: str | None = None
    attn_implementation: str = Field("sdpa", description="sdpa, flash_attention_2, eager")
    train_vision: bool = True
    lora: LoraSection | None = None
    quantize: Literal["nf4"] | None = Field(
        None, description="keep the frozen base in four bits (QLoRA); needs lora and CUDA"
    )
    max_new_tokens: int = Field(64, ge=1, le=MAX_NEW_TOKENS)
    temperature: Temperature = 1.0
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 = off")
    stop: tuple[str, ...] = ()
    min_pixels: PositiveInt | None = Field(None, description="None = the family's own")
    max_pixels: PositiveInt | None = Field(None, description="None = the family's own")
    share_prompt: Literal["auto", "on", "off"] = "auto"
    packed_attention: Literal["auto", "varlen", "masked"] = Field(
        "auto",
        description="kernels of a shared prompt's update; auto = the faster on the main rank's "
        "GPU, measured at the start and kept by checkpoints",
    )
    num_prompt_threads: int | None = Field(
        None,
        ge=0,
        le=64,
        description="threads that encode the next prompts meanwhile; None = up to 4 of the cores "
        "that a rank has to spare, 0 = none",
    )
    sample_batch_size: PositiveInt = Field(64, description="rows decoded together")
    sample_batch_tokens: PositiveInt | None = Field(
        None,
        description="tokens of prompts and longest answers whose keys and values are in memory "
        "together, at least one group's; None = only sample_batch_size counts",
    )

    engine: EngineOptions = EngineOptions()

    def check_ahead(self, ahead: int, order: str) -> None:
        """Publishing must not wait for all that is drawn ahead: then one step is all it can be."""
        engine = self.engine
        if engine.use != "own" and engine.swap == "between" and (ahead > 1 or order == "finished"):
            raise ConfigError(
                "rollouts: ahead above 1 and order: finished need policy.engine.swap: middle; with "
                "swap: between, new weights wait for every answer that was begun"
            )
        if engine.use == "own" and order == "finished":
            raise ConfigError(
                "rollouts.order: finished needs an engine that draws beside the update "
                "(policy.engine)"
            )

    def models(self) -> Mapping[str, str]:
        """The checkpoint."""
        return {"model": self.model}

    def planned(self, run: PlannedRun) -> PlannedPolicy:
        """The policy without its weights."""
        from vlrl.policy.vision_language.planned import PlannedVisionLanguage

        return PlannedVisionLanguage(self, run)

    @property
    def has_dropout(self) -> bool:
        """Whether two passes over the same rollouts with the same weights differ."""
        return self.lora is not None and self.lora.dropout > 0

    def check_sequence_parallel(self) -> None:
        """Raise ConfigError where rows are padded: a slice of them would be mostly padding."""
        if self.share_prompt == "off":
            raise ConfigError(
                "dist.sequence_parallel: rows are divided where groups share their prompt; set "
                "policy.share_prompt: auto, or leave dist.sequence_parallel at 1"
            )

    def for_given_answers(self) -> Mapping[str, Any]:
        """The model's own distribution, whole, and no engine."""
        return {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "engine": {"use": "own"}}

    def recipe(self) -> Mapping[str, Any]:
        """Pixel bounds and the length of answers."""
        names = {"min_pixels", "max_pixels", "max_new_tokens"}
        return self.model_dump(mode="json", include=names)

    @model_validator(mode="after")
    def _check(self) -> VisionLanguageConfig:
        check_limits(self.min_pixels, self.max_pixels)
        if self.quantize is not None and (self.lora is None or self.train_vision):
            raise ValueError(
                "quantize keeps a frozen model in four bits: add lora, and train_vision: false"
            )
        return self
