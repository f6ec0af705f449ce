"""Ends a run that has lost a rank, and says which one: torch would wait for `dist.timeout_s`.

On every rank two threads run beside the training, and the main thread pays nothing:

- one writes this rank's beat to a store that all ranks reach, and reads those of the others;
- one only looks at what was read, so that a store that no longer answers cannot hold it up.

The run is over where, for longer than the limit,

- a rank's beats stay away: it was killed or stopped, or its node or the link to it is gone;
- the store does not answer: the same of rank 0's node, which holds it;
- every rank waits for the others (vlrl/distributed/waiting.py) and none moves;

and, after a moment, where a rank has left with an error or has come to one of these findings.

A rank that lives and is busy (sampling, a slow reward, a long evaluation) is no fault; how long the
others wait for it is `dist.timeout_s`, as it is for everything before the end of the first step.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from types import TracebackType

import torch.distributed as dist

from vlrl.config.schema import DistConfig
from vlrl.distributed.comm import World, all_gather
from vlrl.distributed.waiting import num_moves, waits_in
from vlrl.errors import LostRankError, StoppedError, first_line

log = logging.getLogger(__name__)

GRACE_BEATS = 3
"""So many beats the ranks give each other to come to the same finding."""
_NAMES_SHOWN = 4


@dataclass(frozen=True)
class Beat:
    """What a rank tells the others."""

    count: int = 0
    step: int = 0
    """Steps done."""
    waits_in: str | None = None
    """What it waits for other ranks in; None while it is busy."""
    waited_s: float = 0.0
    """Since it last moved."""
    left: bool = False
    """It has ended its training."""
    finding: str | None = None
    """Why the run is over, where it has found that it is."""


class Peers:
    """All ranks, as their beats show them; knows nothing of threads, stores and clocks."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = hosts
        self.beats = [Beat() for _ in hosts]
        self.silent_s = [0.0 for _ in hosts]
        self.store_silent_s = 0.0

    def hear(self, beats: Sequence[Beat] | None, passed_s: float) -> None:
        """Take in what was read, `passed_s` after the last time; None = the store said nothing."""
        if beats is None:
            self.store_silent_s += passed_s
            return
        self.store_silent_s = 0.0
        for rank, (old, new) in enumerate(zip(self.beats, beats, strict=True)):
            is_silent = old.count == new.count and not new.left
            self.silent_s[rank] = self.silent_s[rank] + passed_s if is_silent else 0.0
        self.beats = list(beats)

    def told(self) -> str | None:
        """What another rank has found."""
        return next((beat.finding for beat in self.beats if beat.finding), None)

    def lost(self, limit_s: float) -> str | None:
        """The ranks without a sign of life for so long, in words."""
        if self.store_silent_s >= limit_s:
            return (
                f"rank 0 ({self.hosts[0]}) or the network to it was lost: its node has not "
                f"answered for {limit_s:.0f} s"
            )
        silent = [rank for rank, s in enumerate(self.silent_s) if s >= limit_s]
        if not silent:
            return None
        was = "was" if len(silent) == 1 else "were"
        # A rank may have done steps after its last beat, but is never ahead of the others.
        step = max(beat.step for beat in self.beats) + 1
        return (
            f"{self.named(silent)} {was} lost in step {step}: no sign of life for {limit_s:.0f} s"
        )

    def stuck(self, limit_s: float) -> str | None:
        """Where every rank waits for the others: which of them in what, the fewest first."""
        there = [rank for rank, beat in enumerate(self.beats) if not beat.left]
        if not there or any(
            self.beats[rank].waits_in is None or self.beats[rank].waited_s < limit_s
            for rank in there
        ):
            return None
        places: dict[str, list[int]] = {}
        for rank in there:
            beat = self.beats[rank]
            places.setdefault(f"{beat.waits_in} of step {beat.step + 1}", []).append(rank)
        fewest_first = sorted(places.items(), key=lambda item: len(item[1]))
        where = "; ".join(f"{self.named(ranks)} in {place}" for place, ranks in fewest_first)
        return f"all ranks have waited for each other for {limit_s:.0f} s: {where}"

    def all_left(self) -> bool:
        """Whether nobody trains any more."""
        return all(beat.left for beat in self.beats)

    def busy(self) -> list[int]:
        """The ranks that do work of their own."""
        return [r for r, beat in enumerate(self.beats) if not beat.left and beat.waits_in is None]

    def named(self, ranks: Sequence[int]) -> str:
        """Ranks with their hosts."""
        shown = ", ".join(f"rank {rank} ({self.hosts[rank]})" for rank in ranks[:_NAMES_SHOWN])
        more = len(ranks) - _NAMES_SHOWN
        return f"{shown} and {more} more" if more > 0 else shown


class Watchdog:
    """A context around a training; every rank enters it. Alone it does nothing."""

    def __init__(
        self, world: World, options: DistConfig, step: int, newest_step: Callable[[], int | None]
    ) -> None:
        """step: steps done. newest_step: the newest that is saved, when the run is over."""
        self.world, self.step, self.newest_step = world, step, newest_step
        self.limit_s, self.hang_timeout_s = options.timeout_s, options.hang_timeout_s
        # The store serves the square of the number of ranks; it should not notice them.
        self.beat_s = min(self.hang_timeout_s / 10, max(1.0, world.size / 32))
        self.waited_s = 0.0
        self.finding: str | None = None
        self.heard: list[Beat] | None = None
        """Read since the watcher last looked."""
        self._main_ends, self._has_left = threading.Event(), threading.Event()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Watchdog:
        if self.world.size == 1:
            return self
        self.peers = Peers(all_gather(platform.node(), self.world))
        # The store may outlive this run: torchrun's serves restarted processes as well.
        self.store = self._store(all_gather(secrets.token_hex(8), self.world)[0])
        self._tell(0)
        all_gather(None, self.world)  # now there is a beat of everyone to read
        for work in (self._beat, self._watch):
            thread = threading.Thread(target=work, name=f"vlrl{work.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def step_done(self, step: int) -> None:
        """From the first one on, `hang_timeout_s` is the limit: all is compiled and loaded."""
        self.step = step
        self.limit_s = self.hang_timeout_s

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._threads:
            return
        self._main_ends.set()
        lost_contact = error is not None and _is_of_torch(error)
        if error is not None and lost_contact:
            self.finding = self._whose_fault(error)
        elif error is not None and not isinstance(error, StoppedError):
            own = self.peers.named([self.world.rank])
            reason = f"{type(error).__name__}: {first_line(error)}"
            self.finding = f"{own} failed in step {self.step + 1} with {reason}"
        self._has_left.set()
        if self.finding:
            # This process may hold the store: it stays until all have read this, or left as well.
            self._until(self.peers.all_left, GRACE_BEATS)
        self._ended.set()
        for thread in self._threads:
            thread.join(2 * self.beat_s)
        if lost_contact:
            raise LostRankError(self._with_what_is_saved()) from error

    def _store(self, name: str) -> dist.Store:
        """A connection of our own to the store where the ranks have met."""
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=self.hang_timeout_s),
        )
        return dist.PrefixStore(f"vlrl_watchdog/{name}", store)

    def _tell(self, count: int) -> None:
        beat = Beat(
            count, self.step, waits_in(), self.waited_s, self._has_left.is_set(), self.finding
        )
        self.store.set(str(self.world.rank), json.dumps(asdict(beat)))

    def _beat(self) -> None:
        """The first thread."""
        names = [str(rank) for rank in range(self.world.size)]
        moves, looked_at = num_moves(), time.monotonic()
        for count in itertools.count(1):
            is_last = self._ended.wait(self.beat_s)
            idle = moves == num_moves() and waits_in() is not None
            self.waited_s = self.waited_s + self._passed_s(looked_at) if idle else 0.0
            moves, looked_at = num_moves(), time.monotonic()
            try:
                self._tell(count)
                if is_last:
                    return
                self.heard = [Beat(**json.loads(beat)) for beat in self.store.multi_get(names)]
            except RuntimeError:
                return  # the connection is closed; the watcher hears no more

    def _passed_s(self, since: float) -> float:
        """Seconds since then, but two beats at most: none pass while the run is suspended."""
        return min(time.monotonic() - since, 2 * self.beat_s)

    def _watch(self) -> None:
        """The second thread."""
        warned = False
        looked_at = time.monotonic()
        while not self._ended.wait(self.beat_s):
            heard, self.heard = self.heard, None
            self.peers.hear(heard, self._passed_s(looked_at))
            looked_at = time.monotonic()
            if self._main_ends.is_set():
                continue
            limit_s = self.limit_s
            finding = self.peers.told() or self.peers.lost(limit_s) or self.peers.stuck(limit_s)
            if finding:
                self.finding = finding
                self._end_process()
            waits = self.waited_s >= self.hang_timeout_s
            busy = self.peers.busy()
            if waits and not warned and busy and self.world.rank == int(0 in busy):
                log.warning("still waiting for %s: alive, and busy", self.peers.named(busy))
            warned = waits

    def _end_process(self) -> None:
        """Say why and end, from a thread: the main one is inside a call that does not return."""
        # A pipe that nobody reads must not keep the process.
        threading.Thread(target=_flush, daemon=True).start()
        if self._main_ends.wait(GRACE_BEATS * self.beat_s):
            return  # it has come back, with an error of its own
        message = f"LostRankError: {self._with_what_is_saved()}\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message.encode())
        os._exit(LostRankError.exit_status)

    def _whose_fault(self, error: BaseException) -> str:
        """Which ranks are gone, after a collective has failed: a closed connection tells none."""
        short_s = GRACE_BEATS * self.beat_s
        # At once, since a launcher that has noticed ends this process any moment.
        log.error("a collective of step %d failed: %s", self.step + 1, _reason(error))
        self._until(lambda: bool(self.peers.told()), GRACE_BEATS + 2)
        if told := self.peers.told():
            return told
        silent = [rank for rank, s in enumerate(self.peers.silent_s) if s >= short_s]
        if self.peers.store_silent_s >= short_s:
            silent = [0]
        who = self.peers.named(silent) if silent else "contact with other ranks"
        was = "were" if len(silent) > 1 else "was"
        return f"{who} {was} lost in step {self.step + 1} ({_reason(error)})"

    def _until(self, done: Callable[[], bool], num_beats: int) -> None:
        """Wait for something, so many beats at most."""
        until = time.monotonic() + num_beats * self.beat_s
        while time.monotonic() < until and not done():
            time.sleep(self.beat_s / 4)

    def _with_what_is_saved(self) -> str:
        step = self.newest_step()
        if step is None:
            return f"{self.finding}; nothing is saved"
        return f"{self.finding}; step {step} is saved; go on with --resume"


def _reason(error: BaseException) -> str:
    """The first line of a message of torch's, without the place in its C++ code."""
    text = first_line(error)
    return text.rpartition("] ")[2] if text.startswith("[/") else text


def _is_of_torch(error: BaseException) -> bool:
    """Whether a collective failed; gloo raises plain RuntimeErrors that name its C++ file."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo/" in str(error)
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for handler in logging.getLogger().handlers:
        handler.flush()
