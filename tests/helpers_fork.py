"""Processes for tests, forked from a server that has imported once what all of them need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import multiprocessing

IMPORTED = [
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.processing_clip",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.image_processing_auto",
    "transformers.models.dinov2.modeling_dinov2",
    "transformers.models.bit.image_processing_bit",
    "helpers_prompts",
]


def start_processes(function: Callable[..., None], args: tuple[Any, ...], num: int) -> None:
    """`function(rank, *args)` in separate processes; imports would be half of their time.

    Forked from the server, they inherit no process group of earlier tests.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTED)
    multiprocessing.start_processes(function, args, nprocs=num, start_method="forkserver")
