"""Attention with shared prompts against one dense masked attention, values and gradients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from vlrl.errors import ConfigError
from vlrl.policy.vision_language import group_attention as registered
from vlrl.policy.vision_language.group_attention import SharedPrompts, group_attention
from vlrl.policy.vision_language.packed import choice, varlen
from vlrl.policy.vision_language.packed.masked import masked_attention
from vlrl.policy.vision_language.packed.plan import GroupSpan, PackedGroups
from vlrl.policy.vision_language.packed.varlen import varlen_attention

HEADS, KEY_HEADS, D = 4, 2, 8


class Layer(nn.Module):
    num_key_value_groups = HEADS // KEY_HEADS
    layer_idx = 0


def dense_mask(groups: list[tuple[int, list[int]]]) -> Tensor:
    """What may attend to what, worked out token by token."""
    names = [(g, a) for g, (p, answers) in enumerate(groups)
             for a, n in [(-1, p), *enumerate(answers)] for _ in range(n)]  # fmt: skip
    L = len(names)
    mask = torch.zeros(L, L, dtype=torch.bool)
    for q in range(L):
        for k in range(q + 1):
            same_group = names[q][0] == names[k][0]
            mask[q, k] = same_group and names[k][1] in (-1, names[q][1])
    return mask


def tensors(length: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    make = torch.Generator().manual_seed(seed)
    shapes = [(1, HEADS, length, D), (1, KEY_HEADS, length, D), (1, KEY_HEADS, length, D)]
    return tuple(torch.randn(s, generator=make).requires_grad_() for s in shapes)  # type: ignore[return-value]


def plan_of(groups: list[tuple[int, list[int]]]) -> PackedGroups:
    """Adjacent groups: tokens of the prompt, tokens of each answer."""
    spans, end = [], 0
    for prompt, answers in groups:
        spans.append(GroupSpan(end, prompt, tuple(answers)))
        end = spans[-1].stop
    return PackedGroups(tuple(spans))


group_of = st.tuples(st.integers(1, 9), st.lists(st.integers(0, 7), min_size=1, max_size=5))
WAYS = {"masked": masked_attention, "varlen": varlen_attention}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(st.lists(group_of, min_size=1, max_size=3), st.sampled_from([None, 0.3]))
def test_packed_groups_equal_a_dense_mask(
    way: str, groups: list[tuple[int, list[int]]], scale: float | None
) -> None:
    plan = plan_of(groups)
    assert plan.num_tokens == sum(p + sum(a) for p, a in groups)
    q, k, v = tensors(plan.num_tokens)
    out = WAYS[way](q, k, v, plan, scale)
    repeated = [x.repeat_interleave(HEADS // KEY_HEADS, 1) for x in (k, v)]
    mask = dense_mask(groups)
    wanted = scaled_dot_product_attention(q, *repeated, attn_mask=mask, scale=scale)
    assert torch.allclose(out, wanted, atol=1e-5)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((out * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((wanted * weight).sum(), (q, k, v))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_registered_function_has_the_shape_that_transformers_wants() -> None:
    groups = [(4, [3, 2]), (5, [1])]
    q, k, v = tensors(15)
    out, weights = group_attention(Layer(), q, k, v, None, groups=plan_of(groups))
    assert out.is_contiguous()
    assert weights is None
    assert torch.equal(out.transpose(1, 2), masked_attention(q, k, v, plan_of(groups)))


def test_answers_without_a_common_beginning_need_no_prompt() -> None:
    """A judge's questions may have none."""
    plan = PackedGroups((GroupSpan(0, 0, (3, 2)),))
    q, k, v = tensors(5)
    repeated = [x.repeat_interleave(HEADS // KEY_HEADS, 1) for x in (k, v)]
    mask = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).tril().bool()
    wanted = scaled_dot_product_attention(q, *repeated, attn_mask=mask)
    for attend in WAYS.values():
        assert torch.allclose(attend(q, k, v, plan), wanted, atol=1e-5)


class Context:
    """What autograd hands to a function; its engine does not run without the device."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


def test_the_calls_are_those_that_the_kernels_of_cuda_take() -> None:
    """Schemas, shapes and types by torch's own descriptions of the kernels; no number is made."""
    plan = plan_of([(9, [3, 0, 4]), (5, [2]), (6, [0])])
    calls: list[Any] = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            calls.append(func)
            return func(*args, **(kwargs or {}))

    with FakeTensorMode(), Watched():
        shapes = [(plan.num_tokens, heads, 128) for heads in (16, 2, 2)]
        inputs = [torch.empty(s, device="cuda", dtype=torch.bfloat16) for s in shapes]
        context = Context()
        runs = plan.runs(torch.device("cuda"))
        out = varlen._TwoCalls.forward(context, *inputs, runs, None)
        grads = varlen._TwoCalls.backward(context, out)[:3]
    assert calls.count(torch.ops.aten._flash_attention_forward.default) == 2
    assert calls.count(torch.ops.aten._flash_attention_backward.default) == 2
    for made, shape in zip((out, *grads), (shapes[0], *shapes), strict=True):
        assert (made.shape, made.dtype, made.device.type) == (shape, torch.bfloat16, "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_passes_where_kernels_are_right(dtype: torch.dtype) -> None:
    query, key = torch.zeros(1, 4, 1, 16, dtype=dtype), torch.zeros(1, 2, 1, 16, dtype=dtype)
    assert choice.agrees(query, key)
    assert not choice.takes_varlen(query, key)  # on CPU the masked calls


def test_the_trial_says_loudly_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    query = torch.zeros(1, 2, 1, 16)
    missing = RuntimeError("no kernel")
    with (
        caplog.at_level(logging.WARNING),
        mock.patch.object(varlen, "_flash", side_effect=missing),
    ):
        assert not choice.agrees(query, query)
    assert "no kernel" in caplog.text

    def swapped(*halves: Tensor) -> Tensor:
        return halves[0]

    with caplog.at_level(logging.WARNING), mock.patch.object(torch, "logaddexp", swapped):
        assert not choice.agrees(query, query)
    assert "off by" in caplog.text


def test_the_faster_way_is_measured_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """By a clock on which only one of the ways takes time."""
    query, key = torch.zeros(1, 4, 1, 16), torch.zeros(1, 2, 1, 16)
    plan = plan_of([(40, [5, 7])])
    clock = [0.0]

    def takes_a_second(attend: Callable[..., Tensor], *args: Any, **named: Any) -> Tensor:
        clock[0] += 1.0
        return attend(*args, **named)

    for slow, wanted in (("masked", "varlen"), ("varlen", "masked")):
        name = f"{slow}_attention"
        with (
            mock.patch.object(choice.time, "perf_counter", side_effect=lambda: clock[0]),
            mock.patch.object(choice, name, partial(takes_a_second, getattr(choice, name))),
            caplog.at_level(logging.INFO),
        ):
            assert choice.is_faster(query, key, plan) == (wanted == "varlen")
        assert f"{slow} calls 1000.00 ms" in caplog.text
        assert f"{wanted} are faster" in caplog.text
        caplog.clear()


def test_the_trial_leaves_a_checkpointed_layer_alone() -> None:
    """It may first run inside one, whose hooks count what is saved for the backward pass."""
    plan = plan_of([(6, [2, 3])])
    tried: list[bool] = []

    def layer(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not tried:
            tried.append(choice.agrees(q, k))
            choice.is_faster(q, k, plan)
        return masked_attention(q, k, v, plan)

    inputs = tensors(plan.num_tokens)
    state = torch.get_rng_state()
    out = checkpoint(layer, *inputs, use_reentrant=False)
    found = torch.autograd.grad(out.square().sum(), inputs)
    wanted = torch.autograd.grad(masked_attention(*inputs, plan).square().sum(), inputs)
    assert tried == [True]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_blocks_are_about_as_long_as_the_prompt() -> None:
    plan = PackedGroups((GroupSpan(10, 100, (40, 40, 40, 250, 5)), GroupSpan(485, 3, (0, 0))))
    first, second = plan.blocks(torch.device("cpu"))
    assert [(b.start, b.stop) for b in first] == [(110, 190), (190, 230), (230, 480), (480, 485)]
    assert second == ()
    assert plan.num_tokens == 488
    assert plan.blocks(torch.device("cpu"))[0] is first  # made once per pass


@pytest.mark.parametrize("num_each", [1, 3])
def test_decoding_against_kept_prompts_equals_full_rows(num_each: int) -> None:
    make = torch.Generator().manual_seed(0)
    P, L, T = 2, 5, 4
    B = P * num_each
    query = torch.randn(B, HEADS, 1, D, generator=make)
    own = [torch.randn(B, KEY_HEADS, T, D, generator=make) for _ in range(2)]
    prompts = [torch.randn(P, KEY_HEADS, L, D, generator=make) for _ in range(2)]
    padding = torch.zeros(P, 1, 1, L)
    padding[1, ..., :2] = -torch.inf  # the second prompt is shorter
    plan = SharedPrompts([(prompts[0], prompts[1])], padding, num_each)
    out, _ = group_attention(Layer(), query, own[0], own[1], None, groups=plan)
    k, v = (
        torch.cat([p.repeat_interleave(num_each, 0), o], 2).repeat_interleave(HEADS // KEY_HEADS, 1)
        for p, o in zip(prompts, own, strict=True)
    )
    mask = torch.cat([padding.repeat_interleave(num_each, 0), torch.zeros(B, 1, 1, T)], -1)
    wanted = scaled_dot_product_attention(query, k, v, attn_mask=mask).transpose(1, 2)
    assert torch.allclose(out, wanted, atol=1e-5)


class Named(str):
    """The CPU under a device name whose type is `cuda`."""

    type = "cuda"


class OnCuda(Tensor):
    """A tensor on CPU that says that it is on a GPU."""

    where = Named("cpu")

    @property
    def device(self) -> Any:  # type: ignore[override]
        return self.where


class OnSecond(OnCuda):
    where = Named("cpu:0")


def of_kind(
    made: type[Tensor] = OnCuda,
    dtype: torch.dtype = torch.bfloat16,
    heads: int = 4,
    key_heads: int = 2,
    width: int = 16,
) -> tuple[Tensor, Tensor]:
    """A query and a key, seen as tensors of that class."""
    shapes = [(1, heads, 1, width), (1, key_heads, 1, width)]
    query, key = (torch.zeros(s, dtype=dtype).as_subclass(made) for s in shapes)
    return query, key


@pytest.fixture
def no_choice_yet() -> Iterator[None]:
    with (
        mock.patch.dict(choice._CHOSEN, clear=True),
        mock.patch.object(torch.cuda, "synchronize"),
    ):
        yield


KINDS: dict[str, dict[str, Any]] = {
    "first": {},
    "device": {"made": OnSecond},
    "dtype": {"dtype": torch.float16},
    "heads": {"heads": 8},
    "key heads": {"key_heads": 4},
    "width": {"width": 24},
}


@pytest.mark.usefixtures("no_choice_yet")
def test_a_choice_holds_for_one_device_type_and_shape(caplog: pytest.LogCaptureFixture) -> None:
    """What was said holds; else varlen calls are taken where they work. Nothing is timed here."""
    wanted = {name: n % 2 == 0 for n, name in enumerate(KINDS)}
    with caplog.at_level(logging.INFO):
        for name, kind in KINDS.items():
            choice.choose(*of_kind(**kind), varlen=wanted[name])
        assert {name: choice.takes_varlen(*of_kind(**k)) for name, k in KINDS.items()} == wanted
        choice._CHOSEN.clear()
        assert all(choice.takes_varlen(*of_kind(**kind)) for kind in KINDS.values())
        assert len(choice._CHOSEN) == len(KINDS)
    assert caplog.text == ""


@pytest.mark.usefixtures("no_choice_yet")
def test_a_rank_that_cannot_take_the_runs_kernels_says_so() -> None:
    for query, key in (of_kind(made=Tensor), of_kind(dtype=torch.float32)):
        with pytest.raises(ConfigError, match="packed_attention: masked"):
            choice.choose(query, key, varlen=True)
        choice.choose(query, key, varlen=False)
        assert not choice.takes_varlen(query, key)


@pytest.mark.usefixtures("no_choice_yet")
def test_what_does_not_agree_is_neither_timed_nor_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Timed first, a missing kernel would end the run."""
    with (
        caplog.at_level(logging.INFO),
        mock.patch.object(varlen, "_flash", side_effect=RuntimeError("no kernel")) as flash,
    ):
        assert not choice.takes_varlen(*of_kind())
        assert flash.call_count == 1
        assert not choice.takes_varlen(*of_kind())
        assert flash.call_count == 1
    assert caplog.text.count("masked calls instead") == 1
    assert "are faster" not in caplog.text


@pytest.mark.usefixtures("no_choice_yet")
def test_dropout_other_types_and_the_cpu_never_take_varlen() -> None:
    """Not even if a choice for such a row exists."""
    refused: list[tuple[dict[str, Any], float]] = [
        ({"made": Tensor}, 0.0),
        ({"made": Tensor, "dtype": torch.float16}, 0.0),
        ({"dtype": torch.float32}, 0.0),
        ({"width": 12}, 0.0),
        ({}, 0.1),
    ]
    for kind, dropout in refused:
        query, key = of_kind(**kind)
        assert not choice.takes_varlen(query, key, dropout), kind
        assert not choice._CHOSEN, kind
        chosen = (query.device, query.dtype, query.shape[1], key.shape[1], query.shape[-1])
        with mock.patch.dict(choice._CHOSEN, {chosen: True}):
            assert not choice.takes_varlen(query, key, dropout), kind
            if dropout:
                assert choice.takes_varlen(query, key)


@pytest.mark.usefixtures("no_choice_yet")
def test_attention_with_dropout_goes_through_masked_calls() -> None:
    """Varlen calls know no dropout; the registered function hands it to the choice."""
    plan = plan_of([(4, [3, 2])])
    shapes = [(1, HEADS, 9, D), (1, KEY_HEADS, 9, D), (1, KEY_HEADS, 9, D)]
    inputs = [torch.ones(s, dtype=torch.bfloat16) for s in shapes]
    query = inputs[0].as_subclass(OnCuda)
    choice._CHOSEN[(query.device, query.dtype, HEADS, KEY_HEADS, D)] = True
    taken: list[str] = []

    def noted(way: str) -> Callable[..., Tensor]:
        def attend(*args: Any) -> Tensor:
            taken.append(way)
            return inputs[0]

        return attend

    with (
        mock.patch.object(registered, "varlen_attention", noted("varlen")),
        mock.patch.object(registered, "masked_attention", noted("masked")),
    ):
        for dropout in (0.0, 0.1):
            group_attention(Layer(), query, *inputs[1:], None, dropout, groups=plan)
    assert taken == ["varlen", "masked"]
