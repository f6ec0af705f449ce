"""Where the final answer is in a text: in tags, in a box, after "the answer is", or all of it."""

from __future__ import annotations

import re
from typing import Literal

from vlrl.families.end_tokens import strip_ends
from vlrl.families.thinking import strip_thinking
from vlrl.reasoning.hedges import is_refuted
from vlrl.reasoning.routes import route_end

Form = Literal["think_answer", "answer", "boxed", "plain"]
"""What the prompt asks for: <think> and <answer>, <answer> alone, \\boxed{}, or just the answer."""

_ANSWER = re.compile(r"<\s*+(/?+)\s*+answer\s*+>", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r"<\s*+(/?+)\s*+(think|answer)\s*+>", re.IGNORECASE | re.ASCII)
_BOXED = re.compile(r"\\f?boxed\s*+\{")
_SAYS = re.compile(r"\banswer\s*+(?:(?:is|should\s++be)\s*+:?+|[:：])[\s*_]*+", re.IGNORECASE)
_STOP = re.compile(
    r"\n|(?<!\b(?:St|Mt|Ft|Dr|Mr|Ms|Jr|Sr))(?<!\b(?:Ste|Mrs|Ave))(?<!\.[A-Z])\.(?=\s|$)"
)
"""The end of a sentence, and no abbreviation's point."""
_EMPTY_LINE = re.compile(r"\n[ \t]*+\n")
_DENIED = re.compile(
    r"(?:(?:n['’]t|\bnot|\bnever)\s+(?:(?:think|believe|say|that|the|my|sure|final|correct|right)\s+)*"
    r"|\b(?:wrong|incorrect|false|other)\s+)$",
    re.IGNORECASE,
)
"""Before "answer is": this is none."""
_LEAD_CHARS = 60


def final_answer(text: str) -> str | None:
    """The answer proper, without thinking and marks; None where there is none.

    The last mark counts, so a withdrawn answer does not, and nothing in the thinking does. Marks in
    order: <answer>, boxed, "the answer is"; without one the whole text is the answer. After "the
    answer is", words that take it back without a mark of their own leave none. Never raises; linear
    in the text's length.
    """
    said = strip_ends(strip_thinking(text))
    tagged = _tagged(said)
    inner = said if tagged is None else tagged
    boxed = _boxed(inner)
    if boxed is not None:
        inner = boxed
    elif tagged is None:
        inner = _stated(said)
    inner = inner.strip()
    return inner or None


def is_well_formed(text: str, form: Form) -> bool:
    """Whether the whole answer is in the requested form, with nothing around it.

    The opening <think> may be in the prompt, as some chat templates have it.
    """
    said = strip_ends(text)
    if form in ("think_answer", "answer"):
        marks = [(mark[2].lower(), bool(mark[1])) for mark in _TAG.finditer(said)]
        wanted = [("answer", False), ("answer", True)]
        if form == "think_answer":
            thinking = [("think", False), ("think", True)]
            if marks not in (thinking + wanted, thinking[1:] + wanted):
                return False
        elif marks != wanted:
            return False
        return _tags_touch(said, form) and final_answer(said) is not None
    if form == "boxed":
        return len(_BOXED.findall(said)) == 1 and final_answer(said) is not None
    return bool(said) and not _TAG.search(said) and not _BOXED.search(said)


def in_form(answer: str, form: Form) -> str:
    """A final answer as `is_well_formed` wants it, after a thought that says nothing."""
    if form == "boxed":
        return f"\\boxed{{{answer}}}"
    if form == "plain":
        return answer
    tagged = f"<answer>{answer}</answer>"
    return tagged if form == "answer" else f"<think>I look at the image.</think>\n{tagged}"


def thought_of(text: str) -> str:
    """What comes before the answer's last mark: the thinking, and whatever else was written."""
    opening = [mark.start() for mark in _ANSWER.finditer(text) if not mark[1]]
    return text[: opening[-1]] if opening else text


def _tagged(text: str) -> str | None:
    """The content of the last <answer>, to its end if it is not closed; None without one."""
    start, end = -1, len(text)
    for mark in _ANSWER.finditer(text):
        if not mark[1]:
            start, end = mark.end(), len(text)
        elif start >= 0 and end == len(text):
            end = mark.start()
    return None if start < 0 else text[start:end]


def _boxed(text: str) -> str | None:
    """The content of the last \\boxed{}; None without one that is closed."""
    found = list(_BOXED.finditer(text))
    if not found:
        return None
    last = found[-1]
    depth = 1
    for place in range(last.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[last.end() : place]
    return None


def _stated(text: str) -> str:
    """What follows the last "answer is" or "answer:"; nothing where the rest takes it back.

    To the end of the sentence. After a line that ends there to the next empty line, and of a route
    all of its lines.
    """
    found = [
        one
        for one in _SAYS.finditer(text)
        if not _DENIED.search(text[max(0, one.start() - _LEAD_CHARS) : one.start()])
    ]
    if not found:
        return text
    start = found[-1].end()
    end = _end(text, start, opens_line="\n" in found[-1][0])
    return "" if is_refuted(text[end:]) else text[start:end]


def _end(text: str, start: int, *, opens_line: bool) -> int:
    """Where the answer that starts there ends."""
    route = route_end(text, start)
    if route > start:
        return route
    stop = (_EMPTY_LINE if opens_line else _STOP).search(text, start)
    return len(text) if stop is None else stop.start()


def _tags_touch(text: str, form: Form) -> bool:
    """Whether only white space is before, between and after the tags' contents."""
    marks = list(_TAG.finditer(text))
    first, last = marks[0], marks[-1]
    if text[last.end() :].strip():
        return False
    if form == "answer":
        return not text[: first.start()].strip()
    if not first[1] and text[: first.start()].strip():
        return False
    closing = marks[-3]
    return not text[closing.end() : marks[-2].start()].strip()
