"""A decoding step that is recorded once and played again, as a CUDA graph would be.

`Replayer` does on the CPU what a CUDA graph does on a GPU: it records the kernels of one step with
the tensors that they read and write, and plays them again on those very tensors, without running
any Python of the step. What the step took from the host would stay as it was when recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_decoding import EndsAt, raise_logit
from test_policy import FAMILIES, make_policy, problems
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vlrl.policy.vision_language.decode import Decoded, decode
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.policy.vision_language.recorded import Recorder
from vlrl.policy.vision_language.stop_strings import StopStrings
from vlrl.types import Finish


class Recording(TorchDispatchMode):
    """Every kernel, its arguments, and what it returned; a value read on the host is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError("the step reads a value on the host")
        if "nonzero" in str(func) or "masked_select" in str(func):
            raise AssertionError(f"{func}: its size depends on values")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


class Replayer(Recorder):
    """Plays the second step after a change again for all that follow."""

    records = True

    def __init__(self) -> None:
        self.calls: list[Any] | None = None
        self.is_warm = False
        self.num_recorded = self.num_played = 0

    def forget(self) -> None:
        self.calls, self.is_warm = None, False

    def run(self, step: Callable[[], None]) -> None:
        if self.calls is not None:
            self._play()
        elif not self.is_warm:
            step()
            self.is_warm = True
        else:
            with Recording() as recording:
                step()
            self.calls = recording.calls
            self.num_recorded += 1

    def _play(self) -> None:
        self.num_played += 1
        assert self.calls is not None
        for func, args, kwargs, out in self.calls:
            found = func(*args, **kwargs)
            # A kernel writes where it wrote before; a view or an update in place did so already.
            for old, new in zip(_tensors(out), _tensors(found), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [x for x in value if isinstance(x, Tensor)] if isinstance(value, tuple | list) else []


def written_by(
    policy: VisionLanguagePolicy,
    screens: Path,
    *,
    share: bool = True,
    num_tokens: int = 24,
    **options: Any,
) -> Decoded:
    policy.module.eval()
    prompts = [policy.encoder.encode(sample) for sample in problems(screens, 3)]
    return decode(
        policy.module,
        prompts,
        4,
        list(range(12)),
        share_prompt=share,
        max_new_tokens=num_tokens,
        stop_tokens=policy.stop_tokens,
        pad_id=policy.pad_id,
        **options,
    )


def assert_same(one: Decoded, other: Decoded) -> None:
    assert torch.equal(one.mask, other.mask)
    assert torch.equal(one.tokens, other.tokens)
    assert torch.allclose(one.logp, other.logp, atol=1e-5)
    assert one.finish == other.finish


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_played_again_writes_what_the_plain_loop_writes(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    """Rows end and leave, and the cache gets more columns: the step is recorded anew each time."""
    policy = make_policy(checkpoints[family])
    raise_logit(policy, policy.processor.tokenizer.eos_token_id, 2.5)
    plain = written_by(policy, screens, share=False, num_tokens=80)
    recorder = Replayer()
    assert_same(written_by(policy, screens, num_tokens=80, recorder=recorder, look_every=8), plain)
    assert recorder.num_recorded >= 2
    assert recorder.num_played > 10
    lengths = plain.mask.sum(1)
    assert lengths.min() < 20
    assert lengths.max() > 65, "beyond the first columns"


def test_rules_are_followed_by_a_step_played_again(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    lengths = [1, 20, 9, 9, 9, 20, 20, 9, 3, 2, 1, 9]
    policy = make_policy(checkpoints["qwen2_5_vl"])
    recorder = Replayer()
    found = written_by(
        policy, screens, rules=EndsAt(lengths.copy()), recorder=recorder, look_every=4
    )
    assert found.mask.sum(1).tolist() == lengths
    assert_same(found, written_by(policy, screens, share=False, rules=EndsAt(lengths)))
    assert recorder.num_played


@pytest.mark.parametrize("look_every", [2, 5, 8, 100])
def test_looking_seldom_changes_no_answer(
    look_every: int, checkpoints: dict[str, Path], screens: Path
) -> None:
    """Stop tokens and stop strings, found some tokens late: what was written since is taken off."""
    policy = make_policy(checkpoints["qwen2_5_vl"])
    raise_logit(policy, policy.processor.tokenizer.eos_token_id, 3.0)
    stops = StopStrings(policy.processor.tokenizer, ["e", "ab", "1"])
    each_step = written_by(policy, screens, stops=stops, look_every=1)
    assert_same(written_by(policy, screens, stops=stops, look_every=look_every), each_step)
    assert each_step.finish.count(Finish.STOP) > 0
    assert len(set(each_step.mask.sum(1).tolist())) > 3


def test_a_budget_of_tokens_decodes_fewer_groups_at_a_time(
    checkpoints: dict[str, Path], screens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlrl.policy.vision_language.samplers import own

    samples = problems(screens, 5)
    policy = make_policy(checkpoints["qwen2_5_vl"], max_new_tokens=6, sample_batch_size=64)
    whole, traj = policy.sample(samples, 3, seed=1)
    sizes = [p.num_tokens + 3 * 6 for p in traj.prompts]
    together: list[int] = []
    plain = own.decode
    monkeypatch.setattr(
        own,
        "decode",
        lambda m, p, *a, **k: (together.append(len(p)), plain(m, p, *a, **k))[1],
    )
    for limit, expected in ((sum(sizes[:3]), [3, 2]), (1, [1] * 5)):
        together.clear()
        policy = make_policy(
            checkpoints["qwen2_5_vl"], max_new_tokens=6, sample_batch_size=64,
            sample_batch_tokens=limit,
        )  # fmt: skip
        parts, split = policy.sample(samples, 3, seed=1)
        assert together == expected
        assert [r.output for r in parts] == [r.output for r in whole]
        assert [r.group for r in parts] == [r.group for r in whole]
        assert torch.equal(split.tokens, traj.tokens)
        assert torch.equal(split.group, traj.group)


def test_a_stop_string_is_found_at_its_last_token_by_the_last_few_alone(
    checkpoints: dict[str, Path],
) -> None:
    """Against decoding the whole text at every token."""
    tokenizer = make_policy(checkpoints["qwen2_5_vl"]).processor.tokenizer
    make = torch.Generator().manual_seed(0)
    num_found = 0
    for trial in range(200):
        strings = [["</answer>", "é"], ["ab", "\n\n"], ["日本", "z"], ["aa b"]][trial % 4]
        text = "".join(
            ["</ans", "wer>", "a", "b", " b", "é", "日", "本", "\n", "q", "<"][i]
            for i in torch.randint(0, 11, (30,), generator=make).tolist()
        )
        tokens = tokenizer.encode(text)
        whole = next(
            (
                end
                for end in range(1, len(tokens) + 1)
                if any(s in tokenizer.decode(tokens[:end]) for s in strings)
            ),
            None,
        )
        stops = StopStrings(tokenizer, strings)
        step = 1 + trial % 7
        found = None
        for start in range(0, len(tokens), step):
            found = stops.first_end(tokens[: start + step], start)
            if found is not None:
                break
        assert found == whole, (text, strings)
        num_found += found is not None
    assert 50 < num_found < 200


def test_nothing_is_copied_from_one_token_to_the_next(
    checkpoints: dict[str, Path], screens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and values stay where they are until columns are used up, and are doubled then."""
    from vlrl.policy.vision_language.answer_cache import AnswerLayer

    places: dict[int, list[tuple[int, int]]] = {}
    update = AnswerLayer.update

    def watched(self: AnswerLayer, *args: Any, **kwargs: Any) -> Any:
        out = update(self, *args, **kwargs)
        assert self.keys is not None
        places.setdefault(id(self), []).append((self.keys.data_ptr(), self.keys.shape[2]))
        return out

    monkeypatch.setattr(AnswerLayer, "update", watched)
    policy = make_policy(checkpoints["qwen2_5_vl"])
    policy.stop_tokens = torch.tensor([-1])
    written_by(policy, screens, num_tokens=140)
    for own in places.values():
        assert len(own) == 139
        assert len(set(own)) == 3
        assert [columns for _, columns in own[:64]] == [64] * 64
        assert {columns for _, columns in own} == {64, 128, 192}, (
            "no more than the longest answer needs"
        )


def test_prompts_of_any_length_make_no_dense_mask(
    checkpoints: dict[str, Path], screens: Path
) -> None:
    """Prefill: each prompt by itself in one row; a decoding step: no mask but of one row."""
    policy = make_policy(checkpoints["qwen2_5_vl"])
    sizes: list[tuple[int, ...]] = []

    class Masks(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            if "attention" in str(func):
                mask = (kwargs or {}).get("attn_mask")
                sizes.append(() if mask is None else tuple(mask.shape))
            return func(*args, **(kwargs or {}))

    short, *rest = problems(screens, 3)
    prompts = [policy.encoder.encode(s) for s in (short, *rest)]
    prompts[0] = replace(prompts[0], input_ids=prompts[0].input_ids[:-3],
                         positions=prompts[0].positions[:, :-3])  # fmt: skip
    policy.module.eval()
    with Masks():
        decode(
            policy.module, prompts, 2, list(range(6)), share_prompt=True, max_new_tokens=4,
            stop_tokens=policy.stop_tokens, pad_id=policy.pad_id,
        )  # fmt: skip
    assert sizes
    assert all(len(size) < 3 or size[-2] == 1 for size in sizes), set(sizes)
