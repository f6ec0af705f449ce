"""Training judges: parity with plain losses, learning, resuming, ranks, the exported judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_judge import group, noise_image, with_words
from helpers_runs import ROOT
from PIL import Image
from test_lora_exports import trained
from test_policy import make_policy
from torch.nn import functional

from vlrl.cli.main import main
from vlrl.config.resolve import check
from vlrl.errors import ConfigError, DataError, NonFiniteError, RewardError
from vlrl.families.adapters import adapter_base
from vlrl.judge.data.preference import Preference, PreferenceSource
from vlrl.judge.data.preferences import read_preferences
from vlrl.judge.local import LocalJudge, load_vlm
from vlrl.judge.question import ImageBook, JudgeTemplate, Questions, template_of
from vlrl.judge.train.build import build_trainer, export
from vlrl.judge.train.config import JudgeTrainConfig
from vlrl.judge.train.items import items_of
from vlrl.judge.train.pairs import PairSampler
from vlrl.reward.tree import build_reward
from vlrl.stats import one_a_stretch


@pytest.fixture(scope="module")
def parts(checkpoints, tmp_path_factory) -> dict[str, Path]:
    """A random judge, and pairs in which the brighter image is better."""
    root = tmp_path_factory.mktemp("judge_train")
    rows = []
    for i in range(24):
        for name, light in (("b", 200), ("d", 60)):
            pixels = (noise_image(i, 56, 56) // 8 + light).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(root / f"{i}{name}.png")
        row = {"id": f"p{i}", "caption": f"thing {i % 3}", "kind": "light" if i % 2 else "dark"}
        rows.append({**row, "chosen": f"{i}b.png", "rejected": f"{i}d.png"})
    for name, part in (("train", rows[:18]), ("test", rows[18:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (root / f"{name}.jsonl").write_text(text, encoding="utf-8")
    reasons = [{**row, "reasoning": "The first is lighter."} for row in rows[:6]]
    (root / "reasons.jsonl").write_text("".join(json.dumps(r) + "\n" for r in reasons))
    return {"root": root, "model": with_words(checkpoints["qwen2_5_vl"], root / "model")}


def config_of(parts: dict[str, Path], out: Path, name: str, **over: Any) -> JudgeTrainConfig:
    from vlrl.config.loader import apply_override

    root = parts["root"]
    config: dict[str, Any] = {
        "name": name,
        "out": str(out),
        "model": str(parts["model"]),
        "criteria": "brightness",
        "batch_size": 4,
        "stages": [{"name": "a", "num_steps": 3, "data": [{"path": str(root / "train.jsonl")}]}],
        "held_out": {"test": {"data": {"path": str(root / "test.jsonl")}}},
        "log_every": 1,
        "optim": {"lr": 1e-3, "grad_clip_norm": 1.0},
        "dist": {"deepspeed": str(ROOT / "deepspeed_configs/zero0.json"), "num_threads": 1},
    }
    for key, value in over.items():
        apply_override(config, f"{key.replace('__', '.')}={json.dumps(value)}")
    return check(JudgeTrainConfig, config)


def lines(out: Path, name: str) -> list[dict[str, float]]:
    text = (out / name / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("kind", ["yes_token", "bradley_terry"])
def test_the_loss_is_the_plain_one(parts, tmp_path, kind):
    """Cross-entropy of the word, or Bradley-Terry's loss, one question at a time."""
    losses = []
    for share in (True, False):
        trainer = build_trainer(
            config_of(parts, tmp_path, f"{kind}{share}", kind=kind, share_prompt=share)
        )
        batch = trainer.draw()
        if share:
            expected = plain_loss(trainer, batch)
        losses.append(trainer.train_step()["loss"])
    assert losses == pytest.approx([expected, expected], abs=1e-4)


def plain_loss(trainer: Any, batch: Any) -> float:
    """One question per forward through the module's own transformers model."""
    logits, scores = [], []
    for one in batch.encoded:
        pixels = torch.cat([batch.patches[p][0] for p, _, _ in one.images])
        grid = torch.cat([batch.patches[p][1] for p, _, _ in one.images])
        ids = one.input_ids[None, : one.length]
        with torch.no_grad():
            out = trainer.module.core(
                input_ids=ids,
                mm_token_type_ids=(ids == trainer.encoder.image_id).int(),
                pixel_values=pixels,
                image_grid_thw=grid,
                output_hidden_states=True,
            )
        if trainer.module.head is None:
            target = one.input_ids[one.length :]
            assert len(target) == 1
            logits.append(float(functional.cross_entropy(out.logits[0, -1:], target)))
        else:
            hidden = out.hidden_states[-1][0, -1:]
            scores.append(float(trainer.module.head(hidden).detach()))
    if trainer.module.head is None:
        return sum(logits) / len(logits)
    gaps = torch.tensor(scores).view(-1, 2)
    return float(-functional.logsigmoid(gaps[:, 0] - gaps[:, 1]).mean())


@pytest.mark.parametrize("kind", ["yes_token", "bradley_terry"])
def test_it_learns_and_what_comes_out_is_a_reward(parts, tmp_path, kind):
    steps = [{"name": "a", "num_steps": 40, "data": [{"path": str(parts["root"] / "train.jsonl")}]}]
    config = config_of(
        parts, tmp_path, kind, kind=kind, stages=steps, batch_size=6, optim__lr=3e-3, log_every=40
    )
    trainer = build_trainer(config)
    trainer.train()
    rows = lines(tmp_path, kind)
    before, after = rows[0], rows[-1]
    assert after["test/accuracy"] == 1.0
    assert before["test/accuracy"] < 1.0 or kind == "bradley_terry"
    folder = export(trainer)
    template, criteria = template_of(str(folder))
    assert (template, criteria) == (JudgeTemplate(), "brightness")
    bright, dark = (group("thing 1", (1,))[0] for _ in range(2))
    bright.parsed.image[:], dark.parsed.image[:] = 220, 60
    if kind == "yes_token":
        reward = build_reward({"use": "yes_token", "judge": str(folder), "device": "cpu"})
        assert reward.preferences([(bright, dark)])[0] > 0.5
        with pytest.raises(RewardError, match=r"head\.safetensors"):
            build_reward({"use": "preference_head", "model": str(folder)})([bright])
        data = str(parts["root"] / "test.jsonl")
        out = ["--out", str(tmp_path / "bench"), "--device", "cpu"]
        assert main(["judge-bench", "--data", data, "--model", str(folder), *out]) == 0
        summary = json.loads((tmp_path / "bench/summary.json").read_text())
        assert summary["all"]["accuracy"]["mean"] == 1.0
        assert summary["all"]["order"]["consistent"] == 1.0
        # Its own judgements, read back, give the same.
        again = ["--judgements", str(tmp_path / "bench/judgements.jsonl")]
        assert main(["judge-bench", "--data", data, *again, "--out", str(tmp_path / "b2")]) == 0
        second = json.loads((tmp_path / "b2/summary.json").read_text())
        assert second["all"]["accuracy"] == summary["all"]["accuracy"]
        assert second["all"]["order"] == pytest.approx(summary["all"]["order"])
    else:
        reward = build_reward({"use": "preference_head", "model": str(folder), "device": "cpu"})
        high, low = (score.value for score in reward([bright, dark]))
        assert high > low + 0.5


def test_a_judge_is_trained_from_an_exported_adapter(parts, tmp_path):
    """With an adapter of its own; what comes out is a whole model."""
    lora = {"rank": 2, "alpha": 4}
    policy = make_policy(parts["model"], lora=lora, train_vision=False)
    trained(policy.module)
    weights = {name: x.detach() for name, x in policy.module.named_parameters()}
    policy.save_pretrained(str(tmp_path / "adapter"), weights)
    steps = [{"name": "a", "num_steps": 1, "data": [{"path": str(parts["root"] / "train.jsonl")}]}]
    own = {**parts, "model": tmp_path / "adapter"}
    trainer = build_trainer(
        config_of(own, tmp_path, "on_it", stages=steps, lora=lora, train_vision=False, held_out={})
    )
    trainer.train()
    folder = export(trainer)
    assert adapter_base(str(folder)) is None
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    start, here = (
        dict(load_vlm(str(one), torch.float32)[0].named_parameters())[name]
        for one in (parts["model"], folder)
    )
    assert (start - here).abs().max() > 0.01  # the first adapter's part, which one step cannot be


def test_a_resumed_training_is_the_same_to_the_bit(parts, tmp_path):
    whole = build_trainer(config_of(parts, tmp_path, "whole"))
    whole.train()
    cut = build_trainer(config_of(parts, tmp_path, "cut", save_every=1))
    for _ in range(2):
        cut.train_step()
    cut.save()
    with pytest.raises(ConfigError, match="--resume"):
        build_trainer(config_of(parts, tmp_path, "cut", save_every=1))
    again = build_trainer(config_of(parts, tmp_path, "cut", save_every=1), resume=True)
    assert again.step == 2
    again.train()
    for name, weight in whole.module.named_parameters():
        assert torch.equal(weight, dict(again.module.named_parameters())[name]), name


def test_a_resumed_training_goes_on_in_its_log_and_ends_with_a_report(parts, tmp_path):
    def logged(name: str) -> list[dict[str, float]]:
        timed = ("minutes", "time/step_s", "time/evaluation_s")
        return [{k: v for k, v in row.items() if k not in timed} for row in lines(tmp_path, name)]

    build_trainer(config_of(parts, tmp_path, "whole", eval_every=2)).train()
    cut = build_trainer(config_of(parts, tmp_path, "cut", eval_every=2, save_every=2))
    save = cut.save

    def save_then_lose_a_step(*, beside: bool = False) -> None:
        save(beside=beside)
        if cut.step == 2:
            cut.write(cut.train_step())
            raise KeyboardInterrupt

    cut.save = save_then_lose_a_step
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    assert [row["step"] for row in logged("cut")] == [0, 1, 2, 2, 3]
    for _ in range(2):  # a finished run changes nothing
        config = config_of(parts, tmp_path, "cut", eval_every=2, save_every=2)
        build_trainer(config, resume=True).train()
        assert [row["step"] for row in logged("cut")] == [0, 1, 2, 2, 3, 3]
        assert logged("cut") == logged("whole")
    html = (tmp_path / "cut/report.html").read_text(encoding="utf-8")
    for title in ("loss", "accuracy", "test", "Time since the last line (seconds)"):
        assert f"<figcaption>{title}</figcaption>" in html
    assert "<b>3 steps</b>" in html


def test_what_was_learnt_is_saved_before_an_image_that_cannot_be_read(parts, tmp_path):
    trainer = build_trainer(config_of(parts, tmp_path, "run"))
    trainer.train_step()
    batch = PairSampler(len(trainer.data[0]), "0/0").at(4, 4)
    image = Path(trainer.data[0][batch[0]].pair.first)
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(DataError, match=rf"{image.name}.*after step 1, which is saved"):
            trainer.train()
    finally:
        image.write_bytes(whole)
    assert (tmp_path / "run/checkpoints/step-000001/trainer.json").is_file()


@pytest.fixture
def damaged(parts) -> Iterator[Path]:
    """The pairs; the image of the sixth is found to be damaged only when it is opened."""
    image = parts["root"] / "5b.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    yield parts["root"] / "train.jsonl"
    image.write_bytes(whole)


@pytest.mark.parametrize("kind", ["yes_token", "bradley_terry"])
def test_a_pair_that_cannot_be_read_is_left_out_where_asked(parts, damaged, tmp_path, kind):
    source = {"path": str(damaged), "check_images": False, "on_bad_row": "skip"}
    over: dict[str, Any] = {
        "kind": kind,
        "stages": [{"name": "a", "num_steps": 6, "data": [source]}],
        # Found by the evaluation before the first step, or else when it is drawn.
        "held_out": {"test": {"data": source}} if kind == "bradley_terry" else {},
    }
    drawn = [PairSampler(18, "0/0").at(4 * step, 4) for step in range(6)]
    assert any(5 in batch for batch in drawn[3:])  # found before the stop, met again after it
    whole = build_trainer(config_of(parts, tmp_path, "whole", **over))
    whole.train()
    rows = (tmp_path / "whole/unreadable.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"].rpartition("/")[2] for row in rows] == ["train.jsonl, row 6: p5"]
    assert "5b.png" in json.loads(rows[0])["error"]
    assert lines(tmp_path, "whole")[-2]["data/unreadable"] == 1
    cut = build_trainer(config_of(parts, tmp_path, "cut", **over))
    cut.evaluate()
    for _ in range(3):
        cut.train_step()
    cut.save()
    again = build_trainer(config_of(parts, tmp_path, "cut", **over), resume=True)
    again.train()
    for name, weight in whole.module.named_parameters():
        assert torch.equal(weight, dict(again.module.named_parameters())[name]), name


def test_an_evaluation_that_fails_costs_no_step_and_is_made_after_a_resume(parts, tmp_path):
    config = config_of(parts, tmp_path, "run", eval_every=2)
    trainer = build_trainer(config)
    trainer.evaluate()
    trainer.train_step()
    image = parts["root"] / "20b.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(DataError, match=r"20b\.png.*after step 2, which is saved"):
            trainer.train()
    finally:
        image.write_bytes(whole)
    build_trainer(config, resume=True).train()
    measured = [row["step"] for row in lines(tmp_path, "run") if "test/accuracy" in row]
    assert measured == [0, 2, 3]


def test_nothing_readable_is_an_error_and_the_other_pairs_stay():
    left_out = frozenset({0, 2})
    walk, whole = PairSampler(4, "s", left_out).at(0, 40), PairSampler(4, "s").at(0, 40)
    assert set(walk) == {1, 3}
    assert all(a == b for a, b in zip(walk, whole, strict=True) if b not in left_out)
    with pytest.raises(DataError, match="none of the 2 pairs"):
        PairSampler(2, "s", frozenset({0, 1})).at(0, 1)


def test_a_judge_whose_weights_are_not_finite_is_not_exported(parts, tmp_path):
    trainer = build_trainer(config_of(parts, tmp_path, "run"))
    with torch.no_grad():
        next(trainer.module.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(NonFiniteError, match="no model is exported"):
        export(trainer)
    assert not (tmp_path / "run/model").exists()


def test_lora_trains_the_adapter_alone_and_is_merged(parts, tmp_path):
    lora = {"rank": 4, "alpha": 8}
    trainer = build_trainer(
        config_of(parts, tmp_path, "lora", lora=lora, train_vision=False, held_out={})
    )
    names = [name for name, p in trainer.module.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    trainer.train()
    folder = export(trainer)
    pairs = read_preferences(PreferenceSource(path=str(parts["root"] / "test.jsonl"))).good
    questions, book = Questions(JudgeTemplate(), "brightness"), ImageBook()
    asks = [questions.compare(book, p.caption, p.first, p.second) for p in pairs]
    merged = LocalJudge.load(str(folder), JudgeTemplate(), device="cpu").ask(book, asks)
    trainer.module.eval()
    inside = trainer.judge.ask(book, asks)
    assert [r.yes for r in merged] == pytest.approx([r.yes for r in inside], abs=1e-4)
    start = LocalJudge.load(str(parts["model"]), JudgeTemplate(), device="cpu").ask(book, asks)
    assert [r.yes for r in merged] != pytest.approx([r.yes for r in start], abs=1e-4)


def test_stages_follow_each_other_and_reasons_are_learnt_whole(parts, tmp_path):
    root = parts["root"]
    stages = [
        {"name": "broad", "num_steps": 2, "data": [{"path": str(root / "train.jsonl")}]},
        {"name": "reasons", "num_steps": 1, "data": [{"path": str(root / "reasons.jsonl")}]},
    ]
    trainer = build_trainer(config_of(parts, tmp_path, "two", stages=stages, held_out={}))
    assert trainer._stage() == (0, 0)
    assert len(trainer.draw().encoded) == 8  # both orders
    trainer.step = 2
    assert trainer._stage() == (1, 0)
    batch = trainer.draw()
    assert len(batch.encoded) == 4  # in the order that the reason was written for
    said = batch.encoded[0]
    text = trainer.processor.tokenizer.decode(said.input_ids[said.length :])
    assert text.startswith("The first is lighter.\nAnswer: yes")


def test_single_questions_and_the_walk_over_pairs(parts):
    import random

    pair = read_preferences(PreferenceSource(path=str(parts["root"] / "train.jsonl"))).good[0]
    questions, book = Questions(JudgeTemplate()), ImageBook()
    options: dict[str, Any] = {"both_orders": True, "single": True, "rng": random.Random(0)}
    items = items_of(pair, questions, book, **options)
    assert [item.completion for item in items] == ["yes", "no"]
    sampler = PairSampler(5, "s")
    walk = sampler.at(0, 10)
    assert sorted(walk[:5]) == sorted(walk[5:]) == list(range(5))
    assert sampler.at(3, 4) == walk[3:7]


def test_a_limit_meets_every_kind_of_a_file_that_goes_round_them():
    kinds = ("blur", "noise", "jpeg")
    pairs = [
        Preference(str(i), str(i), "a cup", Path("a"), Path("b"), 1, kind=kinds[i % 3])
        for i in range(840)
    ]
    some = one_a_stretch(pairs, 70)  # every twelfth one would always be a blurred one
    assert len({pair.id for pair in some}) == 70
    assert [int(pair.id) for pair in some] == sorted(int(pair.id) for pair in some)
    assert all(sum(pair.kind == kind for pair in some) > 12 for kind in kinds)
    assert one_a_stretch(pairs, 70) == some
    assert one_a_stretch(pairs, 0) == one_a_stretch(pairs, 900) == pairs


def test_a_config_that_cannot_be_meant(parts, tmp_path):
    with pytest.raises(ConfigError, match="num_steps"):
        config_of(parts, tmp_path, "x", stages=[{"name": "a", "data": [{"path": "x"}]}])
    with pytest.raises(ConfigError, match="did you mean 'lora'"):
        config_of(parts, tmp_path, "x", lorra=1)
    for key in ("yes", "no"):
        for words in ([], [" "]):
            with pytest.raises(ConfigError, match=rf"template\.{key}: takes one word or more"):
                config_of(parts, tmp_path, "x", **{f"template__{key}": words})
    with pytest.raises(ConfigError, match="ema_decay"):
        config_of(parts, tmp_path, "x", optim__ema_decay=0.9)
