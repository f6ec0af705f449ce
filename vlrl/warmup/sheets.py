"""Sheets of rendered words: the densest lesson in reading that a screenshot-sized image holds."""

import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from transformers import Qwen2_5_VLProcessor

from vlrl.warmup.collate import coverage, patchify, stack

FONT_FOLDER = Path("/usr/share/fonts/truetype")
FONT_NAMES = ("liberation", "dejavu", "open-sans", "roboto")
CELL = 28


def find_fonts() -> list[str]:
    """Upright text fonts of the machine; the pages are drawn with the same families."""
    files = [file for name in FONT_NAMES for file in sorted(FONT_FOLDER.glob(f"{name}*/**/*.ttf"))]
    unwanted = ("Italic", "Oblique", "Light", "Math", "Cond", "Narrow")
    return [str(file) for file in files if not any(word in file.stem for word in unwanted)]


class SheetCollator:
    """Batches of word sheets, drawn on the fly; only the image tokens are supervised."""

    def __init__(
        self,
        processor: Qwen2_5_VLProcessor,
        phrases: Sequence[str],
        *,
        size: tuple[int, int] = (336, 224),
        seed: int = 0,
    ) -> None:
        self.processor = processor
        self.phrases = [phrase for phrase in phrases if phrase.isascii() and len(phrase) < 30]
        self.width, self.height = size
        self.random = random.Random(seed)
        self.fonts = {
            (file, points): ImageFont.truetype(file, points)
            for file in find_fonts()
            for points in range(11, 19)
        }
        if not self.fonts:
            raise FileNotFoundError(f"no text fonts under {FONT_FOLDER}")
        self.head: list[int] = []
        self._known_spans: dict[tuple[str, bool], list[tuple[int, int, int]]] = {}

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """One sheet per example; what the examples hold does not matter."""
        pixels, index, covers = [], [], []
        for row in range(len(examples)):
            sheet, words = self.draw()
            pixels.append(patchify(sheet, self.processor)[0])
            index += [(row, token) for token, _ in words]
            covers += [cover for _, cover in words]
        grid = (1, self.height // 14, self.width // 14)
        return {
            "pixel_values": torch.cat(pixels),
            "image_grid_thw": torch.tensor([grid] * len(examples)),
            "word_index": torch.tensor(index),
            "word_cover": stack(covers),
        }

    def draw(self) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
        """A sheet and its tokens, each with the image tokens that its letters cross."""
        pick = self.random
        dark = pick.random() < 0.35
        image = Image.new("RGB", (self.width, self.height), self._colour(dark))
        canvas = ImageDraw.Draw(image)
        words: list[tuple[int, np.ndarray]] = []
        top = pick.randint(0, 14)
        while top < self.height - 20:
            points = pick.randint(11, 18)
            font = self.fonts[pick.choice([key for key in self.fonts if key[1] == points])]
            row_height = points + pick.randint(3, 16)
            left = pick.randint(0, 40)
            while left < self.width - 30:
                phrase = self._phrase()
                right = left + font.getlength(phrase)
                if right > self.width:
                    break
                inked = dark
                if pick.random() < 0.3:
                    inked = not dark
                    frame = (left - pick.randint(2, 10), top, right + 5, top + row_height - 2)
                    canvas.rectangle(frame, fill=self._colour(inked))
                offset = (row_height - points) // 3
                canvas.text((left, top + offset), phrase, self._colour(not inked), font)
                words += self._tokens(phrase, font, left, top + offset, points)
                left = int(right) + pick.randint(8, 60)
            top += row_height
        if not words:
            return self.draw()
        return np.asarray(image), words

    def _tokens(
        self, phrase: str, font: ImageFont.FreeTypeFont, left: float, top: float, points: int
    ) -> list[tuple[int, np.ndarray]]:
        """Tokens of a phrase as it may be spelled in an instruction, with their ink's place."""
        words = []
        for token, start, end in self._spans(phrase, self.random.random() < 0.5):
            x1, x2 = left + font.getlength(phrase[:start]), left + font.getlength(phrase[:end])
            box = (x1 + 1, top + 0.35 * points, x2 - 1, top + points)
            cover = coverage(box, self.height // CELL, self.width // CELL)
            if cover.any():
                words.append((token, cover))
        return words

    def _spans(self, phrase: str, spaced: bool) -> list[tuple[int, int, int]]:
        """Tokens of a phrase, with or without a leading space, and the letters they spell."""
        key = (phrase, spaced)
        if key not in self._known_spans:
            encoded = self.processor.tokenizer(" " * spaced + phrase, return_offsets_mapping=True)
            pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
            spans = [(token, max(0, a - spaced), b - spaced) for token, (a, b) in pairs]
            self._known_spans[key] = [span for span in spans if phrase[span[1] : span[2]].strip()]
        return self._known_spans[key]

    def _phrase(self) -> str:
        """A name from the training rows, or letters that spell nothing."""
        if self.random.random() < 0.75:
            return self.random.choice(self.phrases)
        letters = self.random.choices(string.ascii_lowercase, k=self.random.randint(2, 7))
        word = "".join(letters)
        return word.capitalize() if self.random.random() < 0.5 else word

    def _colour(self, dark: bool) -> tuple[int, int, int]:
        """Some dark or some light colour."""
        low, high = (0, 90) if dark else (185, 255)
        grey = self.random.randint(low, high)
        if self.random.random() < 0.5:
            return grey, grey, grey
        return tuple(self.random.randint(low, high) for _ in range(3))  # type: ignore[return-value]
