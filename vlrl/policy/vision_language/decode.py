"""Sampling G answers to each prompt, all together, one token per row and step.

    prefill -> Rows -> first tokens
    then, until all rows have ended:  step = one forward pass + one token for every row
    every few steps                   look which rows have ended; drop them once they are many

The prompt of a group goes through the model once, images included, and its keys are neither
repeated nor read more than once per step. On CUDA a step is recorded and played again (recorded.py)
and the host looks only every few steps; what ended rows write meanwhile is discarded. Every row
draws numbers from its own seed, so an answer does not depend on the rest of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlrl.families.encoded import EncodedPrompt, Features
from vlrl.policy.vision_language.answers import Answers, Rules
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.recorded import Recorder, recorder_for
from vlrl.policy.vision_language.rows import Rows, prefill
from vlrl.policy.vision_language.stop_strings import StopStrings
from vlrl.types import Finish

LOOK_EVERY = 8
"""Steps between two looks of the host at what was written, where each look makes it wait."""
DROP_AT = 0.75
"""Share of rows still running at which ended ones leave: copying the cache costs time too."""
DROP_AT_RECORDED = 0.5
"""The same where a step must then be recorded anew."""


@dataclass(frozen=True)
class Decoded:
    """Answers in rows, group by group."""

    tokens: Tensor
    """[B, T]"""
    mask: Tensor
    """True where a token was sampled, the stop token included, [B, T]."""
    logp: Tensor
    """[B, T], nats."""
    finish: list[Finish]
    features: list[Features | None]
    """Features of each prompt's images, if the module keeps them; else None."""
    version: Tensor | None = None
    """`Policy.version` of the weights that each token was drawn with, [B, T]; None: of now."""


@torch.no_grad()
def decode(
    module: TokenLogProbs,
    prompts: Sequence[EncodedPrompt],
    num_each: int,
    seeds: Sequence[int],
    *,
    share_prompt: bool,
    max_new_tokens: int,
    stop_tokens: Tensor,
    pad_id: int,
    greedy: bool = False,
    stops: StopStrings | None = None,
    rules: Rules | None = None,
    recorder: Recorder | None = None,
    look_every: int | None = None,
) -> Decoded:
    """Sample `num_each` answers per prompt.

    seeds: one per row, [P x num_each]. `rules`, if any, decide alone what may come and where a
    row ends; a forced token has log-prob 0. recorder, look_every: None = as the device wants it.
    """
    device = module.forbidden.device
    if look_every is None:
        look_every = 1 if device.type == "cpu" else LOOK_EVERY
    answers = Answers.empty(
        seeds,
        max_new_tokens,
        device,
        stop_tokens=stop_tokens,
        pad_id=pad_id,
        greedy=greedy,
        rules=rules,
    )
    rows = prefill(module, prompts, num_each, pad_id, share_prompt=share_prompt)
    rows.max_new_tokens = max_new_tokens
    if recorder is None:
        recorder = recorder_for(device, use=share_prompt)
    answers.write(module, rows.first, rows.rows)
    num_written, num_looked_at = 1, 0

    def step() -> None:
        hidden = rows.advance(module, answers.newest(rows.rows))
        answers.write(module, hidden, rows.rows)

    while num_written < max_new_tokens:
        if num_written - num_looked_at >= look_every:
            if not _look(answers, rows, recorder, stops, num_written, num_looked_at):
                break
            num_looked_at = num_written
        if rows.reserve(num_written, fixed=recorder.records):
            recorder.forget()
        recorder.run(step)
        num_written += 1
    if stops is not None and num_looked_at < num_written:
        answers.end_at(stops, num_written, num_looked_at)
    return _decoded(answers, rows.features)


def _look(
    answers: Answers,
    rows: Rows,
    recorder: Recorder,
    stops: StopStrings | None,
    num_written: int,
    num_looked_at: int,
) -> bool:
    """End rows at stop strings, drop those that have ended; returns whether any goes on."""
    if stops is not None:
        answers.end_at(stops, num_written, num_looked_at)
    running = answers.running.cpu()
    if not running.any():
        return False
    if rows.drop(running, DROP_AT_RECORDED if recorder.records else DROP_AT):
        recorder.forget()
    return True


def _decoded(answers: Answers, features: list[Features | None]) -> Decoded:
    mask = answers.mask.cpu()
    num = int(mask.any(0).sum())
    running = answers.running.tolist()
    finish = [Finish.LENGTH if alive else Finish.STOP for alive in running]
    tokens, logp = answers.tokens[:, :num].cpu(), answers.logp[:, :num].cpu()
    return Decoded(tokens, mask[:, :num], logp, finish, features)
