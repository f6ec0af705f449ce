"""Routes on a map of lines: what a problem asks, what an answer says, what of it is right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS

MAX_SEGMENTS = 50
"""Of an answer; a longer one is no route."""

_NOTE = re.compile(r"[(（][^()（）]*+[)）]")
_FIELD = re.compile(
    r"^[ \t*_#>-]*+(route name|line|departure stop|from|arrival stop|to)[ \t*_]*+[:：](.*+)$",
    re.IGNORECASE | re.MULTILINE,
)
_VIA = re.compile(r"^[ \t*_#>-]*+(?:number of )?via stops?[ \t*_]*+[:：]", re.IGNORECASE)
_BETWEEN = re.compile(r"[-=*_ \t]*+")
"""A line between rides, or an empty one."""

_SERVICE = re.compile(r"transfer|interchange|station|branch|换乘|支线|站", re.IGNORECASE)
"""In brackets: what a station serves for, not where it is."""
_NAMES = {
    "route name": "line",
    "departure stop": "departure",
    "from": "departure",
    "arrival stop": "arrival",
    "to": "arrival",
}


@dataclass(frozen=True)
class Segment:
    """A ride on one line, as written."""

    line: str
    departure: str
    arrival: str


@dataclass(frozen=True)
class RouteProblem:
    """From where to where, on which lines."""

    lines: Mapping[str, tuple[str, ...]]
    """Stations of each line in order; trains run both ways."""
    start: str
    end: str
    num_transfers: int | None = None
    """Of the best route, where the data knows it."""


@dataclass(frozen=True)
class RouteCheck:
    """What of a route is right."""

    starts: bool
    ends: bool
    rides: tuple[bool, ...]
    """Of each segment: the line exists and stops at both of its different stations."""
    joins: tuple[bool, ...]
    """Of each change: the next segment departs where this one arrives."""

    @property
    def is_valid(self) -> bool:
        """Whether the route leads from start to end on lines that exist."""
        return bool(self.rides) and self.starts and self.ends and all(self.rides + self.joins)


def read_route(text: str) -> tuple[Segment, ...]:
    """The segments of an answer, in order; none if it is no route. Never raises.

    ReasonMap's form: `Route Name:`, `Departure Stop:` and `Arrival Stop:` on a line each; `Line:`,
    `From:` and `To:` are read too. A segment that lacks one of them voids the route.
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ()
    found: list[dict[str, str]] = []
    for match in _FIELD.finditer(text):
        key = _NAMES.get(match[1].lower(), "line")
        if key == "line":
            found.append({})
        if not found or key in found[-1]:
            return ()
        found[-1][key] = match[2].strip().strip("*_`").strip()
    if len(found) > MAX_SEGMENTS or any(len(one) < 3 or not all(one.values()) for one in found):
        return ()
    return tuple(Segment(**one) for one in found)


def route_end(text: str, start: int) -> int:
    """Where the route ends whose first line starts there; `start` where there is none."""
    end = start
    first = _FIELD.match(text[start : text.find("\n", start) + 1 or len(text)])
    if first is None:
        return start
    for line in text[start:].splitlines(keepends=True):
        plain = line.rstrip("\r\n")
        if not (_FIELD.match(plain) or _VIA.match(plain) or _BETWEEN.fullmatch(plain)):
            break
        end += len(line)
    return end


def write_route(segments: Sequence[Segment]) -> str:
    """A route as `read_route` reads it."""
    return "\n--\n".join(
        f"Route Name: {one.line}\nDeparture Stop: {one.departure}\nArrival Stop: {one.arrival}"
        for one in segments
    )


def check_route(problem: RouteProblem, route: Sequence[Segment]) -> RouteCheck:
    """What of a route is right; of an empty one nothing."""
    if not route:
        return RouteCheck(False, False, (), ())
    stops = {
        line_key(name): frozenset(map(station_key, stations))
        for name, stations in problem.lines.items()
    }
    ends = [(station_key(one.departure), station_key(one.arrival)) for one in route]
    return RouteCheck(
        starts=ends[0][0] == station_key(problem.start),
        ends=ends[-1][1] == station_key(problem.end),
        rides=tuple(
            a != b and {a, b} <= stops.get(line_key(one.line), frozenset())
            for one, (a, b) in zip(route, ends, strict=True)
        ),
        joins=tuple(a[1] == b[0] for a, b in pairwise(ends)),
    )


def confused_stations(lines: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """Two stations that `station_key` takes for one though notes in brackets tell them apart.

    On one line any two notes do, `A` and `A (North)` too; on several lines only two that differ.
    """
    noted: dict[str, tuple[str, str]] = {}
    for stations in lines.values():
        here: dict[str, tuple[str, str]] = {}
        for name in stations:
            key, place = station_key(name), _place(name)
            other, note = here.setdefault(key, (name, place))
            if note != place:
                return other, name
            other, note = noted.setdefault(key, (name, place)) if place else (name, place)
            if note != place:
                return other, name
    return None


def _place(name: str) -> str:
    """The notes in brackets that say where a station is, in one spelling."""
    notes = [one for one in _NOTE.findall(name) if not _SERVICE.search(one)]
    return " ".join(unicodedata.normalize("NFKC", one).casefold() for one in notes)


def station_key(name: str) -> str:
    """How stations are compared: without case, notes in brackets, spaces and the word station."""
    plain = unicodedata.normalize("NFKC", _NOTE.sub("", name)).casefold()
    key = "".join(c for c in re.sub(r"\bstations?\b", "", plain).removesuffix("站") if c.isalnum())
    return key or plain.strip()


def line_key(name: str) -> str:
    """How lines are compared: without case, spaces and the word line, so `Line 1` is `1`."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    key = "".join(c for c in re.sub(r"\bline\b", "", plain) if c.isalnum())
    return key or plain.strip()
