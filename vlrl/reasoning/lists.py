"""Lists in answers: their items, and whether each has one of its own among the true ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from vlrl.reasoning.plain_text import plain_words

_ENDS = r"\n|;|->|→|,?\s+and\s+"
_GROUPED = re.compile(rf"\s*(?:{_ENDS}|,(?![0-9]{{3}}(?:[^0-9]|$)))\s*", re.IGNORECASE)
_EVERY = re.compile(rf"\s*(?:{_ENDS}|,)\s*", re.IGNORECASE)
_JOINED = re.compile(r",|;|->|→|\band\b", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•]|[0-9]{1,3}[.)])\s+")
_KEPT = re.compile("\0([0-9]+)\0")
_ONE_OR_SEVERAL = re.compile(r"\s*[0-9]{1,3}(?:,[0-9]{3})+\s*")
"""`100,200,300`: a number, or three."""


def items_in(text: str, true: Sequence[str] = ()) -> tuple[str, ...]:
    """A JSON list, or what commas, semicolons, lines, arrows or "and" separate.

    True items that hold a separator (`Elephant and Castle`) stay whole. `100,200,300` is one
    number, unless the true list is as long as the numbers are many.
    """
    found = _json_list(text)
    if found is None:
        lines = (" ".join(line.split()) for line in text.replace("\0", " ").split("\n"))
        inner = "\n".join(lines).strip().strip("[]{}").strip()
        found = _split(inner, true, _GROUPED)
        if len(found) != len(true) and _EVERY.search(inner):
            every = _split(inner, true, _EVERY)
            found = every if len(every) == len(true) else found
    return found


def is_ambiguous(text: str) -> bool:
    """Whether a text is one number with separators of thousands, or a list of several."""
    return _ONE_OR_SEVERAL.fullmatch(text) is not None


def pair_up(num: int, fits: Callable[[int, int], bool]) -> bool:
    """Whether `num` true items and as many given ones can be paired so that all pairs fit."""
    partner: dict[int, int] = {}

    def place(true: int, seen: set[int]) -> bool:
        for given in range(num):
            if given not in seen and fits(true, given):
                seen.add(given)
                if given not in partner or place(partner[given], seen):
                    partner[given] = true
                    return True
        return False

    return all(place(true, set()) for true in range(num))


def _split(text: str, true: Sequence[str], ends: re.Pattern[str]) -> tuple[str, ...]:
    whole = sorted(filter(_JOINED.search, map(plain_words, true)), key=len, reverse=True)
    if not whole:
        return _cleaned(ends.split(text))
    either = "|".join(re.escape(one).replace(r"\ ", r"\s+") for one in whole)
    names = re.compile(rf"(?<!\w)(?:{either})(?!\w)", re.IGNORECASE)
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\0{len(kept) - 1}\0"

    parts = ends.split(names.sub(keep, text))
    return _cleaned([_KEPT.sub(lambda found: kept[int(found[1])], one) for one in parts])


def _cleaned(items: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for one in (plain_words(_BULLET.sub("", item)) for item in items) if one)


def _json_list(text: str) -> tuple[str, ...] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(x, str | int | float) for x in value):
        return None
    return tuple(one for one in (plain_words(str(item)) for item in value) if one)
