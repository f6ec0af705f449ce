"""A checkpoint that only answers, on a server: prompts are encoded here, weights are only there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoProcessor, GenerationConfig

from vlrl.errors import ConfigError
from vlrl.families.adapters import adapter_base
from vlrl.families.classes import transformers_class
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.known import family_of
from vlrl.policy.distribution import Sampling
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.decoded_rollouts import as_rollouts
from vlrl.policy.vision_language.loading import model_named, read_config, reader_of
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.samplers.exported import WrittenModel
from vlrl.policy.vision_language.samplers.server import ServerSampler
from vlrl.policy.vision_language.special_tokens import never_sampled, stop_tokens
from vlrl.seeds import row_seed
from vlrl.types import Rollout, Sample


class ServedModel:
    """What a policy's `sample` does, by the server at `options.engine.urls[0]`.

    is_ours: the server was started with this checkpoint and has served nobody else. Others read its
    weights again: a training may have published others since.
    """

    def __init__(self, options: VisionLanguageConfig, *, is_ours: bool) -> None:
        """Raises ConfigError and EngineError where it cannot be served."""
        name = options.model
        if adapter_base(name) is not None:
            raise ConfigError(f"{name!r} is an adapter: `vlrl merge` writes the model to serve")
        config = read_config(name, options.revision)
        with model_named(name):
            self.processor = AutoProcessor.from_pretrained(name, revision=options.revision)
            make = transformers_class(family_of(config).model_class)
            with torch.device("meta"):
                model = make._from_config(config)
            if (Path(name) / "generation_config.json").is_file() or not Path(name).is_dir():
                model.generation_config = GenerationConfig.from_pretrained(
                    name, revision=options.revision or "main"
                )
        self.reader = reader_of(self.processor, model, options.min_pixels, options.max_pixels)
        tokenizer = self.processor.tokenizer
        self.stop_tokens = stop_tokens(model, tokenizer)
        self.sampler = ServerSampler(
            options.engine,
            options.engine.urls[0],
            self.reader,
            Sampling(options.temperature, options.top_p, options.top_k),
            max_tokens=options.max_new_tokens,
            stop=options.stop,
            stop_tokens=self.stop_tokens.tolist(),
            forbidden=never_sampled(model, tokenizer, self.reader.family.forbidden_tokens).tolist(),
        )
        self.sampler.refuse_other_model(name)
        if not is_ours and Path(name).is_dir():
            self.sampler.publish(WrittenModel(Path(name)), 0)

    def sample(
        self, samples: Sequence[Sample], num_each: int, seed: int, *, greedy: bool = False
    ) -> tuple[list[Rollout], TokenTrajectory]:
        """As a policy's; DataError for a prompt that leaves no room for an answer."""
        prompts = [self._encoded(sample) for sample in samples]
        seeds = [row_seed(seed, s.seed_name, i) for s in samples for i in range(num_each)]
        made = self.sampler.sample(prompts, samples, num_each, seeds, greedy=greedy)
        stops = self.stop_tokens.tolist()
        return as_rollouts(samples, prompts, made, self.processor.tokenizer, stops)

    def _encoded(self, sample: Sample) -> EncodedPrompt:
        prompt = self.reader.encode(sample)
        self.sampler.check_room(prompt, sample)
        return prompt

    def prompt_size(self, prompt: EncodedPrompt) -> tuple[int, int] | None:
        """Width and height of a prompt's first image after resizing, in pixels; None: in tiles."""
        return prompt.image_size_px
