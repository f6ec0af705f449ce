"""Draws assets/new_clips: clips of twelve kinds that the embedded video model has never seen.

    python scripts/assets/clips/draw_clips.py        # `make setup` calls it; 10 seconds

RL adapts that model to them. They are made of sprites in the repository and photographs that
scikit-image ships, so that 5 MB of videos need not be stored. Existing splits are not changed.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # runs from a checkout

from scripts.assets.clips.make_clips import HELD_OUT
from scripts.assets.clips.make_clips import TRAIN as WARM_UP

from scripts.assets.clips.dataset import write_split
from scripts.assets.clips.scene import NEW_CONCEPTS, Pool

TRAIN = tuple(name for name in WARM_UP if name not in ("china.jpg", "flower.jpg"))
"""The warm-up's photographs without those of scikit-learn."""
NUM_QUESTIONS = 3
"""At most this many per clip."""
SEED = 7


def photographs_folder() -> Path | None:
    """Where the installed scikit-image keeps its photographs; None without it."""
    found = importlib.util.find_spec("skimage")
    return None if found is None or found.origin is None else Path(found.origin).parent / "data"


def draw_clips(out: Path, sprites: Path, photographs: Path, num_train: int, num_held: int) -> int:
    """Write the splits that are missing in `out`; returns the number of clips written."""
    num_written = 0
    for split, names, count in (("train", TRAIN, num_train), ("held_out", HELD_OUT, num_held)):
        if not (out / f"{split}.jsonl").is_file():  # written last
            pool = Pool.load(sprites, [photographs / name for name in names], NEW_CONCEPTS)
            write_split(out, split, pool, count, NUM_QUESTIONS, SEED)
            num_written += count
    return num_written


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "assets/new_clips")
    parser.add_argument("--sprites", type=Path, default=ROOT / "assets/images")
    parser.add_argument("--train", type=int, default=300, help="clips")
    parser.add_argument("--held-out", type=int, default=120, help="clips")
    args = parser.parse_args()
    photographs = photographs_folder()
    if photographs is None:
        print(
            "setup: assets/new_clips is not drawn, scikit-image is missing (extra `three_d`); only "
            "configs/video_grounding/tiny.yaml needs it",
            file=sys.stderr,
        )
        return 0
    num_written = draw_clips(args.out, args.sprites, photographs, args.train, args.held_out)
    if num_written:
        print(f"setup: drew {num_written} clips")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
