"""The processes of a run: who this one is, and the few collectives that a step needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vlrl.distributed.memory import keep_freed_memory
from vlrl.distributed.waiting import waiting
from vlrl.errors import ConfigError

if TYPE_CHECKING:
    from vlrl.distributed.sequence import SequenceRanks

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among all processes of the run."""

    rank: int
    size: int
    device: torch.device
    sequence: SequenceRanks | None = None
    """The ranks that it shares the update's rows with (vlrl/distributed/sequence.py)."""

    @property
    def is_main(self) -> bool:
        """True on the one rank that writes logs and reports."""
        return self.rank == 0


def init(timeout_s: int, num_threads: int = 0) -> World:
    """Join the run: NCCL on GPUs, gloo on CPUs; alone when no launcher set the environment."""
    import deepspeed
    import deepspeed.ops

    _check_restarts()
    # Only inference uses this operator, and compiling it costs minutes on a CPU machine; a rank
    # killed meanwhile leaves a lock behind, which blocks the next run.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    for key, value in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "LOCAL_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }.items():
        os.environ.setdefault(key, value)
    use_cuda = torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu"
    if use_cuda:
        torch.cuda.set_device(local_rank)
    device = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
    # DeepSpeed's launcher says LOCAL_SIZE, torchrun LOCAL_WORLD_SIZE. Images are prepared on
    # the CPU, so ranks share its cores on GPUs as well.
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ["LOCAL_SIZE"])
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(num_threads or max(1, cores // local_size))
    if not use_cuda:
        keep_freed_memory()
    if not dist.is_initialized():
        deepspeed.init_distributed(
            dist_backend="nccl" if use_cuda else "gloo",
            timeout=timedelta(seconds=timeout_s),
            verbose=False,
        )
        _deepspeeds_own_group(timeout_s)
    return World(dist.get_rank(), dist.get_world_size(), device)


def _check_restarts() -> None:
    """Refuse restarts by torchrun that would find the addresses of processes that are gone.

    torchrun keeps one store over its restarts; a process that comes back before the others reads
    what their predecessors wrote into it (torch 2.12: "Connection refused", with NCCL a hang).
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise ConfigError(
            "torchrun --max-restarts: restarted processes would read addresses of those before "
            "them; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in torchrun's environment and use "
            "--rdzv-backend=c10d"
        )


def current() -> World:
    """All ranks of the run that this process is in; itself alone where there is none."""
    if not dist.is_available() or not dist.is_initialized():
        return World(0, 1, torch.device("cpu"))
    on_gpu = dist.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    return World(dist.get_rank(), dist.get_world_size(), device)


def _deepspeeds_own_group(timeout_s: int) -> None:
    """Give DeepSpeed its own copy of the world's group, with our timeout.

    DeepSpeed would make it with the default timeout: NCCL then gives up after ten minutes.
    """
    from deepspeed.utils import groups

    if groups._WORLD_GROUP is None:
        ranks = list(range(dist.get_world_size()))
        groups._WORLD_GROUP = dist.new_group(ranks, timeout=timedelta(seconds=timeout_s))


def wait_for_device(device: torch.device) -> None:
    """Wait until what was queued has been done; for collectives whose result the host never reads.

    NCCL only queues them: the host would leave a `waiting` at once, and a rank that is missed would
    be missed later, in work that no other rank is known to wait for.
    """
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


@waiting("all_sum")
def all_sum(values: Sequence[float], world: World) -> list[float]:
    """Element-wise sum over all ranks, in float64."""
    if world.size == 1:
        return [float(value) for value in values]
    tensor = torch.tensor(list(values), dtype=torch.float64, device=world.device)
    dist.all_reduce(tensor)
    return tensor.tolist()


@waiting("all_max")
def all_max(value: float, world: World) -> float:
    """The largest value of all ranks."""
    if world.size == 1:
        return float(value)
    tensor = torch.tensor([value], dtype=torch.float64, device=world.device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return float(tensor[0])


@waiting("each_max")
def each_max(values: Sequence[float], world: World) -> list[float]:
    """The largest value of all ranks at each place, in one collective."""
    if world.size == 1:
        return [float(value) for value in values]
    tensor = torch.tensor(list(values), dtype=torch.float64, device=world.device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.tolist()


@waiting("all_gather")
def all_gather(value: T, world: World) -> list[T]:
    """Every rank's value, on every rank; plain data only, since it is pickled between ranks."""
    if world.size == 1:
        return [value]
    gathered = [value] * world.size
    dist.all_gather_object(gathered, value)
    return gathered


@waiting("sum_in_place")
def sum_in_place(tensor: Tensor, world: World) -> None:
    """Sum over all ranks, into the tensor itself."""
    if world.size > 1:
        dist.all_reduce(tensor)
        wait_for_device(world.device)


@waiting("sum_gradients")
def sum_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Add up gradients over ranks, in place; a rank without gradient adds 0."""
    if world.size == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
    wait_for_device(world.device)


@waiting("broadcast")
@torch.no_grad()
def broadcast(tensors: Iterable[Tensor], world: World, source: int = 0) -> None:
    """Overwrite the tensors with those of rank `source`."""
    if world.size > 1:
        for tensor in tensors:
            dist.broadcast(tensor, source)
        wait_for_device(world.device)


@waiting("barrier")
def barrier(world: World) -> None:
    """Wait for all ranks."""
    if world.size > 1:
        dist.barrier()


_leaving: list[Callable[[], None]] = []


def before_leaving(call: Callable[[], None]) -> None:
    """Have this called once when the run is left, while its process groups are still there."""
    _leaving.append(call)


def shutdown() -> None:
    """Leave the run, so that no rank waits for this one's sockets."""
    was_joined = dist.is_initialized()
    while _leaving:
        _leaving.pop()()
    if dist.is_initialized():
        dist.destroy_process_group()
    if was_joined:
        from deepspeed.utils import groups

        # DeepSpeed still holds the destroyed group; the next run in this process makes a new one.
        groups._WORLD_GROUP = None
