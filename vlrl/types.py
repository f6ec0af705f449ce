"""The records that flow through a training step, and the legend of the axes.

Axes, the same letters in every file:

    P  prompts per step and rank       T  actions (tokens, denoising steps, voxel codes)
    G  group size                     S  a slice of T; of rewards, stages of an answer
    B  rollouts, B = P x G            L  sequence length in tokens
    V  vocabulary                     N  image patches, or boxes in a batch of boxes
    C, H, W  channels, height, width

Log-probabilities are natural logarithms (nats) in float32. This file imports no torch, so that
data, rewards and metrics can be used, tested and dry-run without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Finish(Enum):
    """How an answer ended; a truncated answer is not the same as a wrong one."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


@dataclass(frozen=True)
class ImagePart:
    """An image in a prompt, opened only when a policy asks for it."""

    path: str
    width_px: int
    height_px: int
    crop: tuple[int, int, int, int] | None = None
    """Only this window of the file (left, top, right, bottom), enlarged to width x height."""


@dataclass(frozen=True)
class VideoPart:
    """A video in a prompt: some of its frames, read only when a policy asks for them."""

    source: Any
    """A video file, a folder of images in the order of their names, or uint8 [T, H, W, 3]."""
    width_px: int
    height_px: int
    fps: float
    """Native frames a second."""
    num_frames: int
    """Native frames of the clip."""
    frames: tuple[int, ...]
    """Native indices of the frames that the model sees, rising, counted from the clip's start."""
    first_frame: int = 0
    """Where the clip starts in the file."""
    longer_side_px: int | None = None
    """Largest longer side after resizing; None = the original size."""


@dataclass(frozen=True)
class TextPart:
    """A piece of text in a prompt."""

    text: str


@dataclass(frozen=True)
class Message:
    """One turn of a prompt.

    Example: Message("user", (ImagePart("a.png", 448, 364), TextPart("Click: Inbox")))
    """

    role: str
    parts: tuple[ImagePart | VideoPart | TextPart, ...]


@dataclass(frozen=True)
class Sample:
    """One problem: a prompt and what the task knows about its answer.

    Example: Sample("gentelella/inbox/e12", "gui_grounding", (message,), GuiTarget(...))
    """

    id: str
    """Unique; the key of logs, seeds and prediction files."""
    task: str
    prompt: tuple[Message, ...]
    target: Any
    """The task's own frozen dataclass."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the user's data, handed to TRL-style rewards by name."""
    draw: int = 0
    """How often the sample was drawn before in the same step."""

    @property
    def seed_name(self) -> str:
        """What the random numbers of its rows depend on: a second group in a step differs."""
        return f"{self.id}#{self.draw}" if self.draw else self.id

    @property
    def texts(self) -> list[str]:
        """The texts of the prompt in order, images left out."""
        return [p.text for m in self.prompt for p in m.parts if isinstance(p, TextPart)]


SizeSeen = Callable[[Sample], tuple[int, int] | None]
"""Width and height of what a policy sees or makes for a sample; None where it sees tiles."""


@dataclass
class Rollout:
    """One sampled answer to one sample."""

    sample: Sample
    group: int
    """Index of the group on this rank, 0..P-1."""
    index: int
    """Place in the group, 0..G-1."""
    output: Any
    """What the policy made: text, an image, a tuple of stages."""
    finish: Finish
    num_actions: int
    policy_version: int
    """Optimizer steps that the sampling policy had seen; of several, the fewest."""
    parsed: Any = None
    """What the task read in `output`; None means that it could not be read."""
    earlier: tuple[Any, ...] | None = None
    """Of an answer that a reward sees as one stage (`parsed`): the stages before it."""
    score: Score | None = None
    advantage: float = 0.0
    """Of several stages, the mean."""
    last_version: int | None = None
    """The same at the last action, where the weights were swapped in between."""
    begun: int = 0
    """Steps of the run that were done when it was begun."""


class Unfinished(str):
    """A given answer that was cut: no token ends it."""


@dataclass(frozen=True)
class Score:
    """A reward for one rollout: a number with its named parts, or None for "does not apply"."""

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    stages: tuple[float | None, ...] = ()
    """A reward for each stage of the answer, where the reward tells them apart."""
    terms: tuple[tuple[float, float | None], ...] = ()
    """Weight and value of each reward of a sum; None = does not apply."""
