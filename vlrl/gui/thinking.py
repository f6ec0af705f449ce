"""Taking the thinking out of an answer, so that places named on the way do not count."""

from __future__ import annotations

MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<grounding_think>", "</grounding_think>"),
    ("◁think▷", "◁/think▷"),
)


def strip_thinking(text: str) -> str:
    """The answer after the last thinking; empty when the thinking never ends.

    A closing mark without an opening one counts too: chat templates put the opening one into
    the prompt. Linear in the length of the text.
    """
    end = 0
    for _, close in MARKS:
        found = text.rfind(close)
        if found >= 0:
            end = max(end, found + len(close))
    rest = text[end:]
    for opening, _ in MARKS:
        found = rest.find(opening)
        if found >= 0:
            rest = rest[:found]
    return rest
