"""The answers of a batch while they are written: tokens, log-probs, and which rows go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vlrl.policy.distribution import draw, is_one_of
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.stop_strings import StopStrings


class Rules(Protocol):
    """Which tokens may come next in each row, if that changes from step to step.

    Both methods may be recorded and played again: they change tensors in place, on the device, and
    never look at a value on the host.
    """

    def next(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """For some rows, [R]: the next token's kind, and the token itself if forced, else -1."""

    def take(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Accept each row's token, [R] -> whether each row has ended, bool [R]."""


@dataclass
class Answers:
    """All answers of a batch, [B, T]; filled in place, one column a step."""

    tokens: Tensor
    mask: Tensor
    """True where a token was sampled, the stop token included."""
    logp: Tensor
    """float32, nats."""
    running: Tensor
    """Rows that have not ended, bool [B]."""
    uniforms: Tensor
    """The random number that decides each token, [B, T]."""
    next: Tensor
    """The next token's column, on the device, [1]."""
    stop_tokens: Tensor
    pad_id: int
    greedy: bool
    rules: Rules | None

    @classmethod
    def empty(
        cls,
        seeds: Sequence[int],
        num_tokens: int,
        device: torch.device,
        *,
        stop_tokens: Tensor,
        pad_id: int,
        greedy: bool,
        rules: Rules | None,
    ) -> Answers:
        """Nothing written yet; one row for each seed."""
        shape = (len(seeds), num_tokens)
        return cls(
            tokens=torch.full(shape, pad_id, device=device),
            mask=torch.zeros(shape, dtype=torch.bool, device=device),
            logp=torch.zeros(shape, dtype=torch.float32, device=device),
            running=torch.ones(shape[0], dtype=torch.bool, device=device),
            uniforms=uniform_rows(seeds, num_tokens).to(device),
            next=torch.zeros(1, dtype=torch.long, device=device),
            stop_tokens=stop_tokens.to(device),
            pad_id=pad_id,
            greedy=greedy,
            rules=rules,
        )

    def newest(self, rows: Tensor) -> Tensor:
        """The last token of some rows, [R]."""
        return self.tokens[rows, self.next - 1]

    def write(self, module: TokenLogProbs, hidden: Tensor, rows: Tensor) -> None:
        """Draw the next token of some rows [R] from their hidden states [R, D]; rows may end."""
        kinds, forced = (None, None) if self.rules is None else self.rules.next(rows)
        logp = module.log_probs(hidden, kinds)
        token = logp.argmax(-1) if self.greedy else draw(logp, self.uniforms[rows, self.next])
        chosen = logp.gather(-1, token[:, None])[:, 0]
        if forced is not None:
            token = torch.where(forced < 0, token, forced)
            chosen = torch.where(forced < 0, chosen, 0.0)
        live = self.running[rows]
        self.tokens[rows, self.next] = torch.where(live, token, self.pad_id)
        self.mask[rows, self.next] = live
        self.logp[rows, self.next] = torch.where(live, chosen, 0.0)
        if self.rules is None:
            ended = is_one_of(token, self.stop_tokens)
        else:
            ended = self.rules.take(rows, token)
        self.running[rows] = live & ~ended
        self.next.add_(1)

    def end_at(self, stops: StopStrings, num_written: int, num_checked: int) -> None:
        """End the rows in which a stop string was completed after `num_checked` tokens.

        The last tokens come to the host in one copy, and the ends go back in one.
        """
        start = max(0, num_checked + 1 - stops.num_tokens)
        last = self.tokens[:, start:num_written]
        window = torch.cat([last, self.mask[:, num_checked:num_written].long()], 1).cpu()
        tokens, taken = window.split([num_written - start, num_written - num_checked], 1)
        lengths = (taken.sum(1) + num_checked - start).tolist()
        ends = torch.full((len(tokens),), self.tokens.shape[1])
        for row in taken[:, 0].nonzero()[:, 0].tolist():
            end = stops.first_end(tokens[row, : lengths[row]].tolist(), num_checked - start)
            if end is not None:
                ends[row] = start + end
        is_cut = ends < self.tokens.shape[1]
        if not is_cut.any():
            return
        after = torch.arange(self.tokens.shape[1]) >= ends[:, None]
        is_cut, after = is_cut.to(self.running.device), after.to(self.running.device)
        self.running &= ~is_cut
        self.tokens.masked_fill_(after, self.pad_id)
        self.mask &= ~after
        self.logp.masked_fill_(after, 0.0)


def uniform_rows(seeds: Sequence[int], num_tokens: int) -> Tensor:
    """The uniform numbers in [0, 1) that decide each token of each row, float32 [B, T], on CPU.

    Each row has its own, so that it does not depend on its batch or device. The type is explicit: a
    thread that loads a model in half precision changes the default of the whole process.
    """
    rows = [
        torch.rand(num_tokens, dtype=torch.float32, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    return torch.stack(rows)
