"""Warm the embedded GUI model up on clips of moving sprites; see --help."""

import argparse
from pathlib import Path

from scripts.assets.models.gui_and_video.clip_run import ClipPlan, warm_up_on_clips


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=Path, default=Path("assets/models/tiny_qwen2_5_vl"))
    parser.add_argument("--out", type=Path, default=Path("runs/video_warmup"))
    parser.add_argument("--sprites", type=Path, default=Path("assets/images"))
    parser.add_argument("--photographs", type=Path, nargs="+", default=[], help="to train on")
    parser.add_argument("--held-out", type=Path, nargs="+", default=[], help="to measure on")
    parser.add_argument("--steps", type=int, default=100_000, help="0: only write the start again")
    parser.add_argument("--max-minutes", type=float, default=15.0)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--muon-lr", type=float, default=2e-3)
    parser.add_argument("--floor", type=float, default=0.05, help="last learning rate / first")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--thinking", type=float, default=0.5, help="share with thinking boxes")
    parser.add_argument("--pointer-weight", type=float, default=0.5)
    parser.add_argument("--eval-minutes", type=float, default=5.0)
    parser.add_argument("--num-eval", type=int, default=48)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--storage", choices=("bf16", "float8"), default="bf16", help="on disk")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    plan = ClipPlan(**vars(parser.parse_args()))
    if plan.steps and not (plan.photographs and plan.held_out):
        parser.error("training needs --photographs and --held-out")
    warm_up_on_clips(plan)


if __name__ == "__main__":
    main()
