"""Reading spans and numbered boxes from an answer, in the formats that video models write.

    stvg_o1      <time> 5 - 7 </time> <think_bbox> 5. [..], 6. [..], 7. [..] </think_bbox>
                 <pred_bbox> 5. [..], 6. [..], 7. [..] </pred_bbox>
    stvg         the same without thinking boxes
    seconds_csv  lines `timestamp,x1,y1,x2,y2`
    temporal     <think>..</think><answer>12.54 to 17.83</answer>       (VideoChat-R1, Time-R1)
    intervals    <think>..</think><answer>A</answer><glue>[(1.0, 2.5), ..]</glue>
    box_list     <think>..</think><answer>[[x1,y1,x2,y2], ..]</answer>   (VideoChat-R1, tracking)
    open_o3      <think>.. <obj>dog</obj><box>[..]</box>at<t>2.0</t>s ..</think><answer>..</answer>
                 (vlrl/video/timed_claims.py)

Reading is lenient, `well_formed` is strict. Numbers are ASCII decimals without exponent; what they
count (sampled frames, seconds) and the frame of the coordinates are up to the task.
Every pattern is linear in the text's length, and nothing here raises on any text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vlrl.errors import ConfigError, did_you_mean
from vlrl.families.end_tokens import strip_ends
from vlrl.video.spans import Interval
from vlrl.video.timed_claims import Claim, answered_span, thinking_claims, thinking_times
from vlrl.video.written_spans import intervals, last_span
from vlrl.video.written_text import BARE_BOX, BOX, COMMA, DIGITS, NUMBER, answer_blocks

Entry = tuple[float, tuple[float, float, float, float]]
"""What the box is numbered with, and the box as written."""

MAX_CHARS = 40_000
"""Longer answers are not well formed; they are still read."""

_ENTRY = re.compile(rf"({NUMBER})\s*+[.:]\s*+{BOX}")
_SPAN = re.compile(rf"({NUMBER})\s*+(?:-|–|to|and|,)\s*+({NUMBER})", re.IGNORECASE)
_BLANK = r"[ \t]*+"
_CELL = rf"{_BLANK},{_BLANK}({NUMBER})"
_ROW = re.compile(rf"^{_BLANK}({NUMBER}){_CELL * 4}{_BLANK}$", re.MULTILINE)

_LISTED = re.compile(r"\[[^\[\]]*+\]")

_INDEX = r"[0-9]{1,9}+"
_STRICT_BOX = rf"\[\s*+{DIGITS}(?:{COMMA}{DIGITS}){{3}}+\s*+\]"
_STRICT_ENTRY = rf"{_INDEX}\.\s*+{_STRICT_BOX}"
_LIST = rf"{_STRICT_ENTRY}(?:{COMMA}{_STRICT_ENTRY})*+"
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
    well_formed: bool = False
    """Whether the whole answer is exactly in the requested format."""
    says_none: bool = False
    """Whether it says that there is no span: an empty list of intervals."""
    is_void: bool = False
    """Whether one entry of its list voids it: a reversed interval, a box of three numbers."""
    claims: tuple[Claim, ...] | None = None
    """Boxes with a time in seconds, where the format has them."""
    times: tuple[float, ...] | None = None
    """All times in seconds, where the format has them without boxes too."""


@dataclass(frozen=True)
class TrackFormat:
    """One way to write a span and boxes."""

    name: str
    read: Callable[[str], WrittenTrack]
    strict: re.Pattern[str]
    has_boxes: bool
    has_thinking: bool
    unit: str
    """"index": whole numbers, both ends belong to the span; "seconds": continuous time."""


def read_track(text: str, format_name: str) -> WrittenTrack:
    """What an answer says, in the named format."""
    form = format_named(format_name)
    body = strip_ends(text)
    track = form.read(body)
    strict = len(body) <= MAX_CHARS and form.strict.fullmatch(body) is not None
    return replace(
        track,
        spans=tuple(span for span in track.spans if all(map(math.isfinite, span))),
        well_formed=strict and not track.is_void,
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
    return tuple((n, (a, b, c, d)) for n, a, b, c, d in found if math.isfinite(n))


def _stvg(text: str) -> WrittenTrack:
    time = _block(text, "time")
    span = None if time is None else _SPAN.search(time)
    spans = () if span is None else ((float(span[1]), float(span[2])),)
    return WrittenTrack(spans, _entries(_boxes(text, "think")), _entries(_boxes(text, "pred")))


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
            number = float(entry[1])
            if math.isfinite(number):
                starts.append((entry.start(), first + int(number) % num_boxes))
        starts.append((place[1], 0))
    return sorted(starts)


def _seconds_csv(text: str) -> WrittenTrack:
    rows = [[float(number) for number in match] for match in _ROW.findall(text)]
    entries = tuple((n, (a, b, c, d)) for n, a, b, c, d in rows if math.isfinite(n))
    if not entries:
        return WrittenTrack((), None, None)
    times = [n for n, _ in entries]
    return WrittenTrack(((min(times), max(times)),), None, entries)


def _temporal(text: str) -> WrittenTrack:
    return WrittenTrack(last_span(text), None, None)


def _intervals(text: str) -> WrittenTrack:
    listed = intervals(text)
    return WrittenTrack(
        listed.spans, None, None, says_none=listed.says_none, is_void=listed.is_void
    )


def _box_list(text: str) -> WrittenTrack:
    answer = answer_blocks(text)[0]
    boxes = [tuple(map(float, match)) for match in BARE_BOX.findall(answer)]
    if len(boxes) != len(_LISTED.findall(answer)):
        return WrittenTrack((), None, None, is_void=True)  # one entry is no box
    entries = tuple((float(k), (b[0], b[1], b[2], b[3])) for k, b in enumerate(boxes))
    spans = ((0.0, float(len(boxes) - 1)),) if boxes else ()
    return WrittenTrack(spans, None, entries or None)


def _open_o3(text: str) -> WrittenTrack:
    claims = thinking_claims(text)
    entries = tuple((time, box) for time, boxes in claims for box in boxes)
    times = thinking_times(text)
    return WrittenTrack(answered_span(text), None, entries or None, claims=claims, times=times)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


_SPACE = r"\s*+"
_SECONDS_SPAN = rf"<answer>\s*+{DIGITS}\s*+(?:to|and)\s*+{DIGITS}\s*+</answer>"
_TUPLE = rf"\(\s*+{DIGITS}{COMMA}{DIGITS}\s*+\)"
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
                rf"(?:timestamp,x1,y1,x2,y2\n)?+{_INDEX}(?:,{DIGITS}){{4}}+"
                rf"(?:\n{_INDEX}(?:,{DIGITS}){{4}}+)*+"
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
                rf"<glue>\s*+\[\s*+(?:{_TUPLE}(?:{COMMA}{_TUPLE})*+(?:\s*+,)?+)?+\s*+\]\s*+</glue>"
            ),
            has_boxes=False,
            has_thinking=False,
            unit="seconds",
        ),
        TrackFormat(
            "box_list",
            _box_list,
            _compiled(
                rf"{_THOUGHT}<answer>\s*+\[\s*+{_STRICT_BOX}(?:{COMMA}{_STRICT_BOX})*+\s*+\]"
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
