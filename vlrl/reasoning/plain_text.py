"""Texts of answers in one spelling, so that they can be compared."""

from __future__ import annotations

import re
import unicodedata

MAX_ANSWER_CHARS = 10_000
"""Of a final answer; a longer one is no answer, and is not read."""

_MARKDOWN = re.compile(r"[*_`]+")
_WORDS_IN = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox|operatorname)\s*+\{([^{}]*+)\}")
_SPACES = re.compile(r"\s+")
_MATH = (("\\left", ""), ("\\right", ""), ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"),
         ("\\cdot", "*"), ("\\times", "*"), ("×", "*"), ("·", "*"), ("\\div", "/"), ("÷", "/"),
         ("\\%", "%"), ("\\$", "$"), ("\\,", ""), ("\\!", ""), ("\\;", ""), ("\\ ", " "),
         ("\\(", ""), ("\\)", ""), ("\\[", ""), ("\\]", ""), ("$", ""), ("^{\\circ}", "°"),
         ("^\\circ", "°"), ("\\degree", "°"), ("\\pi", "π"), ("⁄", "/"), ("−", "-"), ("–", "-"),
         ("\u2009", " "), ("\u202f", " "), ("\xa0", " "))  # fmt: skip


def unmarked(text: str) -> str:
    """Text without Markdown's stars and LaTeX's text commands."""
    return _WORDS_IN.sub(r"\1", text).replace("*", "")


def plain_words(text: str) -> str:
    """Lower case, one space between words, no Markdown, no punctuation around."""
    text = _MARKDOWN.sub("", _WORDS_IN.sub(r"\1", unicodedata.normalize("NFKC", text)))
    return _SPACES.sub(" ", text).strip(" \t\n\"'“”‘’.,;:!?$()[]{}").casefold()


def plain_math(text: str) -> str:
    """One spelling of LaTeX and Unicode arithmetic, without dollars, spacing and text marks."""
    text = text.replace("\\(", "").replace("\\)", "").replace("²", "^2").replace("³", "^3")
    text = unicodedata.normalize("NFKC", _WORDS_IN.sub(r"\1", text))
    for theirs, ours in _MATH:
        text = text.replace(theirs, ours)
    text = text.strip().removeprefix("**").removesuffix("**").replace("**", "^")
    return _SPACES.sub(" ", text).strip().rstrip(".").strip()
