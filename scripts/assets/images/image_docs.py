"""Writes README.md and LICENSES.md of the embedded captioned images from what was built."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.assets.images.compose import COLOURS

FLUENT = "@iconify-json/fluent-emoji-flat@1.2.6"
NOTO = "emoji-datasource-google@16.0.0"
RESVG = "resvg-py==0.5.0"

ABOUT = """Built by `scripts/assets/images/make_captioned_images.py` from two npm packages of emoji art;
sources and licences in `LICENSES.md`:

    uv pip install --no-deps {resvg}
    python scripts/assets/images/make_captioned_images.py --out assets/images

Every concept is drawn in two styles, Microsoft's Fluent Flat and Google's Noto:

- `fluent/<concept>.png`, `noto/<concept>.png`: 64x64 RGBA sprites. The object is cut out, scaled to
  56 px on its longest side and centred.
- `references/<concept>--<colour>.webp`: the Noto sprite on a plain background, 64x64 RGB,
  lossless. They are not kept in the repository: `make setup` draws them from the sprites
  (`scripts/assets/images/draw_references.py`, two seconds).

Only Noto images are references. The same images in Fluent style, and images of words, are
composed when needed by the same functions (`scripts/assets/images/compose.py`).

Each line of `train.jsonl`, `held_out.jsonl` and `new_concepts.jsonl` is one image: `id`,
`caption`, `concept`, `category`, `colour`, `references` (paths from this folder). Each line of
`words_train.jsonl`, `words_practice.jsonl` and `words_held_out.jsonl` is one prompt for a word
that should appear in the image: `id`, `caption`, `written`, `colour`, `novelty`; they have no
references.
"""

SPLITS = {
    "train": "each concept on 6 of the 8 colours",
    "held_out": "the same concepts on the other 2 colours; which 2 differs by concept",
    "new_concepts": "other concepts on all colours; no training row shows their references",
    "words_train": "each word on 6 colours",
    "words_practice": "words that the embedded model was never shown, on 6 colours: what it can "
    "learn from a reward alone",
    "words_held_out": "`novelty: seen`, `practised`: the words of the two files on the other 2 "
    "colours; `new`: other words on all colours",
}

MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def write_docs(out: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """README.md with the counts of what was written, and LICENSES.md."""
    images = [row for rows in splits.values() for row in rows if "concept" in row]
    words = [row for rows in splits.values() for row in rows if "written" in row]
    size = sum(path.stat().st_size for path in out.rglob("*") if path.suffix in (".png", ".webp"))
    lines = [
        "# Embedded captioned images",
        "",
        f"{len({row['concept'] for row in images})} concepts in two styles, {len(images)} "
        f"captions with a reference image, {len(words)} prompts for "
        f"{len({row['written'] for row in words})} written words, {size / 1e6:.1f} MB of images.",
        ABOUT.format(resvg=RESVG),
        "| file | rows | concepts or words | what |",
        "|---|---|---|---|",
    ]
    for split, what in SPLITS.items():
        rows = splits[split]
        things = len({row.get("concept", row.get("written")) for row in rows})
        lines.append(f"| `{split}.jsonl` | {len(rows)} | {things} | {what} |")
    lines += ["", "| category | concepts | of them new |", "|---|---|---|"]
    new = {row["concept"] for row in splits["new_concepts"]}
    for category in dict.fromkeys(row["category"] for row in images):
        names = {row["concept"] for row in images if row["category"] == category}
        lines.append(f"| {category} | {len(names)} | {len(names & new)} |")
    lines += ["", "| colour | sRGB | rows held out |", "|---|---|---|"]
    for colour, value in COLOURS.items():
        count = sum(row["colour"] == colour for row in splits["held_out"])
        lines.append(f"| {colour} | {', '.join(map(str, value))} | {count} |")
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "LICENSES.md").write_text(licences(), encoding="utf-8")


def licences() -> str:
    """Packages, versions, licences and their notices."""
    return f"""# Sources of the embedded captioned images

| files | package | art | licence |
|---|---|---|---|
| `fluent/*.png` | npm {FLUENT} | Fluent Emoji (Flat), Microsoft Corporation | MIT |
| `noto/*.png`, `references/*.webp` | npm {NOTO} | Noto Emoji v2.048, Google | Apache-2.0 |

Changes made: the vector art was rasterised, the images were cropped to what is drawn, scaled,
centred, and for the references put on a plain background.

Words are drawn at run time with the font that Pillow ships; no image of a word is in this folder.

## Noto Emoji

Copyright Google Inc. The package states for its Google images: "Android/Google/Noto images, are
available under the Apache License 2.0". The text of that licence is the file `LICENSE` at the top
of this repository; a copy of these images must be accompanied by it.

## Fluent Emoji

The package names the licence (MIT, in its `info.json` and `package.json`) without its text.

MIT License

Copyright (c) Microsoft Corporation.

{MIT}
## emoji-datasource

Its `emoji.json` says which image shows which code point; nothing of it is copied here.

The MIT License (MIT)

Copyright (c) 2013 Cal Henderson

(the text above)
"""
