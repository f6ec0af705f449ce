"""This policy without its weights, for a plan of memory and time (vlrl/protocols/planned.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig

from vlrl.config.architectures import read_json, shipped_architecture
from vlrl.families.adapters import adapter_base, base_model
from vlrl.families.classes import transformers_class
from vlrl.families.encoded import EncodedPrompt, Features
from vlrl.families.family import placeholders
from vlrl.families.known import family_of
from vlrl.policy.distribution import Sampling
from vlrl.policy.planned import DTYPES, ShapesOnly, cast, rows_at_once
from vlrl.policy.token_policy import num_head_chunks
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language import layout
from vlrl.policy.vision_language.answers import Answers
from vlrl.policy.vision_language.loading import (
    as_trained,
    attention_of,
    check_min_pixels,
    prepare,
    read_config,
    shares_prompt,
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
from vlrl.policy.vision_language.rows import Rows, prefill
from vlrl.protocols.planned import Chunk, Pass, PlannedPolicy, PlannedRun

TEXT_TOKENS = 128
"""Of a prompt: its words and the chat template."""
TILED_TOKENS = 3_328
"""Of an image in families with tiles of their own: InternVL's thirteen of 256 tokens each."""
A_WORD = 1
"""Id of the token that stands for all text."""


class PlannedVisionLanguage(PlannedPolicy):
    """A vision-language model on the meta device."""

    def __init__(self, options: VisionLanguageConfig, run: PlannedRun) -> None:
        self.options, self.run = options, run
        self.config, self.max_pixels = described(options)
        check_min_pixels(options.min_pixels, self.config)
        self.share = shares_prompt(options, self.config)
        self.family = family_of(self.config)
        num_gpus = run.num_sequence_gpus
        self.sequence = ShapesOnly(num_gpus) if num_gpus > 1 else None
        if self.sequence is not None:
            check_heads(self.config, num_gpus)
        dtype = DTYPES[run.precision]
        with torch.device("meta"):
            make = transformers_class(self.family.model_class)
            attention = attention_of(options, self.config)
            model = make._from_config(self.config, attn_implementation=attention, dtype=dtype)
            prepare(model)
            model = as_trained(model, options, checkpointing=run.checkpointing)
            model = cast(model, dtype)
        if self.sequence is not None:
            slice_inputs_of(model)
        self.module: TokenLogProbs = TokenLogProbs(
            model,
            Sampling(options.temperature, options.top_p, options.top_k),
            torch.tensor([i for i in placeholders(self.config) if i is not None]),
            num_head_chunks=num_head_chunks(run.max_tokens_per_chunk),
            keeps_features=tower_is_frozen(model) or not self.family.takes_pixel_bounds,
        )
        self.has_reference_copy = options.lora is None
        if options.quantize is not None:
            self.num_packed = _num_packed(self.module)
        self.num_rows_at_once = rows_at_once(run, options.sample_batch_size)
        self._choose_kernels(varlen=run.flash and options.packed_attention != "masked")

    @property
    def exchanged_bytes(self) -> float:
        """What the passes so far have sent to the other GPUs of their rows."""
        return 0.0 if self.sequence is None else self.sequence.sent_bytes

    @property
    def max_new_tokens(self) -> int:
        """The longest answer."""
        return self.options.max_new_tokens

    def prompt_and_answer(self, *, largest: bool) -> tuple[int, int]:
        """Tokens of the longest prompt and answer, or of typical ones."""
        run = self.run
        longest = run.max_prompt_tokens or self._longest_prompt()
        if largest:
            return longest, self.max_new_tokens
        return run.mean_prompt_tokens or longest, run.mean_answer_tokens or self.max_new_tokens

    def num_step_tokens(self, *, largest: bool) -> int:
        """Tokens that a rank's rows of a step count in an update."""
        prompt, answer = self.prompt_and_answer(largest=largest)
        rows = self.run.num_rows
        return (rows // self.run.group_size if self.share else rows) * prompt + rows * answer

    def chunk(self, num_tokens: int, *, largest: bool) -> Chunk:
        """Whole groups, then a part of one; a row is never cut."""
        prompt, answer = self.prompt_and_answer(largest=largest)
        groups = self._groups(num_tokens, prompt, answer)
        trajectory = self.trajectory(prompt, groups)
        total = sum(prompt * (1 if self.share else len(g)) + sum(g) for g in groups)
        return Chunk(total, partial(self.forward, trajectory))

    def _groups(self, num_tokens: int, prompt: int, answer: int) -> list[list[int]]:
        """Lengths of answers, group by group, that fill so many tokens."""
        groups: list[list[int]] = []
        left = num_tokens
        while not groups or left > prompt + 1:
            left -= prompt
            each: list[int] = []
            while len(each) < self.run.group_size and (left > 0 or not (groups or each)):
                if each and not self.share:
                    left -= prompt
                length = min(answer, left) if left > 0 else answer
                if length <= 0:
                    break
                each.append(length)
                left -= length
            if not each:
                break
            groups.append(each)
        if left > 0 and self.share:
            groups[-1][-1] += left
        return groups

    def trajectory(self, prompt: int, groups: Sequence[Sequence[int]]) -> TokenTrajectory:
        """Answers of these lengths to prompts of one length."""
        lengths = torch.tensor([n for group in groups for n in group])
        shape = (len(lengths), int(lengths.max()))
        mask = torch.arange(shape[1]) < lengths[:, None]
        sizes = torch.tensor([len(group) for group in groups])
        tokens = torch.full(shape, A_WORD)
        prompts = tuple(self.prompt(prompt, is_kept=True) for _ in groups)
        group = torch.arange(len(groups)).repeat_interleave(sizes)
        return TokenTrajectory(tokens, mask, torch.zeros(shape), group, prompts)

    def forward(self, trajectory: TokenTrajectory) -> Tensor:
        """The update's forward pass over a trajectory."""
        rows = (layout.shared if self.share else layout.plain)(trajectory, A_WORD)
        groups = rows.groups if self.sequence is None else SlicedGroups.of(rows, self.sequence)
        logp, _ = self.module(
            rows.input_ids, rows.positions, rows.attention_mask, rows.media, rows.predictor,
            rows.targets, groups, rows.features, rows.shown,
        )  # fmt: skip
        return logp.sum()

    def sampling(self, num_rows: int, *, largest: bool) -> Sequence[Pass]:
        """The prompts, then a token for every row until the longest answer has ended."""
        prompt, answer = self.prompt_and_answer(largest=largest)
        num_each = min(num_rows, self.run.group_size)
        prompts = [self.prompt(prompt, is_kept=False) for _ in range(num_rows // num_each)]
        state: list[tuple[Rows, Answers]] = []

        def begin() -> object:
            answers = self.answers(len(prompts) * num_each, answer)
            rows = prefill(self.module, prompts, num_each, A_WORD, share_prompt=self.share)
            answers.write(self.module, rows.first, rows.rows)
            state.append((rows, answers))
            return state

        def step() -> object:
            rows, answers = state[0]
            rows.reserve(answer, fixed=self.share)
            hidden = rows.advance(self.module, answers.newest(rows.rows))
            answers.write(self.module, hidden, rows.rows)
            return state

        return (
            Pass("prompts", begin),
            Pass("a token", step, times=max(1, answer - 1), is_recorded=self.share),
        )

    def answers(self, num_rows: int, num_tokens: int) -> Answers:
        """Nothing written yet."""
        return Answers.empty(
            range(num_rows),
            num_tokens,
            torch.device("cpu"),
            stop_tokens=torch.tensor([-1]),
            pad_id=A_WORD,
            greedy=False,
            rules=None,
        )

    def prompt(self, num_tokens: int, *, is_kept: bool) -> EncodedPrompt:
        """A prompt of about so many tokens, all visual but `TEXT_TOKENS` or a quarter.

        is_kept: as trajectories keep it, with features where the tower is frozen. Where a family's
        processor has sizes of its own, all tokens are text, and its tower's passes do not count.
        """
        visual = num_tokens - min(TEXT_TOKENS, max(1, num_tokens // 4))
        ids = torch.full((num_tokens,), A_WORD)
        rope = self.config.get_text_config().to_dict().get("rope_parameters") or {}
        section = rope.get("mrope_section") or ()
        # HunYuan has four axes; some configs list a section's frequencies one by one.
        num_axes = 4 if len(section) == 4 else 3
        axes = num_axes if self.family.mrope else 1
        positions = torch.arange(num_tokens).expand(axes, -1)
        if not (self.has_images and self.family.takes_pixel_bounds) or visual < 1:
            return EncodedPrompt(ids, positions)
        frames = -(-visual // self._largest_frame())  # more than an image has is a video
        height = max(1, int((visual // frames) ** 0.5))
        width = visual // frames // height
        num_visual = frames * height * width
        ids[1 : 1 + num_visual] = placeholders(self.config)[0]
        prompt = EncodedPrompt(ids, positions, num_visual_tokens=num_visual)
        vision = self.config.vision_config
        if is_kept and self.module.keeps_features:
            levels = 1 + len(vision.to_dict().get("deepstack_visual_indexes", ()))
            size = (levels, num_visual, self.config.get_text_config().hidden_size)
            made = torch.empty(size, dtype=DTYPES[self.run.precision], device="meta")
            return prompt.with_features(Features(made))
        merge = vision.spatial_merge_size
        depth = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        pixels = torch.empty(num_visual * merge**2, depth, device="meta")
        grid = torch.tensor([[frames, merge * height, merge * width]])
        return replace(prompt, media={"pixel_values": pixels, "grid_thw": grid})

    has_images = True
    """Whether prompts hold images."""

    def _longest_prompt(self) -> int:
        return self._largest_frame() + TEXT_TOKENS

    def _largest_frame(self) -> int:
        """Visual tokens of the largest image."""
        vision = self.config.vision_config
        if not self.family.takes_pixel_bounds:
            return TILED_TOKENS
        side = vision.patch_size * vision.spatial_merge_size
        return max(1, self.max_pixels // side**2)

    def _choose_kernels(self, *, varlen: bool) -> None:
        text = base_model(self.module.model).config.get_text_config()
        width = text.to_dict().get("head_dim") or text.hidden_size // text.num_attention_heads
        make = partial(torch.empty, dtype=DTYPES[self.run.precision], device="meta")
        for sequence in {None, self.sequence}:
            choice.assume(
                make(1, num_heads_each(text.num_attention_heads, sequence), 1, width),
                make(1, num_heads_each(text.num_key_value_heads, sequence), 1, width),
                varlen=varlen,
            )


def _num_packed(module: TokenLogProbs) -> int:
    """Weights of the frozen linear layers, without head and tower, as in quantized.py."""
    own = [
        part.weight
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and ".language_model." in name
    ]
    return sum(weight.numel() for weight in own if not weight.requires_grad)


def described(options: VisionLanguageConfig) -> tuple[PretrainedConfig, int]:
    """The model's config and its largest image in pixels, from files of a few kilobytes.

    Raises ConfigError for a name that is neither local nor among configs/architectures.
    """
    name = adapter_base(options.model) or options.model
    known = None if Path(name).is_dir() else shipped_architecture(name)
    if known is None:
        config = read_config(name, options.revision)
        if not family_of(config).takes_pixel_bounds:  # images have tiles of their own
            return config, 0
        return config, options.max_pixels or _largest_image(name)
    given = dict(known)
    pixels = given.pop("max_pixels", 0)
    return AutoConfig.for_model(**given), options.max_pixels or pixels


def _largest_image(folder: str) -> int:
    """Pixels; of Qwen's processors where a folder does not say it."""
    for file in ("processor_config.json", "preprocessor_config.json"):
        path = Path(folder) / file
        if path.is_file():
            found: Any = read_json(path)
            found = found.get("image_processor", found)
            return int(found.get("size", {}).get("longest_edge") or found["max_pixels"])
    return 12_845_056
