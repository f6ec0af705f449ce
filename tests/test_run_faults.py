"""Runs that are stopped, damaged, doubled or changed: nothing is lost, nothing goes unnoticed."""

from __future__ import annotations

import errno
import importlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_ranks import zero
from helpers_runs import small_run
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vlrl.build import build_trainer
from vlrl.cli.checks import told
from vlrl.cli.main import main
from vlrl.cli.train import export
from vlrl.cli.train import main as train_main
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.config.section import Section
from vlrl.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteError,
    RewardError,
    StoppedError,
)
from vlrl.protocols import Reward
from vlrl.tensor_files import exporting
from vlrl.train.lock import RunLock

SENT: list[int] = []
"""Steps in which `stopping` sent the signal."""


def vowels(rollout: Any) -> float:
    """A reward that differs from answer to answer."""
    return sum(c in "aeiou" for c in rollout.output) / max(1, len(rollout.output))


def stopping(rollout: Any) -> float:
    """Sends this process a SIGTERM while step 2 is scored, once."""
    if rollout.policy_version == 1 and not SENT:
        SENT.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
    return vowels(rollout)


def infinite_later(rollout: Any) -> float:
    """Infinite from the second step on."""
    return float("inf") if rollout.policy_version else vowels(rollout)


class CtrlC(Reward):
    """A reward that is loading when somebody presses Ctrl-C."""

    class Options(Section):
        """None."""

    def __init__(self, options: Options) -> None:
        signal.raise_signal(signal.SIGINT)

    def __call__(self, rollouts: Any) -> Any:
        raise NotImplementedError


def not_sent() -> None:
    """Configs import this file a second time, by its name."""
    importlib.import_module("test_run_faults").SENT.clear()


@pytest.fixture
def config(checkpoints: dict[str, Path], screens: Path, tmp_path: Path) -> Any:
    def make(name: str = "run", reward: str = "vowels", **over: Any) -> dict[str, Any]:
        options = {"reward": {"use": f"test_run_faults:{reward}"}, "algo__kl_beta": 0.0, **over}
        return small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, name, **options)

    return make


def trainer_of(config: dict[str, Any], resume: str | None = None) -> Any:
    return build_trainer(check(RunConfig, config), resume)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def saved(config: Any, tmp_path: Path) -> Path:
    """A checkpoint of step 1."""
    trainer = trainer_of(config("run"))
    trainer.train_step()
    trainer.save()
    return tmp_path / "run/checkpoints/step-000001"


def test_a_flipped_byte_in_any_file_is_refused_before_loading(config: Any, saved: Path) -> None:
    files = sorted(p for p in saved.rglob("*") if p.is_file() and p.name != "checksums.json")
    assert len(files) >= 4
    for file in files:
        whole = file.read_bytes()
        place = len(whole) // 2
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=rf"{file.name}"):
            trainer_of(config("run"), "auto")
        file.write_bytes(whole)
    trainer_of(config("run"), "auto")


@pytest.mark.parametrize("what", ["cut", "gone", "added", "list"])
def test_damaged_checkpoints_are_refused_with_the_file(config: Any, saved: Path, what: str) -> None:
    file = saved / "rng_rank0.safetensors"
    if what == "cut":
        file.write_bytes(file.read_bytes()[:10])
    elif what == "gone":
        file.unlink()
    elif what == "added":
        (saved / "more.pt").write_bytes(b"x")
    else:
        (saved / "checksums.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"rng_rank0|more\.pt|checksums\.json"):
        trainer_of(config("run"), "auto")


@pytest.mark.parametrize("text", [
    "[]", "null", "5", '"text"', '{"a": null}', '{"a": 1}', "[" * 3000, '{"a\\u0000b": "x"}', "",
    json.dumps({"a" * 5000: "x"}), "{}",
])  # fmt: skip
def test_a_damaged_list_of_checksums_is_refused(config: Any, saved: Path, text: str) -> None:
    (saved / "checksums.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"step-000001.*resume from another"):
        trainer_of(config("run"), "auto")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"..", b"../..", b"a\0b", b"x" * 5000, b"/etc"]
)
def test_a_damaged_pointer_is_refused(config: Any, saved: Path, content: bytes) -> None:
    pointer = saved.parent / "latest"
    pointer.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"latest is damaged.*--resume FOLDER") as error:
        trainer_of(config("run"), "auto")
    assert len(str(error.value)) < 500
    assert trainer_of(config("run"), str(saved)).step == 1


@pytest.mark.parametrize("change", [{"step": -5}, {"step": "x"}, {"stpe": 1}, {"sampler": -1}])
def test_an_edited_state_is_refused(config: Any, saved: Path, change: dict[str, Any]) -> None:
    path = saved / "trainer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=r"trainer\.json is damaged or was edited"):
        trainer_of(config("run"), "auto")


class Hostile:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["HOSTILE_FOLDER"],))


@pytest.mark.parametrize("name", ["mp_rank_00_model_states.pt", "rewards_rank0.pt"])
def test_no_code_of_a_foreign_checkpoint_runs(
    config: Any, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOSTILE_FOLDER", str(tmp_path / "owned"))
    (file,) = saved.rglob(name)
    torch.save({"module": Hostile()}, file, pickle_module=pickle)
    (saved / "checksums.json").unlink()  # whoever made it can write those, too
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        trainer_of(config("run"), "auto")
    assert not (tmp_path / "owned").exists()


def test_what_optim_says_is_in_force_after_a_resume(config: Any, saved: Path) -> None:
    over = {"optim__lr": 2e-4, "optim__betas": [0.5, 0.6], "optim__weight_decay": 0.1}
    trainer = trainer_of(config("run", **over), "auto")
    assert trainer.train_step()["update/lr"] == 2e-4
    for group in trainer.engine.schedule.optimizer.param_groups:
        assert (group["betas"], group["weight_decay"]) == ((0.5, 0.6), 0.1)


@pytest.mark.parametrize("stage", [1, 2])
def test_another_clip_norm_is_in_force_after_a_resume(config: Any, stage: int) -> None:
    over = {"dist__deepspeed": zero(stage)}
    trainer = trainer_of(config("run", **over))
    trainer.train_step()
    trainer.save()
    again = trainer_of(config("run", optim__grad_clip_norm=0.25, **over), "auto")
    assert again.engine.engine.optimizer.clip_grad == 0.25


def test_a_course_resumed_from_an_earlier_step_keeps_its_own_checkpoints(
    config: Any, saved: Path, tmp_path: Path
) -> None:
    early = shutil.copytree(saved, tmp_path / "early")
    over = {"checkpoint__every": 1, "checkpoint__keep_last": 1}
    trainer_of(config("run", **over), "auto").train()
    assert [path.name for path in saved.parent.glob("step-*")] == ["step-000003"]
    again = trainer_of(config("run", **over), str(early))
    again.train_step()
    again.save()
    assert [path.name for path in saved.parent.glob("step-*")] == ["step-000002"]
    assert trainer_of(config("run", **over), "auto").step == 2


@pytest.mark.parametrize("text", ["{[", "- 1", "[" * 5000, "\udc00"])
def test_a_damaged_config_of_an_old_checkpoint_stops_no_resume(
    config: Any, saved: Path, text: str
) -> None:
    (saved / "checksums.json").unlink()
    (saved / "config.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert trainer_of(config("run"), "auto").step == 1


def test_another_set_up_is_refused(config: Any, saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"dist\.precision: fp32.*bf16"):
        trainer_of(config("run", dist__precision="bf16"), "auto")
    with pytest.raises(CheckpointError, match="other trainable weights"):
        trainer_of(config("run", policy__train_vision=False), "auto")


def test_another_model_below_an_adapter_is_refused(config: Any, tmp_path: Path) -> None:
    """Its weights are not in the checkpoint: the run would go on with other ones."""
    over = {"policy__lora": {"rank": 2, "alpha": 4}, "policy__train_vision": False}
    model = shutil.copytree(config("run")["policy"]["model"], tmp_path / "model")
    trainer = trainer_of(config("run", policy__model=str(model), **over))
    trainer.train_step()
    trainer.save()
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if "q_proj.weight" in name and "visual" not in name)
    weights[name] *= 1.01
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="other frozen weights"):
        trainer_of(config("run", policy__model=str(model), **over), "auto")


def test_a_folder_is_one_processs(config: Any, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vlrl.train.lock import RunLock\n"
        f"RunLock(Path({str(tmp_path / 'run')!r})).acquire(); print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            with pytest.raises(ConfigError, match=rf"in use by process {other.pid} on "):
                trainer_of(config("run"))
        finally:
            other.kill()
    trainer_of(config("run"))  # whoever held it is gone


def test_a_process_may_take_its_own_folder_again(tmp_path: Path) -> None:
    first = RunLock(tmp_path)
    first.acquire()
    RunLock(tmp_path).acquire()


def test_a_signal_saves_and_the_run_goes_on_to_the_same_numbers(
    config: Any, tmp_path: Path
) -> None:
    not_sent()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match=r"after step 2, which is saved.*--resume") as stopped:
        trainer_of(config("stopped", "stopping")).train()
    assert stopped.value.exit_status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    trainer_of(config("stopped", "stopping"), "auto").train()
    trainer_of(config("whole", "stopping")).train()
    same = [
        [{k: v for k, v in row.items() if not k.startswith("time/")} for row in lines(folder)]
        for folder in (tmp_path / "stopped", tmp_path / "whole")
    ]
    assert same[0] == same[1]
    assert len(same[0]) == 3


def test_a_stop_before_an_evaluation_loses_none(config: Any, tmp_path: Path) -> None:
    not_sent()
    over = {"eval__splits": ["train"], "eval__every": 2, "eval__before": False, "eval__limit": 2}
    with pytest.raises(StoppedError, match="after step 2"):
        trainer_of(config("stopped", "stopping", **over)).train()
    assert not (tmp_path / "stopped/evaluations").exists()
    trainer_of(config("stopped", "stopping", **over), "auto").train()
    trainer_of(config("whole", "stopping", **over)).train()
    answers = [(tmp_path / n / "evaluations/step-000002/train.jsonl").read_bytes()
               for n in ("stopped", "whole")]  # fmt: skip
    assert answers[0] == answers[1]


@pytest.mark.parametrize("program", [lambda words: main(["train", *words]), train_main])
def test_ctrl_c_is_one_line(
    config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], program: Any
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(config("run", "CtrlC")))
    assert program(["--config", str(path), "--dry-run"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("kind", [RewardError, DataError])
def test_what_was_learnt_is_saved_before_a_failure(
    config: Any, tmp_path: Path, kind: type[Exception]
) -> None:
    trainer = trainer_of(config("run"))
    trainer.train_step()

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise kind("file.png is damaged")

    trainer.policy.sample = broken
    with pytest.raises(kind, match=r"damaged\. Stopped after step 1, which is saved"):
        trainer.train()
    assert (tmp_path / "run/checkpoints/step-000001/trainer.json").is_file()


def test_an_infinite_reward_is_named_and_the_steps_before_it_saved(
    config: Any, tmp_path: Path
) -> None:
    with pytest.raises(RewardError, match=r"'infinite_later' gave inf for sample.*Stopped after"):
        trainer_of(config("run", "infinite_later")).train()
    assert (tmp_path / "run/checkpoints/step-000001").is_dir()


def test_weights_that_are_not_finite_are_not_exported(config: Any, tmp_path: Path) -> None:
    trainer = trainer_of(config("run"))
    with torch.no_grad():
        next(trainer.policy.module.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(NonFiniteError, match="no model is exported"):
        export(trainer)
    assert not (tmp_path / "run/model").exists()


def test_a_full_disk_is_one_message_and_leaves_the_earlier_checkpoint(
    config: Any, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(config("run"), "auto")
    trainer.train_step()

    def torch_full(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 7104 vs 7000")

    monkeypatch.setattr("vlrl.train.checkpoint.save_file", torch_full)
    with pytest.raises(CheckpointError, match="is the disk full"):
        trainer.save()
    assert saved.is_dir()
    assert (saved.parent / "latest").read_text().strip() == "step-000001"


def full(*args: Any, **kwargs: Any) -> None:
    """Stands for a write to a full disk, whose error names no file."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("part", ["_digest", "_flush", "_rng_state"])
def test_a_disk_that_is_full_at_any_moment_leaves_the_earlier_checkpoint(
    config: Any, saved: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    trainer = trainer_of(config("run"), "auto")
    trainer.train_step()
    module = "integrity" if part == "_digest" else "checkpoint"
    monkeypatch.setattr(f"vlrl.train.{module}.{part}", full)
    with pytest.raises(CheckpointError, match=r"step 2 cannot be written.*No space left"):
        trainer.save()
    assert not list(saved.parent.glob(".saving-*"))  # what would keep it full
    monkeypatch.undo()
    assert trainer_of(config("run"), "auto").step == 1


def test_a_write_to_a_full_disk_names_the_file(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(config("run"))
    with monkeypatch.context() as patch:
        patch.setattr("vlrl.log.sinks.json.dumps", full)
        with pytest.raises(OSError, match="No space left") as error:
            trainer.train_step()
    assert (
        told(error.value) == f"OSError: {tmp_path / 'run/metrics.jsonl'}: No space left on device"
    )
    monkeypatch.setattr(trainer.policy, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left") as error:
        export(trainer)
    assert str(tmp_path / "run/model") in told(error.value)
    with pytest.raises(OSError, match="I/O error") as error, exporting(tmp_path):
        raise SafetensorError("I/O error")  # how safetensors says it
    assert told(error.value) == f"OSError: {tmp_path}: I/O error; is the disk full?"


def test_tensorboard_shows_no_step_twice_after_a_resume(config: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    over = {"log__tensorboard": True}
    trainer = trainer_of(config("run", **over))
    trainer.train_step()
    trainer.save()
    trainer.train_step()
    for sink in trainer.sinks:
        sink.close()
    trainer_of(config("run", **over), "auto").train()
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("reward/mean")] == [1, 2, 3]


def test_a_checkpoint_of_an_earlier_version_still_resumes(config: Any, saved: Path) -> None:
    (saved / "checksums.json").unlink()
    path = saved / "trainer.json"
    state = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {k: v for k, v in state.items() if k not in ("precision", "fingerprint", "frozen")}
        )
    )
    assert trainer_of(config("run"), "auto").step == 1
    shutil.rmtree(saved)
