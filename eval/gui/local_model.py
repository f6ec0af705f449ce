"""A checkpoint as the model to evaluate: by the trainer's own policy, or by a server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import torch

from vlrl.errors import DataError
from vlrl.eval.gui.asking import Ask, Reply
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.literal import literal
from vlrl.geometry.boxes import Frame
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup
from vlrl.types import ImagePart, Message, Rollout, Sample, TextPart


class Answering(Protocol):
    """What a policy does that answers; a server does it too (ServedModel)."""

    def sample(
        self, samples: Sequence[Sample], num_each: int, seed: int, *, greedy: bool = False
    ) -> tuple[list[Rollout], TokenTrajectory]:
        """Rollouts in order, and their prompts."""

    def prompt_size(self, prompt: EncodedPrompt) -> tuple[int, int] | None:
        """Width and height of a prompt's first image after resizing, in pixels; None: in tiles."""


def loaded_here(
    options: VisionLanguageConfig, *, dtype: torch.dtype, device: torch.device
) -> VisionLanguagePolicy:
    """A checkpoint of a family of vlrl/families/known.py as the trainer's own policy."""
    policy = VisionLanguagePolicy(options, PolicySetup(dtype=dtype, max_tokens_per_chunk=16_384))
    policy.module.to(device)
    return policy


class LocalModel:
    """A checkpoint whose prompts are encoded here."""

    def __init__(self, policy: Answering, question: str) -> None:
        self.policy, self.question = policy, question

    def answer(self, asks: Sequence[Ask]) -> list[Reply]:
        """One reply per ask; within a call, either all are greedy or none."""
        if not asks:
            return []
        try:
            return self._answered(asks)
        except DataError as error:
            if len(asks) == 1:
                frame = Frame(*asks[0].size_px)
                return [Reply(None, frame, f"the model cannot be asked: {error}")]
            # One bad image must not cost the others their answers.
            return [reply for ask in asks for reply in self.answer([ask])]

    def _answered(self, asks: Sequence[Ask]) -> list[Reply]:
        samples = [self._sample(ask) for ask in asks]
        started = time.monotonic()
        with torch.inference_mode():
            rollouts, trajectory = self.policy.sample(samples, 1, seed=0, greedy=asks[0].greedy)
        seconds = (time.monotonic() - started) / len(asks)
        return [
            Reply(
                rollout.output,
                Frame(*(self.policy.prompt_size(prompt) or ask.size_px)),
                seconds=seconds,
                num_tokens=rollout.num_actions,
            )
            for ask, rollout, prompt in zip(asks, rollouts, trajectory.prompts, strict=True)
        ]

    def _sample(self, ask: Ask) -> Sample:
        width, height = ask.size_px
        image = ImagePart(ask.item.image, width, height, ask.crop)
        text = TextPart(self.question.replace("{instruction}", literal(ask.item.instruction)))
        # The sample's id is the key of its random numbers: votes differ by their seed in it.
        own = ask.item.id if ask.greedy else f"{ask.item.id}#{ask.seed}"
        return Sample(own, "gui_grounding", (Message("user", (image, text)),), ask.item.target)
