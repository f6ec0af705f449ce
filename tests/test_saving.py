"""When a run saves, and how: by time, on a signal, beside training, where there is room."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_runs import small_run
from test_run_faults import full, lines, trainer_of

from vlrl.cli.main import main
from vlrl.distributed.comm import World
from vlrl.distributed.safe_load import copied
from vlrl.errors import CheckpointError, StoppedError
from vlrl.train.beside import fits_in_memory, free_memory
from vlrl.train.checkpoint import Checkpoints
from vlrl.train.room import shown_bytes
from vlrl.train.stopping import StopRequest

ALONE = World(0, 1, torch.device("cpu"))


def vowels(rollout: Any) -> float:
    """A reward that differs from answer to answer."""
    return sum(c in "aeiou" for c in rollout.output) / max(1, len(rollout.output))


@pytest.fixture
def config(checkpoints: dict[str, Path], screens: Path, tmp_path: Path) -> Any:
    def make(name: str = "run", **over: Any) -> dict[str, Any]:
        options = {"reward": {"use": "test_saving:vowels"}, "algo__kl_beta": 0.0, **over}
        return small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, name, **options)

    return make


def sent_at(place: Any, name: str, number: int, *, nth: int = 1) -> None:
    """Have a method send this process a signal when it is called for the nth time."""
    plain, calls = getattr(place, name), []

    def sending(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == nth:
            os.kill(os.getpid(), number)
        return plain(*args, **kwargs)

    setattr(place, name, sending)


def same_numbers(one: Path, other: Path) -> None:
    rows = [
        [{k: v for k, v in row.items() if not k.startswith("time/")} for row in lines(folder)]
        for folder in (one, other)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3


EVALUATES = {"eval__splits": ["train"], "eval__every": 2, "eval__limit": 4, "eval__batch_size": 1,
             "checkpoint__every": 2}  # fmt: skip


@pytest.fixture(scope="module")
def whole(
    checkpoints: dict[str, Path], screens: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole")
    over = {"reward": {"use": "test_saving:vowels"}, "algo__kl_beta": 0.0, **EVALUATES}
    trainer_of(small_run(checkpoints["qwen2_5_vl"], screens, out, "whole", **over)).train()
    return out / "whole"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(
    ("place", "name", "nth", "step"),
    [
        ("policy", "sample", 5, 1),  # the first step's sampling, after four evaluated samples
        ("engine", "backward", 2, 2),
        ("policy", "sample", 8, 2),  # in the evaluation of step 2
        ("checkpoints", "_point_at", 1, 2),  # while it is saved
    ],
)
def test_a_signal_at_any_moment_saves_and_ends_with_status_0(
    config: Any, tmp_path: Path, whole: Path, place: str, name: str, nth: int, step: int,
    number: int,
) -> None:  # fmt: skip
    trainer = trainer_of(config(**EVALUATES))
    sent_at(getattr(trainer, place), name, number, nth=nth)
    with pytest.raises(StoppedError, match=rf"by signal {number} after step \d, which") as stopped:
        trainer.train()
    assert stopped.value.exit_status == 0
    saved = (tmp_path / "run/checkpoints/latest").read_text().strip()
    assert saved == f"step-{trainer.step:06d}"
    assert trainer.step in (step, step + 1)
    trainer_of(config(**EVALUATES), "auto").train()
    same_numbers(tmp_path / "run", whole)
    evaluated = "evaluations/step-000002/train.jsonl"
    assert (tmp_path / "run" / evaluated).read_bytes() == (whole / evaluated).read_bytes()


def test_a_signal_before_the_first_step_ends_the_run_there(config: Any, tmp_path: Path) -> None:
    trainer = trainer_of(config(**EVALUATES))
    sent_at(trainer.policy, "sample", signal.SIGUSR1)
    with pytest.raises(StoppedError, match="before its first step; the run is not finished"):
        trainer.train()
    assert not (tmp_path / "run/checkpoints/latest").exists()
    assert trainer_of(config(**EVALUATES), "auto").step == 0


def test_a_stopped_program_is_not_marked_as_finished(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path, run = tmp_path / "run.json", tmp_path / "run"
    path.write_text(json.dumps(config(checkpoint__at_end=True)))
    words = ["train", "--config", str(path), "--quiet"]
    with monkeypatch.context() as patch:
        # While the weights are loaded, and no trainer is there yet.
        patch.setattr("vlrl.build.build_policy", _signalled("vlrl.build", "build_policy"))
        assert main(words) == 0
    assert "before its first step" in capsys.readouterr().err
    assert not (run / "finished").exists()
    assert main([*words, "--resume"]) == 0
    assert (run / "finished").read_text() == "step 3\n"
    trainer_of(config(num_steps=4), "auto")
    assert not (run / "finished").exists()


def _signalled(module: str, name: str) -> Any:
    import importlib

    plain = getattr(importlib.import_module(module), name)

    def signalled(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # as a launcher's beside the scheduler's
        return plain(*args, **kwargs)

    return signalled


def test_checkpoints_come_by_the_clock(config: Any, tmp_path: Path) -> None:
    over = {"checkpoint__every_minutes": 30, "checkpoint__keep_last": 9, "num_steps": 4}
    trainer = trainer_of(config(**over))
    plain = trainer.train_step

    def slow() -> dict[str, float]:
        if trainer.step in (1, 2):
            trainer.saving.since_s -= 16 * 60
        return plain()

    trainer.train_step = slow
    trainer.train()
    assert [p.name for p in sorted((tmp_path / "run/checkpoints").glob("step-*"))] == [
        "step-000003"
    ]


BESIDE = {"checkpoint__beside_training": "on", "checkpoint__every": 1, "optim__ema_decay": 0.9}


def test_a_checkpoint_written_beside_training_is_the_same(config: Any, tmp_path: Path) -> None:
    """Weights, optimizer and average of the step that it is of, though the next one has begun."""
    job = config("beside", **BESIDE, num_steps=2)
    trainer = trainer_of(job)
    trainer.train_step()
    trainer.save(beside=True)
    assert trainer.checkpoints._pending is not None
    trainer.train_step()
    trainer.checkpoints.finish()
    assert trainer.checkpoints.newest_step == 1
    resumed = trainer_of(job, "auto")
    assert resumed.step == 1
    again, first = resumed.train_step(), lines(tmp_path / "beside")[1]
    assert {k: v for k, v in again.items() if not k.startswith("time/")} == {
        k: v for k, v in first.items() if not k.startswith("time/") and k != "step"
    }
    for mine, theirs in zip(
        resumed.engine.average.shadow, trainer.engine.average.shadow, strict=True
    ):
        assert torch.equal(mine, theirs)


def test_an_unfinished_write_leaves_the_earlier_checkpoint(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill finds it: the files of step 2 are there, and nothing points at them."""
    trainer = trainer_of(config(**BESIDE))
    trainer.train_step()
    trainer.save()
    trainer.train_step()
    go, write = threading.Event(), torch.save
    monkeypatch.setattr("torch.save", lambda *a, **k: (go.wait(60), write(*a, **k)))
    trainer.save(beside=True)
    folder = tmp_path / "run/checkpoints"
    assert trainer.checkpoints.is_writing
    assert [p.name for p in folder.glob(".saving-*")] == [".saving-step-000002"]
    assert trainer_of(config(**BESIDE), "auto").step == 1
    go.set()
    trainer.checkpoints.finish()
    assert (folder / "latest").read_text() == "step-000002\n"


def test_what_a_writer_meets_is_told_at_the_next_step(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(config(**BESIDE))
    trainer.train_step()
    trainer.save()
    trainer.train_step()
    monkeypatch.setattr("torch.save", full)
    trainer.save(beside=True)
    with StopRequest(is_main=True) as stop:
        trainer.checkpoints._pending.writer.wait()
        with pytest.raises(CheckpointError, match=r"step 2 cannot be written.*No space left"):
            trainer.saving.end_step(stop, 3)
    monkeypatch.undo()
    folder = tmp_path / "run/checkpoints"
    assert not list(folder.glob(".saving-*"))
    assert trainer_of(config(**BESIDE), "auto").step == 1


def test_a_whole_run_beside_training(config: Any, tmp_path: Path) -> None:
    over = {"optim__ema_decay": 0.9}
    trainer_of(config("beside", **BESIDE)).train()
    trainer_of(config("waiting", **over)).train()
    assert (tmp_path / "beside/checkpoints/latest").read_text() == "step-000003\n"
    same_numbers(tmp_path / "beside", tmp_path / "waiting")


def test_a_copy_keeps_kinds_and_ties() -> None:
    tied = torch.arange(3.0)
    state = OrderedDict(a=tied, b=[tied, (tied, "x")], c={1: torch.zeros(0)}, d=None)
    made = copied(state)
    tied += 1
    assert type(made) is OrderedDict
    assert made["a"].tolist() == [0, 1, 2]
    assert made["a"] is made["b"][0] is made["b"][1][0]
    assert made["b"][1][1] == "x"
    assert made["c"][1].shape == (0,)


def test_the_hosts_memory_decides() -> None:
    assert free_memory() > 2**20
    assert fits_in_memory(2**10, ALONE)
    assert not fits_in_memory(2**60, ALONE)


def test_auto_waits_on_a_cpu(config: Any) -> None:
    trainer = trainer_of(config())
    trainer.train_step()
    trainer.save(beside=True)
    assert trainer.checkpoints.newest_step == 1


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("stage", range(4))
def test_the_engine_knows_the_size_of_its_checkpoint(config: Any, stage: int, ema: float) -> None:
    from helpers_ranks import zero

    trainer = trainer_of(config(dist__deepspeed=zero(stage), optim__ema_decay=ema))
    estimate = trainer.checkpoints.room.needed(trainer.engine)
    trainer.train_step()
    trainer.save()
    written = trainer.checkpoints.room.measured
    assert trainer.checkpoints.room.needed(trainer.engine) == written
    # DeepSpeed's own lists are 150 kB, whatever the model.
    assert estimate <= written <= 1.02 * estimate + 250_000


def test_a_checkpoint_that_does_not_fit_is_not_begun(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    trainer = trainer_of(config())
    trainer.train_step()
    trainer.save()
    free = trainer.checkpoints.room.measured
    assert free is not None
    trainer.train_step()
    monkeypatch.setattr("vlrl.train.room.Room.free", lambda self: free - 1)
    with pytest.raises(CheckpointError, match=r"of step 2 is not written: it takes about .*B, and"):
        trainer.save()
    folder = tmp_path / "run/checkpoints"
    assert [p.name for p in folder.glob("*step-*")] == ["step-000001"]
    again = trainer_of(config(), "auto")
    assert again.step == 1
    assert f"({free} bytes)" in caplog.text
    assert "up to 3 lie there" in caplog.text


def test_half_written_folders_do_not_count_as_used(config: Any, tmp_path: Path) -> None:
    """A kill leaves one, and it would keep the disk full."""
    left = tmp_path / "run/checkpoints/.saving-step-000009"
    left.mkdir(parents=True)
    trainer = trainer_of(config())
    trainer.train_step()
    trainer.save()
    assert not left.exists()


def test_free_room_is_asked_of_the_disk(tmp_path: Path) -> None:
    room = Checkpoints(tmp_path / "not/there/yet", 2, ALONE).room
    stat = os.statvfs(tmp_path)
    assert 0 < room.free() <= stat.f_blocks * stat.f_frsize
    assert [shown_bytes(n) for n in (7, 1500, 2.5e9, 8.6e11, 3e12)] == [
        "7 bytes", "1.5 kB", "2.5 GB", "860.0 GB", "3.0 TB"
    ]  # fmt: skip


def test_a_run_goes_on_at_the_end_of_an_epoch(config: Any, tmp_path: Path) -> None:
    """12 samples, 4 a step: the epoch ends with step 3."""
    over = {"num_steps": 5}
    trainer_of(config("whole", **over)).train()
    trainer = trainer_of(config("cut", **over))
    for _ in range(3):
        trainer.train_step()
    assert trainer.curriculum.epoch == 1.0
    trainer.save()
    again = trainer_of(config("cut", **over), "auto")
    again.train()
    steps = [lines(tmp_path / name) for name in ("cut", "whole")]
    assert [row["step"] for row in steps[0]] == [1, 2, 3, 4, 5]
    assert [row["update/loss"] for row in steps[0]] == [row["update/loss"] for row in steps[1]]


def test_a_finished_run_says_that_it_takes_no_step(config: Any, caplog: Any) -> None:
    over = {"checkpoint__at_end": True}
    trainer_of(config(**over)).train()
    trainer_of(config(**over), "auto").train()
    assert "step 3 of 3 is done already: raise num_steps" in caplog.text


def test_other_data_is_announced_and_walked_from_its_start(
    config: Any, screens: Path, tmp_path: Path, caplog: Any
) -> None:
    trainer = trainer_of(config())
    trainer.train_step()
    trainer.save()
    rows = screens.read_text(encoding="utf-8").splitlines()
    fewer = screens.parent / "fewer.jsonl"
    fewer.write_text("\n".join(rows[:-2]) + "\n", encoding="utf-8")
    over = {"task__data": {"train": {"path": str(fewer)}}}
    again = trainer_of(config(**over), "auto")
    assert "task.data.train: not what the run was saved with (12 samples, " in caplog.text
    assert again.curriculum.position == 10  # the next epoch of ten
    caplog.clear()
    assert trainer_of(config(), "auto").curriculum.position == 4
    assert "not what the run was saved with" not in caplog.text
