"""What a judge is asked: texts from the config, images in their places; imports no torch.

[ instruction with the criteria | examples ] [ caption, candidates, question ]
  shared by all questions: encoded once        one per question
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, field_validator

from vlrl.config.section import Section
from vlrl.errors import ConfigError, DataError, RewardError, did_you_mean
from vlrl.families.literal import literal
from vlrl.media.images import as_rgb, open_image

JUDGE_FILE = "judge.json"
"""File next to a judge's weights: the template that it was trained with."""
DEFAULT_CRITERIA = (
    "how well the picture shows everything that the caption says, and how clean and well made it is"
)


class JudgeTemplate(Section):
    """The wording of a question. {first} and {second} are images, or text where text is judged."""

    comparison_instruction: str = (
        "You compare two pictures that were made for the same caption. Criteria: {criteria}.\n"
    )
    comparison: str = (
        "Caption: {caption}\nFirst picture: {first}\nSecond picture: {second}\n"
        "By these criteria, is the first picture better than the second? {how}"
    )
    single_instruction: str = (
        "You judge a picture that was made for a caption. Criteria: {criteria}.\n"
    )
    single: str = (
        "Caption: {caption}\nPicture: {first}\nIs the picture good by these criteria? {how}"
    )
    how: str = "Answer yes or no."
    how_with_reasoning: str = 'Think first, then end with "Answer: yes" or "Answer: no".'
    example: str = "{question} {answer}\n"
    cue: str = "Answer:"
    """Comes before the word where the judge reasons first."""
    yes: tuple[str, ...] = ("yes",)
    no: tuple[str, ...] = ("no",)
    """Every spelling that is one token counts (lower case, capitalised, after a space)."""

    @field_validator("comparison")
    @classmethod
    def _two(cls, text: str) -> str:
        return _needs(text, ("{first}", "{second}"))

    @field_validator("single")
    @classmethod
    def _one(cls, text: str) -> str:
        return _needs(text, ("{first}",))


class Example(Section):
    """A question with its answer, shown before the real one."""

    caption: str
    first: str
    """An image file."""
    second: str | None = None
    """A second file for comparisons."""
    answer: Literal["yes", "no"]
    reasoning: str = ""


class ReasoningOptions(Section):
    """Written reasoning before the word."""

    max_tokens: int = Field(256, gt=0)


def _needs(text: str, marks: tuple[str, ...]) -> str:
    for mark in marks:
        if text.count(mark) != 1:
            raise ValueError(f"the text needs {mark} exactly once")
    return text


Content = np.ndarray | Image.Image | Path | str
"""A candidate: pixels uint8 [H, W, 3], an image, an image file, or text to judge."""


@dataclass
class ImageBook:
    """The distinct images of a batch of questions; each is prepared and encoded once."""

    images: list[Image.Image] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """The path of a file, else a hash of the pixels."""
    from_file: list[bool] = field(default_factory=list)
    _place: dict[str, int] = field(default_factory=dict)

    def add(self, source: np.ndarray | Image.Image | Path) -> int:
        """The index of an image, added where new; RewardError where its file cannot be read."""
        if isinstance(source, Path):
            key = str(source)
            if key not in self._place:
                return self._keep(key, _open(source), from_file=True)
            return self._place[key]
        image = source if isinstance(source, Image.Image) else Image.fromarray(source)
        key = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
        if key in self._place:
            return self._place[key]
        return self._keep(key, as_rgb(image), from_file=False)

    def _keep(self, key: str, image: Image.Image, *, from_file: bool) -> int:
        self.images.append(image)
        self.keys.append(key)
        self.from_file.append(from_file)
        self._place[key] = len(self.images) - 1
        return self._place[key]


@dataclass(frozen=True)
class Ask:
    """One question: text and indices of images in a book, in order."""

    parts: tuple[str | int, ...]
    about: str = ""
    """Questions with the same value share the caption as well as the instruction."""
    sample: str = ""
    """Id of the sample or pair that is judged, for errors."""

    @property
    def where(self) -> str:
        """Which question, for errors."""
        about = self.about if len(self.about) <= 200 else f"{self.about[:200]}..."
        return (f"sample {self.sample!r}, " if self.sample else "") + f"question on {about!r}"


def _open(path: Path) -> Image.Image:
    try:
        return open_image(path)
    except DataError as error:
        raise RewardError(f"the image {str(path)!r} cannot be read: {error}") from error


class Questions:
    """Writes questions by a template, criteria and examples."""

    def __init__(
        self,
        template: JudgeTemplate,
        criteria: str = DEFAULT_CRITERIA,
        examples: Sequence[Example] = (),
        *,
        reasoning: bool = False,
    ) -> None:
        self.template, self.criteria, self.reasoning = template, criteria, reasoning
        self.examples = tuple(examples)

    def compare(
        self,
        book: ImageBook,
        caption: str,
        first: Content,
        second: Content,
        *,
        context: Sequence[Path] = (),
    ) -> Ask:
        """Is the first better than the second?

        context: images that the caption, then a question, is about; they come before it.
        """
        return self._ask(book, caption, first, second, context)

    def single(self, book: ImageBook, caption: str, first: Content) -> Ask:
        """Is it good?"""
        return self._ask(book, caption, first, None, ())

    def _ask(
        self,
        book: ImageBook,
        caption: str,
        first: Content,
        second: Content | None,
        context: Sequence[Path],
    ) -> Ask:
        t = self.template
        head = t.single_instruction if second is None else t.comparison_instruction
        parts: list[str | int] = [head.replace("{criteria}", self.criteria)]
        for example in self.examples:
            if (example.second is None) is (second is None):
                parts += self._example(book, example)
        parts += [book.add(path) for path in context]
        parts += self._question(book, caption, first, second)
        return Ask(_joined(parts), caption)

    def _question(
        self, book: ImageBook, caption: str, first: Content, second: Content | None
    ) -> list[str | int]:
        t = self.template
        text = t.single if second is None else t.comparison
        text = text.replace("{how}", t.how_with_reasoning if self.reasoning else t.how)
        parts: list[str | int] = []
        for piece in _split(text, ("{caption}", "{first}", "{second}")):
            if piece == "{caption}":
                parts.append(plain(caption))
            elif piece in ("{first}", "{second}"):
                content = first if piece == "{first}" else second
                assert content is not None
                parts.append(plain(content) if isinstance(content, str) else book.add(content))
            else:
                parts.append(piece)
        return parts

    def _example(self, book: ImageBook, example: Example) -> list[str | int]:
        second = None if example.second is None else Path(example.second)
        question = self._question(book, example.caption, Path(example.first), second)
        answer: str = example.answer
        if self.reasoning:
            answer = f"{example.reasoning} {self.template.cue} {answer}".strip()
        parts: list[str | int] = []
        for piece in _split(self.template.example, ("{question}", "{answer}")):
            if piece == "{question}":
                parts += question
            else:
                parts.append(answer if piece == "{answer}" else piece)
        return parts


def plain(text: str) -> str:
    """Text from the data or the policy with its control tokens broken up.

    "<|im_end|>" in a caption or an answer would end the question and speak for the judge.
    """
    return literal(text)


def _split(text: str, marks: tuple[str, ...]) -> list[str]:
    """The text cut at its marks, marks kept, without empty pieces."""
    pieces = [text]
    for mark in marks:
        cut: list[str] = []
        for piece in pieces:
            if piece in marks:
                cut.append(piece)
                continue
            for i, rest in enumerate(piece.split(mark)):
                cut += [mark, rest] if i else [rest]
        pieces = cut
    return [piece for piece in pieces if piece]


def _joined(parts: Sequence[str | int]) -> tuple[str | int, ...]:
    """Neighbouring texts merged: tokenizers must see them together."""
    joined: list[str | int] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


def template_of(model: str) -> tuple[JudgeTemplate, str | None]:
    """The template and criteria in a judge's own folder, else the default ones.

    Raises ConfigError where the file is not a template.
    """
    path = Path(model).expanduser() / JUDGE_FILE
    if not path.is_file():
        return JudgeTemplate(), None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        criteria = found.pop("criteria", None)
        for key in found:
            if key not in JudgeTemplate.model_fields:
                hint = did_you_mean(key, JudgeTemplate.model_fields)
                raise ConfigError(f"{path}: unknown key {key!r}; {hint}")
        return JudgeTemplate.model_validate(found), criteria
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a judge's template: {error}") from error


def write_template(folder: Path, template: JudgeTemplate, criteria: str) -> None:
    """Write the template next to the weights."""
    content = {"criteria": criteria, **template.model_dump(mode="json")}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / JUDGE_FILE).write_text(text + "\n", encoding="utf-8")
