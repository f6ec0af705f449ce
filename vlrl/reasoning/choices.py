"""The letter of a choice in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vlrl.reasoning.hedges import NEGATIONS, WRONG, is_negation, is_withdrawn, word_set, words_of
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS, plain_words, unmarked

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_AROUND = " \t\n\"'“”‘’«»`$.,;:!"
_LEADING = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)(?:\s+is)?\s*:?\s*)?"
    r"[(\[]?\s*([a-z])\s*(?:[)\].:,]+|\s[-–—]\s|(?=$))\s*(.*)",
    re.IGNORECASE | re.DOTALL | re.ASCII,  # ASCII: the Kelvin sign is no K
)
_MARKED = re.compile(r"[(\[]([A-Z])[)\]]|\b(?:[Oo]ption|[Cc]hoice)\s+\(?([A-Z])\b")
_ANOTHER = re.compile(
    r"(?:^|[\s(\[,])([A-Z])[).:\]](?:\s|$)|(?:\b(?:or|and)\b|[,/&])\s*\(?([A-HJ-Z])\b(?!['’-])"
)
"""A letter that stands beside another one."""
_LETTERS_ONLY = re.compile(r"\W*[A-Z]\W+(?:[A-Z](?:\W+|$))*|\W*[A-Z]$", re.IGNORECASE)
_VERB = re.compile(
    r"(?:is|was|seems|looks|can|could|would|must|should|does|are)(?:n['’]t)?\b|(?:not|or|and|but)\b"
)
_DENIALS = word_set("no but rather instead neither nor eliminate rule ruled out") | WRONG


def read_letter(text: str, options: Sequence[str]) -> str | None:
    """`B`, `(B)`, `B.`, `option B`, `B. blue`, or the option's text; the letter.

    None for several letters, for a letter beyond the options, for one with another option's text,
    and for one that is denied or taken back.
    """
    if len(text) > MAX_ANSWER_CHARS:
        return None
    texts = [plain_words(option) for option in options]
    plain = unmarked(text).strip(_AROUND)
    known = LETTERS[: len(options)] if options else LETTERS
    found = _LEADING.fullmatch(plain)
    if found is not None:
        letter, rest = found[1].upper(), plain_words(found[2])
        if letter not in known:
            return None
        if not rest or (texts and rest == texts[known.index(letter)]):
            is_other = bool(rest) and plain_words(text) in texts
            return None if is_other or (not rest and "?" in found[2]) else letter
        if rest in texts:
            return None
        if not texts:
            return letter if _is_text(found[2]) else None
    if texts.count(plain_words(text)) == 1:
        return LETTERS[texts.index(plain_words(text))]
    letter = _marked(plain)
    return letter if letter and letter in known and not _is_denied(plain) else None


def _is_text(rest: str) -> bool:
    """Whether what follows a letter may be its option's text, which is not known."""
    if _MARKED.search(rest) or _ANOTHER.search(rest) or _LETTERS_ONLY.fullmatch(rest):
        return False
    return not is_withdrawn(f". {rest}") and not (_VERB.match(rest) and _is_denied(rest))


def _marked(text: str) -> str:
    """The one letter that a sentence marks; "" without one, or with several."""
    found = [pair for pattern in (_MARKED, _ANOTHER) for pair in pattern.findall(text)]
    named = {letter for pair in found for letter in pair}
    begins = re.match(r"[A-HJ-Z]\b", text)  # "I" is a word
    named |= {begins[0]} if begins is not None else set()
    named.discard("")
    return named.pop() if len(named) == 1 and _MARKED.search(text) else ""


def _is_denied(text: str) -> bool:
    words = words_of(text)
    return (
        "?" in text
        or is_withdrawn(text)
        or any(word in _DENIALS or word in NEGATIONS or is_negation(word) for word in words)
    )
