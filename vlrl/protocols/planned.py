"""What a plan of a run asks of a policy: its modules without weights, and the passes of a step.

A policy builds its own modules on torch's meta device, where tensors have shapes and no data, and
says which passes one step makes; `vlrl/plan` runs them there and measures memory and work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class PlannedRun:
    """What a run tells a policy that is being planned."""

    precision: str
    """`bf16` or `fp32`."""
    checkpointing: bool
    max_tokens_per_chunk: int
    """Over all GPUs that share a row."""
    group_size: int
    num_rows: int
    """Rows that a rank samples per step, whole groups."""
    num_levels: int | None
    """Noise levels of an objective without log-probs; None = log-probs are needed."""
    flash: bool
    """Whether attention has CUDA's kernels for rows of unequal length."""
    max_prompt_tokens: int | None
    """The longest prompt, visual tokens included; None = what the policy's options allow."""
    mean_prompt_tokens: int | None
    """None = the longest."""
    mean_answer_tokens: int | None
    """None = the longest."""
    num_sequence_gpus: int = 1
    """GPUs that share each row of the update."""


@dataclass(frozen=True)
class Chunk:
    """One forward pass of an update."""

    num_tokens: int
    """What it counts against `dist.max_tokens_per_chunk`."""
    forward: Callable[[], Tensor]
    """The sum of what the objective reads, with gradient."""


@dataclass(frozen=True)
class Pass:
    """A pass of sampling, without gradient."""

    name: str
    run: Callable[[], object]
    """What it returns stays in memory until the batch has ended, e.g. a cache."""
    times: float = 1.0
    """How often it is made for a batch."""
    is_recorded: bool = False
    """Whether CUDA plays it again as a graph, so that no kernel is launched from Python."""


class PlannedPolicy(ABC):
    """A policy without its weights."""

    module: nn.Module
    """What DeepSpeed would wrap, on the meta device, frozen and trained as in the run."""
    num_packed: int = 0
    """Weights of it that are kept in four bits."""
    others: Sequence[nn.Module] = ()
    """Further models that are whole on each GPU, such as decoders of images."""
    has_reference_copy: bool = False
    """Whether a KL term needs a frozen copy; an adapter is switched off instead."""
    run: PlannedRun
    num_rows_at_once: int
    """Rows that are sampled together, as options and the rank's share have it."""

    @property
    def exchanged_bytes(self) -> float:
        """What the passes so far have sent to the other GPUs of their rows."""
        return 0.0

    @property
    def has_typical_lengths(self) -> bool:
        """Whether typical prompts or answers differ from the longest ones."""
        return bool(self.run.mean_prompt_tokens or self.run.mean_answer_tokens)

    @property
    def num_row_batches(self) -> int:
        """Batches of a rank and step."""
        return -(-self.run.num_rows // self.num_rows_at_once)

    @abstractmethod
    def num_step_tokens(self, *, largest: bool) -> int:
        """Tokens that a rank's rows of a step count in an update; `largest` as in `chunk`."""

    @abstractmethod
    def chunk(self, num_tokens: int, *, largest: bool) -> Chunk:
        """A chunk of at most so many tokens, one row at least; over all GPUs that share it.

        largest: of the longest prompts and answers, for memory; else of typical ones, for time.
        """

    @abstractmethod
    def sampling(self, num_rows: int, *, largest: bool) -> Sequence[Pass]:
        """The passes of one batch of so many rows, in order."""
