"""One rank that only watches: `python tests/helpers_watchdog.py FAULT RANK_OF_FAULT` under RANK.

It makes ten steps of one collective each; in step 3 one of the ranks does what FAULT says.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import torch
import torch.distributed as dist

from vlrl.config.schema import DistConfig
from vlrl.distributed.comm import World, all_sum
from vlrl.distributed.waiting import waiting
from vlrl.distributed.watchdog import Watchdog
from vlrl.errors import LostRankError


def do(fault: str) -> None:
    """What befalls a rank."""
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "failed":
        raise ValueError("out of memory")
    elif fault == "stuck":
        with waiting("a collective of its own"):
            time.sleep(60)
    elif fault == "busy":
        time.sleep(9)


def main(fault: str, faulty: int) -> None:
    """Ten steps."""
    dist.init_process_group("gloo")
    world = World(dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
    saved = [0]
    with Watchdog(world, DistConfig(hang_timeout_s=5), 0, lambda: saved[0]) as watchdog:
        for step in range(1, 11):
            if step == 3 and world.rank == faulty:
                print(f"fault {time.time()}", flush=True)
                do(fault)
            all_sum([1.0], world)
            watchdog.step_done(step)
            saved[0] = step
    print("whole", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except LostRankError as lost:
        print(f"LostRankError: {lost}", file=sys.stderr)
        sys.exit(lost.exit_status)
