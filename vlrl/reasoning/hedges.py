"""Words that take an answer back, deny it, or say something else beside it."""

from __future__ import annotations

import re


def word_set(words: str) -> frozenset[str]:
    """A set of the words of a text."""
    return frozenset(words.split())


_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
NEGATIONS = word_set(
    "not never neither nor cannot hardly except unlike excluding doubt deny denied"
)
WRONG = word_set("wrong incorrect false untrue impossible invalid excluded eliminated")
QUESTIONS = word_set("how what which who whose why when whether if unless")
OTHERS = word_set(
    "or either maybe perhaps possibly alternatively but rather instead wait actually sorry "
    "correction otherwise"
)
"""What introduces a second answer."""

_WITHDRAWN = re.compile(
    r"\b(?:no|but|oh|hm+)[\s,.…-]{1,4}wait\b|\bwait\s?(?:[,.!…:-]|no\b|actually\b)"
    r"|[.!;\n]\s?(?:actually|correction|sorry|hold on|alternatively|or|maybe|perhaps)\b"
    r"|\bscratch that\b|\bon second thoughts?\b|\bi (?:mean|meant|was wrong)\b"
    r"|\blet me (?:re|double|check|correct)",
    re.IGNORECASE,
)
_REFUTED = re.compile(
    r"[.!;\n]\s?no\s?(?:[,.!:;-]|$)|\b(?:that|this|it)(?:['’]s| is| was) "
    r"(?:wrong|incorrect|not right|not correct|a mistake)\b",
    re.IGNORECASE,
)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    return [word.casefold().replace("’", "'") for word in _WORD.findall(text)]


def is_negation(word: str) -> bool:
    """Whether a word in lower case denies what follows: `not`, `isn't`."""
    return word in NEGATIONS or word.endswith("n't")


def is_withdrawn(text: str) -> bool:
    """Whether an answer takes itself back: `B. No wait, C`, `5 - I mean 6`."""
    return _WITHDRAWN.search(text) is not None


def is_refuted(after: str) -> bool:
    """Whether what is said after an answer, from its full stop on, takes it back."""
    return is_withdrawn(after) or _REFUTED.search(after) is not None
