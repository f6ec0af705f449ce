"""A vision-language model in this process as a judge.

images ──> vision tower, each once ──┐
questions ──> tokens, packed ──────────┴─> one forward per batch ─> logits of the answer ─> yes, no
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor

from vlrl.errors import RewardError
from vlrl.families.adapters import adapter_base, with_adapter
from vlrl.families.classes import transformers_class
from vlrl.families.config import config_of
from vlrl.families.encoded import EncodedPrompt, Features
from vlrl.families.known import family_of
from vlrl.hub import freeze, loading, local_path, pick_device
from vlrl.judge.encoder import AskEncoder
from vlrl.judge.interfaces import Processor
from vlrl.judge.packing import EncodedAsk, batches, pack
from vlrl.judge.question import Ask, ImageBook, JudgeTemplate, ReasoningOptions
from vlrl.judge.spellings import check_apart, token_ids
from vlrl.judge.yes_token import Reading, problem_of
from vlrl.policy.distribution import Sampling
from vlrl.policy.vision_language import group_attention
from vlrl.policy.vision_language.decode import decode
from vlrl.policy.vision_language.loading import prepare
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.stop_strings import StopStrings
from vlrl.policy.vision_language.vision_features import MAX_PATCHES, by_size
from vlrl.types import Finish

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel

MAX_KEPT_IMAGES = 512
"""Images from files whose features stay in memory: references and examples recur."""


class LocalJudge:
    """A checkpoint of a family whose images judges lay out (Qwen's); frozen. One copy per rank."""

    def __init__(
        self,
        core: PreTrainedModel | PeftModel,
        processor: Processor,
        template: JudgeTemplate,
        *,
        reasoning: ReasoningOptions | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        max_tokens: int = 8192,
        share: bool = True,
    ) -> None:
        """Wraps a model in memory, on its own device; see `load`."""
        self.template, self.reasoning = template, reasoning
        self.max_tokens, self.share = max_tokens, share
        self.processor = processor
        place = next(core.parameters()).device
        nothing = torch.zeros(0, dtype=torch.long, device=place)
        # It gets features, like a policy with a frozen tower: no blank images are needed.
        self.module = TokenLogProbs(core, Sampling(), nothing, 1, True)
        self._read_with(self.module.core, processor, min_pixels, max_pixels)
        self.yes = token_ids(processor.tokenizer, template.yes, "yes")
        self.no = token_ids(processor.tokenizer, template.no, "no")
        check_apart(self.yes, self.no)
        self.keeps_images = False
        self.name = "in memory"
        """What errors call it."""
        self._kept: OrderedDict[str, Features] = OrderedDict()

    def _read_with(
        self, core: Any, processor: Processor, min_pixels: int | None, max_pixels: int | None
    ) -> None:
        low, high = pixel_bounds(processor)
        self.encoder = AskEncoder(
            processor,
            core.model.get_rope_index,
            min_pixels or low,
            max_pixels or high,
            core.config.get_text_config().max_position_embeddings,
        )

    @property
    def context_tokens(self) -> int | None:
        """Longest question that the model can read; None = not checked."""
        return self.encoder.context_tokens

    @classmethod
    def load(
        cls,
        model: str,
        template: JudgeTemplate,
        *,
        device: str = "auto",
        precision: str = "auto",
        **options: Any,
    ) -> LocalJudge:
        """A frozen checkpoint on a device; raises RewardError where it cannot be used."""
        place = pick_device(device)
        usual = torch.bfloat16 if place.type == "cuda" else torch.float32
        dtype = {"auto": usual, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
        with loading("judge", model):
            core, processor = load_vlm(model, dtype)
            freeze(core)
        kind = judge_class(core.config)
        judge = kind(core.to(place), processor, template, **options)
        judge.keeps_images, judge.name = True, model
        return judge

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.module.parameters()).device

    @torch.no_grad()
    def ask(self, book: ImageBook, asks: Sequence[Ask]) -> list[Reading]:
        """One reading per question, in order."""
        if not asks:
            return []
        patches = self.encoder.patches(book.images)
        features = self.features(book, patches)
        grids = [grid for _, grid in patches]
        encoded = [self.encoder.encode(ask, grids) for ask in asks]
        texts, cut = [""] * len(asks), [False] * len(asks)
        if self.reasoning is not None:
            encoded, texts, cut = self._reason(encoded, patches)
        readings: dict[int, Reading] = {}
        for members in batches(encoded, self.max_tokens):
            for i, (yes, no) in zip(members, self._read(encoded, members, features), strict=True):
                readings[i] = Reading(yes, no, texts[i], cut[i])
                problem = problem_of(readings[i])
                if problem is not None:
                    raise RewardError(f"judge {self.name}, {asks[i].where}: {problem}")
        return [readings[i] for i in range(len(asks))]

    def _read(
        self, encoded: Sequence[EncodedAsk], members: Sequence[int], features: Sequence[Features]
    ) -> list[tuple[float, float]]:
        """Log-probs of yes and no at the end of some questions, from the raw logits."""
        row = pack([encoded[i] for i in members], share=self.share)
        seen = [features[p] for p in row.images]
        mask = None if row.attention_mask is None else row.attention_mask.to(self.device)
        hidden = self.module.hidden(
            row.input_ids.to(self.device),
            row.positions.to(self.device),
            mask,
            groups=row.groups,
            features=Features.join(seen) if seen else None,
        )
        last = hidden[row.last[0].to(self.device), row.last[1].to(self.device)]
        logp = self.module.logits(last).float().log_softmax(-1)
        yes, no = (logp[:, ids].logsumexp(-1).tolist() for ids in (self.yes, self.no))
        found = dict(zip(row.order, zip(yes, no, strict=True), strict=True))
        return [found[i] for i in range(len(members))]

    def features(self, book: ImageBook, patches: Sequence[tuple[Tensor, Tensor]]) -> list[Features]:
        """Vision features of each image, [1 + K, N, D]; those of known files are reused."""
        found: dict[int, Features] = {}
        new: list[int] = []
        for i, key in enumerate(book.keys):
            if key in self._kept:
                self._kept.move_to_end(key)
                found[i] = self._kept[key]
            else:
                new.append(i)
        for part in by_size(new, [len(p) for p, _ in patches], MAX_PATCHES):
            pixels = torch.cat([patches[i][0] for i in part]).to(self.device)
            grid = torch.cat([patches[i][1] for i in part])
            media = {"pixel_values": pixels, "grid_thw": grid}
            made = self.module.family.features(self.module.core, media)
            counts = [int(patches[i][1].prod()) // self.encoder.merge**2 for i in part]
            for i, own in zip(part, made.split(counts), strict=True):
                found[i] = own
                if self.keeps_images and book.from_file[i]:
                    self._kept[book.keys[i]] = replace(own, levels=own.levels.clone())
        while len(self._kept) > MAX_KEPT_IMAGES:
            self._kept.popitem(last=False)
        return [found[i] for i in range(len(book.keys))]

    def greedy(
        self, ask: Ask, book: ImageBook, num_tokens: int, max_tokens: int
    ) -> tuple[list[int], list[Tensor]]:
        """The likeliest tokens, and the log-probs at each position, [V].

        Raises RewardError for a question that leaves no room for them in `max_tokens`.
        """
        patches = self.encoder.patches(book.images)
        encoded = self.encoder.encode(ask, [grid for _, grid in patches])
        self._check_room(len(encoded.input_ids), num_tokens, max_tokens)
        features = self.features(book, patches)
        return self._likeliest(
            lambda said: self._next(encoded.continued(said) if said else encoded, features),
            num_tokens,
        )

    def _likeliest(
        self, next_log_probs: Callable[[list[int]], Tensor], num_tokens: int
    ) -> tuple[list[int], list[Tensor]]:
        """Greedy tokens up to the end of the answer; next_log_probs: of what was said, [V]."""
        tokens: list[int] = []
        rows: list[Tensor] = []
        while len(tokens) < num_tokens:
            rows.append(next_log_probs(tokens))
            tokens.append(int(rows[-1].argmax()))
            if tokens[-1] == self.processor.tokenizer.eos_token_id:
                break
        return tokens, rows

    def _check_room(self, num_asked: int, num_tokens: int, max_tokens: int) -> None:
        if num_asked + num_tokens > max_tokens:
            raise RewardError(
                f"a question of {num_asked} tokens and an answer of {num_tokens}; at most "
                f"{max_tokens} together"
            )

    def _next(self, encoded: EncodedAsk, features: Sequence[Features]) -> Tensor:
        row = pack([encoded])
        seen = [features[p] for p in row.images]
        hidden = self.module.hidden(
            row.input_ids.to(self.device),
            row.positions.to(self.device),
            None,
            groups=row.groups,
            features=Features.join(seen) if seen else None,
        )
        return self.module.logits(hidden[0, row.last[1]]).float().log_softmax(-1)[0].cpu()

    def _reasonings(
        self, prompts: Sequence[EncodedPrompt], *, share_prompt: bool
    ) -> list[tuple[str, list[int], bool]]:
        """Greedy reasoning after each prompt up to the cue: text, its tokens and the cue's, cut."""
        assert self.reasoning is not None
        tokenizer, cue = self.processor.tokenizer, self.template.cue
        decoded = decode(
            self.module,
            prompts,
            1,
            [0] * len(prompts),
            share_prompt=share_prompt,
            max_new_tokens=self.reasoning.max_tokens,
            stop_tokens=torch.tensor([tokenizer.eos_token_id], device=self.device),
            pad_id=tokenizer.pad_token_id,
            greedy=True,
            stops=StopStrings(tokenizer, [cue]),
        )
        found = []
        for tokens, mask, finish in zip(decoded.tokens, decoded.mask, decoded.finish, strict=True):
            said = tokenizer.decode(tokens[mask].tolist(), skip_special_tokens=True)
            text = said.partition(cue)[0].rstrip()
            more = tokenizer.encode(f"{text}\n{cue}", add_special_tokens=False)
            found.append((text, more, finish is Finish.LENGTH and cue not in said))
        return found

    def _reason(
        self, encoded: Sequence[EncodedAsk], patches: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[list[EncodedAsk], list[str], list[bool]]:
        """Greedy reasoning after each question, up to the cue and without the word itself."""
        written: list[EncodedAsk] = []
        texts: list[str] = []
        cut: list[bool] = []
        for members in batches(encoded, self.max_tokens):
            prompts = [_as_prompt(encoded[i], patches) for i in members]
            found = self._reasonings(prompts, share_prompt=True)
            for i, (text, more, is_cut) in zip(members, found, strict=True):
                written.append(encoded[i].continued(more))
                texts.append(text)
                cut.append(is_cut)
        order = [i for members in batches(encoded, self.max_tokens) for i in members]
        back = sorted(range(len(order)), key=order.__getitem__)
        return [written[p] for p in back], [texts[p] for p in back], [cut[p] for p in back]


def judge_class(config: PretrainedConfig) -> type[LocalJudge]:
    """The judge for a model's family."""
    from vlrl.judge.general import GeneralJudge

    return LocalJudge if family_of(config).lays_out_images else GeneralJudge


def load_vlm(name: str, dtype: torch.dtype) -> tuple[Any, Processor]:
    """A model of the policy's families with prompt sharing, and its processor.

    Raises RewardError where the file lacks weights, ConfigError for another kind of model.
    """
    path = local_path(name)
    base = adapter_base(path)
    config = config_of(base or path)
    packs = family_of(config).why_not_packed(config) is None
    group_attention.register()
    model_class = transformers_class(family_of(config).model_class)
    model, info = model_class.from_pretrained(
        base or path,
        dtype=dtype,
        attn_implementation={
            "text_config": group_attention.NAME if packs else "sdpa",
            "vision_config": "sdpa",
        },
        output_loading_info=True,
    )
    if base is not None:
        model = with_adapter(model, path)
    prepare(model)
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise RewardError(f"{name!r} has no weights for {lacking[0]!r} and {len(lacking) - 1} more")
    return model, transformers.AutoProcessor.from_pretrained(path)


def pixel_bounds(processor: Processor) -> tuple[int, int]:
    """Smallest and largest area of an image, in pixels, by the checkpoint's processor."""
    size = processor.image_processor.size
    return int(size["shortest_edge"]), int(size["longest_edge"])


def _as_prompt(ask: EncodedAsk, patches: Sequence[tuple[Tensor, Tensor]]) -> EncodedPrompt:
    shown = [image for image, _, _ in ask.images]
    media = None
    if shown:
        pixels = torch.cat([patches[i][0] for i in shown])
        media = {"pixel_values": pixels, "grid_thw": torch.cat([patches[i][1] for i in shown])}
    num = sum(stop - start for _, start, stop in ask.images)
    return EncodedPrompt(ask.input_ids, ask.positions, media, num)
