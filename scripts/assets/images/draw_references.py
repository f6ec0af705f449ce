"""Draws the embedded captioned images' references: each Noto sprite on each colour, lossless.

    python scripts/assets/images/draw_references.py        # `make setup` calls it

5 MB of files that follow from 1 MB of sprites are not stored in the repository. Existing images
are not changed.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # runs from a checkout

from scripts.assets.images.compose import COLOURS, compose


def draw_references(images: Path) -> int:
    """Write what is missing of `images`/references; returns the number of images written."""
    folder, num_written = images / "references", 0
    folder.mkdir(exist_ok=True)
    for sprite in sorted((images / "noto").glob("*.png")):
        paths = {colour: folder / f"{sprite.stem}--{colour}.webp" for colour in COLOURS}
        missing = {colour: path for colour, path in paths.items() if not path.is_file()}
        if not missing:
            continue
        with Image.open(sprite) as drawn:
            for colour, path in missing.items():
                # Under another name first, so that a concurrent run never sees half an image.
                staged = path.with_suffix(".partial")
                compose(drawn, colour).save(staged, "WEBP", lossless=True, quality=20, method=0)
                staged.replace(path)
                num_written += 1
    return num_written


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=ROOT / "assets/images")
    num_written = draw_references(parser.parse_args().images)
    if num_written:
        print(f"setup: drew {num_written} reference images")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
