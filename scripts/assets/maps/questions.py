"""Questions about a network, with all that checks their answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from scripts.assets.maps.network import MapGraph

Question = dict[str, Any]


def questions_of(rng: random.Random, network: MapGraph) -> Iterator[Question]:
    """Two of each kind: yes or no, counting, planning."""
    yield _stops(rng, network, truth=rng.random() < 0.5)
    yield _same_line(rng, network, truth=rng.random() < 0.5)
    yield _between(rng, network)
    yield _interchanges(rng, network)
    for transfers in (0, 1 + (rng.random() < 0.5)):
        yield _plan(rng, network, transfers)


def _stops(rng: random.Random, network: MapGraph, *, truth: bool) -> Question:
    line = rng.choice(list(network.lines))
    stations = network.lines[line]
    among = stations if truth else [one for one in network.cells if one not in stations]
    return {
        "type": "yes_no", "kind": "yes_no", "transfers": 0, "answer": "yes" if truth else "no",
        "question": f"Does the {line} stop at {rng.choice(list(among))}?",
    }  # fmt: skip


def _same_line(rng: random.Random, network: MapGraph, *, truth: bool) -> Question:
    pairs = [
        (a, b)
        for a in network.cells
        for b in network.cells
        if a < b and bool({*network.lines_of(a)} & {*network.lines_of(b)}) == truth
    ]
    a, b = rng.choice(pairs)
    return {
        "type": "yes_no", "kind": "yes_no", "transfers": 0, "answer": "yes" if truth else "no",
        "question": f"Can one travel from {a} to {b} without changing lines?",
    }  # fmt: skip


def _between(rng: random.Random, network: MapGraph) -> Question:
    line = rng.choice(list(network.lines))
    stations = network.lines[line]
    low, high = sorted(rng.sample(range(len(stations)), 2))
    return {
        "type": "counting", "kind": "number", "transfers": 0, "answer": high - low - 1,
        "question": f"How many stations are between {stations[low]} and {stations[high]} on the "
        f"{line}, these two not counted?",
    }  # fmt: skip


def _interchanges(rng: random.Random, network: MapGraph) -> Question:
    line = rng.choice(list(network.lines))
    changes = [one for one in network.lines[line] if len(network.lines_of(one)) > 1]
    return {
        "type": "counting", "kind": "number", "transfers": 0, "answer": len(changes),
        "question": f"At how many stations of the {line} can one change to another line?",
    }  # fmt: skip


def _plan(rng: random.Random, network: MapGraph, transfers: int) -> Question:
    pairs = [
        (a, b)
        for a in network.cells
        for b in network.cells
        if a != b and len(network.best_route(a, b)) == transfers + 1
    ]
    if not pairs:  # a small network may need one change at most
        return _plan(rng, network, transfers - 1)
    start, end = rng.choice(pairs)
    return {
        "type": "planning", "kind": "route", "transfers": transfers, "num_transfers": transfers,
        "question": f"How does one travel from {start} to {end} with as few changes as possible?",
        "lines": network.lines, "start": start, "end": end,
    }  # fmt: skip
