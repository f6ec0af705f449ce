"""Prompts that are encoded on threads: the same values, errors in the same place, bounded."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_policy import make_policy, problems
from torch.utils._pytree import tree_leaves

from vlrl.errors import DataError
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.reading import Reader
from vlrl.policy.vision_language import prompt_queue
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.policy.vision_language.prompt_queue import PromptQueue
from vlrl.types import ImagePart, Message, Sample


def equal(one: EncodedPrompt, other: EncodedPrompt) -> bool:
    same = all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
    return same and one.image_size_px == other.image_size_px


def tensors(prompt: EncodedPrompt) -> list[torch.Tensor]:
    assert prompt.media is not None
    return [prompt.input_ids, prompt.positions, *prompt.media.values()]


@pytest.fixture
def policy(checkpoints: dict[str, Path]) -> VisionLanguagePolicy:
    return make_policy(checkpoints["qwen2_5_vl"])


def test_threads_change_no_prompt_and_no_answer(
    policy: VisionLanguagePolicy, screens: Path
) -> None:
    samples = [*problems(screens, 6), *problems(screens, 2)]
    plain = [policy.encoder.encode(sample) for sample in samples]
    _, answers = policy.sample(samples[:2], 2, seed=1)
    policy.prompts = PromptQueue(policy.encoder, 4)
    policy.expect(samples)
    found = policy.prompts.take(samples)
    assert all(equal(a, b) for a, b in zip(found, plain, strict=True))
    # Another draw of a sample has the same prompt.
    again = policy.prompts.take([replace(samples[0], draw=1)])[0]
    assert again is found[0]
    _, threaded = policy.sample(samples[:2], 2, seed=1)
    assert torch.equal(answers.tokens, threaded.tokens)


def test_a_prompt_that_cannot_be_read_raises_when_it_is_taken(
    policy: VisionLanguagePolicy, screens: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    sample = Sample("lost", "x", (Message("user", (ImagePart(str(broken), 100, 100),)),), None)
    policy.prompts = PromptQueue(policy.encoder, 2)
    good = problems(screens, 2)
    policy.expect([good[0], sample, good[1]])
    assert len(policy.prompts.take([good[0]])) == 1
    with pytest.raises(DataError, match="lost"):
        policy.prompts.take([sample])
    assert len(policy.prompts.take([good[1]])) == 1


def test_what_is_not_expected_any_more_is_forgotten(
    policy: VisionLanguagePolicy, screens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than the limit is kept, each prompt is encoded once, in the order of the samples."""
    monkeypatch.setattr(prompt_queue, "MAX_AHEAD", 3)
    encoded: list[str] = []
    gate = threading.Event()
    encode = Reader.encode

    def noted(self: Reader, sample: Sample) -> EncodedPrompt:
        gate.wait(10)
        encoded.append(sample.id)
        return encode(self, sample)

    monkeypatch.setattr(Reader, "encode", noted)
    queue = PromptQueue(policy.encoder, 1)
    samples = problems(screens, 6)
    queue.expect(samples)
    assert len(queue._coming) + len(queue._waiting) == 3
    while not any(future.running() for _, future in queue._coming.values()):
        time.sleep(0.001)
    queue.expect([samples[0], samples[4]])  # the first is under way, the others are not
    gate.set()
    queue.take([samples[0], samples[4]])
    assert encoded == [samples[0].id, samples[4].id]
    queue.expect([])
    assert not queue._coming
    queue.take([samples[5]])
    assert encoded[-1] == samples[5].id


def test_bytes_that_are_kept_are_bounded(
    policy: VisionLanguagePolicy, screens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two and a half prompts: the others are encoded when they are asked for."""
    samples = problems(screens, 6)
    plain = [policy.encoder.encode(sample) for sample in samples]
    tensors = [[x for x in tree_leaves(vars(p)) if isinstance(x, torch.Tensor)] for p in plain]
    sizes = [sum(x.numel() * x.element_size() for x in some) for some in tensors]
    assert max(sizes) < 1.1 * min(sizes)
    monkeypatch.setattr(prompt_queue, "MAX_BYTES", int(2.5 * max(sizes)))
    queue = PromptQueue(policy.encoder, 1)
    queue.expect(samples)
    until = time.monotonic() + 10
    while not all(future.done() for _, future in queue._coming.values()):
        assert time.monotonic() < until
        time.sleep(0.001)
    # Two were submitted before the size of the first was known.
    assert sum(queue._sizes.values()) <= prompt_queue.MAX_BYTES
    assert len(queue._waiting) == 4
    found = queue.take(samples)
    assert all(equal(a, b) for a, b in zip(found, plain, strict=True))
    assert queue.take(samples[5:]) == [found[5]]  # kept for another draw
    queue.expect(samples[3:])
    assert set(queue._sizes) == set(queue._coming)


def test_time_waited_is_counted_and_falls_when_prompts_are_there(
    policy: VisionLanguagePolicy, screens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Reader.encode

    def slow(self: Reader, sample: Sample) -> EncodedPrompt:
        time.sleep(0.05)
        return encode(self, sample)

    monkeypatch.setattr(Reader, "encode", slow)
    samples = problems(screens, 4)
    waited = {}
    for num_threads in (0, 4):
        queue = PromptQueue(policy.encoder, num_threads)
        queue.expect(samples)
        until = time.monotonic() + 10
        while len(queue._sizes) < len(samples) * bool(num_threads):  # done, as after an update
            assert time.monotonic() < until
            time.sleep(0.001)
        queue.take(samples)
        waited[num_threads] = queue.waited_s
    assert waited[0] >= 0.2
    assert waited[4] < 0.05
