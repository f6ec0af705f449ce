"""A decoding step recorded once as a CUDA graph and played again for the tokens that follow.

A step of a 7B model is some 1,500 small kernels; launching each from Python takes longer than
running it. The record is made anew for every batch of prompts and whenever rows leave or columns
are added, so that no address in it outlives the tensor it belongs to, weights included.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

log = logging.getLogger(__name__)


class Recorder:
    """Runs a step as it is; the base of those that record it."""

    records = False
    """Whether a step may be played again: then every tensor that it reads keeps its address."""

    def forget(self) -> None:
        """Shapes or addresses have changed: what was recorded is void."""

    def run(self, step: Callable[[], None]) -> None:
        """The step, once."""
        step()


class GraphRecorder(Recorder):
    """Records the second step after a change; the first one lets libraries set themselves up."""

    records = True

    def __init__(self) -> None:
        self.graph: torch.cuda.CUDAGraph | None = None
        self.is_warm = False
        self.has_failed = False
        """Whether a step could not be recorded; steps then just run."""

    def forget(self) -> None:
        """Shapes or addresses have changed: what was recorded is void."""
        self.graph, self.is_warm = None, False

    def run(self, step: Callable[[], None]) -> None:
        """The step, once."""
        if self.graph is None and not self.is_warm:
            step()
            self.is_warm = True
            return
        if self.graph is None and not self.has_failed:
            self._record(step)
        if self.graph is None:
            step()
        else:
            self.graph.replay()

    def _record(self, step: Callable[[], None]) -> None:
        """Record without running; where that cannot be done, say so once."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads (NCCL's watchdog, rewards that score meanwhile) may use the device.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                step()
        except RuntimeError as error:
            self.has_failed = True
            log.warning("a decoding step cannot be recorded (%s): steps run one by one", error)
            return
        self.graph = graph


def recorder_for(device: torch.device, use: bool = True) -> Recorder:
    """A recorder of CUDA graphs on CUDA, if it is to be used; elsewhere steps just run."""
    return GraphRecorder() if use and device.type == "cuda" else Recorder()
