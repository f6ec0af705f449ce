"""This policy without its weights, for a plan of memory and time (vlrl/protocols/planned.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlrl.config.architectures import read_json, shipped_architecture
from vlrl.families.classes import diffusers_class
from vlrl.families.pipeline_adapters import pipeline_base
from vlrl.policy.flow.families import FlowFamily, flow_family
from vlrl.policy.flow.loading import as_trained, described
from vlrl.policy.flow.module import Velocity
from vlrl.policy.flow.options import FlowConfig
from vlrl.policy.planned import DTYPES, cast, rows_at_once
from vlrl.protocols.planned import Chunk, Pass, PlannedPolicy, PlannedRun


class PlannedFlow(PlannedPolicy):
    """A flow-matching transformer and its decoder on the meta device; encoders have left."""

    def __init__(self, options: FlowConfig, run: PlannedRun) -> None:
        self.options, self.run = options, run
        family, parts, self.num_text_tokens = _parts(options)
        self.family = family
        with torch.device("meta"):
            self.config = parts["transformer"]
            transformer = _empty(self.config)
            self.vae = _empty(parts["vae"]).float().requires_grad_(False)
            transformer = as_trained(transformer, options, family, checkpointing=run.checkpointing)
            transformer = cast(transformer, DTYPES[run.precision])
        self.module: Velocity = Velocity(
            transformer,
            family,
            options.guidance_scale if options.guidance == "cfg" else None,
            options.guidance_scale if options.guidance == "distilled" else None,
            options.detach_unconditional,
        )
        self.others = (self.vae,)
        self.has_reference_copy = options.lora is None
        self.num_rows_at_once = rows_at_once(run, options.sample_batch_size)
        shrinks = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.latent = (
            family.num_channels(self.config),
            options.height_px // shrinks,
            options.width_px // shrinks,
        )

    @property
    def num_trained_steps(self) -> int:
        """Steps, or noise levels, that an image is trained at."""
        if self.run.num_levels is not None:
            return self.run.num_levels
        window = self.options.window
        return self.options.num_steps - 1 if window is None else window.num_steps

    @property
    def num_row_tokens(self) -> int:
        """What an image counts in an update."""
        image = self.latent[1] * self.latent[2] // self.family.patch(self.config) ** 2
        passes = 2 if self.options.guidance == "cfg" else 1
        return (image + self.num_text_tokens) * passes * self.num_trained_steps

    def num_step_tokens(self, *, largest: bool) -> int:
        """Tokens that a rank's rows of a step count in an update."""
        return self.run.num_rows * self.num_row_tokens

    def chunk(self, num_tokens: int, *, largest: bool) -> Chunk:
        """As many images as fit, each with all its trained steps."""
        rows = max(1, num_tokens // self.num_row_tokens)
        steps = rows * self.num_trained_steps
        return Chunk(rows * self.num_row_tokens, partial(self._velocities, steps))

    def _velocities(self, num_rows: int) -> Tensor:
        """Velocities at so many noised latents, summed."""
        make = partial(torch.empty, device="meta")
        text = (self.num_text_tokens, self.config["joint_attention_dim"])
        pooled = self.config["pooled_projection_dim"]
        negative = (make(1, *text), make(1, pooled)) if self.module.cfg_scale is not None else ()
        x = make(num_rows, *self.latent)
        sigma = make(num_rows)
        out: Tensor = self.module(
            x, sigma, make(num_rows, *text), make(num_rows, pooled), *negative
        )
        return out.sum()

    def sampling(self, num_rows: int, *, largest: bool) -> Sequence[Pass]:
        """Denoising steps, then images out of latents."""
        batch = min(num_rows, self.options.decode_batch_size)

        def decode() -> Tensor:
            latents = torch.empty(batch, *self.latent, device="meta")
            image: Tensor = self.vae.decode(latents, return_dict=False)[0]
            return image

        return (
            Pass("a step", partial(self._velocities, num_rows), times=self.options.num_steps),
            Pass("images", decode, times=num_rows / batch),
        )


def _empty(config: Mapping[str, Any]) -> Any:
    """A model of diffusers as its config describes it."""
    return diffusers_class(str(config["_class_name"])).from_config(dict(config))


def _parts(options: FlowConfig) -> tuple[FlowFamily, Mapping[str, Any], int]:
    """The family, the configs of transformer and decoder, and the tokens of a prompt.

    Raises ConfigError for a name that is neither local nor among configs/architectures.
    """
    adapter = pipeline_base(options.model)
    base = options.model if adapter is None else adapter.name
    known = None if Path(base).is_dir() else shipped_architecture(base)
    if known is None:
        options = options.model_copy(update={"model": base})
        family, transformer = described(options)
        folder = Path(base)
        vae = read_json(folder / "vae" / "config.json")
        first = read_json(folder / "text_encoder" / "config.json")["max_position_embeddings"]
        known = {"transformer": transformer, "vae": vae, "num_pooled_tokens": first}
    else:
        family = flow_family(known["_class_name"])
    # Stable Diffusion 3 puts CLIP's tokens before T5's; FLUX takes T5's alone.
    clip = known.get("num_pooled_tokens", 0) if len(family.text_encoders) == 3 else 0
    return family, known, clip + options.max_prompt_tokens
