"""Checkpoints that are loaded in another layout than they were saved in; see also test_ranks.py and
test_other_ranks.py for other numbers of ranks."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_ranks import zero
from helpers_runs import small_run
from test_run_faults import Hostile, lines, trainer_of

from rewards.image.adversarial_dino import AdversarialDino, AdversarialDinoOptions
from vlrl.distributed.universal import convert
from vlrl.errors import CheckpointError, RewardError
from vlrl.protocols import TrainableReward


class Counter(TrainableReward):
    """Counts its rounds, or anything else."""

    name = "counter"

    def __call__(self, rollouts: Any) -> Any:
        raise NotImplementedError

    def update(self, rollouts: Any) -> Mapping[str, float]:
        return {}

    def state_dict(self) -> Mapping[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


@pytest.fixture
def config(checkpoints: dict[str, Path], screens: Path, tmp_path: Path) -> Any:
    def make(stage: int, name: str = "run", **over: Any) -> dict[str, Any]:
        model = checkpoints["qwen2_5_vl"]
        over = {"dist__deepspeed": zero(stage), "optim__ema_decay": 0.9, **over}
        return small_run(model, screens, tmp_path, name, algo__kl_beta=0.0, **over)

    return make


def saved(config: Any, stage: int, **over: Any) -> Path:
    """A checkpoint of step 1; the run goes on to step 2."""
    trainer = trainer_of(config(stage, **over))
    trainer.train_step()
    trainer.save()
    trainer.train_step()
    return trainer.checkpoints.folder / "step-000001"


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1)])
def test_another_stage_where_deepspeed_can(
    config: Any, tmp_path: Path, before: int, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step is the same; the conversion is kept, checked, and removed when it is old."""
    folder = saved(config, before, name="c++ [a]").parent  # which is a pattern, too
    second = lines(tmp_path / "c++ [a]")[1]
    trainer = trainer_of(config(now, name="c++ [a]"), "auto")
    metrics = trainer.train_step()
    for name in ("update/loss", "update/grad_norm", "reward/mean"):
        assert metrics[name] == pytest.approx(second[name], abs=1e-6), name
    (made,) = folder.glob(".universal-*")
    with monkeypatch.context() as patch:
        patch.setattr("vlrl.train.layout.convert", None)  # not called again
        assert trainer_of(config(now, name="c++ [a]"), "auto").step == 1
        file = next(made.rglob("exp_avg.pt"))
        whole = file.read_bytes()
        file.write_bytes(whole[:-9] + b"x" + whole[-8:])
        with pytest.raises(CheckpointError, match=r"exp_avg\.pt: missing or damaged"):
            trainer_of(config(now, name="c++ [a]"), "auto")
    trainer.save()
    assert not made.exists()
    assert not list(folder.glob(".saving-*"))


def test_a_name_that_is_a_pattern_resumes(config: Any) -> None:
    saved(config, 2, name="a[b]*")
    assert trainer_of(config(2, name="a[b]*"), "auto").step == 1


def test_what_cannot_be_loaded_says_what_can_be_done(config: Any) -> None:
    path = saved(config, 2)
    with pytest.raises(CheckpointError, match=r"stage 2, this run has stage 3.*num_steps=1"):
        trainer_of(config(3), "auto")
    (path / "checksums.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checksums.*loaded as it was saved only"):
        trainer_of(config(1), "auto")
    assert trainer_of(config(2), "auto").step == 1


def test_the_conversion_needs_room_and_a_failed_one_leaves_nothing(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(config, 2).parent
    with monkeypatch.context() as patch:
        patch.setattr("vlrl.train.room.Room.free", lambda self: 1000)
        with pytest.raises(CheckpointError, match=r"conversion of .* takes about .* free some"):
            trainer_of(config(1), "auto")

    def broken(source: Path, target: Path) -> None:
        target.mkdir(parents=True)
        raise KeyError("param_shapes")

    monkeypatch.setattr("vlrl.train.layout.convert", broken)
    with pytest.raises(CheckpointError, match=r"cannot be converted.*KeyError.*resume with the"):
        trainer_of(config(1), "auto")
    assert sorted(p.name for p in folder.iterdir()) == ["latest", "step-000001"]


@pytest.mark.parametrize("pattern", ["*model_states.pt", "*optim_states.pt"])
def test_a_conversion_runs_no_code(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.setenv("HOSTILE_FOLDER", str(tmp_path / "owned"))
    path = saved(config, 2)
    (file,) = path.rglob(pattern)
    torch.save({"module": Hostile()}, file, pickle_module=pickle)
    plain = torch.load
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        convert(path / "deepspeed", tmp_path / "universal")
    assert not (tmp_path / "owned").exists()
    assert torch.load is plain


def test_frozen_weights_have_one_fingerprint_on_any_number_of_ranks(config: Any) -> None:
    """A checkpoint of an earlier version, whose fingerprint depends on that, still resumes."""
    path = saved(config, 2, policy__train_vision=False)
    state = path / "trainer.json"
    text = json.loads(state.read_text())
    assert text["frozen"].startswith("values:")
    state.write_text(json.dumps({**text, "frozen": "0123456789abcdef"}))
    (path / "checksums.json").unlink()
    assert trainer_of(config(2, policy__train_vision=False), "auto").step == 1


def test_a_reward_says_how_its_states_are_joined() -> None:
    counter, weight = Counter(), torch.ones(2)
    state = {"round": 3, "parts": [weight, (1, "x")]}
    again = {"round": 3, "parts": [weight.clone(), (1, "x")]}
    assert counter.resharded([state, again], 2, 4) is state
    for other in ({**state, "round": 4}, {"round": 3}, {**state, "parts": [weight + 1, (1, "x")]}):
        with pytest.raises(RewardError, match=r"'counter' has another state.*resume with 2 ranks"):
            counter.resharded([state, other], 0, 1)


def test_a_replay_is_dealt_out() -> None:
    options = AdversarialDinoOptions(model="none", replay_size=3)
    reward = AdversarialDino(options)

    def of(rank: int) -> dict[str, Any]:
        kept = [10 * rank + i for i in range(3)]
        return {"round": 2, "head": {}, "random": rank, "replay_cls": kept, "replay_patches": kept}

    states = [of(0), of(1)]
    dealt = [reward.resharded(states, rank, 4) for rank in range(4)]
    assert [one["replay_cls"] for one in dealt] == [[0, 11], [1, 12], [2], [10]]
    assert [one.get("random") for one in dealt] == [0, 1, None, None]  # others begin their own
    alone = reward.resharded(states, 0, 1)
    assert alone["replay_cls"] == alone["replay_patches"] == [0, 2, 11]
    untouched = {"round": 1}
    assert reward.resharded([untouched, untouched], 0, 1) == untouched
