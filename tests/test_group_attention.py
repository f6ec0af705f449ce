"""Attention with shared prompts against one dense masked attention, values and gradients."""

from __future__ import annotations

import logging
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vlrl.policy import split_attention
from vlrl.policy.group_attention import (
    PackedGroups,
    SharedPrompts,
    group_attention,
    span_of,
)

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


group_of = st.tuples(st.integers(1, 9), st.lists(st.integers(0, 7), min_size=1, max_size=5))


@settings(max_examples=40)
@given(st.lists(group_of, min_size=1, max_size=3), st.booleans())
def test_packed_groups_equal_a_dense_mask(
    groups: list[tuple[int, list[int]]], splits: bool
) -> None:
    """`splits`: the two flash calls that CUDA gets, by their CPU kernels."""
    spans, end = [], 0
    for prompt, answers in groups:
        spans.append(span_of(end, prompt, answers))
        end = spans[-1].stop
    assert end == sum(p + sum(a) for p, a in groups)
    q, k, v = tensors(end)
    with mock.patch("vlrl.policy.group_attention.serves", return_value=splits):
        out, _ = group_attention(Layer(), q, k, v, None, groups=PackedGroups(tuple(spans)))
    repeated = [x.repeat_interleave(HEADS // KEY_HEADS, 1) for x in (k, v)]
    wanted = scaled_dot_product_attention(q, *repeated, attn_mask=dense_mask(groups)).transpose(
        1, 2
    )
    assert torch.allclose(out, wanted, atol=1e-5)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((out * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((wanted * weight).sum(), (q, k, v))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_of_split_attention_passes_where_its_kernels_are(dtype: torch.dtype) -> None:
    like = torch.zeros(1, 1, 1, 16, dtype=dtype)
    assert split_attention._agrees(like)
    assert not split_attention.serves(like, dropout=0.0)  # on CPU the masked call


def test_the_trial_says_loudly_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    like = torch.zeros(1, 1, 1, 16)
    with (
        caplog.at_level(logging.WARNING),
        mock.patch.object(split_attention, "_to_rows", side_effect=RuntimeError("no kernel")),
    ):
        assert not split_attention._agrees(like)
    assert "no kernel" in caplog.text

    def swapped(*halves: Tensor) -> Tensor:
        return halves[0]

    with caplog.at_level(logging.WARNING), mock.patch.object(torch, "logaddexp", swapped):
        assert not split_attention._agrees(like)
    assert "off by" in caplog.text


def test_blocks_are_about_as_long_as_the_prompt() -> None:
    span = span_of(10, 100, [40, 40, 40, 250, 5])
    assert [(b.start, b.stop) for b in span.blocks] == [
        (110, 190),
        (190, 230),
        (230, 480),
        (480, 485),
    ]
    assert span_of(0, 3, []).stop == 3
    assert span_of(0, 3, [0, 0]).stop == 3


@pytest.mark.parametrize("num_each", [1, 3])
def test_decoding_against_kept_prompts_equals_full_rows(num_each: int) -> None:
    make = torch.Generator().manual_seed(0)
    P, L, T = 2, 5, 4
    B = P * num_each
    query = torch.randn(B, HEADS, 1, D, generator=make)
    own = [torch.randn(B, KEY_HEADS, T, D, generator=make) for _ in range(2)]
    prompts = [torch.randn(P, KEY_HEADS, L, D, generator=make) for _ in range(2)]
    padding = torch.zeros(P, 1, 1, L)
    padding[1, ..., :2] = torch.finfo(torch.float32).min  # the second prompt is shorter
    plan = SharedPrompts([(prompts[0], prompts[1])], padding, num_each)
    out, _ = group_attention(Layer(), query, own[0], own[1], None, groups=plan)
    k, v = (
        torch.cat([p.repeat_interleave(num_each, 0), o], 2).repeat_interleave(HEADS // KEY_HEADS, 1)
        for p, o in zip(prompts, own, strict=True)
    )
    mask = torch.cat([padding.repeat_interleave(num_each, 0), torch.zeros(B, 1, 1, T)], -1)
    wanted = scaled_dot_product_attention(query, k, v, attn_mask=mask).transpose(1, 2)
    assert torch.allclose(out, wanted, atol=1e-5)
