"""How model families write a box or a point, and whether an answer is exactly in that form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from vlrl.families.end_tokens import strip_ends
from vlrl.families.profiles import Profile
from vlrl.families.thinking import strip_thinking
from vlrl.geometry.boxes import Box, Frame

MAX_CHARS = 2_000
"""A well-formed answer is short; JSON of any size would be read in full otherwise."""

_WHOLE = "[0-9]{1,9}"
_DECIMAL = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"


@dataclass(frozen=True)
class Syntax:
    """One way to write a place; # stands for a number, white space is free around `[](),`."""

    name: str
    kind: str
    """box (four numbers) or point (two)."""
    template: str

    @property
    def numbers(self) -> int:
        """How many numbers the template takes."""
        return self.template.count("#")

    @property
    def is_json(self) -> bool:
        """Whether it names its numbers in JSON, as the arguments of a tool call do."""
        return '": ' in self.template

    def write(self, values: tuple[float, ...], decimals: int) -> str:
        """The answer with these numbers; raises ValueError when their number is wrong."""
        if len(values) != self.numbers:
            raise ValueError(f"{self.name} takes {self.numbers} numbers, not {len(values)}")
        pieces = self.template.split("#")
        written = [f"{value:.{decimals}f}" for value in values]
        return "".join(piece + number for piece, number in zip(pieces, [*written, ""], strict=True))

    def pattern(self, decimal: bool) -> re.Pattern[str]:
        """The whole answer as a regular expression; linear, as nothing in it is ambiguous."""
        number = _DECIMAL if decimal else _WHOLE
        parts, before = [], ""
        for char in self.template:
            if char == "#":
                parts.append(number)
            elif char in "[](),":
                parts.append(rf"\s*+{re.escape(char)}\s*+")
            elif char == "\n" or (char == " " and before == ":"):
                parts.append(r"\s*+")
            elif char == " ":
                parts.append("" if before == "," else r"\s++")
            else:
                parts.append(re.escape(char))
            before = char
        return re.compile("".join(parts))


SYNTAXES: dict[str, Syntax] = {
    syntax.name: syntax
    for syntax in (
        Syntax("bracket_box", "box", "[#,#,#,#]"),
        Syntax("nested_box", "box", "[[#,#,#,#]]"),
        Syntax("json_box", "box", '```json\n[{"bbox_2d": [#, #, #, #]}]\n```'),
        Syntax("json_point", "point", '```json\n[{"point_2d": [#, #]}]\n```'),
        Syntax("box_tokens", "box", "<|box_start|>(#,#),(#,#)<|box_end|>"),
        Syntax("box_tag", "box", "<box>(#,#),(#,#)</box>"),
        Syntax("box_spaces", "box", "<box># # # #</box>"),
        Syntax("box_call", "box", "CLICK(box=[[#,#,#,#]])"),
        Syntax("glm_box", "box", "<|begin_of_box|>[[#,#,#,#]]<|end_of_box|>"),
        Syntax("paren_point", "point", "(#, #)"),
        Syntax("bracket_point", "point", "[#, #]"),
        Syntax("point_tag", "point", "<point># #</point>"),
        Syntax("start_box", "point", "click(start_box='(#,#)')"),
        Syntax("point_call", "point", "click(point='<point># #</point>')"),
        Syntax("pyautogui", "point", "pyautogui.click(x=#, y=#)"),
        Syntax("coordinate_json", "point", '{"coordinate": [#, #]}'),
        Syntax(
            "tool_call",
            "point",
            '<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_click", '
            '"coordinate": [#, #]}}\n</tool_call>',
        ),
        Syntax("answer_coordinate", "point", '<answer>\n{"coordinate": [#, #]}\n</answer>'),
        Syntax("xy_json", "point", '{"x": #, "y": #}'),
        Syntax("colon_point", "point", "point:#,#"),
    )
}

_JSON_KEYS = {"json_box": ("bbox_2d", 4), "json_point": ("point_2d", 2)}


def syntax_of(profile: Profile) -> Syntax:
    """The profile's syntax."""
    return SYNTAXES[profile.syntax]


def write_answer(box: Box, profile: Profile, resized: Frame) -> str:
    """A box of the image as the profile's own model would write it (its centre, for points).

    `resized` is the image's size as the model sees it (`Profile.resized`). Whole numbers,
    except in the unit frame.
    """
    own = box.to(profile.frame(resized))
    values = own.xyxy if profile.kind == "box" else (own.centre.x, own.centre.y)
    return syntax_of(profile).write(values, profile.decimals)


def is_well_formed(text: str, profile: Profile) -> bool:
    """Whether the whole answer is exactly in the requested format; ASCII digits, no sign.

    Stricter than reading: prose, nesting, decimals (outside the unit frame) all fail. White
    space and end tokens around it are allowed, which GUI-G2's released check does not. For
    JSON (GUI-G1, InfiGUI-G1): a list, fenced or not, of objects with the asked key; the
    released GUI-G1 has no format reward.
    """
    text = strip_ends(text)
    if profile.thinking:
        text = strip_thinking(text).strip()
    if len(text) > MAX_CHARS:
        return False
    if profile.syntax in _JSON_KEYS:
        return _is_json_list(text, *_JSON_KEYS[profile.syntax])
    pattern = syntax_of(profile).pattern(decimal=profile.scale == "unit")
    return pattern.fullmatch(text) is not None


def _is_json_list(text: str, key: str, length: int) -> bool:
    if text.startswith("```json") and text.endswith("```") and len(text) >= 10:
        text = text[7:-3]
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return False
    # A box answer is one box; a point answer may hold ranked candidates.
    if not isinstance(items, list) or not items or (length == 4 and len(items) != 1):
        return False
    return all(isinstance(item, dict) and _numbers(item.get(key), length) for item in items)


def _numbers(value: object, length: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == length
        and all(type(one) is int and 0 <= one < 10**9 for one in value)
    )
