"""The options that `vlrl eval` has on GUI benchmarks, in sections."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from vlrl.config.section import Section
from vlrl.eval.gui.strategies import Single, Strategy, Vote, Zoom
from vlrl.eval.options import EvalOptions
from vlrl.gui.data.rows import Convention


class EndpointSection(Section):
    """An OpenAI-compatible endpoint that answers as --model."""

    endpoint: str | None = Field(None, description="ask --model there, e.g. http://.../v1")
    concurrency: PositiveInt = Field(8, description="calls at once")
    timeout_s: float = Field(120.0, gt=0, allow_inf_nan=False, description="of one call")
    max_tries: PositiveInt = Field(4, description="of one call")
    api_key_env: str | None = Field(None, description="variable that holds the key")


class EngineSection(Section):
    """An inference engine that answers as --model, by its token ids."""

    engine: Literal["own", "vllm"] = Field("own", description="own: the trainer's own loop")
    engine_urls: tuple[str, ...] = Field(
        (), description="a server for each rank; default: one is started for the run"
    )
    engine_env: Path = Field(
        Path(".venv-vllm"), description="with vLLM, as scripts/setup_vllm.sh makes it"
    )
    engine_flags: dict[str, str] = Field(
        {}, description="of `vllm serve`, where one is started, e.g. max-model-len=8192"
    )


class ImageSection(Section):
    """How images are shown, and refusals read."""

    min_pixels: PositiveInt | None = Field(None, description="least area of the resized image")
    max_pixels: PositiveInt | None = Field(None, description="largest area of the resized image")
    refusal_words: tuple[str, ...] = Field((), description="texts that say the target is not there")


class LayoutSection(Section):
    """Data, where it differs from the published layout."""

    box: Convention | None = Field(None, description="how boxes are written")
    files: tuple[str, ...] = Field((), description="patterns below --data")
    images: Path | None = Field(None, description="folder of the images")
    columns: dict[str, str] = Field({}, description="OURS=THEIRS")
    within_root: bool = Field(False, description="refuse paths that lead out of the image folder")
    wording: str | None = Field(None, description="field with the instruction")
    negatives: bool = Field(False, description="ask for what is not there (negative_instruction)")


class StrategySection(Section):
    """Test-time options."""

    zoom: float | None = Field(None, description="second look at a window of this share")
    votes: int | None = Field(
        None, description="answers to sample; the one with most agreement counts"
    )
    vote_radius: float = Field(
        0.02, ge=0, allow_inf_nan=False, description="relative to the long side"
    )
    temperature: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="of sampled answers (--votes); default: 0.7"
    )


class GuiEvalOptions(
    EvalOptions, EndpointSection, EngineSection, ImageSection, LayoutSection, StrategySection
):
    """Of GUI benchmarks."""

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine == "own" and (self.engine_urls or self.engine_flags):
            raise ValueError("--engine-urls and --engine-flags are for --engine vllm")
        if self.engine != "own" and not self.is_local:
            raise ValueError(
                "--engine asks --model by its token ids; leave --endpoint and --predictions out"
            )
        if self.engine != "own" and self.attn != "sdpa":
            raise ValueError("--attn is for --engine own; the server chooses its kernels")
        if self.engine_urls and self.engine_flags:
            raise ValueError(
                "--engine-flags are of the server that is started; --engine-urls "
                "names servers that run already"
            )
        if self.engine_urls and self.precision is not None:
            raise ValueError("--precision is that of the servers of --engine-urls (--dtype)")
        return self

    @model_validator(mode="after")
    def _check_strategy(self) -> Self:
        if self.zoom is not None and self.votes is not None:
            raise ValueError("--zoom and --votes do not go together")
        if self.predictions is not None and (self.zoom is not None or self.votes is not None):
            raise ValueError(
                "--zoom and --votes ask a model; with --predictions there is none to ask"
            )
        if self.zoom is None and self.votes is None and self.temperature:
            raise ValueError("--temperature is for sampled answers, which --votes N asks for")
        if self.votes is not None and self.temperature == 0:
            raise ValueError("--votes samples answers: --temperature is above 0, not 0")
        return self

    @property
    def is_local(self) -> bool:
        """Whether a checkpoint is run here."""
        return self.predictions is None and self.endpoint is None

    @property
    def sampling_temperature(self) -> float:
        """Of answers that are sampled."""
        return 0.7 if self.temperature is None else self.temperature

    def strategy(self) -> Strategy:
        """How often an item is asked; raises ConfigError."""
        if self.zoom is not None:
            return Zoom(self.zoom)
        return Single() if self.votes is None else Vote(self.votes, self.vote_radius)
