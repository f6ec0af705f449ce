"""Hit rates of a grounding model on a set of screens, batched and cached."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from scripts.assets.models.gui_and_video.collate import patchify
from scripts.assets.models.gui_and_video.data import ImageCache, ScreenTargets, Target
from scripts.assets.models.gui_and_video.tokenizer import CLICK_PROMPT

ANSWER = re.compile(r"\[(\d+),(\d+),(\d+),(\d+)\]")
MAX_NEW_TOKENS = 20


@dataclass
class HitRates:
    """Share of answers that hit, overall and by kind, and of answers in the right format."""

    total: float
    formatted: float
    count: int
    by_kind: dict[str, float] = field(default_factory=dict)


def parse_box(text: str) -> tuple[int, ...] | None:
    """The box of a well-formed answer, else None."""
    match = ANSWER.fullmatch(text.strip())
    if match is None:
        return None
    box = tuple(int(value) for value in match.groups())
    return box if box[2] > box[0] and box[3] > box[1] else None


def is_hit(answer: Sequence[int] | None, truth: Sequence[int]) -> bool:
    """Whether the centre of the predicted box is inside the true box."""
    if answer is None:
        return False
    x, y = (answer[0] + answer[2]) / 2, (answer[1] + answer[3]) / 2
    return truth[0] <= x <= truth[2] and truth[1] <= y <= truth[3]


def inference_prompt(processor: Qwen2_5_VLProcessor, instruction: str) -> str:
    """The one user turn, through the processor's own chat template."""
    text = {"type": "text", "text": CLICK_PROMPT.format(instruction=instruction)}
    message: dict[str, Any] = {"role": "user", "content": [{"type": "image"}, text]}
    return processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)


@torch.no_grad()
def generate(
    model: Any,
    processor: Qwen2_5_VLProcessor,
    asked: Sequence[tuple[str, Target]],
    images: ImageCache,
    sample: bool,
) -> list[str]:
    """One answer per (screenshot, element)."""
    pixels, grids, texts = [], [], []
    for path, target in asked:
        patches, (rows, columns) = patchify(images.load(path), processor)
        pixels.append(patches)
        grids.append((1, rows, columns))
        prompt = inference_prompt(processor, target.instruction)
        tokens = processor.image_token * (rows * columns // 4)
        texts.append(prompt.replace(processor.image_token, tokens))
    inputs = processor.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    ids = inputs["input_ids"]
    output = model.generate(
        input_ids=ids,
        attention_mask=inputs["attention_mask"],
        mm_token_type_ids=(ids == processor.image_token_id).int(),
        pixel_values=torch.cat(pixels).to(model.dtype),
        image_grid_thw=torch.tensor(grids),
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=sample,
        temperature=1.0 if sample else None,
        top_k=0 if sample else None,
        top_p=1.0 if sample else None,
    )
    return processor.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)


def hit_rates(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    screens: Sequence[ScreenTargets],
    *,
    limit: int | None = None,
    sample: bool = False,
    batch_size: int = 32,
    images: ImageCache | None = None,
) -> HitRates:
    """Query every element (or an even spread of `limit` of them) and count the hits."""
    images = images or ImageCache()
    asked = [(screen.image, target) for screen in screens for target in screen.targets]
    if limit is not None and limit < len(asked):
        asked = [asked[place * len(asked) // limit] for place in range(limit)]
    was_training = model.training
    model.eval()
    hits: dict[str, list[bool]] = defaultdict(list)
    formatted = 0
    for start in range(0, len(asked), batch_size):
        batch = asked[start : start + batch_size]
        for (_, target), text in zip(
            batch, generate(model, processor, batch, images, sample), strict=True
        ):
            box = parse_box(text)
            formatted += box is not None
            hits[target.kind].append(is_hit(box, target.box))
    model.train(was_training)
    everything = [hit for kind in hits.values() for hit in kind]
    return HitRates(
        total=sum(everything) / len(everything),
        formatted=formatted / len(everything),
        count=len(everything),
        by_kind={kind: sum(found) / len(found) for kind, found in sorted(hits.items())},
    )
