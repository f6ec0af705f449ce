"""Builds the embedded captioned images from two npm packages of emoji art.

    uv pip install --no-deps resvg-py==0.5.0
    python scripts/assets/images/make_captioned_images.py --out assets/images

resvg-py draws the SVG of one of them; only this script needs it. The result is the same on every
run: which concepts and colours are held out depends only on their names.
"""

import argparse
import io
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a checkout

from scripts.assets.images.draw_references import draw_references
from scripts.assets.images.image_concepts import WORDS, Concept, concepts, shuffled, with_article
from scripts.assets.images.image_docs import FLUENT, NOTO, RESVG, write_docs
from scripts.assets.screens.npm_packages import unpack
from PIL import Image

from scripts.assets.images.compose import COLOURS

SIZE_PX = 64
FILLED_PX = 56
"""Longest side of a concept in its sprite."""
NUM_NEW_CONCEPTS = 40
NUM_KEPT_WORDS = 10
"""Of the new words: not even prompts for them are trained on."""
NUM_NEW_WORDS = 40
HELD_OUT_COLOURS = list(combinations(COLOURS, 2))
"""Every pair of colours; taken in turn, so that each colour is held out equally often."""
PICTURES = ("fluent", "noto", "references")

Row = dict[str, Any]


def svg_drawer() -> Callable[[str], Image.Image]:
    """A function from an SVG text to an image of 512 px; ends the program without resvg-py."""
    try:
        import resvg_py
    except ModuleNotFoundError:
        raise SystemExit(f"resvg-py is missing: uv pip install --no-deps {RESVG}") from None

    def draw(svg: str) -> Image.Image:
        data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=512, height=512))
        return Image.open(io.BytesIO(data)).convert("RGBA")

    return draw


def fluent_sprites(folder: Path, wanted: Iterable[Concept]) -> dict[str, Image.Image]:
    """A sprite for each slug, from the package's SVG bodies."""
    draw = svg_drawer()
    icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    sprites = {}
    for concept in wanted:
        if concept.icon not in icons["icons"]:
            raise SystemExit(f"{concept.name!r}: {FLUENT} has no icon {concept.icon!r}")
        icon = icons["icons"][concept.icon]
        width, height = (icon.get(side, icons[side]) for side in ("width", "height"))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            f"{icon['body']}</svg>"
        )
        sprites[concept.slug] = centred(draw(svg))
    return sprites


def noto_sprites(noto: Path, fluent: Path, wanted: Iterable[Concept]) -> dict[str, Image.Image]:
    """A sprite for each slug; the Fluent package's table of code points joins the two packages."""
    icon_of = json.loads((fluent / "chars.json").read_text(encoding="utf-8"))
    image_of = {}
    for emoji in json.loads((noto / "emoji.json").read_text(encoding="utf-8")):
        points = emoji["unified"].lower()
        # U+FE0F only requests the coloured form; one package writes it, the other does not.
        icon = icon_of.get(points) or icon_of.get(points.replace("-fe0f", ""))
        if icon and emoji["has_img_google"]:
            image_of[icon] = noto / "img/google/64" / emoji["image"]
    sprites = {}
    for concept in wanted:
        if concept.icon not in image_of:
            raise SystemExit(f"{concept.name!r}: {NOTO} has no image of {concept.icon!r}")
        with Image.open(image_of[concept.icon]) as image:
            sprites[concept.slug] = centred(image.convert("RGBA"))
    return sprites


def centred(image: Image.Image) -> Image.Image:
    """The drawn part, its longest side FILLED_PX, centred in a transparent square of SIZE_PX."""
    # A faint halo must not count, or the object itself would come out smaller.
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > 16)).getbbox()
    if box is None:
        raise SystemExit("a sprite is empty")
    drawn = image.crop(box)
    scale = FILLED_PX / max(drawn.size)
    width, height = (max(1, round(side * scale)) for side in drawn.size)
    drawn = drawn.resize((width, height), Image.Resampling.LANCZOS)
    sprite = Image.new("RGBA", (SIZE_PX, SIZE_PX), (0, 0, 0, 0))
    sprite.alpha_composite(drawn, ((SIZE_PX - width) // 2, (SIZE_PX - height) // 2))
    return sprite


def new_concepts(all_concepts: list[Concept]) -> set[str]:
    """Slugs of the concepts that training never shows, a fair share of each category."""
    by_category = defaultdict(list)
    for concept in all_concepts:
        by_category[concept.category].append(concept.slug)
    share = NUM_NEW_CONCEPTS / len(all_concepts)
    return {
        slug
        for slugs in by_category.values()
        for slug in shuffled(slugs)[: round(share * len(slugs))]
    }


def held_out_colours(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The two colours of each name that training never shows."""
    order = shuffled(names)
    return {name: HELD_OUT_COLOURS[i % len(HELD_OUT_COLOURS)] for i, name in enumerate(order)}


def concept_rows(all_concepts: list[Concept]) -> Iterator[tuple[str, Row]]:
    """(split, row) of every image: each concept on each colour."""
    new = new_concepts(all_concepts)
    held_out = held_out_colours(c.slug for c in all_concepts if c.slug not in new)
    for concept in all_concepts:
        for colour in COLOURS:
            if concept.slug in new:
                split = "new_concepts"
            else:
                split = "held_out" if colour in held_out[concept.slug] else "train"
            name = f"{concept.slug}--{colour}"
            yield (
                split,
                {
                    "id": name,
                    "caption": f"{with_article(concept.name)} on {with_article(colour)} background",
                    "concept": concept.name,
                    "category": concept.category,
                    "colour": colour,
                    "references": [f"references/{name}.webp"],
                },
            )


def word_rows() -> Iterator[tuple[str, Row]]:
    """(split, row) of every prompt that asks for a written word; they have no images."""
    words = WORDS.split()
    new = {
        word
        for length in (3, 4)
        for word in shuffled(w for w in words if len(w) == length)[: NUM_NEW_WORDS // 2]
    }
    practised = set(shuffled(new)[NUM_KEPT_WORDS:])
    known = held_out_colours(word for word in words if word not in new)
    held_out = known | held_out_colours(practised)
    for word in words:
        novelty = "seen" if word in known else "practised" if word in practised else "new"
        split = "words_practice" if word in practised else "words_train"
        for colour in COLOURS:
            train = word in held_out and colour not in held_out[word]
            yield (
                split if train else "words_held_out",
                {
                    "id": f"word-{word}--{colour}",
                    "caption": f'the word "{word}" on {with_article(colour)} background',
                    "written": word,
                    "colour": colour,
                    "novelty": novelty,
                },
            )


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/vlrl-npm"))
    args = parser.parse_args()
    all_concepts = concepts()
    fluent_folder, noto_folder = unpack(FLUENT, args.cache), unpack(NOTO, args.cache)
    fluent = fluent_sprites(fluent_folder, all_concepts)
    noto = noto_sprites(noto_folder, fluent_folder, all_concepts)
    for name in PICTURES:
        shutil.rmtree(args.out / name, ignore_errors=True)
        (args.out / name).mkdir(parents=True)
    for style, sprites in (("fluent", fluent), ("noto", noto)):
        for slug, sprite in sprites.items():
            sprite.save(args.out / style / f"{slug}.png", optimize=True)
    draw_references(args.out)
    splits: dict[str, list[Row]] = defaultdict(list)
    for split, row in (*concept_rows(all_concepts), *word_rows()):
        splits[split].append(row)
    for split, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (args.out / f"{split}.jsonl").write_text(text, encoding="utf-8")
    write_docs(args.out, splits)
    total = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print({split: len(rows) for split, rows in splits.items()}, f"{total / 1e6:.1f} MB in all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
