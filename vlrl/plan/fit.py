"""What a run takes of its GPUs, and which keys to change where it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError
from vlrl.plan.gpus import GIB
from vlrl.plan.sharding import Sharding, Weights


@dataclass(frozen=True)
class Plan:
    """What a run takes on each of its GPUs."""

    gpu: str
    num_gpus: int
    usable: float
    """Bytes that tensors can take."""
    weights: Weights
    always: Mapping[str, float]
    """Bytes by part, in memory in every phase."""
    sampling: Mapping[str, float]
    update: Mapping[str, float]
    """Bytes by part, in that phase alone."""
    seconds: Mapping[str, float]
    """Of a step, by part."""
    chunk_tokens: int
    """Tokens of the chunk whose memory `update` states, over all GPUs that share it."""
    num_chunks: int
    """Chunks of a rank and step, those of others that it shares included."""
    rows_at_once: int
    smallest_chunk: int
    """Tokens of the longest row, which is never cut, or of each GPU's share of it."""
    largest_chunk: int
    """The largest `dist.max_tokens_per_chunk` that fits; 0: none."""
    largest_batch: int
    """The most of a rank's rows that can be sampled together; 0: none."""
    num_sharers: int = 1
    """GPUs that share each chunk."""
    unknown_scorers: tuple[str, ...] = ()
    """Models of rewards whose size is not known here."""
    may_share: bool = False
    """Whether more of them could."""

    def phases(self) -> dict[str, float]:
        """Bytes of each phase."""
        always = sum(self.always.values())
        return {
            "sampling": always + sum(self.sampling.values()),
            "update": always + sum(self.update.values()),
        }

    @property
    def peak(self) -> float:
        """Bytes at the fullest moment."""
        return max(self.phases().values())

    @property
    def fits(self) -> bool:
        """Whether every phase does."""
        return self.peak <= self.usable

    def check(self, config: RunConfig) -> None:
        """Raise ConfigError where it does not fit, with the keys to change."""
        lines = [
            f"plan: {phase} takes {size / GIB:.1f} GiB, of {self.usable / GIB:.1f} that tensors "
            f"can take on each {self.gpu} ({self.num_gpus} of them); "
            f"{', or '.join(self._hints(config, phase))}"
            for phase, size in self.phases().items()
            if size > self.usable
        ]
        if lines:
            raise ConfigError("\n".join(lines))

    def _hints(self, config: RunConfig, phase: str) -> Sequence[str]:
        group = config.algo.group_size
        hints: list[str] = []
        if phase == "sampling":
            if self.largest_batch >= group:
                rows = self.largest_batch // group * group
                hints.append(f"set policy.sample_batch_size to at most {rows}")
        else:
            if self.largest_chunk >= self.smallest_chunk:
                hints.append(f"set dist.max_tokens_per_chunk to at most {self.largest_chunk}")
            if not config.dist.gradient_checkpointing:
                hints.append("set dist.gradient_checkpointing: true")
            elif self.may_share and 0 < self.largest_chunk < self.smallest_chunk:
                # A row is too long, though there is room for a part of it.
                hints.append(f"set dist.sequence_parallel: {2 * self.num_sharers}")
        if hints:
            return hints
        if Sharding.read(config.dist.deepspeed).stage < 3:
            hints.append("set dist.deepspeed: deepspeed_configs/zero3.json")
        if self.weights.num_trained == self.weights.num:
            hints.append("train an adapter (policy.lora)")
        return [*hints, "take GPUs with more memory (plan.gpu)"]
