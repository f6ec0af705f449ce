"""Commands that are killed at random moments and go on, as the tests of kills run them."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from forks import Fork, Forks
from helpers_runs import small_run
from trying import SEED, Outcome, Tally, random_of

LIMIT_S = 90.0
GRACE_S = 10.0
"""Of a process that takes one to three seconds."""
MAX_STARTS = 8
SWALLOWED = re.compile(
    r"Exception ignored in:.{,200}?\nTraceback.{,2000}?\nKeyboardInterrupt", re.DOTALL
)
"""Python itself prints and drops a Ctrl-C that falls into a destructor; the command goes on."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PHASES = {"start": 1, "sampling": 5, "update": 6, "saving": 3, "pointing": 3, "evaluation": 3,
          "end": 1}  # fmt: skip
"""Of a training, with how often each comes."""


@dataclass(frozen=True)
class Whole:
    """A run that nobody disturbed."""

    config: Path
    folder: Path
    seconds: float


def started(
    forks: Forks, words: list[str], num_ranks: int, kill: dict[str, Any] | None = None
) -> list[Fork]:
    """The command on every rank; the kill is the last one's."""
    if num_ranks == 1:
        return [forks.start("killed:command", {"words": words, "kill": kill})]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = []
    for rank in range(num_ranks):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks,
                 "LOCAL_WORLD_SIZE": num_ranks, "LOCAL_SIZE": num_ranks,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        own = kill if rank == num_ranks - 1 else None
        env = {name: str(value) for name, value in names.items()}
        made.append(forks.start("killed:command", {"words": words, "kill": own}, env))
    return made


def train_words(config: Path, name: str) -> list[str]:
    return ["train", "--config", str(config), f"name={name}", "--quiet", "--resume"]


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def results(folder: Path) -> dict[str, Any]:
    """All that a training leaves and that does not depend on the time."""
    files = [*folder.rglob("evaluations/*/*.json*"), folder / "model/model.safetensors"]
    read = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {"curve": curve(folder), "newest": (folder / "checkpoints/latest").read_text(), **read}


def whole_run(forks: Forks, folder: Path, checkpoint: Path, screens: Path, num_ranks: int) -> Whole:
    over = {"checkpoint__every": 1, "checkpoint__at_end": True, "checkpoint__export": True,
            "log__report": True, "log__rollouts_every": 2, "eval__splits": ["train"],
            "eval__every": 2, "eval__limit": 4}  # fmt: skip
    config = small_run(checkpoint, screens, folder, "whole", **over)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    began = time.monotonic()
    for fork in started(forks, train_words(path, "whole"), num_ranks):
        assert fork.wait(LIMIT_S) == 0, fork.said[-3000:]
    return Whole(path, folder / "whole", time.monotonic() - began)


def random_kill(rng: random.Random, phases: dict[str, int]) -> dict[str, Any]:
    """Half of them in a chosen phase, a little after its beginning."""
    phase = rng.choice(sorted(phases))
    return {"phase": phase, "nth": rng.randint(1, phases[phase]),
            "delay_s": rng.choice((0.0, rng.uniform(0, 0.06))),
            "signal": int(rng.choice(SIGNALS))}  # fmt: skip


def ended(forks: list[Fork], limit_s: float = LIMIT_S) -> tuple[list[int | None], str]:
    statuses = [fork.wait(limit_s) for fork in forks]
    return statuses, "\n".join(fork.said for fork in forks)


def outlived(forks: list[Fork]) -> None:
    """Kill the ranks that wait for one that has failed, as the launcher does: a rank that is
    joining the others in C++ sees no Ctrl-C."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until and None in (statuses := [fork.status for fork in forks]):
        if any(statuses):
            for fork in forks:
                fork.wait(GRACE_S)
            return
        time.sleep(0.05)


def survives(
    forks: Forks, words: list[str], num_ranks: int, rng: random.Random, seconds: float,
    phases: dict[str, int],
) -> tuple[Outcome, str]:  # fmt: skip
    """Start, kill up to two times, and go on until the command ends by itself."""
    num_kills, story = rng.choice((1, 1, 2)), ""
    for start in range(MAX_STARTS):
        kill, at_s = None, 0.0
        if start < num_kills and rng.random() < 0.5:
            kill = random_kill(rng, phases)
        elif start < num_kills:
            at_s = rng.uniform(0.02, seconds)
        number = rng.choice(SIGNALS)
        processes = started(forks, words, num_ranks, kill)
        if at_s:
            until = time.monotonic() + at_s
            while time.monotonic() < until and processes[0].status is None:
                time.sleep(0.005)
            for process in processes:
                process.send(number)
            if num_ranks > 1:
                outlived(processes)
        elif kill is not None and num_ranks > 1:
            # As the launcher does when a rank has gone.
            processes[-1].wait(LIMIT_S)
            for process in processes[:-1]:
                process.send(signal.SIGKILL)
        statuses, said = ended(processes)
        story += f"start {start}: kill {kill or (at_s, number)}: {statuses}\n"
        if None in statuses:
            return "hang", story + said[-3000:]
        # What a rank says when another one was killed under it is the launcher's affair.
        if "Traceback" in SWALLOWED.sub("", said) and (
            num_ranks == 1 or (kill is None and start >= num_kills)
        ):
            return "traceback", story + said[-3000:]
        if start >= num_kills:
            return ("same", story) if not any(statuses) else ("wrong", story + said[-3000:])
    raise AssertionError(story)


def try_trainings(
    forks: Forks, tally: Tally, folder: Path, checkpoint: Path, screens: Path, num_ranks: int,
    num: int,
) -> None:  # fmt: skip
    """Kill trainings; each one's curve and files are to be those of the undisturbed one."""
    whole = whole_run(forks, folder, checkpoint, screens, num_ranks)
    wanted = results(whole.folder)
    for number in range(num):
        rng = random_of(SEED, "training", num_ranks, number)
        words = train_words(whole.config, f"run{number}")
        outcome, story = survives(forks, words, num_ranks, rng, whole.seconds, PHASES)
        if outcome == "same":
            found = results(folder / f"run{number}")
            if other := sorted(k for k in found | wanted if found.get(k) != wanted.get(k)):
                outcome, story = "wrong", f"{story} differs in {other}"
        shutil.rmtree(folder / f"run{number}", ignore_errors=True)  # it may not have begun
        tally.add(outcome, f"training {number}: {story}")
    tally.check(num)
