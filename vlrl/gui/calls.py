"""Arguments of calls as models write them: `click(point='…')`, `pyautogui.click(x=.5, y=.3)`.

Text that a call types or says is in quotes and holds no arguments. A quote inside it does not end
it: only one before a comma or a bracket does. Every pattern is linear in the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = r"-?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)"
"""As Python writes decimals: `5`, `0.5`, `.5`, `5.`; no exponent."""
_X, _Y = rf"x\s*+=\s*+({_NUMBER})", rf"y\s*+=\s*+({_NUMBER})"
_OTHER = r"""(?:\s*+,\s*+(?![xy]\s*+=)\w++\s*+=(?:\s*+'[^']*+'|\s*+"[^"]*+"|[^,()='"]*+))*+"""
"""Arguments between the two, `clicks=2`."""
_COMMA = r"\s*+,\s*+"
_KEYWORDS = rf"(?<![\w.])(?:{_X}{_OTHER}{_COMMA}{_Y}|{_Y}{_OTHER}{_COMMA}{_X})(?![\w.%])"
_POSITIONAL = rf"pyautogui\.\w++\(\s*+({_NUMBER}){_COMMA}(?:y\s*+=\s*+)?+({_NUMBER})(?![\w.%])"


def _quoted(inside: str) -> str:
    """An argument in quotes; one that is cut off reaches to where its text may."""
    return "|".join(
        rf"[(\[,=]\s*+{quote}(?:[^{quote}\\{inside}]|\\.|{quote}(?!\s*+[,)\]]|\s*+\Z))*+{quote}?+"
        for quote in ("'", '"')
    )


_PAIR = re.compile(_KEYWORDS)
# A string of Python's ends with its line; a text that UI-TARS types may have several.
_CODE = re.compile(rf"(?:{_quoted(chr(92) + 'n')})|{_KEYWORDS}|{_POSITIONAL}")
_PLACE = re.compile(
    rf"""[(,]\s*+(?:start_box|start_point|point)\s*+=\s*+(?:'([^']*+)|"([^"]*+))|{_quoted("")}""",
    re.DOTALL,
)


def place_argument(text: str) -> str | None:
    """The first `start_box`, `start_point` or `point` in quotes, without them."""
    for found in _PLACE.finditer(text):
        if found[1] is not None or found[2] is not None:
            return found[1] or found[2] or ""
    return None


def keyword_points(text: str) -> Iterator[tuple[str, str]]:
    """x and y as written, of each `x=1, y=2`, in either order."""
    for found in _PAIR.finditer(text):
        yield _point(found)


def code_point(code: str) -> tuple[str, str] | None:
    """x and y that Python code passes first by keyword, else the first by position."""
    by_position = None
    for found in _CODE.finditer(code):
        if found[1] is not None or found[3] is not None:
            return _point(found)
        if found[5] is not None and by_position is None:
            by_position = (found[5], found[6])
    return by_position


def _point(found: re.Match[str]) -> tuple[str, str]:
    """x and y of `_KEYWORDS`, whose groups are the first four."""
    x, y, other_y, other_x = found.group(1, 2, 3, 4)
    return (x, y) if x is not None else (other_x, other_y)
