"""A vision-language model as a policy: every token of its answer is an action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vlrl.algo.kl import KL_ESTIMATORS
from vlrl.config.schema import NftConfig
from vlrl.errors import ConfigError
from vlrl.policy.base import Bound
from vlrl.policy.batches import in_batches
from vlrl.policy.distribution import Sampling
from vlrl.policy.vision_language import layout
from vlrl.policy.vision_language.answer_stages import Starts, with_stages
from vlrl.policy.vision_language.decode import decode
from vlrl.policy.vision_language.loading import (
    Loaded,
    load,
    load_model,
    shares_prompt,
    tower_is_frozen,
)
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.prompts import EncodedPrompt, PromptEncoder
from vlrl.policy.vision_language.trajectory import TokenTrajectory
from vlrl.protocols import Evaluation, Ready
from vlrl.seeds import row_seed
from vlrl.types import Rollout, Sample

HEAD_CHUNK_TOKENS = 2048


class VisionLanguagePolicy(Bound):
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL through transformers; one forward module for DeepSpeed."""

    Options = VisionLanguageConfig

    def __init__(
        self,
        options: VisionLanguageConfig,
        *,
        dtype: torch.dtype,
        max_tokens_per_chunk: int,
        checkpointing: bool = False,
        kl_estimator: str | None = None,
        regression: NftConfig | None = None,
    ) -> None:
        if regression is not None:
            raise ConfigError(
                "algo.objective: nft noises images that the policy made; a policy that writes "
                "tokens has log-probs: use clip, gspo or cispo"
            )
        self.options = options
        self.max_tokens_per_chunk = max_tokens_per_chunk
        self.kl_estimator = "k3" if kl_estimator == "auto" else kl_estimator
        loaded: Loaded = load(options, dtype, checkpointing=checkpointing)
        self.processor, self.family = loaded.processor, loaded.family
        self.min_pixels, self.max_pixels = loaded.min_pixels, loaded.max_pixels
        tokenizer = self.processor.tokenizer
        self.pad_id: int = tokenizer.pad_token_id
        self.module = TokenLogProbs(
            loaded.model,
            Sampling(options.temperature, options.top_p, options.top_k),
            _ids(tokenizer, self.family.forbidden_tokens),
            num_head_chunks=-(-max_tokens_per_chunk // HEAD_CHUNK_TOKENS),
            keeps_features=tower_is_frozen(loaded.model),
        )
        self.stop_tokens = _stop_tokens(loaded.model, tokenizer)
        self.encoder = PromptEncoder(
            self.processor, self.module.core.model.get_rope_index, self.min_pixels, self.max_pixels
        )
        self.share_prompt = shares_prompt(options)
        super().__init__(self.module)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.forbidden.device

    def reference_module(self, dtype: torch.dtype) -> TokenLogProbs | None:
        """A frozen copy of the start, or None where switching the adapter off gives it."""
        if self.options.lora is not None:
            return None
        frozen = load_model(self.options, dtype).requires_grad_(False).eval()
        return TokenLogProbs(
            frozen,
            self.module.sampling,
            self.module.forbidden,
            self.module.num_head_chunks,
            self.module.keeps_features,
        )

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Nothing: prompts are encoded when they are asked."""

    def sample(
        self,
        samples: Sequence[Sample],
        num_each: int,
        seed: int,
        *,
        greedy: bool = False,
        ready: Ready | None = None,
    ) -> tuple[list[Rollout], TokenTrajectory]:
        """`num_each` answers to each sample, group by group."""

        def batch(some: Sequence[Sample], first: int) -> tuple[list[Rollout], TokenTrajectory]:
            return self._sample_batch(some, num_each, seed, greedy, first)

        self.module.eval()
        with self._serving():
            rows = self.options.sample_batch_size
            rollouts, parts = in_batches(samples, num_each, rows, batch, ready)
        self.module.train()
        return rollouts, type(parts[0]).join(parts)

    def _sample_batch(
        self, samples: Sequence[Sample], num_each: int, seed: int, greedy: bool, first: int
    ) -> tuple[list[Rollout], TokenTrajectory]:
        prompts = [self.encoder.encode(sample) for sample in samples]
        decoded = decode(
            self.module,
            prompts,
            num_each,
            [row_seed(seed, sample.seed_name, i) for sample in samples for i in range(num_each)],
            share_prompt=self.share_prompt,
            max_new_tokens=self.options.max_new_tokens,
            stop_tokens=self.stop_tokens.to(self.module.forbidden.device),
            pad_id=self.pad_id,
            greedy=greedy,
            stopped=self._stopped if self.options.stop else None,
        )
        rollouts = []
        for row, finish in enumerate(decoded.finish):
            tokens = decoded.tokens[row, decoded.mask[row]]
            place, index = divmod(row, num_each)
            rollouts.append(
                Rollout(
                    sample=samples[place],
                    group=first + place,
                    index=index,
                    output=self._text(tokens.tolist()),
                    finish=finish,
                    num_actions=len(tokens),
                    policy_version=self.version,
                )
            )
        group = torch.arange(len(prompts)).repeat_interleave(num_each)
        kept = tuple(
            prompt if features is None else replace(prompt, pixel_values=None, features=features)
            for prompt, features in zip(prompts, decoded.features, strict=True)
        )
        return rollouts, TokenTrajectory(decoded.tokens, decoded.mask, decoded.logp, group, kept)

    def staged(
        self, trajectory: TokenTrajectory, starts: Callable[[str], Starts]
    ) -> TokenTrajectory:
        """The trajectory with the stage of every token; `starts` finds them in an answer's text."""
        return with_stages(trajectory, self.processor.tokenizer, starts)

    def image_size(self, sample: Sample) -> tuple[int, int]:
        """Width and height that the model sees of a sample's first image, in pixels."""
        return self.size_seen(self.encoder.encode(sample))

    def size_seen(self, prompt: EncodedPrompt) -> tuple[int, int]:
        """Width and height of a prompt's first image after resizing, in pixels."""
        if prompt.grid_thw is None:
            raise ConfigError("the prompt has no image")
        patch = self.processor.image_processor.patch_size
        return int(prompt.grid_thw[0, 2]) * patch, int(prompt.grid_thw[0, 1]) * patch

    def evaluate(
        self, trajectory: TokenTrajectory, *, with_entropy_grad: bool = False
    ) -> Evaluation:
        """Log-probs, KL and entropy of the trajectory's tokens now, with gradient."""
        logp, entropy = self._forward(self._call, trajectory, entropy_grad=with_entropy_grad)
        kl = None
        if self.kl_estimator and trajectory.reference is not None:
            kl = KL_ESTIMATORS[self.kl_estimator](logp, trajectory.reference.to(logp.device))
        return Evaluation(logp, kl, entropy)

    @torch.no_grad()
    def reference(self, trajectory: TokenTrajectory) -> Tensor:
        """Log-probs under the reference policy, [B, T], nats."""
        if self._reference is not None:
            return self._forward(self._reference, trajectory)[0].cpu()
        return self._forward(self._call, trajectory, reference=True)[0].cpu()

    def plan(self, trajectory: TokenTrajectory, rows: Sequence[int]) -> list[list[int]]:
        """Cut rows into chunks of one forward each, within the token budget.

        With a shared prompt a group stays whole and a chunk costs the sum of its groups; without,
        every row is padded to the longest prompt and the longest answer. A unit above the budget
        is a chunk of its own.
        """
        lengths = trajectory.num_tokens.tolist()
        prompt = [p.num_tokens for p in trajectory.prompts]
        groups = trajectory.group.tolist()
        # Rows, tokens of the prompt, tokens of the answers.
        units: list[tuple[list[int], int, int]] = [
            ([b], prompt[groups[b]], lengths[b]) for b in rows
        ]
        if self.share_prompt:
            units = []
            for g in dict.fromkeys(groups[b] for b in rows):
                members = [b for b in rows if groups[b] == g]
                units.append((members, prompt[g], sum(lengths[b] for b in members)))
        # Alike lengths together: where rows are padded, little is wasted.
        units.sort(key=lambda unit: (unit[1] + unit[2], unit[0]))
        chunks: list[list[int]] = []
        sizes: list[tuple[int, int]] = []
        for members, *size in units:
            grown = [*sizes, (size[0], size[1])]
            if chunks and self._cost(grown) <= self.max_tokens_per_chunk:
                chunks[-1] += members
                sizes = grown
            else:
                chunks.append(list(members))
                sizes = grown[-1:]
        return chunks

    def _cost(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Tokens of a pass over units of these prompts and answers, padding included."""
        if self.share_prompt:
            return sum(prompt + answers for prompt, answers in sizes)
        return len(sizes) * (max(p for p, _ in sizes) + max(a for _, a in sizes))

    def _forward(
        self, call: Callable[..., Any], trajectory: TokenTrajectory, **options: bool
    ) -> tuple[Tensor, Tensor]:
        """One forward pass over the trajectory -> log-probs and entropies, [B, T]."""
        build = layout.shared if self.share_prompt else layout.plain
        rows = build(trajectory, self.pad_id)
        device = self.module.forbidden.device
        inputs = (
            rows.input_ids,
            rows.positions,
            rows.attention_mask,
            rows.pixel_values,
            rows.grid_thw,
            rows.predictor,
            rows.targets,
        )
        tensors = [None if x is None else x.to(device) for x in inputs]
        features = None if rows.features is None else rows.features.to(device)
        logp, entropy = call(*tensors, rows.groups, features, **options)
        mask = trajectory.mask.to(device)
        empty = torch.zeros(mask.shape, device=device)
        return empty.masked_scatter(mask, logp), empty.masked_scatter(mask, entropy)

    def _text(self, tokens: list[int]) -> str:
        if tokens and tokens[-1] in self.stop_tokens:
            tokens = tokens[:-1]
        return self.processor.tokenizer.decode(tokens, skip_special_tokens=False)

    def _stopped(self, tokens: list[int]) -> bool:
        text = self.processor.tokenizer.decode(tokens, skip_special_tokens=False)
        return any(stop in text for stop in self.options.stop)

    def save_pretrained(self, folder: str, weights: dict[str, Tensor]) -> None:
        """Safetensors, config and processor in the layout that `from_pretrained` reads."""
        own = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
        self.module.model.save_pretrained(folder, state_dict=own, safe_serialization=True)
        self.processor.save_pretrained(folder)


def _ids(tokenizer: Any, tokens: Sequence[str]) -> Tensor:
    """Ids of the tokens that this vocabulary has."""
    known = tokenizer.get_vocab()
    return torch.tensor([known[token] for token in tokens if token in known], dtype=torch.long)


def _stop_tokens(model: Any, tokenizer: Any) -> Tensor:
    """End-of-answer ids: the tokenizer's and the generation config's."""
    ids = {tokenizer.eos_token_id}
    listed = model.generation_config.eos_token_id
    if listed is not None:
        ids |= set(listed) if isinstance(listed, list) else {listed}
    return torch.tensor(sorted(ids), dtype=torch.long)
