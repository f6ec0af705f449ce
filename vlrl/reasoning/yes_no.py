"""Yes or no in an answer: what it says, where it says one of the two and does not deny it."""

from __future__ import annotations

import re

from vlrl.reasoning.hedges import QUESTIONS, is_negation, is_withdrawn, word_set, words_of
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS, plain_words, unmarked

MAX_WORDS = 20
"""Yes, no, true and false in an answer; one with more says nothing."""
_WORDS = re.compile(r"\b(?:(yes|true)|(no|false))\b", re.IGNORECASE)
_NEXT = re.compile(r"[ \t]+([^\W\d_]+)")
_OR = re.compile(r"[\s,]*(?:or|nor)\b", re.IGNORECASE)
_CLAUSE_ENDS = re.compile(r"[.,;:!\n()\[\]{}|/]")
_ANSWERED = word_set(
    "the it there this that these those they we i you he she because since as wait but and or "
    "its not is yes no true false"
)
"""Before these words `no` is an answer (`No it does not`); before a noun it is none."""
_TRUTH = ("true", "false")
_CHOICE = word_set("or nor neither either")
_ASKING = word_set(
    "is are was were do does did can could will would should has have may might must decide tell "
    "determine check"
)


def read_yes_no(text: str) -> bool | None:
    """What a text says; None if it says neither, both, asks, or takes it back.

    `true` and `false` count as well, and `not true` is no. The "no" of `there is no change` is no
    answer.
    """
    plain = unmarked(text).strip()
    found = list(_WORDS.finditer(plain)) if len(text) <= MAX_ANSWER_CHARS else []
    if not found or len(found) > MAX_WORDS or "?" in plain or is_withdrawn(plain):
        return None
    lead = words_of(plain[: found[0].start()])
    if lead and (lead[0] in _ASKING or not QUESTIONS.isdisjoint(lead)):
        return None
    said = set()
    for one in found:
        if _is_determiner(plain, one):
            if not plain_words(plain[: one.start()]):
                return None  # "No change is needed" may mean yes
            continue
        value = _value(plain, one)
        if value is None:
            return None
        said.add(value)
    return said.pop() if len(said) == 1 else None


def _is_determiner(text: str, found: re.Match[str]) -> bool:
    """Whether it is the "no" of `no change`."""
    follows = _NEXT.match(text, found.end())
    is_no = found[0].casefold() == "no"
    return is_no and follows is not None and follows[1].casefold() not in _ANSWERED


def _value(text: str, found: re.Match[str]) -> bool | None:
    """What one of the words says in its clause; None if it is denied otherwise than by `not`."""
    before = words_of(_CLAUSE_ENDS.split(text[: found.start()])[-1])
    if not _CHOICE.isdisjoint(before) or _OR.match(text, found.end()):
        return None
    denied = sum(map(is_negation, before))
    is_yes = found[1] is not None
    if not denied:
        return is_yes
    is_not = before[-1] == "not" or before[-1].endswith("n't")
    is_flipped = denied == 1 and is_not and found[0].casefold() in _TRUTH
    return not is_yes if is_flipped else None
