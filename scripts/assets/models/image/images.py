"""What the embedded image model learns from: the fluent sprites, and words, on plain colours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scripts.assets.images.compose import COLOURS, compose, draw_word

NUM_WORD_PLACES = 3
"""Images of one word prompt; they differ in the word's place by a pixel or two."""


@dataclass(frozen=True)
class Captioned:
    """Images with their captions."""

    captions: list[str]
    images: Tensor
    """uint8 [N, 3, H, W]."""
    weights: Tensor
    """How often each is drawn, [N]."""


def base_images(assets: Path, size_px: int, second_style: float = 0.0) -> Captioned:
    """The first style and the words, training prompts only.

    Concepts whose second style is held out (new_concepts.jsonl) are shown in every second colour.

    second_style: share of the training prompts' images that are shown in the second style.
    Reinforcement learning cannot make a model draw more often what it never draws.
    """
    trained = _rows(assets / "train.jsonl")
    rows = trained + [
        row
        for row in _rows(assets / "new_concepts.jsonl")
        if list(COLOURS).index(row["colour"]) % 2 == 0
    ]
    captions = [row["caption"] for row in rows]
    images = [sprite(assets / "fluent", row) for row in rows]
    weights = [1.0 - second_style] * len(trained) + [1.0] * (len(rows) - len(trained))
    if second_style:
        captions += [row["caption"] for row in trained]
        images += [sprite(assets / "noto", row) for row in trained]
        weights += [second_style] * len(trained)
    for row in _rows(assets / "words_train.jsonl"):
        for place in range(NUM_WORD_PLACES):
            captions.append(row["caption"])
            images.append(draw_word(row["written"], row["colour"], size_px, seed=place))
            weights.append(1.0)
    return Captioned(captions, _stack(images), torch.tensor(weights))


def both_styles(assets: Path, size_px: int) -> Tensor:
    """What the autoencoder learns from: the above and the second style's training references."""
    rows = _rows(assets / "train.jsonl")
    second = _stack([sprite(assets / "noto", row) for row in rows])
    return torch.cat([base_images(assets, size_px).images, second])


def all_captions(assets: Path) -> list[str]:
    """Every caption of the set, for the tokenizers."""
    return [row["caption"] for path in sorted(assets.glob("*.jsonl")) for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sprite(folder: Path, row: dict[str, str]) -> Image.Image:
    """The image of a row's caption in the style of `folder`."""
    slug = row["id"].rpartition("--")[0]
    with Image.open(folder / f"{slug}.png") as drawn:
        return compose(drawn, row["colour"])


def _stack(images: list[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(p) for p in images])).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Labelled:
    """Images of both styles with one kind of label."""

    names: list[str]
    images: Tensor
    """uint8 [N, 3, H, W]."""
    labels: Tensor
    """Index into `names`, [N]."""


def labelled(assets: Path, by: str, *, held_out: bool) -> Labelled:
    """Sprites of both styles, labelled `by` style or concept; training or held-out prompts.

    Concepts of new_concepts.jsonl count as training in every second colour, as in `base_images`.
    """
    rows = _rows(assets / ("held_out.jsonl" if held_out else "train.jsonl"))
    rows += [
        row
        for row in _rows(assets / "new_concepts.jsonl")
        if (list(COLOURS).index(row["colour"]) % 2 == 0) is not held_out
    ]
    names = sorted({row["concept"] for row in rows}) if by == "concept" else ["fluent", "noto"]
    images, labels = [], []
    for style in ("fluent", "noto"):
        for row in rows:
            images.append(sprite(assets / style, row))
            labels.append(names.index(row["concept"] if by == "concept" else style))
    return Labelled(names, _stack(images), torch.tensor(labels))
