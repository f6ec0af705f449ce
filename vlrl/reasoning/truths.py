"""True answers, one class per kind: how an answer to such a question is read and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from vlrl.reasoning.arithmetic import value_of
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS, plain_math, plain_words, unmarked
from vlrl.reasoning.quantities import Quantity, read_quantity, same_quantity
from vlrl.reasoning.routes import RouteProblem, Segment, check_route, read_route
from vlrl.reasoning.symbolic import same_expression

Kind = Literal["choice", "number", "yes_no", "list", "boxes", "route", "expression", "text"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_ITEMS = 200
"""Of a list in an answer; a longer one is no answer."""

Read = str | bool | Quantity | tuple[str, ...] | tuple[Segment, ...]
"""What was read in an answer."""


class Truth(Protocol):
    """A true answer."""

    @property
    def kind(self) -> Kind:
        """The kind of question."""
        ...

    def read(self, text: str) -> Read | None:
        """What a final answer says; None if it says nothing, or two things. Never raises."""
        ...

    def matches(self, read: Read) -> bool:
        """Whether what was read is right."""
        ...


_LETTER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)(?:\s+is)?\s*:?\s*)?"
    r"[(\[]?\s*([a-z])\s*(?:[)\].:]+|(?=$))\s*(.*)",
    re.IGNORECASE | re.DOTALL | re.ASCII,  # ASCII: the Kelvin sign is no K
)
_MARKED = re.compile(r"[(\[]([A-Z])[)\]]|\b(?:[Oo]ption|[Cc]hoice)\s+\(?([A-Z])\b")

_ANOTHER = re.compile(r"(?:^|[\s(\[,])[A-Z][).:\]](?:\s|$)|\b(?:or|and)\s+\(?[A-Z]\b")
"""A second letter after the first one."""


@dataclass(frozen=True)
class ChoiceTruth:
    """One letter of several."""

    letter: str
    options: tuple[str, ...] = ()
    """Their texts, where the data has them."""
    kind: Kind = "choice"

    def read(self, text: str) -> str | None:
        """`B`, `(B)`, `B.`, `option B`, `B. blue`, or the option's text; a letter.

        None for several letters, for a letter beyond the options, and for one with another
        option's text.
        """
        plain = unmarked(text).strip(" \t\n\"'`$.")
        texts = [plain_words(option) for option in self.options]
        found = _LETTER.fullmatch(plain) if len(plain) <= MAX_ANSWER_CHARS else None
        if found is not None:
            letter, rest = found[1].upper(), plain_words(found[2])
            place = LETTERS.index(letter)
            if self.options and place >= len(self.options):
                return None
            if not rest or not texts or rest == texts[place]:
                hedged = _MARKED.search(found[2]) or _ANOTHER.search(found[2])
                return None if hedged else letter
            if rest in texts:
                return None
        if texts.count(plain_words(text)) == 1:
            return LETTERS[texts.index(plain_words(text))]
        named = {one or other for one, other in _MARKED.findall(text)}
        letter = named.pop() if len(named) == 1 else ""
        begins = re.match(r"[A-HJ-Z]\b", plain)  # "I" is a word
        if begins is not None and begins[0] != letter:
            return None
        known = LETTERS[: len(self.options)] if self.options else LETTERS
        return letter if letter and letter in known else None

    def matches(self, read: Read) -> bool:
        """Whether it is the letter."""
        return read == self.letter


@dataclass(frozen=True)
class NumberTruth:
    """A number, within a tolerance."""

    value: Quantity
    absolute: float = 0.0
    relative: float = 0.0
    kind: Kind = "number"

    def read(self, text: str) -> Quantity | None:
        """The one number with its unit."""
        return read_quantity(text)

    def matches(self, read: Read) -> bool:
        """Whether it is the number, within the tolerance."""
        return isinstance(read, Quantity) and same_quantity(
            self.value, read, absolute=self.absolute, relative=self.relative
        )


_YES_NO = re.compile(r"\b(?:(yes|true)|(no|false))\b", re.IGNORECASE)
_SAID = re.compile(r"(?:^|[.,;:\n])\s*(?:(yes|true)|(no|false))\s*(?=[.,;:!\n]|$)", re.IGNORECASE)
_BOTH = re.compile(r"\s*(?:and|or|/|\|)\s*(?:yes|no|true|false)\b", re.IGNORECASE)


@dataclass(frozen=True)
class YesNoTruth:
    """Yes or no."""

    value: bool
    kind: Kind = "yes_no"

    def read(self, text: str) -> bool | None:
        """What the answer begins with, or the only one of the two words in it."""
        if len(text) > MAX_ANSWER_CHARS:
            return None
        found = list(_YES_NO.finditer(text))
        if not found or any(_BOTH.match(text, one.end()) for one in found):
            return None
        if len({one[1] is not None for one in _SAID.finditer(text)}) > 1:
            return None
        first = found[0]
        if not plain_words(text[: first.start()]):
            return first[1] is not None
        said = {one[1] is not None for one in found}
        return said.pop() if len(said) == 1 else None

    def matches(self, read: Read) -> bool:
        """Whether it is the same."""
        return read is self.value


@dataclass(frozen=True)
class TextTruth:
    """Words, compared without case, punctuation around them and extra spaces."""

    text: str
    kind: Kind = "text"

    def read(self, text: str) -> str | None:
        """The words."""
        return plain_words(text) or None if len(text) <= MAX_ANSWER_CHARS else None

    def matches(self, read: Read) -> bool:
        """Whether they are the same words."""
        return read == plain_words(self.text)


_UNKNOWN = re.compile(r"^\s*[A-Za-z](?:_?[0-9A-Za-z])?\s*=(?!.*=)")


@dataclass(frozen=True)
class ExpressionTruth:
    """An expression: of the same value where both have one, else the same in some form."""

    text: str
    absolute: float = 0.0
    relative: float = 1e-6
    kind: Kind = "expression"

    def read(self, text: str) -> str | None:
        """The expression in one spelling, without `x =`."""
        return _expression(text) if len(text) <= MAX_ANSWER_CHARS else None

    def matches(self, read: Read) -> bool:
        """Whether it is equal."""
        true = _expression(self.text)
        if not isinstance(read, str) or true is None:
            return False
        a, b = value_of(true), value_of(read)
        if a is None or b is None:
            return read == true or same_expression(true, read)
        return same_quantity(
            Quantity(a), Quantity(b), absolute=self.absolute, relative=self.relative
        )


def _expression(text: str) -> str | None:
    plain = _UNKNOWN.sub("", plain_math(text)).rstrip("°")
    plain = re.sub(r"\{([0-9A-Za-z])\}", r"\1", plain) if "\\frac" not in plain else plain
    return plain.replace(" ", "") or None


_ITEM_ENDS = re.compile(r"\s*(?:\n|;|->|→|,(?![0-9]{3}(?:[^0-9]|$))|,?\s+and\s+)\s*")
_BULLET = re.compile(r"^\s*(?:[-*•]|[0-9]{1,3}[.)])\s+")


@dataclass(frozen=True)
class ListTruth:
    """Several items, in order or as a set; numbers compare as numbers."""

    items: tuple[str, ...]
    ordered: bool = False
    absolute: float = 0.0
    relative: float = 0.0
    kind: Kind = "list"

    def read(self, text: str) -> tuple[str, ...] | None:
        """The items: a JSON list, or separated by commas, semicolons, lines, arrows or "and"."""
        if len(text) > MAX_ANSWER_CHARS:
            return None
        found = _json_list(text)
        if found is None:
            inner = text.strip().strip("[]{}").strip()
            found = [_BULLET.sub("", one) for one in _ITEM_ENDS.split(inner)]
        items = tuple(one for one in map(plain_words, found) if one)
        return items if 0 < len(items) <= MAX_ITEMS else None

    def matches(self, read: Read) -> bool:
        """Whether all items are there and no other, each as often."""
        if not isinstance(read, tuple) or len(read) != len(self.items):
            return False
        given = [str(one) for one in read]
        if self.ordered:
            return all(map(self._same, self.items, given))
        for item in self.items:
            place = next((i for i, one in enumerate(given) if self._same(item, one)), None)
            if place is None:
                return False
            del given[place]
        return True

    def _same(self, true: str, given: str) -> bool:
        if plain_words(true) == given:
            return True
        a, b = _number(true), _number(given)
        return (
            a is not None
            and b is not None
            and same_quantity(a, b, absolute=self.absolute, relative=self.relative)
        )


def _number(text: str) -> Quantity | None:
    """A number that is all of the text; "line 2" is none."""
    return read_quantity(text) if re.match(r"\s*[-+.0-9−]", text) else None


def _json_list(text: str) -> Sequence[str] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(x, str | int | float) for x in value):
        return None
    return [str(one) for one in value]


@dataclass(frozen=True)
class RouteTruth:
    """Any route that leads from start to end in the graph."""

    problem: RouteProblem
    kind: Kind = "route"

    def read(self, text: str) -> tuple[Segment, ...] | None:
        """The segments."""
        return read_route(text) or None

    def matches(self, read: Read) -> bool:
        """Whether the route is valid, however long."""
        segments = segments_of(read)
        return bool(segments) and check_route(self.problem, segments).is_valid


def segments_of(read: Read | None) -> tuple[Segment, ...]:
    """The segments that were read; none where it was no route."""
    if not isinstance(read, tuple):
        return ()
    return tuple(one for one in read if isinstance(one, Segment))
