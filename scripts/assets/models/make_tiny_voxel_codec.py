"""Make the embedded voxel VQ-VAE from the embedded shapes (training models only).

python scripts/assets/models/make_tiny_voxel_codec.py --out assets/models/tiny_voxel/codec
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from vlrl.policy.voxel_tokens.options import VoxelCodecConfig
from vlrl.distributed.memory import keep_freed_memory
from vlrl.policy.voxel_tokens.codec import VoxelCodec
from vlrl.policy.voxel_tokens.codec_files import save_codec
from vlrl.mesh.store import load_shape
from scripts.assets.models.image.clock import Clock
from scripts.assets.models.voxel.codec import reconstruction_iou, train_codec

SHAPE = VoxelCodecConfig(
    resolution=24,
    channels=(8, 32, 64),
    latent_channels=8,
    num_blocks=(0, 1, 1),
    num_middle_blocks=1,
    group=3,
    num_codes=512,
)


def shapes_of(assets: Path, split: str) -> Tensor:
    """Occupancies of a split, bool [N, R, R, R]."""
    lines = (assets / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    grids = [load_shape(str(assets / json.loads(line)["reference"])).occupancy for line in lines]
    return torch.from_numpy(np.stack(grids))


def main() -> None:
    """Train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets/shapes"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    args.out.mkdir(parents=True, exist_ok=True)
    codec = VoxelCodec(SHAPE)
    train, held_out = (shapes_of(args.assets, split) for split in ("train", "held_out"))
    with (args.out / "warmup_log.jsonl").open("a", encoding="utf-8") as log:
        clock = Clock(args.minutes)
        train_codec(codec, train, clock, batch=args.batch, lr=args.lr, log=log)
        save_codec(copy.deepcopy(codec).half(), args.out)
        row = {
            "train_iou": reconstruction_iou(codec, train[:200]),
            "held_out_iou": reconstruction_iou(codec, held_out),
        }
        log.write(json.dumps(row) + "\n")
        print(row)


if __name__ == "__main__":
    main()
