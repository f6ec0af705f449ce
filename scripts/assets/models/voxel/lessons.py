"""What the embedded writer learns from: answers in two stages, made of the embedded shapes.

caption -> "Width 5, depth 4, height 8." codes of the rough shape
        -> "Colour brown, legs four." codes of the shape
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlrl.mesh.number_words import NUMBERS
from vlrl.policy.voxel_tokens.codec import VoxelCodec
from vlrl.mesh.store import load_shape
from scripts.assets.models.voxel.codec import coarse

INSTRUCTION = "Now the details."


@dataclass(frozen=True)
class Lesson:
    """One shape, as it is and mirrored."""

    row: dict[str, Any]
    rough: Tensor
    """Codes at half the resolution, [2, T]: straight, mirrored."""
    fine: Tensor
    """Codes of the shape itself, [2, T]."""


def plan_words(row: dict[str, Any]) -> str:
    """The plan: a shape's dimensions, in eighths of its longest side."""
    width, depth, height = row["extent"]
    return f"Width {width}, depth {depth}, height {height}."


def detail_words(row: dict[str, Any]) -> str:
    """The details: colour and legs."""
    return f"Colour {row['colour']}, legs {NUMBERS[row['num_legs']]}."


def read_rows(assets: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split of the embedded shapes."""
    lines = (assets / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@torch.no_grad()
def lessons(assets: Path, rows: Sequence[dict[str, Any]], codec: VoxelCodec) -> list[Lesson]:
    """The codes of all shapes."""
    found = []
    for start in range(0, len(rows), 16):
        part = rows[start : start + 16]
        grids = [load_shape(str(assets / row["reference"])).occupancy for row in part]
        x = torch.from_numpy(np.stack(grids)).float()
        both = torch.cat([x, x.flip(1)])
        fine, rough = codec.encode(both), codec.encode(coarse(both))
        count = len(part)
        for i, row in enumerate(part):
            found.append(Lesson(row, rough[[i, i + count]], fine[[i, i + count]]))
    return found


class Writer:
    """Lessons as rows of tokens, in the very layout that the policy samples."""

    def __init__(
        self, processor: Any, turn: Sequence[int], first_code: int, num_codes: int
    ) -> None:
        self.processor, self.turn = processor, list(turn)
        self.first, self.num_codes = first_code, num_codes
        self.start, self.end = first_code + num_codes, first_code + num_codes + 1

    def row(self, lesson: Lesson, mirrored: int) -> tuple[list[int], list[bool]]:
        """Tokens, and which of them are learnt: words, start and codes, not the prompt."""
        head = self.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "text", "text": lesson.row["caption"]}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        tokens = self._ids(head)
        learnt = [False] * len(tokens)
        stages = ((plan_words(lesson.row), lesson.rough), (detail_words(lesson.row), lesson.fine))
        for stage, (words, codes) in enumerate(stages):
            if stage:
                tokens += self.turn
                learnt += [False] * len(self.turn)
            own = [*self._ids(words), self.start]
            own += [self.first + code for code in codes[mirrored].tolist()] + [self.end]
            tokens += own
            learnt += [True] * (len(own) - 1) + [False]
        return tokens, learnt

    def _ids(self, text: str) -> list[int]:
        return list(self.processor.tokenizer.encode(text, add_special_tokens=False))


def batch_of(rows: Sequence[tuple[list[int], list[bool]]], pad_id: int) -> tuple[Tensor, ...]:
    """Tokens, mask and labels [R, L], padded on the right; -100 = not learnt."""
    length = max(len(tokens) for tokens, _ in rows)
    ids = torch.full((len(rows), length), pad_id)
    labels = torch.full((len(rows), length), -100)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for r, (tokens, learnt) in enumerate(rows):
        n = len(tokens)
        ids[r, :n] = torch.tensor(tokens)
        mask[r, :n] = 1
        labels[r, :n] = torch.where(torch.tensor(learnt), ids[r, :n], -100)
    return ids, mask, labels
