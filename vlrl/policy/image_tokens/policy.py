"""An autoregressive image model as a policy: every token of an image is an action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlrl.policy.distribution import Sampling
from vlrl.policy.image_tokens.decode import decode_images, stacked, write_tokens
from vlrl.policy.image_tokens.loading import load_generator, load_image_model
from vlrl.policy.image_tokens.module import ImageTokenLogProbs
from vlrl.policy.image_tokens.options import ImageTokensConfig
from vlrl.policy.image_tokens.prompts import ImagePromptEncoder
from vlrl.policy.token_policy import TokenPolicy, num_head_chunks, refuse_regression
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.protocols import PolicySetup
from vlrl.seeds import row_seed
from vlrl.types import Finish, Rollout, Sample

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import JanusForConditionalGeneration


class ImageTokenPolicy(TokenPolicy):
    """Janus and Janus-Pro through transformers; one forward module for DeepSpeed."""

    Options = ImageTokensConfig
    options: ImageTokensConfig
    module: ImageTokenLogProbs

    def __init__(self, options: ImageTokensConfig, setup: PolicySetup) -> None:
        refuse_regression(setup)
        self.options = options
        self._num_head_chunks = num_head_chunks(setup.max_tokens_per_chunk)
        loaded = load_image_model(options, setup.dtype, checkpointing=setup.checkpointing)
        self.processor, self.special = loaded.processor, loaded.special
        self.decoder, self.unused = loaded.decoder, loaded.unused
        self.encoder = ImagePromptEncoder(self.processor)
        module = self._module(loaded.model)
        vq = self.decoder.config
        self.num_image_tokens: int = vq.num_patches**2
        self.side_px: int = vq.num_patches * 2 ** (len(vq.channel_multiplier) - 1)
        super().__init__(module, setup, options.sample_batch_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.kept.device

    def reference_module(self, dtype: torch.dtype) -> ImageTokenLogProbs | None:
        """A frozen copy of the start, or None where switching the adapter off gives it."""
        if self.options.lora is not None:
            return None
        return self._module(load_generator(self.options, dtype)).eval()

    def check_sample(self, sample: Sample) -> None:
        """Raise DataError where a prompt holds an image."""
        self.encoder.encode(sample)

    def size_seen(self, sample: Sample) -> tuple[int, int]:
        """Width and height in pixels of every image that this policy makes."""
        return self.side_px, self.side_px

    def _sample_batch(
        self, samples: Sequence[Sample], num_each: int, seed: int, greedy: bool, first: int
    ) -> tuple[list[Rollout], TokenTrajectory]:
        prompts = tuple(self.encoder.encode(sample) for sample in samples)
        tokens, logp = write_tokens(
            self.module,
            [prompt for prompt in prompts for _ in range(num_each)],
            [row_seed(seed, sample.seed_name, i) for sample in samples for i in range(num_each)],
            self.num_image_tokens,
            greedy=greedy,
        )
        images = decode_images(
            self.decoder,
            self.processor.image_processor,
            tokens,
            self.options.decode_batch_size,
            self.device,
        )
        rollouts = [
            Rollout(
                sample=samples[row // num_each],
                group=first + row // num_each,
                index=row % num_each,
                output=image.numpy(),
                finish=Finish.STOP,
                num_actions=self.num_image_tokens,
                policy_version=self.version,
            )
            for row, image in enumerate(images)
        ]
        group = torch.arange(len(samples)).repeat_interleave(num_each)
        mask = torch.ones(tokens.shape, dtype=torch.bool)
        return rollouts, TokenTrajectory(tokens, mask, logp, group, prompts)

    def plan(self, trajectory: TokenTrajectory, rows: Sequence[int]) -> list[list[int]]:
        """Cut rows into chunks of one forward pass each, within the token budget.

        Prompts of similar length go together: an image costs its tokens and its prompt, padded to
        the longest of the chunk; twice that with guidance. One above the budget is a chunk of its
        own.
        """
        lengths = {b: trajectory.prompts[int(trajectory.group[b])].num_tokens for b in rows}
        chunks: list[list[int]] = []
        for b in sorted(rows, key=lambda b: (lengths[b], b)):
            cost = self.module.passes * (lengths[b] + self.num_image_tokens)
            if chunks and (len(chunks[-1]) + 1) * cost <= self.max_tokens_per_chunk:
                chunks[-1].append(b)
            else:
                chunks.append([b])
        return chunks

    def _forward(
        self, call: Callable[..., Any], trajectory: TokenTrajectory, **options: bool
    ) -> tuple[Tensor, Tensor]:
        """One forward pass over the trajectory -> log-probs and entropies, [B, T]."""
        prompts = [trajectory.prompts[g] for g in trajectory.group.tolist()]
        inputs = (*stacked(prompts, self.special.pad), trajectory.tokens)
        return call(*(x.to(self.device) for x in inputs), **options)

    def save_pretrained(self, folder: str, weights: Mapping[str, Tensor]) -> None:
        """The whole checkpoint, or with LoRA the adapter, in the layout of `from_pretrained`."""
        own = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
        if self.options.lora is None:
            dtype = self.module.core.dtype
            vq = self.decoder.state_dict()
            own |= self.unused
            own |= {f"model.vqmodel.{name}": x.to(dtype).cpu() for name, x in vq.items()}
        self.module.model.save_pretrained(folder, state_dict=own, safe_serialization=True)
        self.processor.save_pretrained(folder)

    def _module(self, model: JanusForConditionalGeneration | PeftModel) -> ImageTokenLogProbs:
        options = self.options
        return ImageTokenLogProbs(
            model,
            Sampling(options.temperature, options.top_p, options.top_k),
            options.guidance_scale,
            self.special,
            num_head_chunks=self._num_head_chunks,
        )
