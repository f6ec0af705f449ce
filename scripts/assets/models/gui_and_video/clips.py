"""Batches of clips for the video warm-up: one clip, several independent questions in a sequence."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2_5_VLProcessor

from scripts.assets.clips.scene import (
    FPS,
    FRAMES_A_STEP,
    NUM_FRAMES,
    Pool,
    Question,
    all_frames,
    draw_scene,
    questions_of,
)
from vlrl.video.track_answers import write_track
from vlrl.media.frame_sampling import sampled_fps
from scripts.assets.models.gui_and_video.collate import IGNORED, TurnCollator, coverage, stack

FIND_PROMPT = "Find: {sentence}"
"""Asks for thinking boxes and the prediction."""
TRACK_PROMPT = "Track: {sentence}"
"""Asks for the prediction alone."""
SAMPLED = tuple(range(0, NUM_FRAMES, FRAMES_A_STEP))
JITTER_PX = 4
"""Greatest error of thinking boxes, so that the prediction has something to correct."""


@dataclass(frozen=True)
class Clip:
    """Sampled frames of a clip and its questions."""

    frames: np.ndarray
    """uint8 [n, H, W, 3]"""
    questions: tuple[Question, ...]


def draw_clip(pool: Pool, rng: random.Random) -> Clip:
    """A new clip with at least one question."""
    while True:
        scene = draw_scene(pool, rng)
        drawn = all_frames(scene)
        questions = questions_of(scene, drawn)
        if questions:
            return Clip(drawn.frames[list(SAMPLED)], tuple(questions))


def sampled_span(question: Question) -> tuple[int, int]:
    """First and last sampled frame of a question's tube."""
    inside = [k for k, frame in enumerate(SAMPLED) if question.first <= frame <= question.last]
    return inside[0], inside[-1]


def sampled_boxes(question: Question) -> np.ndarray:
    """The true boxes at the sampled frames of the tube, [n, 4], pixels."""
    first, last = sampled_span(question)
    return np.stack([question.boxes[SAMPLED[k] - question.first] for k in range(first, last + 1)])


def video_patches(
    frames: np.ndarray, processor: Qwen2_5_VLProcessor
) -> tuple[Tensor, tuple[int, int, int]]:
    """The video processor's output for frames that need no resizing, computed faster."""
    videos = processor.video_processor
    size, merge, depth = videos.patch_size, videos.merge_size, videos.temporal_patch_size
    mean = np.asarray(videos.image_mean, dtype=np.float32)
    std = np.asarray(videos.image_std, dtype=np.float32)
    T, height, width = len(frames) // depth, frames.shape[1], frames.shape[2]
    rows, columns = height // size, width // size
    values = (frames.astype(np.float32) / 255.0 - mean) / std
    grid = values.reshape(T, depth, rows // merge, merge, size, columns // merge, merge, size, 3)
    patches = grid.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(T * rows * columns, -1)
    return torch.from_numpy(np.ascontiguousarray(patches)), (T, rows, columns)


class ClipCollator(TurnCollator):
    """Draws clips and packs the questions about one behind one copy of its video tokens."""

    def __init__(
        self,
        processor: Qwen2_5_VLProcessor,
        pool: Pool,
        *,
        tokens_per_second: int,
        turns: int = 4,
        thinking: float = 0.7,
        seed: int = 0,
    ) -> None:
        super().__init__(processor, turns=turns, seed=seed)
        self.pool, self.thinking = pool, thinking
        self.video_id: int = processor.video_token_id
        depth = processor.video_processor.temporal_patch_size
        self.interval = tokens_per_second * depth / sampled_fps(SAMPLED, FPS)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch of as many clips as there are examples; an example holds only a number."""
        pixels, grids, sequences = [], [], []
        for _ in examples:
            clip = draw_clip(self.pool, self.random)
            patches, grid = video_patches(clip.frames, self.processor)
            pixels.append(patches)
            grids.append(grid)
            asked = list(clip.questions)
            self.random.shuffle(asked)
            sequences.append(self.clip_sequence(grid, asked[: self.turns]))
        batch = self._pad(sequences)
        batch["word_index"] = torch.zeros(0, 2, dtype=torch.long)
        batch["word_cover"] = stack([])
        batch["pixel_values_videos"] = torch.cat(pixels)
        batch["video_grid_thw"] = torch.tensor(grids)
        return batch

    def clip_sequence(
        self, grid: tuple[int, int, int], questions: Sequence[Question]
    ) -> dict[str, Any]:
        """Ids, labels, positions and question numbers of one clip's sequence."""
        merge = self.processor.video_processor.merge_size
        T, rows, columns = grid[0], grid[1] // merge, grid[2] // merge
        count, start = T * rows * columns, len(self.head)
        ids = self.head + [self.video_id] * count + self.tail
        positions = np.empty((3, len(ids)), dtype=np.int64)
        positions[:, :start] = np.arange(start)
        times = (np.arange(T) * self.interval).astype(np.int64)
        positions[0, start : start + count] = start + np.repeat(times, rows * columns)
        positions[1, start : start + count] = start + np.tile(
            np.repeat(np.arange(rows), columns), T
        )
        positions[2, start : start + count] = start + np.tile(np.arange(columns), T * rows)
        # In transformers 5, text positions continue after the frame's side, not after the time.
        after = start + max(rows, columns)
        positions[:, start + count :] = after + np.arange(len(self.tail))
        after += len(self.tail)
        labels, owner = [IGNORED] * len(ids), [0] * len(ids)
        parts, pointers = [positions], []
        for number, question in enumerate(questions, start=1):
            tokens, answer_start, looks = self.question_tokens(question, grid)
            first = len(ids)
            ids = ids + tokens
            labels += [IGNORED] * answer_start + tokens[answer_start:]
            owner += [number] * len(tokens)
            parts.append(np.broadcast_to(after + np.arange(len(tokens)), (3, len(tokens))))
            pointers += [(first + place, share, cover) for place, share, cover in looks]
        return {
            "ids": ids,
            "labels": labels,
            "owner": owner,
            "positions": np.concatenate(parts, axis=1),
            "pointers": pointers,
        }

    def question_tokens(
        self, question: Question, grid: tuple[int, int, int]
    ) -> tuple[list[int], int, list[tuple[int, float, np.ndarray]]]:
        """Tokens of a question with its answer, where the answer starts, and where to look."""
        first, last = sampled_span(question)
        boxes = sampled_boxes(question).astype(int)
        think = None
        if self.random.random() < self.thinking:
            noise = [[self.random.randint(-JITTER_PX, JITTER_PX) for _ in range(4)] for _ in boxes]
            think = np.clip(boxes + np.array(noise), 0, 28 * grid[2] // 2)
        prompt = FIND_PROMPT if think is not None else TRACK_PROMPT
        answer = write_track(
            first, last, None if think is None else think.tolist(), boxes.tolist(), compact=True
        )
        tokens, start = self.question(prompt.format(sentence=question.sentence), answer)
        coded = self.processor.tokenizer(answer, return_offsets_mapping=True)
        covers = [self._cover(grid, {k: boxes[k - first]}) for k in range(first, last + 1)]
        whole = self._cover(grid, {k: boxes[k - first] for k in range(first, last + 1)})
        looks = []
        entry = -1
        for place, (begin, end) in enumerate(coded["offset_mapping"]):
            text = answer[begin:end]
            if answer[:begin].count("[") != answer[:begin].count("]"):
                cover = covers[entry % len(covers)]
                # The first digit of a number must be seen, the second is half known from it.
                share = 1.0 if answer[begin - 1] in "[," else 0.3
                looks.append((start + place - 1, share, cover))
            elif begin < answer.index("</time>") and text.isdigit():
                looks.append((start + place - 1, 1.0, whole))
            if "[" in text:
                entry += 1
        return tokens, start, looks

    def _cover(self, grid: tuple[int, int, int], boxes: dict[int, np.ndarray]) -> np.ndarray:
        """Video tokens that hold these boxes, by sampled frame, [T x rows x columns]."""
        merge = self.processor.video_processor.merge_size
        depth = self.processor.video_processor.temporal_patch_size
        cover = np.zeros((grid[0], grid[1] // merge * (grid[2] // merge)), dtype=np.float32)
        for k, box in boxes.items():
            seen = coverage(box.tolist(), grid[1] // merge, grid[2] // merge)
            cover[k // depth] = np.maximum(cover[k // depth], seen)
        return cover.ravel()
