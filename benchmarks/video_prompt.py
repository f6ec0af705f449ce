"""A group's video encoded once against once per answer: tokens, and seconds of one update.

    python benchmarks/video_prompt.py [--model FOLDER] [--group 8] [--frames 6] [--answer 96]

Answers are random tokens of one length: what is measured is the forward and backward pass over
the prompt and the answers, in both layouts of the policy, with and without a frozen vision tower.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy, layout
from vlrl.protocols import PolicySetup
from vlrl.types import Message, Sample, TextPart, VideoPart


def measured(policy: VisionLanguagePolicy, traj: TokenTrajectory, repeats: int) -> float:
    """Seconds of the fastest forward and backward pass."""
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up
        policy.module.zero_grad()
        begun = time.perf_counter()
        policy.evaluate(traj).logp.sum().backward()
        best = min(best, time.perf_counter() - begun)
    return best


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="assets/models/tiny_qwen2_5_vl")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--side-px", type=int, default=112)
    parser.add_argument("--answer", type=int, default=96, help="tokens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shape = (args.frames, args.side_px, args.side_px, 3)
    video = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    side, frames = args.side_px, tuple(range(args.frames))
    part = VideoPart(video, side, side, 2.0, args.frames, frames)
    sample = Sample("v", "x", (Message("user", (part, TextPart("Find: the dog"))),), None)
    print("| vision tower | layout | tokens | video tokens | seconds |\n|---|---|---|---|---|")
    for frozen in (False, True):
        options = VisionLanguageConfig(
            model=args.model, max_new_tokens=args.answer, train_vision=not frozen
        )
        policy = VisionLanguagePolicy(
            options, PolicySetup(dtype=torch.float32, max_tokens_per_chunk=1 << 20)
        )
        _, traj = policy.sample([sample], args.group, seed=0)
        tokens = torch.randint(0, 200, (args.group, args.answer))
        mask = torch.ones_like(tokens, dtype=torch.bool)
        group = torch.zeros(args.group, dtype=torch.long)
        traj = TokenTrajectory(tokens, mask, torch.zeros(tokens.shape), group, traj.prompts)
        for shared in (True, False):
            policy.share_prompt = shared
            rows = (layout.shared if shared else layout.plain)(traj, policy.pad_id)
            seen = int((rows.input_ids == policy.module.core.config.video_token_id).sum())
            seconds = measured(policy, traj, args.repeats)
            how = "once per group" if shared else "once per answer"
            tower = "frozen" if frozen else "trained"
            print(f"| {tower} | {how} | {rows.num_tokens} | {seen} | {seconds:.2f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
