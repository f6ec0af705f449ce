"""Which of the two exact ways packed groups take on a device: tested, timed and logged.

A run measures once, on its main rank; all ranks take what it found, and checkpoints keep it
(`Policy.pick_kernels`). Ranks that chose by their own clocks would round differently.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from vlrl.errors import ConfigError
from vlrl.policy.vision_language.packed.masked import masked_attention
from vlrl.policy.vision_language.packed.plan import GroupSpan, PackedGroups
from vlrl.policy.vision_language.packed.varlen import varlen_attention

log = logging.getLogger(__name__)

Attend = Callable[[Tensor, Tensor, Tensor, PackedGroups], Tensor]
MAX_ERROR = 0.1
"""Of values and gradients of order 1 in half precision; a wrong sum is off by more."""
TYPICAL = PackedGroups(
    tuple(GroupSpan(start, 1024, (128,) * 8) for start in range(0, 4 * 2048, 2048))
)
"""What is timed: four groups of eight answers."""
_CHOSEN: dict[tuple[Any, ...], bool] = {}


def takes_varlen(query: Tensor, key: Tensor, dropout: float = 0.0) -> bool:
    """Whether packed rows take two varlen calls here instead of masked ones.

    query: [1, heads, L, D]; key: [1, key heads, L, D]. As `choose` said; where nothing was said
    (evaluation, judges), where they work. Not on CPU, where it depends on the size
    (benchmarks/answer_attention.py) and a resumed run must equal an uninterrupted one to the bit.
    """
    if dropout or not is_possible(query):
        return False
    kind = _kind(query, key)
    if kind not in _CHOSEN:
        _CHOSEN[kind] = agrees(query, key)
    return _CHOSEN[kind]


def is_possible(query: Tensor) -> bool:
    """Whether there could be varlen kernels for queries of this type and width, [..., D]."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    return query.device.type in ("cuda", "meta") and half and not query.shape[-1] % 8


def is_better(query: Tensor, key: Tensor) -> bool:
    """Whether varlen calls work here and beat masked ones on a typical row."""
    return is_possible(query) and agrees(query, key) and is_faster(query, key, TYPICAL)


def choose(query: Tensor, key: Tensor, *, varlen: bool) -> None:
    """Let all rows with these heads, of this type and on this device, take that way.

    Raises ConfigError where varlen calls do not work here.
    """
    if varlen and not (is_possible(query) and agrees(query, key)):
        raise ConfigError(
            f"the run takes varlen attention, which does not work on this rank's {query.device}: "
            "all ranks must have the same kind of GPU and of torch, or set "
            "policy.packed_attention: masked"
        )
    _CHOSEN[_kind(query, key)] = varlen


def assume(query: Tensor, key: Tensor, *, varlen: bool) -> None:
    """The same on the meta device, where nothing can be tried: for a plan."""
    _CHOSEN[_kind(query, key)] = varlen


def _kind(query: Tensor, key: Tensor) -> tuple[Any, ...]:
    return (query.device, query.dtype, query.shape[1], key.shape[1], query.shape[-1])


def agrees(query: Tensor, key: Tensor) -> bool:
    """Whether varlen calls agree with a float32 softmax in values and gradients, on a small case.

    Heads, type and device are those of `query` and `key`. Warns if kernels are missing or wrong.
    """
    plan = PackedGroups((GroupSpan(0, 7, (3, 0, 5, 1)), GroupSpan(16, 4, (0,)),
                         GroupSpan(20, 5, (2, 9))))  # fmt: skip
    inputs = _random_like(query, key, plan.num_tokens)
    try:
        found = _with_gradients(varlen_attention, inputs, plan)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        log.warning(
            "no varlen flash attention on %s (%s): masked calls instead", query.device, error
        )
        return False
    wanted = _with_gradients(_dense, [x.float() for x in inputs], plan)
    pairs = zip(found, wanted, strict=True)
    gap = max(float((ours.float() - plain).abs().max()) for ours, plain in pairs)
    if not gap < MAX_ERROR:
        log.warning(
            "varlen flash attention on %s is off by %.3g: masked calls instead", query.device, gap
        )
    return gap < MAX_ERROR


def is_faster(query: Tensor, key: Tensor, plan: PackedGroups, num_repeats: int = 5) -> bool:
    """Whether varlen calls are faster on this row: one layer forward and backward, medians."""
    ways: dict[str, Attend] = {"masked": masked_attention, "varlen": varlen_attention}
    inputs = _random_like(query, key, plan.num_tokens)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(num_repeats + 1):
        for name, attend in ways.items():
            _wait(query.device)
            start = time.perf_counter()
            _with_gradients(attend, inputs, plan)
            _wait(query.device)
            seconds[name].append(time.perf_counter() - start)
    masked, varlen = (1000 * statistics.median(each[1:]) for each in seconds.values())
    log.info(
        "attention of %d groups, %d tokens, on %s: masked calls %.2f ms per layer, varlen calls "
        "%.2f ms: %s are faster",
        len(plan.spans), plan.num_tokens, query.device, masked, varlen,
        "varlen" if varlen < masked else "masked",
    )  # fmt: skip
    return varlen < masked


def _random_like(query: Tensor, key: Tensor, length: int) -> list[Tensor]:
    """Random query, key and value with these heads and this type, from a fixed seed."""
    make = torch.Generator().manual_seed(0)
    heads = (query.shape[1], key.shape[1], key.shape[1])
    shapes = [(1, num, length, query.shape[-1]) for num in heads]
    return [torch.randn(shape, generator=make).to(query.device, query.dtype) for shape in shapes]


def _with_gradients(attend: Attend, inputs: Sequence[Tensor], plan: PackedGroups) -> list[Tensor]:
    """The output, and the gradients of its sum with alternating signs."""
    with torch.enable_grad(), saved_tensors_hooks(_same, _same):
        # Hooks of an enclosing checkpointed layer must not see these passes.
        query, key, value = leaves = [x.detach().requires_grad_() for x in inputs]
        out = attend(query, key, value, plan)
        weight = torch.ones_like(out)
        weight[..., ::2] = -1.0
        return [out.detach(), *torch.autograd.grad(out, leaves, weight)]


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _dense(query: Tensor, key: Tensor, value: Tensor, plan: PackedGroups) -> Tensor:
    """One softmax over the whole row under a mask."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, 1) for x in (key, value))
    length = plan.num_tokens
    seen = torch.zeros(length, length, dtype=torch.bool, device=query.device)
    for span in plan.spans:
        start = span.end_of_prompt
        seen[span.start : span.stop, span.start : start] = True
        for n in span.lengths:
            seen[start : start + n, start : start + n] = True
            start += n
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores.masked_fill(~seen.tril(), float("-inf")).softmax(-1) @ value


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
