"""Faults tried one after the other, and what came of each."""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from forks import Fork, Forks

from vlrl.errors import VlrlError

SEED = int(os.environ.get("VLRL_FAULT_SEED", "0"))
LIMIT_S = 10.0
"""Of one case; longer is a hang."""

Outcome = Literal["same", "other", "refused", "wrong", "unnamed", "traceback", "hang"]
COLUMNS: dict[Outcome, str] = {
    "same": "same value",
    "other": "other content",
    "refused": "refused",
    "wrong": "silent wrong values",
    "unnamed": "errors without their place",
    "traceback": "tracebacks",
    "hang": "hangs",
}
"""`other`: the damage makes another valid file, whose content is read as it stands: a flipped
pixel, letter or coordinate, which no reader can tell from a meant one."""
BAD: tuple[Outcome, ...] = ("wrong", "unnamed", "traceback", "hang")


@dataclass
class Tally:
    """What a part tried."""

    part: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome, what: str) -> None:
        self.counts[outcome] += 1
        if outcome in BAD:
            self.bad.append(f"{outcome}: {what}")

    def row(self) -> list[int]:
        return [self.counts.total(), *(self.counts[name] for name in COLUMNS)]

    def check(self, num: int) -> None:
        """All were tried, and none went wrong."""
        assert not self.bad, "\n\n".join([f"{len(self.bad)} bad outcomes", *self.bad[:12]])
        assert self.counts.total() == num


@dataclass(frozen=True)
class Case:
    """One fault: what is done, and how."""

    name: str
    run: Callable[[], Outcome]
    """What came of it; an error of vlrl's own is `refused`, any other a traceback."""
    place: str = ""
    """What an error has to name."""


def random_of(seed: int, *names: object) -> random.Random:
    """Random numbers of one case, whatever ran before it."""
    return random.Random(f"{seed} {' '.join(map(str, names))}")


def one(case: Case) -> tuple[Outcome, str]:
    try:
        return case.run(), case.name
    except TimeoutError as error:
        return "hang", f"{case.name}: {error}"
    except VlrlError as error:
        if case.place in str(error):
            return "refused", case.name
        return "unnamed", f"{case.name}: {type(error).__name__}: {str(error)[:500]}"
    except Exception:
        return "traceback", f"{case.name}\n{traceback.format_exc()[-3000:]}"


def child(cases: str, folder: str, seed: int, first: int, num: int, record: str) -> None:
    """The cases from `first` on, a line for the start and for the end of each."""
    faulthandler.enable()
    module, _, function = cases.partition(":")
    make: Callable[..., Case] = getattr(importlib.import_module(module), function)
    with Path(record).open("a", encoding="utf-8") as file:

        def say(**what: Any) -> None:
            file.write(json.dumps(what) + "\n")
            file.flush()

        say(ready=True)
        for number in range(first, num):
            case = make(Path(folder), number, random_of(seed, cases, number))
            say(number=number, name=case.name)
            outcome, what = one(case)
            say(number=number, outcome=outcome, what=f"case {number}: {what}")


def try_all(
    forks: Forks, tally: Tally, cases: str, folder: Path, num: int, limit_s: float = LIMIT_S
) -> None:
    """Try the cases 0 to num - 1 of a function `module:function` in a process of their own."""
    first, round_ = 0, 0
    while first < num:
        record = folder / f"record{round_}"
        record.touch()
        args = {"cases": cases, "folder": str(folder), "seed": SEED, "first": first, "num": num,
                "record": str(record)}  # fmt: skip
        fork = forks.start("trying:child", args)
        first, round_ = _watched(fork, record, tally, first, limit_s), round_ + 1


def _watched(fork: Fork, record: Path, tally: Tally, first: int, limit_s: float) -> int:
    """Count outcomes as they come; the next case to try, after a hang or a crash too."""
    seen, name, since = 0, "start", time.monotonic()
    done = first
    while True:
        ended = fork.status is not None
        lines = record.read_text(encoding="utf-8").split("\n")[:-1]
        for line in map(json.loads, lines[seen:]):
            since = time.monotonic()
            name = line.get("name", name)
            if "outcome" in line:
                tally.add(line["outcome"], line["what"])
                done = line["number"] + 1
        seen = len(lines)
        if ended and fork.status == 0:
            return done
        if ended:
            tally.add(
                "traceback", f"case {done}: {name}: status {fork.status}\n{fork.said[-3000:]}"
            )
            return done + 1
        if time.monotonic() - since > limit_s + 5 * (seen == 0):
            fork.send(signal.SIGABRT)  # faulthandler prints where it is
            fork.wait(5)
            tally.add("hang", f"case {done}: {name}: over {limit_s} s\n{fork.said[-3000:]}")
            return done + 1
        time.sleep(0.01)
