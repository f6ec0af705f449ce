"""A rank that is lost, stopped, stuck or failed ends the run with its name; a busy one does not."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_nodes import Ended, ended, free_port
from helpers_runs import ROOT

from vlrl.distributed.comm import World, _check_restarts, all_max, current, init
from vlrl.distributed.waiting import busy, num_moves, waiting, waits_in
from vlrl.distributed.watchdog import Beat, Peers, Watchdog
from vlrl.errors import ConfigError

HOST = platform.node()
SAVED = "; step 2 is saved; go on with --resume"


def beats(*counts: int, **more: dict[int, object]) -> list[Beat]:
    """A beat of each rank; `more` sets a field by rank."""
    own = [{name: values[r] for name, values in more.items() if r in values} for r in range(9)]
    return [Beat(count, step=4, **own[rank]) for rank, count in enumerate(counts)]


def test_a_rank_is_lost_once_its_beats_stay_away_for_the_limit() -> None:
    peers = Peers(["a", "b", "c"])
    peers.hear(beats(1, 1, 1), 1.0)
    peers.hear(beats(2, 1, 2), 3.0)
    assert peers.lost(5.0) is None
    peers.hear(beats(3, 1, 3), 2.0)
    assert peers.lost(5.0) == "rank 1 (b) was lost in step 5: no sign of life for 5 s"
    peers.hear(beats(4, 2, 4), 2.0)
    assert peers.lost(5.0) is None, "one late beat, and it is back"


def test_a_rank_that_has_ended_its_training_is_not_lost() -> None:
    peers = Peers(["a", "b"])
    for count in range(1, 9):
        peers.hear(beats(count, 1, left={1: True}), 1.0)
    assert peers.lost(5.0) is None
    assert not peers.all_left()


def test_a_store_that_is_silent_is_rank_0s_and_says_nothing_of_the_others() -> None:
    peers = Peers(["a", "b"])
    peers.hear(beats(1, 1), 1.0)
    peers.hear(None, 4.0)
    assert peers.lost(5.0) is None
    peers.hear(None, 1.0)
    assert peers.lost(5.0) == (
        "rank 0 (a) or the network to it was lost: its node has not answered for 5 s"
    )
    peers.hear(beats(2, 1), 9.0)
    assert peers.lost(5.0) == "rank 1 (b) was lost in step 5: no sign of life for 5 s"


@pytest.mark.parametrize("busy", [True, False])
def test_all_are_stuck_only_where_none_is_busy(busy: bool) -> None:
    peers = Peers([f"h{rank // 4}" for rank in range(8)])
    waits: dict[int, object] = dict.fromkeys(range(8), "all_sum")
    waits[6] = None if busy else "barrier"
    peers.hear(beats(*range(8), waits_in=waits, waited_s=dict.fromkeys(range(8), 9.0)), 1.0)
    assert peers.busy() == ([6] if busy else [])
    found = peers.stuck(5.0)
    if busy:
        assert found is None
    else:
        assert found == (
            "all ranks have waited for each other for 5 s: rank 6 (h1) in barrier of step 5; "
            "rank 0 (h0), rank 1 (h0), rank 2 (h0), rank 3 (h0) and 3 more in all_sum of step 5"
        )


def test_ranks_that_still_move_are_not_stuck() -> None:
    peers = Peers(["a", "b"])
    waits: dict[int, object] = {0: "all_sum", 1: "all_sum"}
    peers.hear(beats(1, 1, waits_in=waits, waited_s={0: 9.0, 1: 0.5}), 1.0)
    assert peers.stuck(5.0) is None


def test_collectives_say_that_they_wait() -> None:
    assert waits_in() is None
    moves = num_moves()
    with waiting("the update"):
        assert all_max(3.0, current()) == 3.0
        assert waits_in() == "the update"
        assert num_moves() == moves + 3
    assert (waits_in(), num_moves()) == (None, moves + 4)


def test_restarts_on_a_shared_store_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun sets where TORCH_DISABLE_SHARE_RDZV_TCP_STORE is not 1."""
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with pytest.raises(ConfigError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        init(60)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    _check_restarts()


def test_alone_there_is_nothing_to_watch() -> None:
    from vlrl.config.schema import DistConfig

    with Watchdog(World(0, 1, current().device), DistConfig(), 0, lambda: None) as watchdog:
        watchdog.step_done(1)
    assert watchdog._threads == []


def three_ranks(folder: Path, fault: str, faulty: int) -> tuple[list[Ended], float]:
    """How three ranks ended, and how long after the fault the last of them that could."""
    logs = [folder / f"rank{rank}.log" for rank in range(3)]
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    processes = []
    for rank, log in enumerate(logs):
        with log.open("wb") as output:
            command = [sys.executable, str(ROOT / "tests/helpers_watchdog.py"), fault, str(faulty)]
            processes.append(
                subprocess.Popen(
                    command,
                    env={**shared, "RANK": str(rank)},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
    others = [rank for rank in range(3) if rank != faulty]
    ends = ended([processes[rank] for rank in others], [logs[rank] for rank in others], 120)
    if fault == "stopped":
        os.kill(processes[faulty].pid, signal.SIGKILL)
    ends.insert(faulty, *ended([processes[faulty]], [logs[faulty]], 120))
    words = ends[faulty].said.partition("fault ")[2].split()
    return ends, max(ends[rank].at for rank in others) - float(words[0])


@pytest.mark.slow
@pytest.mark.parametrize("faulty", [0, 1])
@pytest.mark.parametrize("fault", ["killed", "stopped", "failed", "stuck"])
def test_the_others_end_and_name_the_rank(fault: str, faulty: int, tmp_path: Path) -> None:
    """Rank 0 holds the store."""
    ends, after_s = three_ranks(tmp_path, fault, faulty)
    print(f"rank {faulty} {fault}: all ended after {after_s:.1f} s")
    others = [one for rank, one in enumerate(ends) if rank != faulty]
    for one in others:
        print(" ", one.said.strip().splitlines()[-1])
        assert one.status == 75, one.said
        assert f"LostRankError: rank {faulty} ({HOST})" in one.said or fault == "stuck", one.said
        assert one.said.count("LostRankError: ") == 1
        assert SAVED in one.said
        if fault == "stuck":
            assert f"5 s: rank {faulty} ({HOST}) in a collective of its own of step 3" in one.said
        if fault == "failed":
            assert "failed in step 3 with ValueError: out of memory" in one.said
    assert after_s < 15
    assert ends[faulty].status == {"failed": 1, "stuck": 75}.get(fault, -9), ends[faulty].said


@pytest.mark.slow
def test_a_rank_that_is_busy_for_longer_than_the_limit_holds_the_others_up(tmp_path: Path) -> None:
    ends, _ = three_ranks(tmp_path, "busy", 1)
    for one in ends:
        assert one.status == 0, one.said
        assert one.said.endswith("whole\n")
    waited = [f"still waiting for rank 1 ({HOST}): alive, and busy" in one.said for one in ends]
    assert waited == [True, False, False], "logged once, by one that waits"


def test_writing_a_large_file_inside_a_collective_is_work_of_ones_own() -> None:
    """A checkpoint that takes minutes to write is no hang."""
    moves = num_moves()
    with waiting("saving a checkpoint"):
        assert waits_in() == "saving a checkpoint"
        with busy():
            assert waits_in() is None
        assert waits_in() == "saving a checkpoint"
    assert waits_in() is None
    assert num_moves() == moves + 4
