"""Reading spans and numbered boxes from an answer, in the formats that video models write.

    stvg_o1      <time> 5 - 7 </time> <think_bbox> 5. [..], 6. [..], 7. [..] </think_bbox>
                 <pred_bbox> 5. [..], 6. [..], 7. [..] </pred_bbox>
    stvg         the same without thinking boxes
    seconds_csv  lines `timestamp,x1,y1,x2,y2`
    temporal     <think>..</think><answer>12.54 to 17.83</answer>       (VideoChat-R1, Time-R1)
    intervals    <think>..</think><answer>A</answer><glue>[(1.0, 2.5), ..]</glue>
    box_list     <think>..</think><answer>[[x1,y1,x2,y2], ..]</answer>   (VideoChat-R1, tracking)
    open_o3      <think>.. <obj>dog</obj><box>[..]</box>at<t>2.0</t>s ..</think><answer>..</answer>

Reading is lenient, `well_formed` is strict. Numbers are ASCII decimals without sign or exponent;
what they count (sampled frames, seconds) and the frame of the coordinates are up to the task.
Every pattern is linear in the text's length, and nothing here raises on any text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlrl.errors import ConfigError, did_you_mean
from vlrl.families.end_tokens import strip_ends

Entry = tuple[float, tuple[float, float, float, float]]
"""What the box is numbered with, and the box as written."""
Interval = tuple[float, float]

Parts = tuple[tuple[Interval, ...], tuple[Entry, ...] | None, tuple[Entry, ...] | None]
"""Spans, thinking boxes, final boxes."""

MAX_CHARS = 40_000
"""Longer answers are not well formed; they are still read."""

_NUMBER = r"-?+[0-9]{1,12}+(?:\.[0-9]{1,12}+)?+"
_COMMA = r"\s*+,\s*+"
_BOX = rf"\[\s*+({_NUMBER}){_COMMA}({_NUMBER}){_COMMA}({_NUMBER}){_COMMA}({_NUMBER})\s*+\]"
_ENTRY = re.compile(rf"({_NUMBER})\s*+[.:]\s*+{_BOX}")
_BARE_BOX = re.compile(_BOX)
_SPAN = re.compile(rf"({_NUMBER})\s*+(?:-|–|to|and|,)\s*+({_NUMBER})")
_PAIR = re.compile(rf"[\[(]\s*+({_NUMBER}){_COMMA}({_NUMBER})\s*+[\])]")
_CLAIM = re.compile(rf"<box>\s*+{_BOX}\s*+</box>\s*+at\s*+<t>\s*+({_NUMBER})\s*+</t>\s*+s")
_BLANK = r"[ \t]*+"
_CELL = rf"{_BLANK},{_BLANK}({_NUMBER})"
_ROW = re.compile(rf"^{_BLANK}({_NUMBER}){_CELL * 4}{_BLANK}$", re.MULTILINE)

_INDEX = r"[0-9]{1,9}+"
_PLAIN = r"[0-9]{1,9}+(?:\.[0-9]{1,9}+)?+"
_STRICT_BOX = rf"\[\s*+{_PLAIN}(?:{_COMMA}{_PLAIN}){{3}}+\s*+\]"
_STRICT_ENTRY = rf"{_INDEX}\.\s*+{_STRICT_BOX}"
_LIST = rf"{_STRICT_ENTRY}(?:{_COMMA}{_STRICT_ENTRY})*+"
_TIME = rf"<time>\s*+{_INDEX}\s*+-\s*+{_INDEX}\s*+</time>"
# Thinking may hold anything but another tag of its own, so that each part is found in one pass.
_THOUGHT = r"<think>(?:[^<]|<(?!/?think>))*+</think>\s*+"


@dataclass(frozen=True)
class WrittenTrack:
    """An answer as it is written, nothing converted or repaired."""

    spans: tuple[Interval, ...]
    """In the order of writing; an end may lie before its start."""
    think: tuple[Entry, ...] | None
    """Numbered boxes of the thinking; None where that part is missing."""
    final: tuple[Entry, ...] | None
    well_formed: bool
    """Whether the whole answer is exactly in the requested format."""


@dataclass(frozen=True)
class TrackFormat:
    """One way to write a span and boxes."""

    name: str
    read: Callable[[str], Parts]
    strict: re.Pattern[str]
    has_boxes: bool
    has_thinking: bool
    unit: str
    """"index": whole numbers, both ends belong to the span; "seconds": continuous time."""


def read_track(text: str, format_name: str) -> WrittenTrack:
    """What an answer says, in the named format."""
    form = format_named(format_name)
    body = strip_ends(text)
    spans, think, final = form.read(body)
    strict = len(body) <= MAX_CHARS and form.strict.fullmatch(body) is not None
    return WrittenTrack(
        tuple(span for span in spans if all(map(math.isfinite, span))), think, final, strict
    )


def write_track(
    first: int,
    last: int,
    think: Sequence[Sequence[float]] | None,
    final: Sequence[Sequence[float]],
    decimals: int = 0,
    compact: bool = False,
) -> str:
    """An answer in the format `stvg_o1`, or `stvg` without thinking boxes.

    Both lists hold one box for each index from `first` to `last`. `compact` leaves out the
    spaces, each of which costs a small model a token.
    """
    space = "" if compact else " "
    parts = [f"<time>{space}{first}{space}-{space}{last}{space}</time>"]
    for tag, boxes in (("think_bbox", think), ("pred_bbox", final)):
        if boxes is None:
            continue
        listed = f",{space}".join(
            f"{first + k}.{space}[" + f",{space}".join(f"{v:.{decimals}f}" for v in box) + "]"
            for k, box in enumerate(boxes)
        )
        parts.append(f"<{tag}>{space}{listed}{space}</{tag}>")
    return space.join(parts)


def _block(text: str, tag: str) -> str | None:
    """The content of the first block of a tag, up to the next tag of any kind."""
    place = _place(text, tag)
    return None if place is None else text[slice(*place)]


def _place(text: str, tag: str) -> tuple[int, int] | None:
    """Where the block of a tag begins and ends."""
    start = text.find(f"<{tag}>")
    if start < 0:
        return None
    start += len(tag) + 2
    end = text.find("<", start)
    return start, len(text) if end < 0 else end


def _boxes_place(text: str, which: str) -> tuple[int, int] | None:
    """Where a list of boxes is; the paper's figure prints its tags without the underscore."""
    return _place(text, f"{which}_bbox") or _place(text, f"{which} bbox")


def _boxes(text: str, which: str) -> str | None:
    """A list of boxes."""
    place = _boxes_place(text, which)
    return None if place is None else text[slice(*place)]


def _entries(text: str | None) -> tuple[Entry, ...] | None:
    if text is None:
        return None
    found = [[float(number) for number in match] for match in _ENTRY.findall(text)]
    return tuple((n, (a, b, c, d)) for n, a, b, c, d in found)


def _stvg(text: str) -> Parts:
    time = _block(text, "time")
    span = None if time is None else _SPAN.search(time)
    spans = () if span is None else ((float(span[1]), float(span[2])),)
    return spans, _entries(_boxes(text, "think")), _entries(_boxes(text, "pred"))


def part_starts(text: str, num_boxes: int) -> list[tuple[int, int]]:
    """(first character, stage) of the parts of an answer in `stvg_o1` or `stvg`.

    Stage 0 is the span and all marks; box k of the thinking has the stage 1 + k modulo
    `num_boxes`, that of the prediction as many more.
    """
    starts = []
    for first, which in ((1, "think"), (1 + num_boxes, "pred")):
        place = _boxes_place(text, which)
        if place is None:
            continue
        for entry in _ENTRY.finditer(text, *place):
            starts.append((entry.start(), first + int(float(entry[1])) % num_boxes))
        starts.append((place[1], 0))
    return sorted(starts)


def _seconds_csv(text: str) -> Parts:
    rows = [[float(number) for number in match] for match in _ROW.findall(text)]
    entries: tuple[Entry, ...] = tuple((n, (a, b, c, d)) for n, a, b, c, d in rows)
    if not entries:
        return (), None, None
    times = [n for n, _ in entries]
    return ((min(times), max(times)),), None, entries


def _answer(text: str) -> str:
    start = text.rfind("<answer>")
    return text if start < 0 else text[start + len("<answer>") :].partition("</answer>")[0]


def _temporal(text: str) -> Parts:
    spans = [(float(a), float(b)) for a, b in _SPAN.findall(_answer(text))]
    return tuple(spans[-1:]), None, None  # the last one counts, as in VideoChat-R1


def _intervals(text: str) -> Parts:
    glue = _block(text, "glue")
    pairs = [] if glue is None else _PAIR.findall(glue)
    return tuple((float(a), float(b)) for a, b in pairs), None, None


def _box_list(text: str) -> Parts:
    boxes = [tuple(float(v) for v in match) for match in _BARE_BOX.findall(_answer(text))]
    entries = tuple((float(k), (b[0], b[1], b[2], b[3])) for k, b in enumerate(boxes))
    return (((0.0, float(len(boxes) - 1)),) if boxes else ()), None, entries or None


def _open_o3(text: str) -> Parts:
    claims = [[float(number) for number in match] for match in _CLAIM.findall(text)]
    entries: tuple[Entry, ...] = tuple((t, (a, b, c, d)) for a, b, c, d, t in claims)
    return _temporal(text)[0], None, entries or None


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


_SPACE = r"\s*+"
_SECONDS_SPAN = rf"<answer>\s*+{_PLAIN}\s*+(?:to|and)\s*+{_PLAIN}\s*+</answer>"
_TUPLE = rf"\(\s*+{_PLAIN}{_COMMA}{_PLAIN}\s*+\)"
_ANYTHING = r"(?:[^<]|<(?!/?answer>))*+"

FORMATS: dict[str, TrackFormat] = {
    form.name: form
    for form in (
        TrackFormat(
            "stvg_o1",
            _stvg,
            _compiled(
                rf"{_TIME}{_SPACE}<think_bbox>\s*+{_LIST}\s*+</think_bbox>{_SPACE}"
                rf"<pred_bbox>\s*+{_LIST}\s*+</pred_bbox>"
            ),
            has_boxes=True,
            has_thinking=True,
            unit="index",
        ),
        TrackFormat(
            "stvg",
            _stvg,
            _compiled(rf"{_TIME}{_SPACE}<pred_bbox>\s*+{_LIST}\s*+</pred_bbox>"),
            has_boxes=True,
            has_thinking=False,
            unit="index",
        ),
        TrackFormat(
            "seconds_csv",
            _seconds_csv,
            _compiled(
                rf"(?:timestamp,x1,y1,x2,y2\n)?+{_INDEX}(?:,{_PLAIN}){{4}}+"
                rf"(?:\n{_INDEX}(?:,{_PLAIN}){{4}}+)*+"
            ),
            has_boxes=True,
            has_thinking=False,
            unit="index",
        ),
        TrackFormat(
            "temporal",
            _temporal,
            _compiled(_THOUGHT + _SECONDS_SPAN),
            has_boxes=False,
            has_thinking=False,
            unit="seconds",
        ),
        TrackFormat(
            "intervals",
            _intervals,
            _compiled(
                rf"{_THOUGHT}<answer>{_ANYTHING}</answer>{_SPACE}"
                rf"<glue>\s*+\[\s*+(?:{_TUPLE}(?:{_COMMA}{_TUPLE})*+)?+\s*+\]\s*+</glue>"
            ),
            has_boxes=False,
            has_thinking=False,
            unit="seconds",
        ),
        TrackFormat(
            "box_list",
            _box_list,
            _compiled(
                rf"{_THOUGHT}<answer>\s*+\[\s*+{_STRICT_BOX}(?:{_COMMA}{_STRICT_BOX})*+\s*+\]"
                r"\s*+</answer>"
            ),
            has_boxes=True,
            has_thinking=False,
            unit="index",
        ),
        TrackFormat(
            "open_o3",
            _open_o3,
            _compiled(rf"{_THOUGHT}<answer>{_ANYTHING}</answer>"),
            has_boxes=True,
            has_thinking=False,
            unit="seconds",
        ),
    )
}


def format_named(name: str) -> TrackFormat:
    """The format; raises ConfigError with the nearest known name."""
    if name not in FORMATS:
        raise ConfigError(f"unknown answer format {name!r}; {did_you_mean(name, FORMATS)}")
    return FORMATS[name]
