"""One decode of ShapeLLM-Omni's full-size VQ-VAE (random weights) on a CPU: time and memory.

python benchmarks/shapellm_decode.py [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.policy.voxel_tokens.codec import VoxelCodec
from vlrl.policy.voxel_tokens.options import VoxelCodecConfig


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    codec = VoxelCodec(VoxelCodecConfig()).eval()
    codes = torch.randint(0, 8192, (1, 1024))
    start, busy = time.perf_counter(), time.process_time()
    occupancy = codec.decode(codes)
    print(
        json.dumps(
            {
                "shape": list(occupancy.shape),
                "wall_s": round(time.perf_counter() - start, 2),
                "cpu_s": round(time.process_time() - busy, 2),
                "peak_memory_gb": round(
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2
                ),
                "threads": args.threads,
            }
        )
    )


if __name__ == "__main__":
    main()
