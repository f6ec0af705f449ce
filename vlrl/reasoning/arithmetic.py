"""The value of a closed expression: numbers, + - * / ^, roots, fractions, pi, LaTeX or plain.

A recursive-descent reader over floats: nothing is executed, nothing can take long, and what is not
understood has no value.
"""

from __future__ import annotations

import math
import re

from vlrl.reasoning.plain_text import plain_math

MAX_TOKENS = 200
MAX_DEPTH = 20
_TOKEN = re.compile(
    r"\s*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)|(\\?(?:sqrt|frac)|π|pi\b|√)|([-+*/^(){}\[\]]))"
)
_THOUSANDS = re.compile(
    r"(?<![0-9,.])(?<![0-9,.] )[0-9]{1,3}(?:(?:,[0-9]{3})+(?![0-9,])|(?: [0-9]{3})+(?! ?[0-9/,]))"
)
_WHOLE = "([0-9]{1,9})"
_MIXED = re.compile(
    rf"(?<![\w.^}}\\)/])(?<![\w.)/] ){_WHOLE}"
    rf"(?: ?\\frac ?\{{ ?{_WHOLE} ?\}} ?\{{ ?{_WHOLE} ?\}}| {_WHOLE} ?/ ?{_WHOLE})(?![\w.])"
)
_SHORT = re.compile(r"\\frac ?(?:\{([0-9])\}|([0-9])) ?(?:\{([0-9])\}|([0-9]))")
_LEADING_ZERO = re.compile(r"(?<![0-9.])0[0-9]")


def value_of(text: str) -> float | None:
    """The value of an expression without unknowns; None where it has none. Never raises."""
    plain = with_sums(plain_math(text))
    tokens = _tokens(plain)
    if not tokens or _LEADING_ZERO.search(plain):  # 2024-05-01
        return None
    reader = _Reader(tokens)
    try:
        value = reader.sum(0)
    except (_NoValueError, ArithmeticError, ValueError):
        return None
    if reader.place != len(tokens) or isinstance(value, complex) or not math.isfinite(value):
        return None
    return value


def with_sums(plain: str) -> str:
    """Mixed numbers as sums, thousands without separators: `1 2/3` as `(1+2/3)`, `1,000` as `1000`.

    Of `2\\frac{3}{2}`, which is no mixed number, nothing can be computed.
    """
    plain = _THOUSANDS.sub(lambda found: re.sub("[, ]", "", found[0]), plain)
    plain = _SHORT.sub(
        lambda found: f"\\frac{{{found[1] or found[2]}}}{{{found[3] or found[4]}}}", plain
    )
    return _MIXED.sub(_sum, plain)


def _sum(found: re.Match[str]) -> str:
    above, below = found[2] or found[4], found[3] or found[5]
    return f"({found[1]}+{above}/{below})" if int(above) < int(below) else f"({found[0]}) ?"


class _NoValueError(Exception):
    """The text is not an expression."""


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    place = 0
    while place < len(text) and len(found) <= MAX_TOKENS:
        match = _TOKEN.match(text, place)
        if match is None:
            return []
        found.append((match[1] or match[2] or match[3]).removeprefix("\\"))
        place = match.end()
    return found if len(found) <= MAX_TOKENS else []


class _Reader:
    """Reads tokens by precedence; `place` is the next one."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.place = tokens, 0

    def sum(self, depth: int) -> float:
        if depth > MAX_DEPTH:
            raise _NoValueError
        value = self.product(depth)
        while self.next_is("+", "-"):
            sign = 1.0 if self.take() == "+" else -1.0
            value += sign * self.product(depth)
        return value

    def product(self, depth: int) -> float:
        value = self.signed(depth)
        while True:
            if self.next_is("*", "/"):
                if self.take() == "*":
                    value *= self.signed(depth)
                else:
                    value /= self.signed(depth)
            elif self.next_is("(", "{", "sqrt", "√", "frac", "π", "pi"):
                value *= self.power(depth)  # 2 sqrt(3) is a product
            else:
                return value

    def signed(self, depth: int) -> float:
        negative = False
        while self.next_is("-", "+"):
            negative ^= self.take() == "-"
        value = self.power(depth)
        return -value if negative else value

    def power(self, depth: int) -> float:
        value = self.atom(depth)
        if self.next_is("^"):
            self.take()
            power = self.signed(depth + 1) if depth < MAX_DEPTH else math.nan
            value = float(pow(value, power)) if value >= 0 or power.is_integer() else math.nan
        return value

    def atom(self, depth: int) -> float:
        token = self.take()
        if token in ("π", "pi"):
            return math.pi
        if token == "frac":
            return self.group(depth) / self.group(depth)
        if token in ("sqrt", "√"):
            degree = 2.0
            if self.next_is("["):
                self.take()
                degree = self.sum(depth + 1)
                self.expect("]")
            return _root(self.group(depth), degree)
        if token in ("(", "{", "["):
            value = self.sum(depth + 1)
            self.expect({"(": ")", "{": "}", "[": "]"}[token])
            return value
        if token[0].isdigit() or token[0] == ".":
            return float(token)
        raise _NoValueError

    def group(self, depth: int) -> float:
        """What a root or a fraction is of: in brackets, or one number."""
        if depth > MAX_DEPTH:
            raise _NoValueError
        return self.atom(depth + 1)

    def next_is(self, *tokens: str) -> bool:
        return self.place < len(self.tokens) and self.tokens[self.place] in tokens

    def take(self) -> str:
        if self.place >= len(self.tokens):
            raise _NoValueError
        self.place += 1
        return self.tokens[self.place - 1]

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise _NoValueError


def _root(value: float, degree: float) -> float:
    """The real root; of a negative number for odd degrees only."""
    if degree == 2:
        return math.sqrt(value)
    if value >= 0:
        return float(pow(value, 1 / degree))
    return -float(pow(-value, 1 / degree)) if degree % 2 == 1 else math.nan
