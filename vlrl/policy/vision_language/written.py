"""Given texts as answers: the tokens that the model would have had to write."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vlrl.data.fields import shown
from vlrl.errors import DataError
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.interfaces import Processor, Tokenizer
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.types import Sample, Unfinished

PROBE = "answer"


def written(
    samples: Sequence[Sample],
    prompts: Sequence[EncodedPrompt],
    answers: Sequence[Sequence[object]],
    processor: Processor,
    stop_tokens: Sequence[int],
    max_tokens: int,
) -> TokenTrajectory:
    """As many answers to each sample, with log-probs of 0; DataError for one that does not fit."""
    end = end_of_answer(processor, stop_tokens)
    rows = [
        _tokens(answer, sample, processor.tokenizer, end, max_tokens)
        for sample, own in zip(samples, answers, strict=True)
        for answer in own
    ]
    width = max(len(row) for row in rows)
    tokens = torch.full((len(rows), width), end)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = True
    group = torch.arange(len(prompts)).repeat_interleave(len(answers[0]))
    return TokenTrajectory(tokens, mask, torch.zeros(mask.shape), group, tuple(prompts))


def _tokens(
    answer: object, sample: Sample, tokenizer: Tokenizer, end: int, max_tokens: int
) -> list[int]:
    if not isinstance(answer, str):
        raise DataError(f"sample {sample.id!r}: its answer must be text, not {shown(answer)}")
    tokens = tokenizer.encode(answer, add_special_tokens=False)
    if not isinstance(answer, Unfinished):
        tokens = [*tokens, end]
    if len(tokens) > max_tokens:
        raise DataError(
            f"sample {sample.id!r}: its answer has {len(tokens)} tokens, and "
            f"policy.max_new_tokens is {max_tokens}; raise that, or shorten the answer"
        )
    return tokens


def end_of_answer(processor: Processor, stop_tokens: Sequence[int]) -> int:
    """The token that the chat template writes after an answer, if it is one that stops.

    Else the end of the sequence: families differ in which of the two their models write.
    """
    tokenizer = processor.tokenizer
    turns = [
        {"role": "user", "content": [{"type": "text", "text": PROBE}]},
        {"role": "assistant", "content": [{"type": "text", "text": PROBE}]},
    ]
    try:
        text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    except Exception:  # templates raise what they like for a turn that they do not know
        return tokenizer.eos_token_id
    after = text.rpartition(PROBE)[2]
    found = tokenizer.encode(after, add_special_tokens=False)
    return next((token for token in found if token in stop_tokens), tokenizer.eos_token_id)
