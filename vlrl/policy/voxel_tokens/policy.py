"""A language model that writes voxel codes as a policy: tokens of text and codes are actions.

    caption -> plan in words -> codes -> [ a turn that asks for details -> words -> codes ]

The second object is written with the first one in context. (In AR3D-R1, arXiv 2512.10949, only
the plan is in context; its code is not released.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vlrl.errors import ConfigError, DataError
from vlrl.families.interfaces import Processor, Tokenizer
from vlrl.mesh.answer import VoxelStage
from vlrl.mesh.mesh_words import END, MARK, START, MeshCodes, fit_codes
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.decode import decode
from vlrl.policy.vision_language.loading import load_model
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy, layout
from vlrl.policy.voxel_tokens.codec_files import load_codec, save_codec
from vlrl.policy.voxel_tokens.grammar import (
    FORCED,
    Grammar,
    MeshTokens,
    max_tokens,
    program,
)
from vlrl.policy.voxel_tokens.module import VoxelTokenLogProbs
from vlrl.policy.voxel_tokens.options import VoxelTokensConfig
from vlrl.policy.voxel_tokens.trajectory import VoxelTrajectory
from vlrl.protocols import PolicyOptions, PolicySetup
from vlrl.seeds import row_seed
from vlrl.types import Finish, ImagePart, Rollout, Sample

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class VoxelTokenPolicy(VisionLanguagePolicy):
    """Qwen2.5-VL with voxel codes in its vocabulary (ShapeLLM-Omni), and the VQ-VAE behind them."""

    Options: ClassVar[type[PolicyOptions]] = VoxelTokensConfig

    def __init__(self, options: VoxelTokensConfig, setup: PolicySetup) -> None:
        super().__init__(as_language_model(options), setup)
        self.voxel_options = options
        self.codec = load_codec(options.codec, options.codec_shape)
        tokenizer = self.processor.tokenizer
        self.mesh = mesh_tokens(tokenizer, self.codec.shape.num_codes, options.model)
        # A caption's <mesh12> is text, not a voxel.
        self.encoder.control_tokens += (MARK,)
        # No prompt holds an image, so the vision tower is not used.
        plain: TokenLogProbs = self.module
        self.module: VoxelTokenLogProbs = self._wrap(plain.model, plain)
        self._call = self.module
        limits = [options.max_plan_tokens]
        instruction: list[int] = []
        if options.refine is not None:
            limits.append(options.refine.max_plan_tokens)
            instruction = further_turn(self.processor, options.refine.instruction)
        self.segments = program(
            self.mesh,
            self.codec.shape.num_tokens,
            limits,
            instruction,
            constrained=options.constrained,
        )

    def _wrap(self, model: PreTrainedModel | PeftModel, plain: TokenLogProbs) -> VoxelTokenLogProbs:
        tokenizer = self.processor.tokenizer
        special = torch.tensor(sorted({*tokenizer.all_special_ids, *_added(tokenizer)}))
        return VoxelTokenLogProbs(
            model, plain.sampling, plain.forbidden, plain.num_head_chunks, self.mesh, special
        )

    def reference_module(self, dtype: torch.dtype) -> VoxelTokenLogProbs | None:
        """A frozen copy of the start, or None where switching the adapter off gives it."""
        if self.options.lora is not None:
            return None
        frozen = load_model(self.options, dtype, self._loading).requires_grad_(False).eval()
        return self._wrap(frozen, self.module)

    def size_seen(self, sample: Sample) -> tuple[int, int]:
        """Voxels per side, twice: the policy makes no image, and a task draws at any size."""
        return self.codec.shape.resolution, self.codec.shape.resolution

    def _sample_batch(
        self, samples: Sequence[Sample], num_each: int, seed: int, greedy: bool, first: int
    ) -> tuple[list[Rollout], TokenTrajectory]:
        for sample in samples:
            if any(isinstance(p, ImagePart) for m in sample.prompt for p in m.parts):
                raise DataError(
                    f"sample {sample.id!r}: the prompt holds an image; policy voxel_tokens reads "
                    "only text"
                )
        prompts = self.prompts.take(samples)
        device = self.module.forbidden.device
        stop_tokens = self.stop_tokens.to(device)
        grammar = Grammar(self.segments, self.mesh, stop_tokens, len(samples) * num_each)
        decoded = decode(
            self.module,
            prompts,
            num_each,
            [row_seed(seed, sample.seed_name, i) for sample in samples for i in range(num_each)],
            share_prompt=self.share_prompt,
            max_new_tokens=max_tokens(self.segments),
            stop_tokens=stop_tokens,
            pad_id=self.pad_id,
            greedy=greedy,
            rules=grammar,
        )
        kind, stage = grammar.table(decoded.tokens.shape[1])
        objects = self.objects(decoded.tokens, decoded.mask, stage)
        cut = grammar.cut.tolist()
        rollouts = [
            Rollout(
                sample=samples[row // num_each],
                group=first + row // num_each,
                index=row % num_each,
                output=stages,
                finish=Finish.LENGTH if cut[row] else Finish.STOP,
                num_actions=int((decoded.mask[row] & (kind[row] != FORCED)).sum()),
                policy_version=self.version,
            )
            for row, stages in enumerate(objects)
        ]
        trajectory = VoxelTrajectory(
            decoded.tokens,
            decoded.mask & (kind != FORCED),
            decoded.logp,
            torch.arange(len(prompts)).repeat_interleave(num_each),
            tuple(prompts),
            present=decoded.mask,
            kind=kind,
            stage=stage,
        )
        return rollouts, trajectory

    def objects(
        self, tokens: Tensor, present: Tensor, stage: Tensor
    ) -> list[tuple[VoxelStage, ...]]:
        """The stages of every answer, its objects decoded; tokens, present, stage: [B, T]."""
        read = [
            [
                self.read_stage(row[here & (at == s)].tolist())
                for s in range(self.voxel_options.num_stages)
            ]
            for row, here, at in zip(tokens, present, stage, strict=True)
        ]
        wanted = [codes.values for stages in read for _, codes in stages if codes.values]
        grids = iter(self.decode_codes(wanted))
        side = self.codec.shape.resolution
        return [
            tuple(
                VoxelStage(
                    words,
                    codes.values,
                    next(grids) if codes.values else np.zeros((side,) * 3, bool),
                    codes.fault,
                )
                for words, codes in stages
            )
            for stages in read
        ]

    def read_stage(self, tokens: list[int]) -> tuple[str, MeshCodes]:
        """The text before the object, and its codes, from one stage's tokens; never raises."""
        mesh, shape = self.mesh, self.codec.shape
        start = tokens.index(mesh.start) if mesh.start in tokens else len(tokens)
        after = tokens[start + 1 :]
        is_closed = mesh.end in after
        inside = after[: after.index(mesh.end)] if is_closed else after
        # A token that is not a code is below 0 or too large here, and is counted as a fault.
        found = [token - mesh.first for token in inside if token not in self._stop_set]
        codes = fit_codes(found, shape.num_tokens, shape.num_codes, is_closed=is_closed)
        return self._words(tokens[:start]), codes

    def _words(self, tokens: list[int]) -> str:
        turn = tokens.copy()
        if self.voxel_options.refine is not None:
            # The forced turn is among the second stage's tokens, but not part of its text.
            instruction = next((list(s.forced) for s in self.segments if len(s.forced) > 1), [])
            if instruction and turn[: len(instruction)] == instruction:
                turn = turn[len(instruction) :]
        kept = [token for token in turn if token not in self._stop_set]
        return self.processor.tokenizer.decode(kept, skip_special_tokens=False).strip()

    @property
    def _stop_set(self) -> set[int]:
        return set(self.stop_tokens.tolist())

    @torch.no_grad()
    def decode_codes(self, codes: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Occupancy of every object, bool [R, R, R]."""
        self.codec.to(self.device)
        grids: list[np.ndarray] = []
        size = self.voxel_options.decode_batch_size
        for start in range(0, len(codes), size):
            part = torch.tensor([list(one) for one in codes[start : start + size]])
            grids += list(self.codec.decode(part.to(self.device)).cpu().numpy())
        return grids

    def _forward(
        self, call: Callable[..., Any], trajectory: TokenTrajectory, **options: bool
    ) -> tuple[Tensor, Tensor]:
        """One forward pass over the trajectory -> log-probs and entropies, [B, T]."""
        assert isinstance(trajectory, VoxelTrajectory)
        build = layout.shared if self.share_prompt else layout.plain
        rows = build(trajectory.as_input(), self.pad_id)
        acted = trajectory.mask[trajectory.present]
        device = self.module.forbidden.device
        inputs = (
            rows.input_ids,
            rows.positions,
            rows.attention_mask,
            rows.predictor[:, acted],
            rows.targets[acted],
            trajectory.kind[trajectory.mask],
        )
        tensors = [None if x is None else x.to(device) for x in inputs]
        logp, entropy = call(*tensors, rows.groups, **options)
        mask = trajectory.mask.to(device)
        empty = torch.zeros(mask.shape, device=device)
        return empty.masked_scatter(mask, logp), empty.masked_scatter(mask, entropy)

    def save_pretrained(self, folder: str, weights: Mapping[str, Tensor]) -> None:
        """Safetensors, config and processor, and the VQ-VAE in `codec/`."""
        from pathlib import Path

        super().save_pretrained(folder, weights)
        save_codec(self.codec, Path(folder) / "codec")


def mesh_tokens(tokenizer: Tokenizer, num_codes: int, name: str) -> MeshTokens:
    """The ids of `<mesh0>` to the last code, `<mesh-start>` and `<mesh-end>`; ConfigError."""
    vocabulary = tokenizer.get_vocab()
    wanted = ["<mesh0>", f"<mesh{num_codes - 1}>", START, END]
    lacking = [token for token in wanted if token not in vocabulary]
    if lacking:
        raise ConfigError(
            f"policy.model {name!r}: its vocabulary lacks {', '.join(lacking)}; a model that "
            f"writes voxel codes has <mesh0> to <mesh{num_codes - 1}>, {START} and {END}"
        )
    first, last, start, end = (vocabulary[token] for token in wanted)
    if last - first != num_codes - 1:
        raise ConfigError(f"policy.model {name!r}: the codes <mesh0>, ... are not consecutive ids")
    return MeshTokens(first, num_codes, start, end)


def further_turn(processor: Processor, instruction: str) -> list[int]:
    """Tokens of a further user turn, from the end of an answer to the start of the next one."""
    marker = "0123456789"
    turns = [("user", "a"), ("assistant", marker), ("user", instruction)]
    text = processor.apply_chat_template(
        [{"role": role, "content": [{"type": "text", "text": said}]} for role, said in turns],
        tokenize=False,
        add_generation_prompt=True,
    )
    return processor.tokenizer.encode(text.partition(marker)[2], add_special_tokens=False)


def _added(tokenizer: Tokenizer) -> list[int]:
    """Ids of added tokens such as <|im_start|>; the mesh tokens are excluded by their ids."""
    return [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]


def as_language_model(options: VoxelTokensConfig) -> VisionLanguageConfig:
    """The options of the language model alone."""
    return VisionLanguageConfig(
        model=options.model,
        revision=options.revision,
        attn_implementation=options.attn_implementation,
        train_vision=False,
        lora=options.lora,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        share_prompt=options.share_prompt,
        sample_batch_size=options.sample_batch_size,
    )
