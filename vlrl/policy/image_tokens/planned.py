"""This policy without its weights, for a plan of memory and time (vlrl/protocols/planned.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, DynamicCache

from vlrl.config.architectures import shipped_architecture
from vlrl.families.classes import transformers_class
from vlrl.policy.distribution import Sampling
from vlrl.policy.image_tokens.loading import MODEL_CLASSES, Special, as_trained, take_out
from vlrl.policy.image_tokens.module import ImageTokenLogProbs
from vlrl.policy.image_tokens.options import ImageTokensConfig
from vlrl.policy.planned import DTYPES, cast, rows_at_once
from vlrl.policy.token_policy import num_head_chunks
from vlrl.policy.vision_language.loading import read_config
from vlrl.protocols.planned import Chunk, Pass, PlannedPolicy, PlannedRun

PROMPT_TOKENS = 64
"""Of a caption in its chat template, where the run does not say it."""


class PlannedImageTokens(PlannedPolicy):
    """A Janus on the meta device: the part that writes images, and the decoder."""

    def __init__(self, options: ImageTokensConfig, run: PlannedRun) -> None:
        self.options, self.run = options, run
        known = None if Path(options.model).is_dir() else shipped_architecture(options.model)
        if known is None:
            config = read_config(options.model, options.revision)
        else:
            config = AutoConfig.for_model(**known)
        self.num_image_tokens: int = config.vision_config.num_image_tokens
        with torch.device("meta"):
            model = transformers_class(MODEL_CLASSES[config.model_type])._from_config(
                config,
                attn_implementation=options.attn_implementation,
                dtype=DTYPES[run.precision],
            )
            decoder, _ = take_out(model)
            decoder.float()
            model = as_trained(model, options, checkpointing=run.checkpointing)
            model = cast(model, DTYPES[run.precision])
        self.module: ImageTokenLogProbs = ImageTokenLogProbs(
            model,
            Sampling(options.temperature, options.top_p, options.top_k),
            options.guidance_scale,
            Special(0, (1, 2)),
            num_head_chunks=num_head_chunks(run.max_tokens_per_chunk),
        )
        self.decoder = decoder
        self.others = (decoder,)
        self.has_reference_copy = options.lora is None
        self.num_rows_at_once = rows_at_once(run, options.sample_batch_size)

    def _prompt(self, *, largest: bool) -> int:
        longest = self.run.max_prompt_tokens or PROMPT_TOKENS
        return longest if largest else self.run.mean_prompt_tokens or longest

    def _row_tokens(self, *, largest: bool) -> int:
        return self.module.passes * (self._prompt(largest=largest) + self.num_image_tokens)

    def num_step_tokens(self, *, largest: bool) -> int:
        """Tokens that a rank's rows of a step count in an update."""
        return self.run.num_rows * self._row_tokens(largest=largest)

    def chunk(self, num_tokens: int, *, largest: bool) -> Chunk:
        """As many images as fit."""
        each = self._row_tokens(largest=largest)
        rows = max(1, num_tokens // each)
        return Chunk(rows * each, partial(self._log_probs, rows, self._prompt(largest=largest)))

    def _log_probs(self, num_rows: int, num_prompt_tokens: int) -> Tensor:
        ids = torch.zeros(num_rows, num_prompt_tokens, dtype=torch.long)
        positions = torch.arange(num_prompt_tokens).expand(num_rows, -1)
        tokens = torch.zeros(num_rows, self.num_image_tokens, dtype=torch.long)
        logp, _ = self.module(ids, positions, torch.ones_like(ids), tokens)
        return logp.sum()

    def sampling(self, num_rows: int, *, largest: bool) -> Sequence[Pass]:
        """Prompts, a token for every row, with caches that are full, and images out of tokens."""
        prompt, passes = self._prompt(largest=largest), self.module.passes
        batch = min(num_rows, self.options.decode_batch_size)
        text = self.module.core.config.get_text_config()
        width = text.to_dict().get("head_dim") or text.hidden_size // text.num_attention_heads
        length = prompt + self.num_image_tokens - 1
        cache = DynamicCache(config=text)

        def begin() -> object:
            shape = (passes * num_rows, text.num_key_value_heads, length - 1, width)
            make = partial(torch.empty, shape, dtype=DTYPES[self.run.precision], device="meta")
            for layer in range(text.num_hidden_layers):
                cache.update(make(), make(), layer)
            return cache

        def step() -> object:
            tokens = torch.zeros(num_rows, 1, dtype=torch.long)
            places = torch.full((num_rows, 1), length - 1)
            mask = torch.ones(num_rows, length, dtype=torch.long)
            hidden = self.module.hidden(self.module.embed(tokens), places, mask, cache)[:, -1]
            logp = self.module.log_probs(hidden.view(passes, num_rows, -1).transpose(0, 1))
            return logp.double().exp().cumsum(-1)

        def decode() -> object:
            codes = torch.zeros(batch, self.num_image_tokens, dtype=torch.long)
            return self.decoder.decode(codes)  # type: ignore[arg-type]

        return (
            Pass("caches", begin),
            Pass("a token", step, times=self.num_image_tokens),
            Pass("images", decode, times=num_rows / batch),
        )
