"""Made-up networks on a grid: lines of stations, some of them shared."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

COLUMNS, ROWS = 9, 8
FIRST = ("Alder", "Brook", "Castle", "Dover", "Elm", "Fern", "Garden", "Harbour", "Iron", "Kings",
         "Lake", "Mill", "North", "Oak", "Park", "Queen", "River", "South", "Tower", "Union",
         "Vale", "West")  # fmt: skip
LAST = ("gate", "field", "bridge", "ton", "side", "hill", "ford", "wood")
COLOURS = {"Red": (214, 40, 40), "Blue": (29, 78, 216), "Green": (22, 140, 70),
           "Orange": (240, 130, 20), "Purple": (126, 47, 160), "Brown": (121, 80, 50)}  # fmt: skip
_STEPS = ((1, 0), (0, 1), (1, 1), (1, -1))
Cell = tuple[int, int]


@dataclass(frozen=True)
class MapGraph:
    """Lines as lists of stations, and where stations are on the grid."""

    lines: Mapping[str, tuple[str, ...]]
    cells: Mapping[str, Cell]

    def lines_of(self, station: str) -> list[str]:
        """The lines that stop at a station."""
        return [name for name, stations in self.lines.items() if station in stations]

    @property
    def interchanges(self) -> list[str]:
        """Stations of more than one line."""
        return [one for one in self.cells if len(self.lines_of(one)) > 1]

    def best_route(self, start: str, end: str) -> list[tuple[str, str, str]]:
        """(line, from, to) of a route with the fewest changes."""
        waiting: deque[tuple[str, list[tuple[str, str, str]]]] = deque([(start, [])])
        seen = {start}
        while waiting:
            here, route = waiting.popleft()
            for line in self.lines_of(here):
                for there in self.lines[line]:
                    if there == end:
                        return [*route, (line, here, there)]
                    if there not in seen:
                        seen.add(there)
                        waiting.append((there, [*route, (line, here, there)]))
        raise ValueError(f"{end} cannot be reached from {start}")


def make_network(rng: random.Random, num_lines: int) -> MapGraph:
    """A connected network; each line shares one to three stations with the others."""
    while True:
        paths: list[list[Cell]] = []
        for _ in range(200):
            path = _path(rng)
            taken = {cell for other in paths for cell in other}
            edges = {frozenset(pair) for other in paths for pair in pairwise(other)}
            own = {frozenset(pair) for pair in pairwise(path)}
            shared = len(taken & set(path))
            if len(path) >= 5 and not edges & own and not _crosses(own, edges) and (
                not paths or 1 <= shared <= 3
            ):
                paths.append(path)
            if len(paths) == num_lines:
                return _named(rng, paths)


def _path(rng: random.Random) -> list[Cell]:
    """A walk across the grid with at most one bend of 45 degrees."""
    x, y = rng.randrange(COLUMNS), rng.randrange(ROWS)
    step = rng.choice(_STEPS)
    path = [(x, y)]
    bend = rng.randrange(2, 6)
    for place in range(1, 9):
        if place == bend:
            step = rng.choice([s for s in _STEPS if s[0] * step[0] + s[1] * step[1] > 0])
        x, y = x + step[0], y + step[1]
        if not (0 <= x < COLUMNS and 0 <= y < ROWS):
            break
        path.append((x, y))
    return path


def _crosses(own: set[frozenset[Cell]], others: set[frozenset[Cell]]) -> bool:
    """Whether diagonals cross between stations, where there is no interchange."""
    def middle(edge: frozenset[Cell]) -> Cell:
        (a, b), (c, d) = sorted(edge)
        return (a + c, b + d)

    return bool({middle(edge) for edge in own} & {middle(edge) for edge in others})


def _named(rng: random.Random, paths: list[list[Cell]]) -> MapGraph:
    cells = list(dict.fromkeys(cell for path in paths for cell in path))
    names = rng.sample([a + b for a in FIRST for b in LAST if a[-1] != b[0]], len(cells))
    by_cell = dict(zip(cells, names, strict=True))
    lines = dict(zip((f"{c} Line" for c in COLOURS), paths, strict=False))
    return MapGraph(
        {line: tuple(by_cell[cell] for cell in path) for line, path in lines.items()},
        {by_cell[cell]: cell for cell in cells},
    )
