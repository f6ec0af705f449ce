"""Small real rewards for the reward server's tests, named by dotted path; and rollouts for them."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from vlrl.protocols import Reward, TrainableReward
from vlrl.reward.functions import reward_function
from vlrl.reward.image_reward import ImageReward
from vlrl.tasks.text_to_image import ImageAnswer, ImageTarget
from vlrl.types import Finish, ImagePart, Message, Rollout, Sample, Score, TextPart

CALLS: list[int] = []
"""Rollouts in every call of `PlaceInGroup`."""


class Brightness(ImageReward):
    """The mean of all bytes; a black image does not apply."""

    needs = frozenset({"image"})
    range = (0.0, 1.0)
    formula = "mean / 255"

    def values(self, images, rollouts):
        return [float(image.mean() / 255) if image.any() else None for image in images]


class Fingerprint(ImageReward):
    """A different value for every image, caption, text, scene and reference file."""

    needs = frozenset({"image", "caption", "written", "scene", "references"})
    range = (0.0, 1.0)
    formula = "SHA-256, its first 52 bits as a fraction"

    def values(self, images, rollouts):
        return [fingerprint(*pair) for pair in zip(images, rollouts, strict=True)]


def fingerprint(image, rollout) -> float:
    """Equal only where every bit that the reward reads is equal."""
    target = rollout.sample.target
    digest = hashlib.sha256(image.tobytes() + repr(image.shape).encode())
    digest.update(repr([target.caption, target.written, target.scene]).encode())
    for path in target.references:
        digest.update(Path(path).read_bytes())
    return int(digest.hexdigest()[:13], 16) / 16**13


class PlaceInGroup(Reward):
    """The share of the image's group that is darker; wrong as soon as two groups are mixed up."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        seconds: float = 0.0

    needs = frozenset({"image"})
    range = (0.0, 1.0)

    def __init__(self, options):
        self.options, self.name = options, "place"

    def __call__(self, rollouts):
        CALLS.append(len(rollouts))
        time.sleep(self.options.seconds)
        light = [rollout.parsed.image.mean() for rollout in rollouts]
        scores = []
        for rollout, own in zip(rollouts, light, strict=True):
            group = [x for x, r in zip(light, rollouts, strict=True) if r.group == rollout.group]
            scores.append(Score(sum(x < own for x in group) / len(group), {"size": len(group)}))
        return scores


class Moody(ImageReward):
    """Raises on the caption "bad"; slow on the caption "slow"."""

    needs = frozenset({"image", "caption"})
    range = (0.0, 1.0)
    formula = "1"
    waiting = threading.Event()

    def values(self, images, rollouts):
        captions = [rollout.sample.target.caption for rollout in rollouts]
        if "bad" in captions:
            raise ValueError("this caption is bad")
        if "slow" in captions:
            print("slow caption arrived", flush=True)
            time.sleep(60)
        return [1.0] * len(rollouts)


class Learner(ImageReward, TrainableReward):
    """A trainable reward, which cannot be served."""

    range = (0.0, 1.0)
    formula = "none"

    def values(self, images, rollouts):
        return [0.0] * len(images)

    def update(self, rollouts):
        return {}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@reward_function(range=(0.0, 1.0), formula="1 / (1 + words)")
def brevity(rollout, *, per_word: float = 1.0) -> float:
    """Reads the output, the prompt and how the answer ended."""
    asked = sum(len(text) for text in rollout.sample.texts)
    return 1 / (1 + per_word * len(rollout.output.split()) + asked + rollout.num_actions)


def solved(prompts, completions, solution, **columns):
    """A TRL-style reward of a column."""
    texts = [completion[0]["content"] for completion in completions]
    assert all(prompt[0]["role"] == "user" for prompt in prompts)
    return [float(text == right["is"]) for text, right in zip(texts, solution, strict=True)]


@reward_function(range=(0.0, 1.0), formula="reads what it did not declare")
def sneaky(rollout) -> float:
    """Works next to the task, not on a server."""
    return float(rollout.sample.target.written is None)


@reward_function(range=(0.0, 1.0), formula="not a number")
def not_a_number(rollout) -> float:
    """Returns nan, which the reward's own check refuses."""
    return float("nan")


def noise_image(seed: int, height: int = 12, width: int = 17) -> np.ndarray:
    """Noise, which any lossy step would change."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def noise_groups(num_groups: int = 2, G: int = 3, seed: int = 0, **target) -> list[Rollout]:
    """Groups of noise images."""
    out = []
    for group in range(num_groups):
        fields = {"caption": f"image {group}, “é”\n", **target}
        sample = Sample(
            f"run{seed}/s{group}",
            "text_to_image",
            (Message("user", (TextPart(fields["caption"]),)),),
            ImageTarget(**fields),
        )
        for index in range(G):
            image = noise_image(1000 * seed + 100 * group + index)
            out.append(
                Rollout(sample, group, index, image, Finish.STOP, 4, 7, parsed=ImageAnswer(image))
            )
    return out


def texts(*outputs: str) -> list[Rollout]:
    """One group of answers in words."""
    message = Message("user", (ImagePart("screen.png", 4, 4), TextPart("What is it?")))
    sample = Sample("q1", "words", (message,), None, {"solution": {"is": "a cat"}, "other": 1})
    return [
        Rollout(sample, 0, i, text, Finish.STOP, len(text), 0, parsed=text or None)
        for i, text in enumerate(outputs)
    ]
