"""Build assets/clips: sprites that move over photographs, with exact tubes; see --help."""

import argparse
from pathlib import Path

from scripts.assets.clips.dataset import write_split
from scripts.assets.clips.scene import Pool

TRAIN = ("coffee.png", "grass.png", "brick.png", "gravel.png", "astronaut.png", "coins.png",
         "hubble_deep_field.jpg", "china.jpg", "flower.jpg")  # fmt: skip
HELD_OUT = ("chelsea.png", "rocket.jpg")


def main() -> None:
    """Parse the command line and write both splits."""
    parser = argparse.ArgumentParser(
        description="Photographs: scikit-image's data folder, and scikit-learn's "
        "datasets/images for china.jpg and flower.jpg."
    )
    parser.add_argument("--sprites", type=Path, default=Path("assets/images"))
    parser.add_argument("--photographs", type=Path, nargs="+", required=True, help="folders")
    parser.add_argument("--out", type=Path, default=Path("assets/clips"))
    parser.add_argument("--train", type=int, default=300, help="clips")
    parser.add_argument("--held-out", type=int, default=120, help="clips")
    parser.add_argument("--questions", type=int, default=3, help="at most this many per clip")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    splits = {"train": (TRAIN, options.train), "held_out": (HELD_OUT, options.held_out)}
    for split, (names, count) in splits.items():
        pool = Pool.load(options.sprites, [find(options.photographs, name) for name in names])
        lines = write_split(options.out, split, pool, count, options.questions, options.seed)
        print(f"{split}: {count} clips, {lines} questions")


def find(folders: list[Path], name: str) -> Path:
    """The photograph in the first folder that has it."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise SystemExit(f"{name} is in none of {', '.join(map(str, folders))}")


if __name__ == "__main__":
    main()
