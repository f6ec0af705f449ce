"""The action of an answer, or the brackets that were asked for: places in its prose do not count.

Sources of the actions: UI-TARS's action_parser.py (what follows the last `Action:`), gelab-zero's
parser_0920_summary.py (fields between tabs), ScreenSpot-Pro's kimivl.py and MMBench-GUI's
local_aguvis.py (pyautogui calls), Qwen's tool calls. An answer without the mark is read whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vlrl.gui.calls import code_point, place_argument

_NUMBER = r"-?+[0-9]++(?:\.[0-9]++)?+"
_ACTION_LINE = re.compile(r"^[^\S\n]*+Action:", re.MULTILINE)
_CALL_WITHOUT_PLACE = re.compile(r"\s*+\w++\(\s*+(?:\)|\w++\s*+=)")
_FIELD = re.compile(r"(?:^|\t)[^\S\t]*+(action|point[^:\t\n]*+):([^\t]*+)")
_LOOSE_FIELD = re.compile(r"(?<!\w)(point[0-9]?+)[^\S\n]*+:([^\t\n]*+)")
_PAIR = re.compile(rf"\s*+({_NUMBER})[\s,]++({_NUMBER})(?![\w.%])")
_MORE = rf"(?:\s*+,\s*+{_NUMBER})"
_BRACKETS = {
    "bracket_box": rf"\[\s*+{_NUMBER}{_MORE}{{3}}+\s*+\]",
    "bracket_point": rf"\[\s*+{_NUMBER}{_MORE}(?:{_MORE}{{2}}+)?+\s*+\]",
    "paren_point": rf"\(\s*+{_NUMBER}{_MORE}\s*+\)",
    "nested_box": rf"\[\s*+\[\s*+{_NUMBER}{_MORE}{{1,3}}+\s*+\]",
}
_BRACKETS["box_call"] = _BRACKETS["nested_box"]
_OWN = {syntax: re.compile(pattern) for syntax, pattern in _BRACKETS.items()}
_TOOL_CALL, _TOOL_CALL_END = "<tool_call>", "</tool_call>"


def _after_action(text: str) -> str:
    """The place in the action after the last `Action:`; all of the action where it is no call."""
    lines = list(_ACTION_LINE.finditer(text))
    # One within a line may be part of what is typed.
    action = text[lines[-1].end() :] if lines else text.rpartition("Action:")[2]
    place = place_argument(action)
    if place is not None:
        return place
    return "" if _CALL_WITHOUT_PLACE.match(action) is not None else action


def _python_call(text: str) -> str:
    """The first pair of numbers that the code passes as x and y."""
    start = text.find("pyautogui.")
    point = code_point(text[max(0, start) :])
    if point is not None:
        return f"x={point[0]}, y={point[1]}"
    return text if start < 0 else ""


def _point_field(text: str) -> str:
    """The last value of the field `point`, else of the first `point1`."""
    fields = dict(_FIELD.findall(text)) or dict(_LOOSE_FIELD.findall(text))
    for value in (fields.get("point"), *fields.values()):
        pair = None if value is None else _PAIR.match(value)
        if pair is not None:
            return f"({pair[1]},{pair[2]})"
    return "" if fields else text


def _tool_calls(text: str) -> str:
    """What the tool calls hold."""
    first, *rest = text.split(_TOOL_CALL)
    return "\n".join(part.partition(_TOOL_CALL_END)[0] for part in rest) if rest else first


_BY_SYNTAX: dict[str, Callable[[str], str]] = {
    "start_box": _after_action,
    "point_call": _after_action,
    "pyautogui": _python_call,
    "colon_point": _point_field,
    "coordinate_json": _tool_calls,
    "tool_call": _tool_calls,
}


def action_of(text: str, syntax: str) -> str:
    """The part of an answer that is its action, in this syntax (`SYNTAXES`); linear."""
    read = _BY_SYNTAX.get(syntax)
    return text if read is None else read(text)


def own_brackets(text: str, syntax: str) -> str:
    """From the first to the last place in just this syntax's brackets; all where none is.

    Released parsers look for those only: `(3,4)` in the prose is no place where `[[…]]` follows.
    """
    pattern = _OWN.get(syntax)
    found = [] if pattern is None else list(pattern.finditer(text))
    return text[found[0].start() : found[-1].end()] if found else text
