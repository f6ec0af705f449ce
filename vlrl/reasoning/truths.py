"""True answers, one class per kind: how an answer to such a question is read and compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Protocol

from vlrl.reasoning.arithmetic import value_of, with_sums
from vlrl.reasoning.choices import read_letter
from vlrl.reasoning.lists import items_in, pair_up
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS, plain_math, plain_words
from vlrl.reasoning.quantities import Quantity, measured, read_quantity, same_quantity
from vlrl.reasoning.routes import RouteProblem, Segment, check_route, read_route
from vlrl.reasoning.symbolic import same_expression
from vlrl.reasoning.yes_no import read_yes_no

Kind = Literal["choice", "number", "yes_no", "list", "boxes", "route", "expression", "text"]
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


@dataclass(frozen=True)
class ChoiceTruth:
    """One letter of several."""

    letter: str
    options: tuple[str, ...] = ()
    """Their texts, where the data has them."""
    kind: Kind = "choice"

    def read(self, text: str) -> str | None:
        """The letter, also by its option's text."""
        return read_letter(text, self.options)

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
        return read_quantity(text, self.value.unit)

    def matches(self, read: Read) -> bool:
        """Whether it is the number, within the tolerance."""
        return isinstance(read, Quantity) and same_quantity(
            self.value, read, absolute=self.absolute, relative=self.relative
        )


@dataclass(frozen=True)
class YesNoTruth:
    """Yes or no."""

    value: bool
    kind: Kind = "yes_no"

    def read(self, text: str) -> bool | None:
        """The one of the two that it says."""
        return read_yes_no(text)

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


_UNKNOWN = re.compile(r"^\s*(?:[A-Za-z](?:_?\{?[0-9A-Za-z]\}?)?|\\[a-z]+)\s*[=≈]\s*(?=\S)")
_APPROXIMATE = re.compile(r"≈.*")
MAX_SIDES = 5
"""Of a chain of equations; a longer one is no answer."""
MAX_CHECKED_CHARS = 500
"""Of an expression that math-verify is asked about; a longer one is compared as text."""


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
        """Whether it is equal; of a chain of equations every side has to be."""
        true = _expression(self.text)
        if not isinstance(read, str) or true is None:
            return False
        sides = [read] if "=" in true else read.split("=")
        return len(sides) <= MAX_SIDES and all(self._equals(true, one.strip()) for one in sides)

    def _equals(self, true: str, given: str) -> bool:
        a, b = value_of(true), value_of(given)
        if a is None or b is None:
            return _spaceless(given) == _spaceless(true) or (
                true.count("=") == given.count("=")
                and len(given) <= MAX_CHECKED_CHARS
                and not _NO_NUMBER.search(f"{true}={given}")
                and same_expression(with_sums(true), with_sums(given))
            )
        return same_quantity(
            Quantity(a), Quantity(b), absolute=self.absolute, relative=self.relative
        )


_NO_NUMBER = re.compile(r"[0-9] [0-9]|(?<![0-9.])0[0-9]")
"""`2 3`, `05`: only the same text is equal."""


def _spaceless(text: str) -> str:
    """Without spaces, unless they part two numbers."""
    return re.sub(r"(?<![0-9.]) | (?![0-9.])", "", text)


def _expression(text: str) -> str | None:
    plain = _APPROXIMATE.sub("", _UNKNOWN.sub("", plain_math(text))).rstrip("° ")
    plain = re.sub(r"\{([0-9A-Za-z])\}", r"\1", plain) if "\\frac" not in plain else plain
    return plain or None


@dataclass(frozen=True)
class ListTruth:
    """Several items, in order or as a set; numbers compare as numbers."""

    items: tuple[str, ...]
    ordered: bool = False
    absolute: float = 0.0
    relative: float = 0.0
    kind: Kind = "list"

    def read(self, text: str) -> tuple[str, ...] | None:
        """The items, as many as the true ones where they can be read so."""
        items = items_in(text, self.items) if len(text) <= MAX_ANSWER_CHARS else ()
        return items if 0 < len(items) <= MAX_ITEMS else None

    def matches(self, read: Read) -> bool:
        """Whether all items are there and no other, each as often."""
        if not isinstance(read, tuple) or len(read) != len(self.items):
            return False
        true = [(plain_words(one), measured(one)) for one in self.items]
        given = [(str(one), measured(str(one))) for one in read]
        if self.ordered:
            return all(map(self._same, true, given))
        return pair_up(len(true), lambda i, k: self._same(true[i], given[k]))

    def _same(self, true: _Item, given: _Item) -> bool:
        """The same words, or the same number within the tolerance."""
        (words, number), (own_words, own_number) = true, given
        if words == own_words:
            return True
        if number is None or own_number is None:
            return False
        return same_quantity(number, own_number, absolute=self.absolute, relative=self.relative)


_Item = tuple[str, Quantity | None]
"""Words, and the number that they are."""


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
