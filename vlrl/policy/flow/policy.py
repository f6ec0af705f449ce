"""A flow-matching image model as a policy: every stochastic denoising step is an action."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlrl.algo.flow import Step, guarded_logp, kl_to_reference, log_density, logp_divisor
from vlrl.algo.nft import nft_loss, optimality
from vlrl.config.schema import NftConfig
from vlrl.errors import ConfigError
from vlrl.families.literal import literal
from vlrl.policy.batches import in_batches
from vlrl.policy.flow.captions import CaptionStore
from vlrl.policy.flow.loading import load_flow, load_transformer
from vlrl.policy.flow.module import Velocity
from vlrl.policy.flow.options import FlowConfig
from vlrl.policy.flow.rollout import DTYPES, Denoised, decode_images, denoise, noised
from vlrl.policy.flow.saving import save_flow
from vlrl.policy.flow.schedule import noise_levels, steps_of, trained_steps
from vlrl.policy.flow.trajectory import EncodedCaption, FlowTrajectory
from vlrl.protocols import Evaluation, Policy, PolicySetup, Ready, Regression
from vlrl.seeds import row_seed
from vlrl.types import Finish, Rollout, Sample

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin
    from peft import PeftModel


class FlowPolicy(Policy[FlowTrajectory]):
    """Stable Diffusion 3 and FLUX pipelines through diffusers; one forward module for DeepSpeed."""

    Options = FlowConfig
    options: FlowConfig
    module: Velocity

    def __init__(self, options: FlowConfig, setup: PolicySetup) -> None:
        if setup.kl_estimator not in (None, "auto"):
            raise ConfigError(
                "algo.kl_estimator: a denoising step's KL has a closed form; leave `auto`, and "
                "choose among its published forms with policy.kl"
            )
        self.options = options
        self.max_tokens_per_chunk = setup.max_tokens_per_chunk
        self.with_kl = setup.kl_estimator is not None
        if setup.regression is not None and not isinstance(setup.regression, NftConfig):
            raise ConfigError(f"flow policies have no objective with {setup.regression!r}")
        self.nft = setup.regression
        loaded = load_flow(options, setup.dtype, checkpointing=setup.checkpointing)
        self.pipeline, self.family = loaded.pipeline, loaded.family
        self.vae = self.pipeline.vae
        super().__init__(self._module(loaded.transformer))
        self.pipeline.transformer = None
        self.latent_shape = self._latent_shape()
        tokens = self.latent_shape[1] * self.latent_shape[2]
        self.num_image_tokens = tokens // self.family.patch(self.module.core.config) ** 2
        scheduler = self.pipeline.scheduler
        self.sigmas = noise_levels(scheduler, options.num_steps, self.num_image_tokens)
        self.eval_sigmas = noise_levels(scheduler, options.num_eval_steps, self.num_image_tokens)
        self.captions = CaptionStore(
            options.prompt_cache, f"{options.model}@{options.revision}/{options.max_prompt_tokens}"
        )

    def reference_module(self, dtype: torch.dtype) -> Velocity | None:
        """A frozen copy of the start, or None where switching the adapter off gives it."""
        if self.options.lora is not None:
            return None
        return self._module(load_transformer(self.options, dtype))

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Encode all prompts, free the text encoders, and move the decoder to the device."""
        device = self.device
        texts = [_text(sample) for sample in samples]
        if self.options.guidance == "cfg":
            texts.append(self.options.negative_prompt)
        for name in self.family.text_encoders:
            encoder = self.pipeline.components.get(name)
            if encoder is not None:
                encoder.to(device)

        names = [name.replace("text_encoder", "tokenizer") for name in self.family.text_encoders]
        tokenizers = [self.pipeline.components.get(name) for name in names]
        special = [token for one in tokenizers if one for token in one.all_special_tokens]

        @torch.no_grad()
        def encode(batch: Sequence[str]) -> tuple[Tensor, Tensor]:
            texts = [literal(text, special) for text in batch]
            return self.family.encode(self.pipeline, texts, self.options.max_prompt_tokens)

        self.captions.fill(texts, encode)
        for name in self.family.text_encoders:
            setattr(self.pipeline, name, None)
        gc.collect()
        self.vae.to(device)

    def size_seen(self, sample: Sample) -> tuple[int, int]:
        """Width and height in pixels of every image that this policy makes."""
        return self.options.width_px, self.options.height_px

    def sample(
        self,
        samples: Sequence[Sample],
        num_each: int,
        seed: int,
        *,
        greedy: bool = False,
        ready: Ready | None = None,
    ) -> tuple[list[Rollout], FlowTrajectory]:
        """`num_each` images for each sample, from noise that depends only on seed, sample and place
        in the group; `greedy` follows the ODE to the end."""
        plain = greedy or self.nft is not None
        window = [] if plain else trained_steps(self.options, self.version)

        def batch(some: Sequence[Sample], first: int) -> tuple[list[Rollout], FlowTrajectory]:
            return self._sample_batch(some, num_each, seed, window, greedy, first)

        rows = self.options.sample_batch_size
        self.module.eval()
        with self._serving():
            rollouts, parts = in_batches(samples, num_each, rows, batch, ready)
        self.module.train()
        return rollouts, FlowTrajectory.join(parts)

    @torch.no_grad()
    def _sample_batch(
        self,
        samples: Sequence[Sample],
        num_each: int,
        seed: int,
        window: list[int],
        greedy: bool,
        first: int,
    ) -> tuple[list[Rollout], FlowTrajectory]:
        prompts = tuple(self.captions[_text(sample)] for sample in samples)
        done = self._denoise(samples, prompts, num_each, seed, window, greedy)
        if self.nft is not None and not greedy:
            names = [(sample.seed_name, i) for sample in samples for i in range(num_each)]
            noise = [_generator(seed, f"{name}/levels", i) for name, i in names]
            done, levels = noised(done, self.sigmas, self.nft.num_levels, noise)
        else:
            levels = None
        logp = done.logp
        if self.options.ratio == "guard" and window:
            logp = logp * torch.tensor(
                [self._steps[i].std for i in window]
            )  # in the unit of guarded_logp
        images = decode_images(self.vae, done.latents, self.options.decode_batch_size)
        group = torch.arange(len(samples)).repeat_interleave(num_each)
        rollouts = [
            Rollout(
                sample=samples[row // num_each],
                group=first + row // num_each,
                index=row % num_each,
                output=image.numpy(),
                finish=Finish.STOP,
                num_actions=done.logp.shape[1],
                policy_version=self.version,
            )
            for row, image in enumerate(images)
        ]
        trajectory = FlowTrajectory(
            before=done.before,
            after=done.after,
            logp=logp,
            mask=torch.ones(done.logp.shape, dtype=torch.bool),
            group=group,
            steps=tuple(window),
            prompts=prompts,
            mean=done.mean if self.options.ratio == "guard" else None,
            levels=levels,
        )
        return rollouts, trajectory

    def _denoise(
        self,
        samples: Sequence[Sample],
        prompts: Sequence[EncodedCaption],
        num_each: int,
        seed: int,
        window: list[int],
        greedy: bool,
    ) -> Denoised:
        sigmas = self.eval_sigmas if greedy else self.sigmas
        steps = steps_of(self.options, sigmas, window)
        names = [(sample.seed_name, i) for sample in samples for i in range(num_each)]
        generators = [_generator(seed, f"{name}/steps", i) for name, i in names]
        dtype = DTYPES[self.options.latent_dtype]
        scale = self.options.logp_scale
        shared = 0
        if self.options.same_noise and num_each > 1:
            # Until the first stochastic step all images of a group are the same: denoised once.
            shared = window[0] if window else len(steps)
        starts = [_generator(seed, f"{s.seed_name}/start", 0) for s in samples]
        if shared or self.options.same_noise:
            x = self._noise(starts)
            head = denoise(self._with(prompts, 1), x, sigmas, steps[:shared], starts, dtype, scale)
            x = head.latents.repeat_interleave(num_each, dim=0)
        else:
            x = self._noise([_generator(seed, f"{name}/start", i) for name, i in names])
        return denoise(
            self._with(prompts, num_each),
            x,
            sigmas[shared:],
            steps[shared:],
            generators,
            dtype,
            scale,
        )

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        noise = [torch.randn(self.latent_shape, generator=g) for g in generators]
        return torch.stack(noise).to(self.device)

    def _with(
        self, prompts: Sequence[EncodedCaption], num_each: int
    ) -> Callable[[Tensor, float], Tensor]:
        """The velocity field for the prompts of a batch of groups."""
        context, pooled = self._stacked(prompts)
        context = context.repeat_interleave(num_each, dim=0)
        pooled = pooled.repeat_interleave(num_each, dim=0)
        negative = self._negative()

        def field(x: Tensor, sigma: float) -> Tensor:
            levels = torch.full((len(x),), sigma, device=x.device)
            return self.module(x, levels, context, pooled, *negative)

        return field

    def evaluate(
        self, trajectory: FlowTrajectory, *, with_entropy_grad: bool = False
    ) -> Evaluation:
        """Scaled log-densities and KL of the steps under the current weights, with gradient.

        The entropy of a step does not depend on the weights, so none is reported.
        """
        if with_entropy_grad:
            raise ConfigError("algo.entropy_coef: a denoising step's entropy is fixed; set 0")
        v = self._velocities(self._call, trajectory)
        R, T = trajectory.logp.shape
        chosen = [self._steps[i] for i in trajectory.steps]
        numbers = [(s.std, s.diffusion, s.coef_v, s.dt) for s in chosen]
        std, diffusion, coef_v, dt = (
            torch.tensor(column, device=v.device).repeat(R) for column in zip(*numbers, strict=True)
        )
        x, after = self._flat(trajectory.before), self._flat(trajectory.after)
        mean = torch.stack([s.mean(a, b) for s, a, b in zip(chosen * R, x, v, strict=True)])
        num_dims = x[0].numel()
        divisor = logp_divisor(self.options.logp_scale, num_dims, std)
        logp = log_density(after, mean, std) / divisor
        weight = None
        if trajectory.mean is not None:
            logp = guarded_logp(logp, mean, self._flat(trajectory.mean), std)
            if self.options.guard_by_dt:
                weight = (-1 / dt).view(R, T)
        kl = None
        if self.with_kl and trajectory.reference is not None:
            there = self._flat(trajectory.reference)
            kl = kl_to_reference(self.options.kl, v, there, coef_v, std, diffusion)
            if self.options.kl == "exact":
                kl = kl * num_dims / divisor
            kl = kl.view(R, T)
        return Evaluation(logp.view(R, T), kl, None, weight)

    def regression(
        self, trajectory: FlowTrajectory, advantage: Tensor, old: Tensor | None
    ) -> Regression:
        """DiffusionNFT on the final images; the KL is |v - v_reference|^2, as published."""
        assert self.nft is not None
        assert trajectory.levels is not None
        R, T = trajectory.logp.shape
        v = self._velocities(self._call, trajectory)
        v_old = v.detach() if old is None else old.flatten(0, 1)
        x, clean = self._flat(trajectory.before), self._flat(trajectory.after)
        r = optimality(advantage, self.nft.advantage_scale).repeat_interleave(T)
        levels = self._flat(trajectory.levels)
        loss = nft_loss(
            v, v_old, x, clean, levels, r, beta=self.nft.beta, scale=self.nft.advantage_scale
        )
        kl = None
        if self.with_kl and trajectory.reference is not None:
            there = self._flat(trajectory.reference)
            kl = kl_to_reference("velocity", v, there, levels, levels, levels).view(R, T)
        return Regression(loss.view(R, T), kl)

    @torch.no_grad()
    def regression_target(self, trajectory: FlowTrajectory) -> Tensor:
        """Velocities of the current weights at the noised images, [B, T, C, H, W]."""
        v = self._velocities(self._call, trajectory)
        return v.view(trajectory.before.shape).cpu()

    @torch.no_grad()
    def reference(self, trajectory: FlowTrajectory) -> Tensor:
        """Velocities of the reference policy at the trained steps, [B, T, C, H, W]."""
        if self._reference is not None:
            v = self._velocities(self._reference, trajectory)
        else:
            v = self._velocities(self._call, trajectory, reference=True)
        return v.view(trajectory.before.shape).cpu()

    def plan(self, trajectory: FlowTrajectory, rows: Sequence[int]) -> list[list[int]]:
        """Cut rows into chunks of one forward pass each; a row's trained steps stay together."""
        num_text = trajectory.prompts[0].context.shape[0]
        passes = 2 if self.options.guidance == "cfg" else 1
        # Stacked or not, one backward pass goes through all trained steps of a chunk.
        cost = (self.num_image_tokens + num_text) * passes * trajectory.logp.shape[1]
        size = max(1, self.max_tokens_per_chunk // cost)
        return [list(rows[i : i + size]) for i in range(0, len(rows), size)]

    def save_pretrained(self, folder: str, weights: Mapping[str, Tensor]) -> None:
        """The pipeline with the trained transformer, or the adapter alone."""
        save_flow(self, folder, weights)

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.module.parameters()).device

    def _velocities(
        self, call: Callable[..., Any], trajectory: FlowTrajectory, **options: bool
    ) -> Tensor:
        """Velocities at all trained steps, [B T, C, H, W], row by row."""
        R, T = trajectory.logp.shape
        device = self.device
        context, pooled = self._stacked(trajectory.prompts)
        rows = trajectory.group.to(device)
        if trajectory.levels is None:
            sigma = torch.tensor([self.sigmas[i] for i in trajectory.steps]).expand(R, T)
        else:
            sigma = trajectory.levels
        sigma = sigma.to(device)
        negative = self._negative()
        x = trajectory.before.to(device)
        if self.options.stack_steps:
            index = rows.repeat_interleave(T)
            flat = x.flatten(0, 1)
            levels = sigma.reshape(-1)
            return call(flat, levels, context[index], pooled[index], *negative, **options)
        each = [
            call(x[:, t], sigma[:, t], context[rows], pooled[rows], *negative, **options)
            for t in range(T)
        ]
        return torch.stack(each, dim=1).flatten(0, 1)

    def _flat(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device).flatten(0, 1)

    def _stacked(self, prompts: Sequence[EncodedCaption]) -> tuple[Tensor, Tensor]:
        context = torch.stack([p.context for p in prompts]).to(self.device)
        return context, torch.stack([p.pooled for p in prompts]).to(self.device)

    def _negative(self) -> tuple[Tensor, ...]:
        if self.options.guidance != "cfg":
            return ()
        return self._stacked([self.captions[self.options.negative_prompt]])

    @property
    def _steps(self) -> list[Step]:
        return steps_of(self.options, self.sigmas, list(range(self.options.num_steps - 1)))

    def _module(self, transformer: ModelMixin | PeftModel) -> Velocity:
        options = self.options
        return Velocity(
            transformer,
            self.family,
            options.guidance_scale if options.guidance == "cfg" else None,
            options.guidance_scale if options.guidance == "distilled" else None,
            options.detach_unconditional,
        )

    def _latent_shape(self) -> tuple[int, int, int]:
        config = self.module.core.config
        side = self.pipeline.vae_scale_factor
        unit = side * self.family.patch(config)
        width, height = self.options.width_px, self.options.height_px
        if width % unit or height % unit:
            raise ConfigError(
                f"policy: width_px ({width}) and height_px ({height}) must be multiples of {unit}"
            )
        return self.family.num_channels(config), height // side, width // side


def _text(sample: Sample) -> str:
    return " ".join(sample.texts)


def _generator(seed: int, name: str, index: int) -> torch.Generator:
    """The generator of an image's own noise, on CPU."""
    return torch.Generator().manual_seed(row_seed(seed, name, index))
