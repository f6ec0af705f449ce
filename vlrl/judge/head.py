"""A regression head as a judge: one number per image, a Bradley-Terry reward model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vlrl.errors import RewardError
from vlrl.hub import freeze, loading, local_path, pick_device
from vlrl.judge.encoder import AskEncoder
from vlrl.judge.interfaces import Processor
from vlrl.judge.local import load_vlm, pixel_bounds
from vlrl.judge.module import JudgeModule
from vlrl.judge.packing import batches, pack
from vlrl.judge.question import Ask, ImageBook

HEAD_FILE = "head.safetensors"


class HeadJudge:
    """Scores questions about single images; trained with `kind: bradley_terry`."""

    def __init__(
        self,
        module: JudgeModule,
        processor: Processor,
        *,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        max_tokens: int = 8192,
    ) -> None:
        self.module, self.max_tokens = module, max_tokens
        low, high = pixel_bounds(processor)
        self.encoder = AskEncoder(
            processor,
            module.core.model.get_rope_index,
            min_pixels or low,
            max_pixels or high,
            module.core.config.get_text_config().max_position_embeddings,
        )

    @classmethod
    def load(
        cls, model: str, *, device: str = "auto", precision: str = "auto", **options: Any
    ) -> HeadJudge:
        """The judge of a trained folder; raises RewardError where it is not one."""
        place = pick_device(device)
        usual = torch.bfloat16 if place.type == "cuda" else torch.float32
        dtype = {"auto": usual, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
        with loading("preference head", model):
            core, processor = load_vlm(model, dtype)
            module = JudgeModule(core, head=True)
            path = Path(local_path(model)) / HEAD_FILE
            if not path.is_file():
                raise RewardError(
                    f"{model!r} has no {HEAD_FILE}; train one with `kind: bradley_terry`, or use "
                    "yes_token for a judge that answers"
                )
            assert module.head is not None
            module.head.load_state_dict(load_file(path))
            freeze(module)
        return cls(module.to(place), processor, **options)

    @torch.no_grad()
    def scores(self, book: ImageBook, asks: Sequence[Ask]) -> list[float]:
        """One number per question, in order."""
        found: dict[int, float] = {}
        for places, values in self._batches(book, asks):
            found |= zip(places, values.tolist(), strict=True)
        return [found[i] for i in range(len(asks))]

    @torch.no_grad()
    def features(self, book: ImageBook, asks: Sequence[Ask]) -> Tensor:
        """What the head sees of each question, the last hidden state: float32 [N, D], on the CPU.

        At least one question.
        """
        assert self.module.head is not None
        seen: list[Tensor] = []
        hook = self.module.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        found: dict[int, Tensor] = {}
        try:
            for places, _ in self._batches(book, asks):
                found |= zip(places, seen.pop().float().cpu(), strict=True)
        finally:
            hook.remove()
        return torch.stack([found[i] for i in range(len(asks))])

    def _batches(self, book: ImageBook, asks: Sequence[Ask]) -> Iterator[tuple[list[int], Tensor]]:
        """Questions' places and their scores, batch by batch."""
        if not asks:
            return
        device = next(self.module.parameters()).device
        patches = self.encoder.patches(book.images)
        encoded = [self.encoder.encode(ask, [grid for _, grid in patches]) for ask in asks]
        for members in batches(encoded, self.max_tokens):
            row = pack([encoded[i] for i in members])
            pixels, grid, shown = gathered(row.images, patches, self.encoder.merge)
            values: Tensor = self.module(
                row.input_ids.to(device),
                row.positions.to(device),
                None,
                row.groups,
                pixels.to(device),
                grid,
                shown.to(device),
                row.last.to(device),
                row.last.to(device),
            )
            yield [members[place] for place in row.order], values


def gathered(
    images: Sequence[int], patches: Sequence[tuple[Tensor, Tensor]], merge: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Patches and grids of the distinct images of a row, and the feature of each image token."""
    distinct = list(dict.fromkeys(images))
    counts = [int(patches[p][1].prod()) // merge**2 for p in distinct]
    starts = dict(zip(distinct, [sum(counts[:i]) for i in range(len(counts))], strict=True))
    sizes = dict(zip(distinct, counts, strict=True))
    shown = [torch.arange(starts[p], starts[p] + sizes[p]) for p in images]
    pixels = torch.cat([patches[p][0] for p in distinct])
    return pixels, torch.cat([patches[p][1] for p in distinct]), torch.cat(shown)
