"""Answers that are images, each in a file of its own, so that a report can lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from vlrl.protocols import Task
from vlrl.types import Rollout, Sample

SMALL_PX = 200
"""Images less high than this are small: more of them are kept, without loss."""
TRUTH = "truth.webp"


def answer_file(place: int) -> str:
    """Name of the file of an answer, by its place in the record."""
    return f"answer-{place:02d}.webp"


def save_answers(
    folder: Path, task: Task, sample: Sample, answers: Mapping[int, Rollout], max_height_px: int
) -> None:
    """`truth.webp`, what the task shows without any answer, and `answer-<place>.webp`.

    Writes nothing where the task's answers are no images.
    """
    images = {place: task.answer_image(rollout) for place, rollout in answers.items()}
    shown = {place: image for place, image in images.items() if image is not None}
    if not shown:
        return
    folder.mkdir(parents=True, exist_ok=True)
    truth = task.draw(sample, [])
    if truth is not None:
        _save(truth, folder / TRUTH, max_height_px)
    for place, image in shown.items():
        _save(Image.fromarray(image), folder / answer_file(place), max_height_px)


def _save(image: Image.Image, path: Path, max_height_px: int) -> None:
    # Only ever smaller, and in proportion.
    image.thumbnail((image.width, max_height_px))
    # Faults of the codec would look like faults of the policy where a pixel is seen as one.
    image.save(path, quality=85, lossless=image.height < SMALL_PX)
