"""Reading places (points and boxes) from a model's answer, in every family's notation.

Where a notation has an action, only that is read, and of brackets those that were asked for
(`actions.py`). Strongest form first: tagged > JSON > bracket > call > bare; only the strongest form
that occurs counts. Numbers are ASCII
decimals, `-12` or `0.5`, in a call also `.5`: no plus sign, exponent, percent or underscore. The
frame comes from the profile, never from the size of a number.

Every pattern is linear: it starts with something that it cannot contain further on, and all its
repeats are possessive, so no two attempts read the same text twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vlrl.errors import ConfigError
from vlrl.families.end_tokens import strip_ends
from vlrl.families.profiles import Profile
from vlrl.families.thinking import strip_thinking
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.gui.actions import action_of, own_brackets
from vlrl.gui.calls import keyword_points
from vlrl.gui.syntax import SYNTAXES, is_well_formed, write_answer

MAX_SIZE = 1e100
"""A larger number is not a coordinate: converted to another frame, it would overflow a float."""

FORMS = ("tagged", "json", "bracket", "call", "bare")

_NUMBER = r"-?+[0-9]++(?:\.[0-9]++)?+"
_COMMA = r"\s*+,\s*+"
_GROUP = re.compile(rf"[\[(]\s*+({_NUMBER}(?:{_COMMA}{_NUMBER}){{1,3}}+)\s*+[\])]")
_NUMBERS = re.compile(_NUMBER)
_TAG = re.compile(r"<\|box_(?:start|end)\|>|<\|(?:begin|end)_of_box\|>|</?(?:box|point)>")
_OPENING_TAGS = ("<|box_start|>", "<|begin_of_box|>", "<box>", "<point>")
_TO = r"""["']?+\bto\b["']?+"""
"""Between corners; in a JSON list it is in quotes."""
_TAG_CONTENT = re.compile(rf"[\s\[\](),;]*+(?:{_NUMBER}(?![\w.%+])(?:[\s\[\](),;]|{_TO})*+)++")
_KEY = re.compile(r"""["'](bbox_2d|point_2d|bbox|point|coordinate|coordinates)["']\s*+:\s*+""")
_XY = re.compile(
    rf"""["']x["']\s*+:\s*+({_NUMBER}){_COMMA}["']y["']\s*+:\s*+({_NUMBER})\s*+[,}}]"""
)
_BARE = re.compile(rf"(?<![\w.%+-]){_NUMBER}(?:{_COMMA}{_NUMBER})++")
_OPEN = re.compile(r"[\[(]\s*+")
_BETWEEN = re.compile(_COMMA)
_JOINT = re.compile(rf"\s*+(?:,?+\s*+{_TO}\s*+,?+|to|[,;])\s*+|[ \t]*+")
"""What may be between the two corners of one box."""
_BRACE = re.compile(r"[{}]")
_END_OF_VALUE = re.compile(r"""\}|,\s*+["']\w++["']\s*+:""")
_BOX_KEYS = frozenset({"bbox", "bbox_2d"})
_PLACE_KEYS = frozenset({"coordinate", "coordinates"})
"""Of a box or a point, as the profile says."""


@dataclass(frozen=True)
class Candidate:
    """One place as written: 2 numbers for a point, 4 (xyxy) for a box, and the form."""

    values: tuple[float, ...]
    form: str

    def on(self, frame: Frame) -> Box | Point:
        """The place in the frame that its numbers are in."""
        if len(self.values) == 4:
            x1, y1, x2, y2 = self.values
            return Box(x1, y1, x2, y2, frame)
        x, y = self.values
        return Point(x, y, frame)


def read_places(text: str, join_pairs: bool = True, syntax: str = "") -> list[Candidate]:
    """All places of the strongest form in an answer, in order; empty if there is none.

    `join_pairs` reads two adjacent pairs, `(x1,y1),(x2,y2)`, as a box (else as two points).
    `syntax`: the notation that was asked for; only its action or its own kind of brackets count,
    if there are any. Numbers above `MAX_SIZE` are not places. Never raises; linear in the text's
    length.
    """
    text = action_of(_answer_part(strip_thinking(text)), syntax)
    text = _without_unreadable(text, join_pairs)
    for form in _READERS:
        if form == "bracket":
            text = own_brackets(text, syntax)
        found = _found(form, text, join_pairs)
        if found:
            return found
    return []


def _found(form: str, text: str, join_pairs: bool) -> list[Candidate]:
    return [
        Candidate(values, form)
        for values in _READERS[form](text, join_pairs)
        if all(abs(value) <= MAX_SIZE for value in values)
    ]


def _without_unreadable(text: str, join_pairs: bool) -> str:
    """The text without JSON objects that have a place's key and no place; the key's value stays.

    What such an object says beside it, a label for example, is no place.
    """
    keys = list(_KEY.finditer(text))
    if not keys or _found("json", text, join_pairs):
        return text
    ends = [key.start() for key in keys[1:]] + [len(text)]
    parts, done, number = [], 0, 0
    for start, end in _objects(text):
        values = []
        while number < len(keys) and keys[number].start() < end:
            if keys[number].start() > start:
                values.append(_value(text, keys[number].end(), min(end, ends[number])))
            number += 1
        if values:
            parts += [text[done:start], *values]
            done = end
    return "\n".join([*parts, text[done:]])


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Where the outermost objects begin and end; one that is not closed ends with the text."""
    depth = start = 0
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            start = start if depth else brace.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                yield start, brace.end()
    if depth:
        yield start, len(text)


def _value(text: str, start: int, end: int) -> str:
    """The value that begins at a position, up to the next key or the end of the object."""
    found = _END_OF_VALUE.search(text, start, end)
    return text[start : end if found is None else found.start()]


def parse_answer(text: str, profile: Profile, resized: Frame) -> list[Box | Point]:
    """The places of an answer, best first, in the profile's frame.

    `resized` is the image's size as the model sees it (`Profile.resized`); a profile with
    `pick: last` has the last place first.
    """
    frame = profile.frame(resized)
    return [place.on(frame) for place in candidates(text, profile)]


def candidates(text: str, profile: Profile) -> list[Candidate]:
    """The places of an answer as they are written, the one that counts first."""
    places = read_places(text, profile.joins_pairs, profile.syntax)
    return places[::-1] if profile.pick == "last" else places


def self_check(profile: Profile, width: int, height: int, **limits: int | None) -> None:
    """Raises ConfigError unless written answers read back as what was written.

    Boxes over an image of `width` x `height` pixels are written in the profile's format, read
    and compared; what is lost may be at most the rounding of the written numbers. `limits` are
    `min_pixels` and `max_pixels` of the resize.
    """
    syntax = SYNTAXES.get(profile.syntax)
    if syntax is None or syntax.kind != profile.kind:
        raise ConfigError(f"profile {profile.name!r}: {profile.syntax!r} writes no {profile.kind}")
    image = Frame(width, height)
    resized = profile.resized(width, height, **limits)
    own = profile.frame(resized)
    tolerance = 0.5 * 10.0**-profile.decimals + 1e-6
    for left, top, right, bottom in ((0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.4, 0.25), (0.7, 0.8, 1, 1)):
        box = Box(left * width, top * height, right * width, bottom * height, image)
        text = write_answer(box, profile, resized)
        places = parse_answer(text, profile, resized)
        wanted = box.to(own).xyxy if profile.kind == "box" else _xy(box.to(own).centre)
        got = [place.xyxy if isinstance(place, Box) else _xy(place) for place in places]
        near = (
            len(got) == 1
            and len(got[0]) == len(wanted)
            and all(
                abs(one - other) <= tolerance for one, other in zip(got[0], wanted, strict=True)
            )
        )
        if not near or not is_well_formed(text, profile):
            raise ConfigError(
                f"coordinate profile {profile.name!r} fails its self-check: {wanted} was written "
                f"as {text!r} and read as {got}; correct the profile's scale or syntax"
            )


def _xy(point: Point) -> tuple[float, float]:
    return (point.x, point.y)


def _answer_part(text: str) -> str:
    """The content of the last <answer>..</answer>, or the whole text without end tokens."""
    _, opening, rest = text.rpartition("<answer>")
    return rest.partition("</answer>")[0] if opening else strip_ends(text)


def _floats(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in _NUMBERS.findall(text))


def _tagged(text: str, join_pairs: bool) -> Iterator[tuple[float, ...]]:
    tags = list(_TAG.finditer(text))
    for number, tag in enumerate(tags):
        if tag.group() not in _OPENING_TAGS:
            continue
        # Any tag that comes next closes: Seed sometimes closes <point> with <point>.
        end = tags[number + 1].start() if number + 1 < len(tags) else len(text)
        content = text[tag.end() : end]
        if _TAG_CONTENT.fullmatch(content) is not None:
            values = _floats(content)
            if len(values) in (2, 4):
                yield values


def _json(text: str, join_pairs: bool) -> Iterator[tuple[float, ...]]:
    found: list[tuple[int, tuple[float, ...]]] = []
    for key in _KEY.finditer(text):
        is_box = key[1] in _BOX_KEYS or (join_pairs and key[1] in _PLACE_KEYS)
        found += [(key.start(), values) for values in _listed(text, key.end(), is_box)]
    for pair in _XY.finditer(text):
        found.append((pair.start(), (float(pair[1]), float(pair[2]))))
    for _, values in sorted(found, key=lambda one: one[0]):
        yield values


def _listed(text: str, position: int, is_box: bool) -> list[tuple[float, ...]]:
    """The group at a position, or the groups of a list of groups that begins there.

    is_box: exactly two pairs are the corners of one box.
    """
    first = _GROUP.match(text, position)
    opening = _OPEN.match(text, position) if first is None else None
    between = _JOINT if is_box else _BETWEEN
    group = _GROUP.match(text, opening.end()) if opening is not None else first
    groups: list[tuple[float, ...]] = []
    while group is not None:
        groups.append(_floats(group[1]))
        more = between.match(text, group.end()) if opening is not None or is_box else None
        group = None if more is None else _GROUP.match(text, more.end())
    if is_box and [len(values) for values in groups] == [2, 2]:
        return [groups[0] + groups[1]]
    if opening is None:
        groups = groups[:1]
    return [values for values in groups if len(values) in (2, 4)]


def _bracket(text: str, join_pairs: bool) -> Iterator[tuple[float, ...]]:
    previous: tuple[float, ...] = ()
    end = -1
    for group in _GROUP.finditer(text):
        values = _floats(group[1])
        if len(values) == 2 and join_pairs:
            if previous and _JOINT.fullmatch(text, end, group.start()) is not None:
                yield previous + values
                previous = ()
                continue
            if previous:
                yield previous
            previous, end = values, group.end()
            continue
        if previous:
            yield previous
            previous = ()
        if len(values) in (2, 4):
            yield values
    if previous:
        yield previous


def _call(text: str, join_pairs: bool) -> Iterator[tuple[float, ...]]:
    for x, y in keyword_points(text):
        yield (float(x), float(y))


def _bare(text: str, join_pairs: bool) -> Iterator[tuple[float, ...]]:
    previous: tuple[float, ...] = ()
    end = -1
    for run in _BARE.finditer(text):
        # Tried here and not in the pattern: a failed look-ahead would start again inside.
        follower = text[run.end() : run.end() + 1]
        before = text[max(0, run.start() - 4) : run.start()].rstrip()[-1:]
        values = _floats(run.group()) if run.group().count(",") in (1, 3) else ()
        is_cut = follower.isalnum() or follower in tuple("%_+")
        joins = join_pairs and len(values) == 2 and previous and not is_cut
        if joins and _JOINT.fullmatch(text, end, run.start()) is not None:
            yield previous + values
            previous = ()
            continue
        if previous:
            yield previous
            previous = ()
        # A tail of a list that is not all numbers, `[nan, 1, 2]`, is not a place.
        if is_cut or before in tuple(",[(;") or not values:
            continue
        if len(values) == 2 and join_pairs:
            previous, end = values, run.end()
        else:
            yield values
    if previous:
        yield previous


_READERS = {
    "tagged": _tagged,
    "json": _json,
    "bracket": _bracket,
    "call": _call,
    "bare": _bare,
}
