"""Where a training step makes the host wait for the device: every place, with its reason.

A value that is read on the host, or a tensor that is copied there, waits for all kernels before it.
Counted on the second device (helpers_host.py), whose tensors are apart from the CPU's.
"""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_host import host_device, on_device
from helpers_runs import ROOT, small_run
from torch.utils._python_dispatch import TorchDispatchMode

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig

pytestmark = pytest.mark.slow
READS = ("_local_scalar_dense", "aten.nonzero", "masked_select", "aten.equal")
VISION = "vlrl/policy/vision_language"
EXPECTED: dict[str, tuple[int, str]] = {
    # The tower runs three times: for sampling, the reference and the update.
    "vlrl/families/qwen_vl.py:features": (18, "transformers' tower reads the grids"),
    f"{VISION}/vision_kernels.py:_sizes": (6, "lengths of windows, once for all layers"),
    "vlrl/families/family.py:outputs": (3, "which visual tokens are a video's"),
    f"{VISION}/module.py:hidden": (6, "transformers counts the places of visual tokens"),
    f"{VISION}/decode.py:_look": (2, "which rows have ended, every eight tokens"),
    f"{VISION}/decode.py:_decoded": (4, "the answers"),
    "vlrl/policy/token_policy.py:reference": (1, "log-probs are kept on the CPU"),
    "vlrl/train/update.py:_step": (1, "whether the losses of all chunks are finite"),
    "vlrl/distributed/engine.py:_guard": (1, "whether the gradients are finite"),
    "vlrl/distributed/engine.py:step": (1, "the gradient's norm"),
    "vlrl/log/metrics.py:_read": (1, "all metrics of the update at once"),
}
"""Place -> waits in a step of 24 tokens, and why."""


class Waits(TorchDispatchMode):
    """Counts values and tensors that come from the device, by the function of ours that asks."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.places: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name, given = str(func), [x for x in args if isinstance(x, torch.Tensor)]
        there = [x.device.type == self.device.type for x in given]
        reads = any(there) and any(read in name for read in READS)
        copied = isinstance(out, torch.Tensor) and out.device.type == "cpu" and any(there)
        if reads or (copied and "_to_copy" in name) or (copied and "copy_" in name):
            self.places[self._place()] += 1
        return out

    def _place(self) -> str:
        stack = [frame for frame in traceback.extract_stack() if str(ROOT) in frame.filename]
        mine = [f for f in stack if "/tests/" not in f.filename and "/.venv/" not in f.filename]
        place = mine[-1]
        return f"{Path(place.filename).relative_to(ROOT)}:{place.name}"


def test_every_wait_of_a_step_is_known(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    device = host_device()
    over = {"policy__max_new_tokens": 24, "algo__kl_beta": 0.05, "eval__splits": ()}
    job = small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, "waits", **over)
    with on_device(device):
        trainer = build_trainer(check(RunConfig, job), None)
        trainer.train_step()
        with Waits(device) as waits:
            trainer.train_step()
    print(dict(waits.places))
    assert dict(waits.places) == {place: num for place, (num, _) in EXPECTED.items()}
