"""Answers that are begun some steps before they are learnt from."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_engine import EngineServer
from helpers_runs import run_config
from pydantic import ValidationError

from vlrl.build import build_trainer, read_parts
from vlrl.config.resolve import check, plain
from vlrl.config.schema import RolloutsConfig, RunConfig
from vlrl.errors import ConfigError, EngineError, NonFiniteError
from vlrl.policy.vision_language.samplers.gate import Gate
from vlrl.policy.vision_language.samplers.server import whole
from vlrl.policy.vision_language.samplers.wire import Drawn
from vlrl.train.draws import dealt
from vlrl.train.trainer import Trainer

DRAW = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 7}


@pytest.fixture
def server(checkpoints: dict[str, Path], tmp_path: Path) -> Iterator[EngineServer]:
    made = EngineServer(checkpoints["qwen2_5_vl"], tmp_path, **DRAW)
    yield made
    made.stop()


def config_of(
    out: Path, model: Path, screens: Path, name: str, rollouts: dict[str, Any], **engine: Any
) -> RunConfig:
    parts = {
        "task": {
            "use": "gui_grounding",
            "prompt": "Click: {instruction}",
            "data": {"train": {"path": str(screens)}},
        },
        "policy": {"use": "vision_language", "model": str(model), **DRAW},
        "reward": {"use": "helpers_runs:letters"},
        "algo": {
            "num_prompts": 2,
            "group_size": 4,
            "rollout_correction": {"level": "token", "mode": "truncate", "limit": 2.0},
        },
        "optim": {"lr": 1e-3},
        "rollouts": rollouts,
    }
    if engine:
        parts["policy"]["engine"] = {"use": "vllm", "max_tries": 1, **engine}
    return check(RunConfig, run_config(out, name, parts, {"num_steps": 5}))


def watched(trainer: Trainer[Any]) -> list[list[tuple[str, int, int]]]:
    """For every step: the samples that it learns from, their versions and when they were begun."""
    seen: list[list[tuple[str, int, int]]] = []
    prepare = trainer.prepare

    def note(experience: Any, meter: Any) -> Any:
        rollouts = experience.rollouts
        seen.append([(r.sample.id, r.policy_version, r.begun) for r in rollouts[::4]])
        return prepare(experience, meter)

    trainer.prepare = note  # type: ignore[method-assign]
    return seen


def weights(trainer: Trainer[Any]) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.policy.module.parameters()])


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_prompts_come_in_order_and_weights_lag_behind(
    ahead: int, checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    model = checkpoints["qwen2_5_vl"]
    trainer = build_trainer(config_of(tmp_path, model, screens, "a", {"ahead": ahead}), None)
    seen = watched(trainer)
    staleness = [trainer.train_step()["rollout/staleness"] for _ in range(5)]
    assert staleness == [min(step, ahead) for step in range(5)]
    walk = trainer.curriculum
    walk.position = 0
    ids = [trainer.drawing.samples[i].id for i in walk.take(10)]
    assert [one[0] for step in seen for one in step] == ids
    assert [{one[1:] for one in step} for step in seen] == [
        {(max(0, step - ahead),) * 2} for step in range(5)
    ]
    assert not trainer.drawing.draws.queue, "nothing is drawn beyond the last step"


def test_a_resumed_run_learns_from_what_was_queued(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    model = checkpoints["qwen2_5_vl"]
    whole_run = build_trainer(config_of(tmp_path, model, screens, "a", {"ahead": 2}), None)
    unbroken = watched(whole_run)
    whole_run.train()
    broken = config_of(tmp_path, model, screens, "b", {"ahead": 2})
    first = build_trainer(broken, None)
    seen = watched(first)
    for _ in range(2):
        first.train_step()
    first.save()
    again = build_trainer(broken, "auto")
    later = watched(again)
    again.train()
    assert again.step == 5
    assert seen + later == unbroken
    assert torch.equal(weights(again), weights(whole_run))


def test_an_engine_draws_while_the_update_runs(
    server: EngineServer, screens: Path, tmp_path: Path
) -> None:
    config = config_of(tmp_path, server.model, screens, "a", {"ahead": 1}, urls=[server.url])
    trainer = build_trainer(config, None)
    seen = watched(trainer)
    server.delay_s = 0.5  # an answer of the next step is not there before this step's update begins
    begun: list[int] = []
    prepare = trainer.prepare

    def note(*given: Any) -> Any:
        begun.append(sum(not draw.is_done for draw in trainer.drawing.draws.queue))
        return prepare(*given)

    trainer.prepare = note  # type: ignore[method-assign]
    metrics = [trainer.train_step() for _ in range(3)]
    assert begun[1:] == [1, 1]  # the first two steps are begun together
    assert [one["rollout/staleness"] for one in metrics] == [0.0, 1.0, 1.0]
    assert [{one[1:] for one in step} for step in seen] == [{(0, 0)}, {(0, 0)}, {(1, 1)}]
    assert all(one["engine/gap"] < 1e-4 for one in metrics)
    assert metrics[2]["correction/effective_share"] < 1.0
    server.faults.add("dead")
    left = [draw.samples[0].id for draw in trainer.drawing.draws.queue]
    with pytest.raises(EngineError, match="Stopped after step 3, which is saved"):
        trainer.train()
    server.faults.clear()
    server.delay_s = 0.0
    again = build_trainer(config, "auto")
    later = watched(again)
    again.train()
    assert again.step == 5
    assert left[0] == later[0][0][0], "nothing is lost"
    ids = [one[0] for step in seen[:3] + later for one in step]
    walk = again.curriculum
    walk.position = 0
    assert ids == [again.drawing.samples[i].id for i in walk.take(10)], "and nothing repeated"


def test_what_was_taken_is_kept_where_another_rank_fails(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoints["qwen2_5_vl"]
    trainer = build_trainer(config_of(tmp_path, model, screens, "a", {"ahead": 1}), None)
    trainer.train_step()
    drawing, draws = trainer.drawing, trainer.drawing.draws
    (queued,) = [[sample.id for sample in draw.samples] for draw in draws.queue]

    def fails(work: Any, world: Any) -> Any:
        found = work()
        if drawing._taken:
            raise EngineError("on another rank: its server has died")
        return found

    monkeypatch.setattr("vlrl.train.drawing.on_all", fails)
    with pytest.raises(EngineError, match="its server has died"):
        trainer.train_step()
    again = [sample.id for draw in draws.queue for sample in draw.samples]
    walk = trainer.curriculum.peek(2)
    assert again[:2] == queued, "drawn, and not learnt from"
    assert set(again[2:]).isdisjoint(drawing.samples[i].id for i in walk)


def test_a_run_that_fails_does_not_wait_for_answers(
    server: EngineServer, screens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, server.model, screens, "a", {"ahead": 1}, urls=[server.url])
    config = config.model_copy(update={"eval": config.eval.model_copy(update={"before": False})})
    trainer = build_trainer(config, None)

    def fails(experience: Any, meter: Any) -> Any:
        raise NonFiniteError("the loss is nan")

    monkeypatch.setattr(trainer, "prepare", fails)
    texts = [trainer.drawing.samples[i].texts[-1] for i in trainer.curriculum.peek(4)]
    # Of the second step, which is begun in the first.
    server.slow_texts = {text: 60.0 for text in texts[2:] if text not in texts[:2]}
    assert server.slow_texts
    start = time.monotonic()
    with pytest.raises(NonFiniteError):
        trainer.train()
    (draw,) = trainer.drawing.draws.queue
    assert draw.result is not None
    assert isinstance(draw.result.exception(timeout=20), EngineError)
    assert time.monotonic() - start < 50


def test_weights_are_tried_on_a_prompt_that_can_be_read(
    server: EngineServer, screens: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in screens.read_text(encoding="utf-8").splitlines()]
    rows[0]["image"] = str(tmp_path / "broken.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = config_of(tmp_path, server.model, data, "a", {"ahead": 1}, urls=[server.url])
    config.task["on_bad_row"] = "skip"
    config.task["data"]["train"]["check_images"] = False
    config.task["data"]["train"]["image_root"] = str(screens.parent)
    trainer = build_trainer(config, None)
    assert trainer.drawing.samples[0].id == rows[0]["id"]
    assert trainer.train_step()["rollout/num_actions"] > 0


def test_the_fastest_answers_first(server: EngineServer, screens: Path, tmp_path: Path) -> None:
    rollouts = {"ahead": 2, "order": "finished", "max_staleness": 2}
    engine = {"urls": [server.url], "swap": "middle"}
    config = config_of(tmp_path, server.model, screens, "a", rollouts, **engine)
    trainer = build_trainer(config, None)
    place = next(i for i in trainer.curriculum.peek(2) if i)  # 0: weights are tried on it
    slow = trainer.drawing.samples[place]
    server.slow_texts = {slow.texts[-1]: 3.0}
    seen = watched(trainer)
    start = time.monotonic()
    discarded = [trainer.train_step()["rollout/discarded_groups"] for _ in range(5)]
    assert slow.id not in [one[0] for step in seen for one in step]
    assert discarded[:3] == [0.0, 0.0, 0.0]
    assert discarded[3] >= 1.0, "given up when it was three steps old"
    assert time.monotonic() - start < 60


def test_rows_are_dealt_to_other_ranks() -> None:
    rows = [{"key": [p, i], "n": (p, i)} for p in (8, 16) for i in range(8)]
    two = [[r for r in rows if r["key"][1] // 4 == rank] for rank in range(2)]
    one = dealt(two, 0, 1)
    assert [r["n"] for r in one] == [r["n"] for r in rows]
    four = [dealt(two, rank, 4) for rank in range(4)]
    assert [r["n"] for r in four[1]] == [(8, 2), (8, 3), (16, 2), (16, 3)]
    odd = [dealt([rows[:9]], rank, 2) for rank in range(2)]
    assert sorted(r["n"] for own in odd for r in own) == sorted(r["n"] for r in rows[:9])


def test_interrupted_answers_go_on_where_they_were() -> None:
    nothing = Drawn([], [], False, [], is_interrupted=True)
    asked: list[tuple[list[int], int]] = []

    def request(tokens: list[int], num: int, seed: int) -> list[Drawn]:
        asked.append((tokens, num))
        if len(asked) == 1:  # new weights came before the group had begun
            return [nothing] * num
        if num == 3:
            half = Drawn([5, 6], [-0.1, -0.2], False, [0, 0], is_interrupted=True)
            return [half, Drawn([7], [-0.3], False, [0]), nothing]
        if not tokens:
            return [Drawn([8, 8], [-1.0, -1.0], False, [1, 1])]
        return [Drawn([9], [-0.5], len(tokens) > 2, [len(tokens)], is_interrupted=len(tokens) == 2)]

    made = whole(request, 3, seed=0)
    assert [one.tokens for one in made] == [[5, 6, 9, 9], [7], [8, 8]]
    assert made[0].versions == [0, 0, 2, 3]
    assert made[0].logp == [-0.1, -0.2, -0.5, -0.5]
    assert made[0].is_cut
    assert asked[:2] == [([], 3), ([], 3)], "the group as a whole where none had begun"
    assert sorted(asked[2:]) == [([], 1), ([5, 6], 1), ([5, 6, 9], 1)]


def test_the_gate_waits_for_drawings_or_interrupts_requests() -> None:
    gate, order = Gate(), []
    is_over = gate.announce()

    def publish() -> None:
        with gate.after_drawings():
            order.append("published")

    thread = threading.Thread(target=publish)
    thread.start()
    with gate.request():
        order.append("request")
    time.sleep(0.05)
    order.append("over")
    is_over()
    thread.join(5)
    assert order == ["request", "over", "published"]
    stop, entered = threading.Event(), threading.Event()

    def ask() -> None:
        with gate.request():
            entered.set()
            stop.wait(5)

    thread = threading.Thread(target=ask)
    thread.start()
    assert entered.wait(5)
    with gate.between_requests(stop.set):
        assert gate.num_requests == 0
        late = threading.Thread(target=ask)
        late.start()
        time.sleep(0.05)
        assert gate.num_requests == 0, "closed"
    late.join(5)
    assert not late.is_alive()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ahead": 2, "max_staleness": 1}, "would discard every answer"),
        ({"order": "finished"}, "no effect without ahead"),
        ({"ahead": -1}, "greater than or equal to 0"),
        ({"max_staleness": 1}, "no effect without ahead"),
        ({"ahead": 1, "too_old": "keep"}, "no effect with order: given"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RolloutsConfig(**options)


def test_configs_that_cannot_work(screens: Path, checkpoints: dict[str, Path]) -> None:
    """Staleness that nothing corrects or that gains nothing, engine options without an engine."""

    def read(rollouts: dict[str, Any], *, corrects: bool = True, **engine: Any) -> None:
        made = config_of(Path("runs"), checkpoints["qwen2_5_vl"], screens, "a", rollouts, **engine)
        algo = made.algo if corrects else made.algo.model_copy(update={"rollout_correction": None})
        read_parts(check(RunConfig, plain(made.model_copy(update={"algo": algo}))))

    read({"ahead": 2})
    for name, rollouts, engine in (
        ("ahead above 1", {"ahead": 2}, {"urls": ["http://a"]}),
        ("order: finished need", {"ahead": 1, "order": "finished"}, {"urls": ["http://a"]}),
        ("order: finished needs an engine", {"ahead": 1, "order": "finished"}, {}),
        ("urls: no effect under use: own", {}, {"use": "own", "urls": ["http://a"]}),
    ):
        with pytest.raises(ConfigError, match=name):
            read(rollouts, **engine)
    with pytest.raises(ConfigError, match="nothing corrects for it"):
        read({"ahead": 1}, corrects=False)
