"""Texts of answers in one spelling, so that they can be compared."""

from __future__ import annotations

import re
import unicodedata

MAX_ANSWER_CHARS = 10_000
"""Of a final answer; a longer one is no answer, and is not read."""

_MARKDOWN = re.compile(r"[*_`]+")
_BOLD = re.compile(r"(?<![\w)\]}*])\*{1,2}(?=[^\s*])([^*]*+)(?<=\S)\*{1,2}(?![\w(*])")
_WORDS_IN = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox|operatorname)\s*+\{([^{}]*+)\}")
_SPACES = re.compile(r"\s+")
_AFTER_DIGIT = re.compile(r"(?<=[0-9])(?=[¼½¾⅐-⅞↉])")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_ONE_SPELLING = str.maketrans(dict.fromkeys("‐‑‒–—―−﹘﹣", "-") | {"⁄": "/"})
_MATH = (("\\left", ""), ("\\right", ""), ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"),
         ("\\cdot", "*"), ("\\times", "*"), ("×", "*"), ("·", "*"), ("\\div", "/"), ("÷", "/"),
         ("\\%", "%"), ("\\$", "$"), ("{,}", ","), ("\\,", ""), ("\\!", ""), ("\\;", ""),
         ("\\:", ""), ("\\ ", " "), ("\\qquad", " "), ("\\quad", " "), ("~", " "),
         ("\\(", ""), ("\\)", ""), ("\\[", ""), ("\\]", ""), ("$", ""), ("^{\\circ}", "°"),
         ("^\\circ", "°"), ("\\degree", "°"), ("\\pi", "π"), ("\\approx", "≈"),
         ("\u2009", " "), ("\u202f", " "), ("\xa0", " "))  # fmt: skip
_AROUND = "\"'“”‘’,;:!?()[]{}"


def unmarked(text: str) -> str:
    """Text without Markdown's stars and LaTeX's text commands."""
    return _WORDS_IN.sub(r"\1", text).replace("*", "")


def plain_words(text: str) -> str:
    """Lower case, one space between words, no Markdown, no punctuation around."""
    text = _MARKDOWN.sub("", _WORDS_IN.sub(r"\1", _characters(text)))
    text = _SPACES.sub(" ", text).rstrip(f" .${_AROUND}").lstrip(f" ${_AROUND}")
    inner = text.lstrip(f" .${_AROUND}")
    is_number = inner[:1].isdigit() and text.endswith("." + inner)
    return ("." + inner if is_number else inner).casefold()


def plain_math(text: str) -> str:
    """One spelling of LaTeX and Unicode arithmetic, without dollars, spacing and text marks."""
    text = text.replace("\\(", "").replace("\\)", "")
    text = _BOLD.sub(r"\1", _characters(_WORDS_IN.sub(r"\1", text)))
    for theirs, ours in _MATH:
        text = text.replace(theirs, ours)
    text = text.strip().removeprefix("**").removesuffix("**").replace("**", "^")
    return _SPACES.sub(" ", text).strip().rstrip(".").strip()


def _characters(text: str) -> str:
    """One spelling of characters that would change a number: 2½ is no 21/2, 10⁴ no 104, ‑3 no 3."""
    text = _AFTER_DIGIT.sub(" ", _RAISED.sub(_power, text))
    return unicodedata.normalize("NFKC", text).translate(_ONE_SPELLING)


def _power(found: re.Match[str]) -> str:
    digits = found[0].translate(_LOWERED)
    return f"^{digits}" if len(digits) == 1 else f"^{{{digits}}}"
