"""The embedded captioned images: files, counts, splits, captions, and how they are composed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.assets.images.compose import COLOURS, INK, compose, draw_word
from vlrl.image.data.captions import CaptionSource, read_captions

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "images"
SPLITS = (
    "train",
    "held_out",
    "new_concepts",
    "words_train",
    "words_practice",
    "words_held_out",
)


def test_sprites_are_composed_on_every_colour():
    sprite = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    sprite.paste((10, 20, 30, 255), (20, 20, 40, 40))
    for colour, value in COLOURS.items():
        image = compose(sprite, colour)
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert image.getpixel((0, 0)) == value
        assert image.getpixel((30, 30)) == (10, 20, 30)
    with pytest.raises(ValueError, match="did you mean 'green'"):
        compose(sprite, "gren")


@pytest.mark.parametrize("size_px", [32, 64])
@pytest.mark.parametrize("word", ["lip", "moon", "gypsy"])
def test_words_are_whole_large_and_near_the_middle(word, size_px):
    places = set()
    for seed in range(8):
        image = np.asarray(draw_word(word, "pink", size_px, seed))
        assert image.shape == (size_px, size_px, 3)
        rows, columns = np.nonzero((image != COLOURS["pink"]).any(axis=2))
        extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert min(extent) > 0
        assert max(extent) < size_px
        assert max(extent[2] - extent[0], extent[3] - extent[1]) >= 0.75 * size_px
        assert abs(extent[0] + extent[2] - size_px) <= 0.1 * size_px
        assert abs(image.min(axis=(0, 1)).astype(int) - INK).max() < 30
        places.add(extent)
    assert len(places) > 1
    again = [np.asarray(draw_word(word, "pink", size_px, seed=3)) for _ in range(2)]
    assert (again[0] == again[1]).all()


def test_a_word_that_does_not_fit():
    with pytest.raises(ValueError, match="does not fit a square of 14 px"):
        draw_word("incomprehensibilities", "white", 16)


@pytest.fixture(scope="module")
def embedded() -> dict[str, list[dict]]:
    """The rows of every split, read as the task reads them."""
    return {
        split: [
            dict(row.fields)
            for row in read_captions(CaptionSource(path=str(ASSETS / f"{split}.jsonl"))).good
        ]
        for split in SPLITS
    }


def test_embedded_counts_and_size(embedded):
    counts = {split: len(rows) for split, rows in embedded.items()}
    assert counts == {
        "train": 200 * 6,
        "held_out": 200 * 2,
        "new_concepts": 40 * 8,
        "words_train": 120 * 6,
        "words_practice": 30 * 6,
        "words_held_out": 120 * 2 + 30 * 2 + 10 * 8,
    }
    ids = [row["id"] for rows in embedded.values() for row in rows]
    assert len(set(ids)) == len(ids)
    kept = [path for path in ASSETS.rglob("*") if path.is_file() and path.suffix != ".webp"]
    assert sum(path.stat().st_size for path in kept) < 3e6
    readme = (ASSETS / "README.md").read_text()
    for split, count in counts.items():
        assert f"| `{split}.jsonl` | {count} |" in readme


def test_embedded_splits_are_disjoint(embedded):
    pairs = {
        split: {(row.get("concept", row.get("written")), row["colour"]) for row in rows}
        for split, rows in embedded.items()
    }
    for split in SPLITS:
        assert len(pairs[split]) == len(embedded[split])
    assert not pairs["train"] & pairs["held_out"]
    assert not pairs["words_train"] & pairs["words_held_out"]
    seen = {concept for concept, _ in pairs["train"]}
    assert seen == {concept for concept, _ in pairs["held_out"]}
    new = {concept for concept, _ in pairs["new_concepts"]}
    assert not new & seen
    known = {file for row in embedded["train"] for file in row["references"]}
    for split in ("held_out", "new_concepts"):
        assert not known & {file for row in embedded[split] for file in row["references"]}
    for colour in COLOURS:
        assert 45 <= sum(held == colour for _, held in pairs["held_out"]) <= 55
    assert not pairs["words_practice"] & pairs["words_held_out"]
    words = {row["written"]: "seen" for row in embedded["words_train"]}
    practised = {row["written"]: "practised" for row in embedded["words_practice"]}
    assert not words.keys() & practised.keys()
    for row in embedded["words_held_out"]:
        assert row["novelty"] == (words | practised).get(row["written"], "new")


def test_embedded_captions_say_what_is_shown(embedded):
    for split, rows in embedded.items():
        for row in rows:
            colour = f"{'an' if row['colour'] == 'orange' else 'a'} {row['colour']} background"
            if split.startswith("words"):
                assert row["caption"] == f'the word "{row["written"]}" on {colour}'
                assert len(row["written"]) in (3, 4)
                assert not row.get("references")
            else:
                thing, _, ground = row["caption"].partition(" on ")
                assert ground == colour
                assert thing.removeprefix("an ").removeprefix("a ") == row["concept"]
                assert not thing.startswith(tuple(f"a {vowel}" for vowel in "aeio"))


def test_embedded_references_are_the_composed_sprites(embedded):
    files = set()
    for split in ("train", "held_out", "new_concepts"):
        for row in embedded[split]:
            (name,) = row["references"]
            files.add(ASSETS / name)
            with Image.open(ASSETS / name) as image:
                assert (image.mode, image.size) == ("RGB", (64, 64))
                shown = np.asarray(image)
            slug = row["id"].rpartition("--")[0]
            with Image.open(ASSETS / "noto" / f"{slug}.png") as sprite:
                assert (np.asarray(compose(sprite, row["colour"])) == shown).all()
    assert files == set((ASSETS / "references").iterdir())


@pytest.mark.parametrize("style", ["fluent", "noto"])
def test_embedded_sprites_fill_their_square(embedded, style):
    slugs = {
        row["id"].rpartition("--")[0]
        for split in ("train", "new_concepts")
        for row in embedded[split]
    }
    assert {path.stem for path in (ASSETS / style).iterdir()} == slugs
    for slug in slugs:
        with Image.open(ASSETS / style / f"{slug}.png") as sprite:
            assert (sprite.mode, sprite.size) == ("RGBA", (64, 64))
            left, top, right, bottom = sprite.getchannel("A").getbbox()
        assert 54 <= max(right - left, bottom - top) <= 56
        assert abs(left + right - 64) <= 3
        assert abs(top + bottom - 64) <= 3


def test_embedded_words_can_be_drawn(embedded):
    for word in {row["written"] for row in embedded["words_held_out"]}:
        ink = np.asarray(draw_word(word, "white")) != 255
        assert not ink[[0, -1]].any()
        assert not ink[:, [0, -1]].any()


def test_embedded_sources_are_listed():
    text = (ASSETS / "LICENSES.md").read_text()
    for piece in (
        "@iconify-json/fluent-emoji-flat@1.2.6",
        "emoji-datasource-google@16.0.0",
        "Copyright (c) Microsoft Corporation",
        "Apache-2.0",
        "Permission is hereby granted",
    ):
        assert piece in text
