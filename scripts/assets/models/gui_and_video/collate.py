"""Batches for the warm-up: one screenshot, several independent questions in one sequence."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2_5_VLProcessor

from scripts.assets.models.gui_and_video.data import ImageCache, Pixels, Target, augment
from scripts.assets.models.gui_and_video.tokenizer import CLICK_PROMPT

IGNORED = -100


def format_box(box: Sequence[int]) -> str:
    """The answer's wording: [x1,y1,x2,y2]."""
    return "[" + ",".join(str(int(value)) for value in box) + "]"


def patchify(pixels: Pixels, processor: Qwen2_5_VLProcessor) -> tuple[Tensor, tuple[int, int]]:
    """The image processor's output for a screenshot that needs no resizing, computed faster."""
    images = processor.image_processor
    size, merge = images.patch_size, images.merge_size
    mean = np.asarray(images.image_mean, dtype=np.float32)
    std = np.asarray(images.image_std, dtype=np.float32)
    height, width = pixels.shape[:2]
    rows, columns = height // size, width // size
    values = (pixels.astype(np.float32) / 255.0 - mean) / std
    grid = values.reshape(rows // merge, merge, size, columns // merge, merge, size, 3)
    patches = grid.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, 1, size * size)
    frames = np.broadcast_to(
        patches, (rows * columns, 3, images.temporal_patch_size, size * size)
    ).reshape(rows * columns, -1)
    return torch.from_numpy(np.ascontiguousarray(frames)), (rows, columns)


class TurnCollator:
    """Packs the questions about one screenshot behind one copy of its image tokens.

    Each question sees the image and itself, and its positions start where the image ends:
    to the model each of them is the first and only turn, as at inference.
    """

    def __init__(
        self,
        processor: Qwen2_5_VLProcessor,
        *,
        turns: int = 8,
        augment_strength: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.processor = processor
        self.turns = turns
        self.augment_strength = augment_strength
        self.random = random.Random(seed)
        self.images = ImageCache()
        self.pad_id: int = processor.tokenizer.pad_token_id
        self.image_id: int = processor.image_token_id
        self.head = self._encode("<|im_start|>user\n<|vision_start|>")
        self.tail = self._encode("<|vision_end|>")
        self.close = self._encode("<|im_end|>\n<|im_start|>assistant\n")
        self.stop = self._encode("<|im_end|>")

    def _encode(self, text: str) -> list[int]:
        return self.processor.tokenizer(text)["input_ids"]

    def question(self, prompt: str, answer: str) -> tuple[list[int], int]:
        """Token ids of one question with its answer, and where the answer starts."""
        asked = self._encode(prompt) + self.close
        return asked + self._encode(answer) + self.stop, len(asked)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Draw questions for every screenshot and build one batch."""
        pixels, grids, sequences = [], [], []
        words: list[tuple[int, int, np.ndarray]] = []
        for row, example in enumerate(examples):
            image, questions, elements = self._draw(example)
            patches, grid = patchify(image, self.processor)
            pixels.append(patches)
            grids.append((1, *grid))
            sequences.append(self._sequence(grid, questions))
            words += [(row, token, cover) for token, cover in self._words(grid, elements)]
        batch = self._pad(sequences)
        batch["word_index"] = torch.tensor([word[:2] for word in words]).view(-1, 2)
        batch["word_cover"] = stack([word[2] for word in words])
        batch["pixel_values"] = torch.cat(pixels)
        batch["image_grid_thw"] = torch.tensor(grids)
        return batch

    def _words(self, grid: tuple[int, int], elements: list[Target]) -> list[tuple[int, np.ndarray]]:
        """Each token of a visible name, with the image tokens of its element."""
        merge = self.processor.image_processor.merge_size
        words = []
        for target in elements:
            cover = coverage(target.box, grid[0] // merge, grid[1] // merge)
            # With and without the leading space are different tokens; both mean the drawn text.
            spelling = target.name if self.random.random() < 0.5 else " " + target.name
            words += [(token, cover) for token in set(self._encode(spelling))]
        return words

    def _draw(
        self, example: dict[str, Any]
    ) -> tuple[Pixels, list[tuple[str, str, Target]], list[Target]]:
        """An augmented screenshot, its questions (prompt, answer, element), its named elements."""
        targets = [
            Target(t["instruction"], tuple(t["box"]), t["kind"], t["name"], t["element_type"])
            for t in example["targets"]
        ]
        image = self.images.load(example["image"])
        image, targets = augment(image, targets, self.random, self.augment_strength)
        self.random.shuffle(targets)
        questions = [
            (CLICK_PROMPT.format(instruction=t.instruction), format_box(t.box), t)
            for t in targets[: self.turns]
        ]
        # The name of an input field is next to its box, so it is not a caption of the box.
        named = {t.box: t for t in targets if t.name and t.element_type != "input"}
        return image, questions, list(named.values())

    def _sequence(
        self, grid: tuple[int, int], questions: list[tuple[str, str, Target]]
    ) -> dict[str, Any]:
        """Ids, labels, positions and question numbers of one screenshot's sequence."""
        merge = self.processor.image_processor.merge_size
        rows, columns = grid[0] // merge, grid[1] // merge
        count, start = rows * columns, len(self.head)
        ids = self.head + [self.image_id] * count + self.tail
        after = start + max(rows, columns)
        positions = np.empty((3, len(ids)), dtype=np.int64)
        positions[:, :start] = np.arange(start)
        positions[0, start : start + count] = start
        positions[1, start : start + count] = start + np.repeat(np.arange(rows), columns)
        positions[2, start : start + count] = start + np.tile(np.arange(columns), rows)
        positions[:, start + count :] = after + np.arange(len(self.tail))
        after += len(self.tail)
        labels, owner = [IGNORED] * len(ids), [0] * len(ids)
        parts, pointers = [positions], []
        for number, (prompt, answer, target) in enumerate(questions, start=1):
            tokens, answer_start = self.question(prompt, answer)
            first = len(ids)
            ids = ids + tokens
            labels += [IGNORED] * answer_start + tokens[answer_start:]
            owner += [number] * len(tokens)
            parts.append(np.broadcast_to(after + np.arange(len(tokens)), (3, len(tokens))))
            cover = coverage(target.box, rows, columns)
            # From the last prompt token on, every answer token is predicted looking there. The
            # first two places count most: later ones know the digits written so far.
            pointers += [
                (first + place, 1.0 if place <= answer_start else 0.1, cover)
                for place in range(answer_start - 1, len(tokens) - 1)
            ]
        return {
            "ids": ids,
            "labels": labels,
            "owner": owner,
            "positions": np.concatenate(parts, axis=1),
            "pointers": pointers,
        }

    def _pad(self, sequences: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Right-pad the sequences and build the mask that keeps questions apart."""
        length = max(len(sequence["ids"]) for sequence in sequences)
        size = len(sequences)
        ids = torch.full((size, length), self.pad_id)
        labels = torch.full((size, length), IGNORED)
        positions = torch.zeros((3, size, length), dtype=torch.long)
        # Padding is a question of its own that no loss reads.
        owner = torch.full((size, length), -1)
        index, shares, covers = [], [], []
        for row, sequence in enumerate(sequences):
            count = len(sequence["ids"])
            ids[row, :count] = torch.tensor(sequence["ids"])
            labels[row, :count] = torch.tensor(sequence["labels"])
            owner[row, :count] = torch.tensor(sequence["owner"])
            positions[:, row, :count] = torch.from_numpy(sequence["positions"])
            index += [(row, place) for place, _, _ in sequence["pointers"]]
            shares += [share for _, share, _ in sequence["pointers"]]
            covers += [cover for _, _, cover in sequence["pointers"]]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        shared = (owner == 0)[:, None, :]
        same = owner[:, :, None] == owner[:, None, :]
        allowed = (shared | same) & causal
        return {
            "input_ids": ids,
            "labels": labels,
            "position_ids": positions,
            "attention_mask": torch.zeros(allowed.shape).masked_fill(~allowed, -1e4)[:, None],
            "pointer_index": torch.tensor(index),
            "pointer_share": torch.tensor(shares),
            "pointer_cover": stack(covers),
        }


def stack(covers: list[np.ndarray]) -> Tensor:
    """Covers of screenshots of several sizes; -1 stands for "no image token here"."""
    stacked = torch.full((len(covers), max((cover.size for cover in covers), default=1)), -1.0)
    for row, cover in enumerate(covers):
        stacked[row, : cover.size] = torch.from_numpy(cover)
    return stacked


def coverage(box: Sequence[int], rows: int, columns: int, cell: int = 28) -> np.ndarray:
    """Which image tokens an element covers, row by row: 1 where they overlap."""
    x1, y1, x2, y2 = box
    across, down = np.arange(columns) * cell, np.arange(rows) * cell
    in_x = (np.minimum(across + cell, x2) - np.maximum(across, x1)) > 0
    in_y = (np.minimum(down + cell, y2) - np.maximum(down, y1)) > 0
    return np.outer(in_y, in_x).astype(np.float32).ravel()
