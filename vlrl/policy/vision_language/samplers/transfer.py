"""Weights handed to a vLLM server over NCCL, by vLLM's own transfer, instead of by files.

The server is started with `--weight-transfer-config '{"backend": "nccl"}'`; vLLM stands in the
trainer's environment too (the extra `vllm`). Each rank is the sender of its own server's group.
Read in vLLM 0.32 line by line; no GPU was there to run it, and the canary scores every publication.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from vlrl.errors import ConfigError, EngineError, first_line
from vlrl.policy.vision_language.options import EngineOptions
from vlrl.policy.vision_language.samplers import wire
from vlrl.policy.vision_language.samplers.sampler import Export
from vlrl.policy.vision_language.samplers.server import ServerSampler

LIBRARY = "vllm.distributed.weight_transfer"
LOCAL = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Meta:
    """What vLLM asks of a tensor before it comes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class Source:
    """The weights of a publication, as vLLM's sender reads them: first what comes, then all of it.

    Every pass yields the same names in the same order.
    """

    def __init__(self) -> None:
        self.tensors: Mapping[str, Tensor] = {}

    def metadata(self) -> list[Meta]:
        """Name, type and shape of every tensor."""
        return [Meta(name, t.dtype, tuple(t.shape)) for name, t in self.tensors.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.tensors.items()

    def held_names(self) -> None:
        """All of them."""


class TransferSampler(ServerSampler):
    """A vLLM server on GPUs of its own, in one NCCL group with this rank."""

    def __init__(self, options: EngineOptions, url: str, *args: Any, **more: Any) -> None:
        """args, more: as of ServerSampler. Raises ConfigError without vLLM or CUDA."""
        check_nccl(url)
        super().__init__(options, url, *args, **more)
        self._source = Source()
        self._sender: Any = None

    def publish(self, export: Export, version: int) -> None:
        """Stream the weights, and empty every cache of the old ones; as ServerSampler otherwise."""
        start = time.perf_counter()
        self._source.tensors = export.tensors()
        with self._quiet():
            self.num_published += 1
            try:
                if self._sender is None:
                    self._sender = self._joined()
                self._sender.send_weights()
            except (RuntimeError, ValueError, OSError) as error:
                raise EngineError(
                    f"rollout server {self.url}: weights cannot be handed over by NCCL "
                    f"({first_line(error)}); it must be started with --weight-transfer-config "
                    '\'{"backend": "nccl"}\', on other GPUs than the trainer\'s. '
                    "policy.engine.sync: disk needs neither"
                ) from error
            finally:
                self._source.tensors = {}
            for cache in wire.CACHES:
                self._call("POST", cache)
            self.version = version
        self._seconds["engine/sync_s"] += time.perf_counter() - start

    def _joined(self) -> Any:
        """One group of this rank and the server's GPUs; both sides join at once."""
        nccl = import_module(f"{LIBRARY}.nccl_engine")
        clients = import_module(f"{LIBRARY}.clients")
        address = _address_for(urlsplit(self.url).hostname or LOCAL[0])
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        facts = nccl.NCCLTrainerInitInfo(
            master_address=address,
            master_port=port,
            world_size=1 + self.options.tensor_parallel,
            rank=0,
        )
        client = clients.HTTPVLLMWeightSyncClient(self.url, timeout=self.options.timeout_s)
        return nccl.NCCLTrainerWeightTransferEngine.trainer_init(
            facts, client=client, source=self._source
        )


def check_nccl(url: str) -> None:
    """Raise ConfigError where this process cannot send by NCCL."""
    if not torch.cuda.is_available():
        raise ConfigError(
            f"policy.engine.sync: nccl needs a GPU on both sides, and this rank (of {url}) has "
            "none: leave sync on auto"
        )
    try:
        import_module(LIBRARY)
    except ImportError as error:
        raise ConfigError(
            "policy.engine.sync: nccl needs vLLM in the trainer's environment too "
            f"(pip install 'vlrl[vllm]'; {first_line(error)}); sync: disk does not"
        ) from error


def _address_for(host: str) -> str:
    """The address under which a server sees this machine."""
    if host in LOCAL:
        return LOCAL[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing: it only picks the way there
        return str(probe.getsockname()[0])
