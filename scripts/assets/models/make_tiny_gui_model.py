"""Build the tiny Qwen2.5-VL model and warm it up on training screens; see --help."""

import argparse
from pathlib import Path

from scripts.assets.models.gui_and_video.run import WarmupPlan, init_assets, warm_up


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init", action="store_true", help="only tokenizer and random weights")
    parser.add_argument("--assets", type=Path, default=Path("assets/models/tiny_qwen2_5_vl"))
    parser.add_argument("--out", type=Path, default=Path("runs/warmup"))
    parser.add_argument("--pages", type=Path, nargs="*", default=[], help="generated rows files")
    parser.add_argument("--screens", type=Path, nargs="*", default=[], help="training rows files")
    parser.add_argument("--screen-repeats", type=int, default=1)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--start", type=Path, help="continue from these weights")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--max-minutes", type=float, default=40.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--muon-lr", type=float, default=0.0, help="0: AdamW for everything")
    parser.add_argument("--floor", type=float, default=0.05, help="last learning rate / first")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--augment", type=float, default=0.5)
    parser.add_argument("--pointer-weight", type=float, default=0.5)
    parser.add_argument("--word-weight", type=float, default=0.5)
    parser.add_argument("--eval-minutes", type=float, default=4.0)
    parser.add_argument("--eval-limit", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    init = options.pop("init")
    plan = WarmupPlan(**options)
    if init:
        init_assets(plan)
    else:
        warm_up(plan)


if __name__ == "__main__":
    main()
