"""A vision-language model as a policy: every token of its answer is an action."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from vlrl.errors import ConfigError
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.interfaces import Tokenizer
from vlrl.policy.distribution import Sampling
from vlrl.policy.token_policy import TokenPolicy, num_head_chunks, refuse_regression
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language import layout
from vlrl.policy.vision_language.answer_stages import with_stages
from vlrl.policy.vision_language.chunks import chunks_of
from vlrl.policy.vision_language.decode import Decoded
from vlrl.policy.vision_language.decoded_rollouts import as_rollouts
from vlrl.policy.vision_language.kept_groups import packed_group, unpacked_group
from vlrl.policy.vision_language.loading import (
    Loaded,
    load,
    load_model,
    read_config,
    tower_is_frozen,
)
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.packed import choice
from vlrl.policy.vision_language.packed.slices import (
    SlicedGroups,
    check_heads,
    num_heads_each,
    slice_inputs_of,
)
from vlrl.policy.vision_language.prompt_queue import PromptQueue
from vlrl.policy.vision_language.samplers.choice import sampler_of
from vlrl.policy.vision_language.samplers.exported import SHARD
from vlrl.policy.vision_language.samplers.sampler import Sampler
from vlrl.policy.vision_language.special_tokens import never_sampled, stop_tokens
from vlrl.policy.vision_language.stop_strings import StopStrings
from vlrl.policy.vision_language.vision_features import by_size
from vlrl.policy.vision_language.written import written
from vlrl.protocols import Drawn, PolicyOptions, PolicySetup, Ready, StageStarts
from vlrl.protocols.sequence import SequenceGroup
from vlrl.seeds import row_seed
from vlrl.types import Rollout, Sample

if TYPE_CHECKING:
    pass


class VisionLanguagePolicy(TokenPolicy):
    """A family of vlrl/families/known.py through transformers; one forward module for DeepSpeed."""

    Options: ClassVar[type[PolicyOptions]] = VisionLanguageConfig
    options: VisionLanguageConfig
    module: TokenLogProbs

    def __init__(self, options: VisionLanguageConfig, setup: PolicySetup) -> None:
        refuse_regression(setup)
        self.options = options
        self._loading = setup.loading
        self.sequence = setup.sequence
        if self.sequence is not None:  # before gigabytes are loaded
            check_heads(read_config(options.model, options.revision), self.sequence.size)
        loaded: Loaded = load(
            options,
            setup.dtype,
            checkpointing=setup.checkpointing,
            zero_stage=setup.zero_stage,
            loading=setup.loading,
        )
        self.encoder = loaded.reader
        self.processor, family = loaded.reader.processor, loaded.reader.family
        tokenizer = self.processor.tokenizer
        self.pad_id: int = tokenizer.pad_token_id
        module = TokenLogProbs(
            loaded.model,
            Sampling(options.temperature, options.top_p, options.top_k),
            never_sampled(loaded.model, tokenizer, family.forbidden_tokens),
            num_head_chunks=num_head_chunks(setup.max_tokens_per_chunk),
            keeps_features=tower_is_frozen(loaded.model),
            blank=loaded.reader.blank(),
        )
        if self.sequence is not None:
            slice_inputs_of(loaded.model)
        self.stop_tokens = stop_tokens(loaded.model, tokenizer)
        self.prompts = PromptQueue(self.encoder, options.num_prompt_threads)
        self.share_prompt = loaded.shares_prompt
        self.stops = StopStrings(tokenizer, options.stop) if options.stop else None
        self._waited_s = 0.0
        self._decoding = Lock()
        super().__init__(module, setup, options.sample_batch_size)
        self.sampler: Sampler = sampler_of(self, setup)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.forbidden.device

    def pick_kernels(self) -> Mapping[str, str]:
        """Whether packed rows take varlen or masked calls, measured here unless options say it."""
        way = self.options.packed_attention
        if way == "auto":
            way = "varlen" if choice.is_better(*self._one_query(self.sequence)) else "masked"
        return {"packed_attention": way}

    def use_kernels(self, kernels: Mapping[str, str]) -> None:
        """Take the way that was picked for all ranks."""
        varlen = kernels.get("packed_attention") == "varlen"
        for sequence in {None, self.sequence}:  # all heads while sampling, then this rank's
            choice.choose(*self._one_query(sequence), varlen=varlen)

    def _one_query(self, sequence: SequenceGroup | None) -> tuple[Tensor, Tensor]:
        """A query and a key of a rank's heads, of their type and device, [1, heads, 1, D] each."""
        text = self.module.core.config.get_text_config()
        width = text.head_dim if "head_dim" in text.to_dict() else None
        width = width or text.hidden_size // text.num_attention_heads
        make = partial(
            torch.zeros,
            dtype=self.module.core.get_output_embeddings().weight.dtype,
            device=self.device,
        )
        return (
            make(1, num_heads_each(text.num_attention_heads, sequence), 1, width),
            make(1, num_heads_each(text.num_key_value_heads, sequence), 1, width),
        )

    def reference_module(self, dtype: torch.dtype) -> TokenLogProbs | None:
        """A frozen copy of the start, or None where switching the adapter off gives it."""
        if self.options.lora is not None:
            return None
        frozen = load_model(self.options, dtype, self._loading).requires_grad_(False).eval()
        if self.sequence is not None:
            slice_inputs_of(frozen)
        return TokenLogProbs(
            frozen,
            self.module.sampling,
            self.module.forbidden,
            self.module.num_head_chunks,
            self.module.keeps_features,
            self.module.blank,
        )

    def _sample_batch(
        self, samples: Sequence[Sample], num_each: int, seed: int, greedy: bool, first: int
    ) -> tuple[list[Rollout], TokenTrajectory]:
        prompts = self.prompts.take(samples)
        parts = self._within_memory([p.num_tokens for p in prompts], num_each)
        made = [
            self._sample_part(samples[a:b], prompts[a:b], num_each, seed, greedy, first + a)
            for a, b in parts
        ]
        rollouts = [rollout for some, _ in made for rollout in some]
        return rollouts, TokenTrajectory.join([trajectory for _, trajectory in made])

    def _within_memory(
        self, num_prompt_tokens: Sequence[int], num_each: int
    ) -> list[tuple[int, int]]:
        """First and last + 1 of the groups that are decoded together, by the budget of tokens."""
        limit = self.options.sample_batch_tokens
        if limit is None:
            return [(0, len(num_prompt_tokens))]
        sizes = [n + num_each * self.options.max_new_tokens for n in num_prompt_tokens]
        return [(part[0], part[-1] + 1) for part in by_size(range(len(sizes)), sizes, limit)]

    def _sample_part(
        self,
        samples: Sequence[Sample],
        prompts: Sequence[EncodedPrompt],
        num_each: int,
        seed: int,
        greedy: bool,
        first: int,
    ) -> tuple[list[Rollout], TokenTrajectory]:
        """Groups that are decoded together; `first`: index of the first one."""
        seeds = _seeds(samples, num_each, seed)
        decoded = self.sampler.sample(prompts, samples, num_each, seeds, greedy=greedy)
        tokenizer = self.processor.tokenizer
        return self._rollouts(samples, prompts, decoded, first, tokenizer)

    def _rollouts(
        self,
        samples: Sequence[Sample],
        prompts: Sequence[EncodedPrompt],
        decoded: Decoded,
        first: int,
        tokenizer: Tokenizer,
    ) -> Drawn[TokenTrajectory]:
        stops = self.stop_tokens.tolist()
        return as_rollouts(
            samples, prompts, decoded, tokenizer, stops, first=first, version=self.version
        )

    def weights_swapped(self) -> None:
        """An engine is handed the weights again before it draws."""
        self.sampler.forget()

    def publish(self, sample: Sample) -> None:
        """Bring the engine up to date, tried on a sample."""
        if self.sampler.is_beside:
            (prompt,) = self.prompts.take([sample])
            with self._sampling():
                self.sampler.refresh(prompt, sample)

    def begin(
        self, samples: Sequence[Sample], num_each: int, seed: int, *, ready: Ready | None = None
    ) -> Callable[[], Drawn[TokenTrajectory]]:
        """An engine draws while the module is trained; the own loop draws at once."""
        if not self.sampler.is_beside:
            return super().begin(samples, num_each, seed, ready=ready)
        prompts = self.prompts.take(samples)
        draw = self.sampler.begin(prompts, samples, num_each, _seeds(samples, num_each, seed))

        def drawn() -> Drawn[TokenTrajectory]:
            decoded = draw()
            with self._decoding:
                made = self._rollouts(samples, prompts, decoded, 0, self._tokenizer)
            if ready is not None:
                ready(made[0])
            return made

        return drawn

    def abandon(self) -> None:
        """As the sampler does."""
        self.sampler.abandon()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """Of the threads that wait for an engine: tokenizers are not made for several at once."""
        return copy.deepcopy(self.processor.tokenizer)

    def given(self, samples: Sequence[Sample], answers: Sequence[Sequence[Any]]) -> TokenTrajectory:
        """Texts as the model would have written them, each with the token that ends an answer."""
        prompts = self.prompts.take(samples)
        stops = self.stop_tokens.tolist()
        limit = self.options.max_new_tokens
        return written(samples, prompts, answers, self.processor, stops, limit)

    def pack(
        self, rollouts: Sequence[Rollout], trajectory: TokenTrajectory
    ) -> Mapping[str, Any] | None:
        """Tokens and log-probs of a group; its prompt is encoded again."""
        return packed_group(rollouts, trajectory)

    def unpack(self, sample: Sample, packed: Mapping[str, Any]) -> Drawn[TokenTrajectory]:
        """The group that `pack` was given."""
        return unpacked_group(sample, packed, self.encoder.encode(sample))

    def in_stages(
        self, trajectory: TokenTrajectory, starts: Callable[[str], StageStarts]
    ) -> TokenTrajectory:
        """The trajectory with the stage of every token; `starts` finds them in an answer's text."""
        return with_stages(trajectory, self.processor.tokenizer, starts)

    def expect(self, samples: Sequence[Sample]) -> None:
        """Encode the prompts of these samples on threads meanwhile."""
        self.prompts.expect(samples)

    def facts(self) -> Mapping[str, float]:
        """Seconds that sampling has waited for prompts since the last call, and the engine's."""
        waited_s, self._waited_s = self._waited_s, self.prompts.waited_s
        return {"time/prompts_s": self.prompts.waited_s - waited_s, **self.sampler.facts()}

    def check_sample(self, sample: Sample) -> None:
        """Raise DataError where an image or a video cannot be read, or a prompt is too long."""
        self.sampler.check_room(self.encoder.encode(sample), sample)

    def size_seen(self, sample: Sample) -> tuple[int, int] | None:
        """Width and height that the model sees of a sample's first image, in pixels, or None."""
        return self.prompt_size(self.encoder.encode(sample))

    def prompt_size(self, prompt: EncodedPrompt) -> tuple[int, int] | None:
        """Width and height of a prompt's first image after resizing, in pixels; None: in tiles.

        Raises ConfigError where the prompt has no image.
        """
        if not prompt.num_visual_tokens:
            raise ConfigError("the prompt has no image")
        return prompt.image_size_px

    def plan(self, trajectory: TokenTrajectory, rows: Sequence[int]) -> list[list[int]]:
        """Cut rows into chunks of one forward pass each, within the token budget."""
        budget = self.max_tokens_per_chunk
        return chunks_of(trajectory, rows, budget, share_prompt=self.share_prompt)

    def _forward(
        self, call: Callable[..., Any], trajectory: TokenTrajectory, **options: bool
    ) -> tuple[Tensor, Tensor]:
        """One forward pass over the trajectory -> log-probs and entropies, [B, T]."""
        build = layout.shared if self.share_prompt else layout.plain
        rows = build(trajectory, self.pad_id)
        device = self.module.forbidden.device
        groups = rows.groups if self.sequence is None else SlicedGroups.of(rows, self.sequence)
        given = rows.to(device)
        logp, entropy = call(
            given.input_ids,
            given.positions,
            given.attention_mask,
            given.media,
            given.predictor,
            given.targets,
            groups,
            given.features,
            given.shown,
            given.token_inputs,
            **options,
        )
        mask = trajectory.mask.to(device)
        empty = torch.zeros(mask.shape, device=device)
        return empty.masked_scatter(mask, logp), empty.masked_scatter(mask, entropy)

    @torch.no_grad()
    def score(self, trajectory: TokenTrajectory) -> Tensor:
        """Log-probs of some answers under the weights now, [B, T], nats; no gradient."""
        found = torch.zeros_like(trajectory.logp)
        for rows in self.plan(trajectory, range(len(trajectory))):
            part = trajectory.select(rows)
            found[rows] = self._forward(self.module, part)[0].float().cpu()
        return found

    def save_pretrained(self, folder: str, weights: Mapping[str, Tensor]) -> None:
        """Safetensors, config and processor in the layout that `from_pretrained` reads."""
        own = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
        self.module.model.save_pretrained(
            folder, state_dict=own, safe_serialization=True, max_shard_size=SHARD
        )
        self.processor.save_pretrained(folder)


def _seeds(samples: Sequence[Sample], num_each: int, seed: int) -> list[int]:
    """One per row."""
    return [row_seed(seed, s.seed_name, i) for s in samples for i in range(num_each)]
