"""`vlrl audit` on the groups of a run and on answers in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_contract import CAPTION, ROOT
from helpers_images import noise_image, save_clip
from PIL import Image

from vlrl.audit.answers import Answers, read_answers_file, read_run_answers
from vlrl.audit.audit import audit
from vlrl.audit.known import known_groups
from vlrl.audit.options import AuditOptions
from vlrl.audit.page import page_of
from vlrl.audit.scoring import RewardConfig, perturb, read_reward_configs, score_answers
from vlrl.audit.write import numbers_of
from vlrl.build import build_scored, build_task, check_plugins
from vlrl.cli.main import main
from vlrl.config.loader import to_yaml
from vlrl.config.resolve import check, load_run_config, plain
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, DataError
from vlrl.log.rollouts import record_groups
from vlrl.protocols import Task
from vlrl.reward.combinators.confidence import Confidence
from vlrl.reward.known_features import load_known
from vlrl.reward.tree import build_reward
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.train.scoring import score_rollouts
from vlrl.types import Finish, Rollout

USE = "gui_grounding"
COVERAGE = {"use": "gaussian_coverage"}
NUM_SAMPLES = 6


def gui_config(reward: dict[str, Any]) -> RunConfig:
    overrides = ["dist.deepspeed=deepspeed_configs/zero0.json", "task.limit=60"]
    config = load_run_config([ROOT / "configs/gui_grounding/tiny.yaml"], overrides)
    return check_plugins(config.model_copy(update={"reward": reward}))


@pytest.fixture(scope="module", autouse=True)
def _in_the_checkout() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return gui_config(COVERAGE)


@pytest.fixture(scope="module")
def task(config: RunConfig) -> Task:
    return build_task(config)


def rollouts_of(task: Task) -> list[Rollout]:
    """Groups of a right answer, near misses, one of them twice, and prose."""
    found = []
    for group, sample in enumerate(task.samples("train")[:NUM_SAMPLES]):
        known = task.known_answers(sample)
        assert known is not None
        texts = [known.right, *known.wrong.values(), known.wrong["beside"], "over there"]
        for index, text in enumerate(texts):
            parsed = task.parse(sample, text)
            found.append(Rollout(sample, group, index, text, Finish.STOP, 9, 0, parsed=parsed))
    return found


@pytest.fixture(scope="module")
def folder(task: Task, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as it stands after two recorded steps, and in the middle of writing a third."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(plain(config)), encoding="utf-8")
    rollouts = rollouts_of(task)
    score_rollouts(task, build_reward(COVERAGE), rollouts)
    for step in (2, 4):
        part = [one for one in rollouts if (one.group < NUM_SAMPLES // 2) == (step == 2)]
        record_groups(folder, step, task, part, NUM_SAMPLES)
    (folder / "rollouts" / "step-000006").mkdir()
    (folder / "rollouts" / "step-000006" / "group-0.json").write_text('{"step": 6, "sam')
    other = {"step": "six", "sample": "s", "answers": []}
    (folder / "rollouts" / "step-000006" / "group-1.json").write_text(json.dumps(other))
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path, task: Task) -> Answers:
    return read_run_answers(folder, task, "train")


def scored(answers: Answers, node: dict[str, Any], name: str = "r") -> np.ndarray:
    return score_answers(RewardConfig(name, node, name), answers, USE).values


# --- answers and their rewards -----------------------------------------------------------------


def test_a_run_in_progress_is_read_up_to_its_last_whole_group(answers: Answers) -> None:
    assert len(answers.rollouts) == len(rollouts_of(answers.task))
    assert {one.policy_version for one in answers.rollouts} == {2, 4}
    assert answers.whole.all()
    assert len(np.unique(answers.group)) == NUM_SAMPLES
    assert len(np.unique(answers.same)) < len(answers.rollouts)


def test_scored_again_the_runs_own_reward_is_what_was_recorded(answers: Answers) -> None:
    recorded = [one.score.value for one in answers.rollouts if one.score is not None]
    assert scored(answers, COVERAGE).tolist() == recorded


def test_every_weight_is_changed_up_and_down_and_nothing_else(answers: Answers) -> None:
    node = {"sum": [{"use": "box_hit", "weight": 2.0}, {"use": "box_iou"}]}
    one = score_answers(RewardConfig("r", node, "r"), answers, USE)
    changed = perturb(one, answers, USE, 0.1, seed=0)
    hit, iou = scored(answers, {"use": "box_hit"}), scored(answers, {"use": "box_iou"})
    wanted = [2 * a * hit + b * iou for a in (0.9, 1.1) for b in (0.9, 1.1)]
    assert changed.values == pytest.approx(np.array(wanted))
    assert changed.how == "2 weights, each by 10 %"


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (COVERAGE, "no two weights"),
        ({"pair": {"of": {"sum": [{"use": "box_hit"}, {"use": "box_iou"}]}}}, "2 weights"),
    ],
    ids=["one leaf", "weights inside a pair"],
)
def test_what_is_perturbed_is_said(answers: Answers, node: dict[str, Any], why: str) -> None:
    one = score_answers(RewardConfig("r", node, "r"), answers, USE)
    changed = perturb(one, answers, USE, 0.1, seed=0)
    assert why in changed.how
    assert changed.values.shape[1] == len(answers.rollouts)
    # The same answer is changed alike, wherever it stands.
    for name in np.unique(answers.same):
        rows = np.flatnonzero(answers.same == name)
        inside = rows[answers.group[rows] == answers.group[rows[0]]]
        assert np.ptp((changed.values - one.values)[:, inside], axis=1) == pytest.approx(0)


# --- the command -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    form = out / "form.yaml"
    form.write_text("reward: {use: format}")
    never = out / "never.yaml"
    never.write_text('reward: {use: "helpers_contract:never"}')
    files = ["rewards/hit", str(form), str(never), str(ROOT / "configs/gui_grounding/tiny.yaml")]
    words = ["audit", str(folder), "--rewards", *files, "--out", str(out), "--top", "0.5"]
    assert main(words) == 0
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") >= 1
    for text in ("STARC", "An answer is a whole episode here", "at a tie", ">run<", ">tiny<"):
        assert text in page
    found: dict[str, Any] = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    return found


def distance(numbers: dict[str, Any], *names: str) -> dict[str, Any]:
    return next(one for one in numbers["distances"] if one["rewards"] == list(names))


def test_the_audit_names_its_rewards_and_where_they_came_from(numbers: dict[str, Any]) -> None:
    assert list(numbers["rewards"]) == ["run", "hit", "form", "never", "tiny"]
    assert all(one["how"] == "all of it scored again" for one in numbers["rewards"].values())


def test_a_reward_is_near_the_sum_that_it_is_part_of(numbers: dict[str, Any]) -> None:
    near, far = distance(numbers, "run", "tiny"), distance(numbers, "run", "form")
    assert 0 < near["starc"] < far["starc"] < 1
    assert [step for step, _ in near["by_step"]] == [2, 4]


def test_ties_are_named_and_no_bound_is_exceeded(numbers: dict[str, Any], answers: Answers) -> None:
    ids = {one.sample.id for one in answers.rollouts}
    # Every well-formed answer has the best format; one answer alone hits.
    assert set(numbers["stability"]["form"]["tied"]) == ids
    assert numbers["stability"]["hit"]["tied"] == []
    for name, one in numbers["stability"].items():
        assert one["largest_ratio"] is None if name == "never" else 0 < one["largest_ratio"] <= 1


def test_a_reward_that_applies_to_nothing_has_no_figures(numbers: dict[str, Any]) -> None:
    pair = distance(numbers, "run", "never")
    assert pair["starc"] is pair["advantage_change"] is None
    assert "applies to none" in numbers["one_right"]["never"]["why_not"]


def test_a_reward_that_only_sees_the_form_never_puts_the_right_answer_first(
    numbers: dict[str, Any],
) -> None:
    form, hit = (numbers["one_right"][name] for name in ("form", "hit"))
    assert (form["accuracy"]["mean"], hit["accuracy"]["mean"]) == (0, 1)
    assert form["by_kind"]["beside"] == 0
    assert form["by_kind"]["nothing"] == form["by_kind"]["the question"] == 1
    assert {"the longest", "the most frequent", "right elsewhere"} <= set(hit["by_kind"])
    assert form["chance"] < 0.15


def test_clicks_beside_the_target_are_found_as_hacks_of_coverage(numbers: dict[str, Any]) -> None:
    hacks = numbers["hacks"]
    assert (hacks["reward"], hacks["independent"]) == ("run", "hit")
    assert hacks["num_disliked"] > 0
    assert len({one["sample"] for one in hacks["shown"]}) == len(hacks["shown"])
    assert hacks["metrics"]["hit"] == [0.0, 1.0]


def test_the_page_is_written_beside_the_run(folder: Path, capsys: Any) -> None:
    assert main(["audit", str(folder), "--limit", "2", "--num-known", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "audit.html")
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert "Hacks" not in page  # one reward alone
    assert json.loads((folder / "audit.json").read_text())["distances"] == []


# --- known answers -----------------------------------------------------------------------------


def test_no_known_wrong_answer_is_right(answers: Answers, task: Task) -> None:
    samples = task.samples("train")[:NUM_SAMPLES]
    for group in known_groups(task, samples, answers.rollouts):
        rollouts = dict(group.rollouts)
        assert task.is_right(rollouts.pop("right"))
        assert not any(task.is_right(one) for one in rollouts.values())
        assert {"nothing", "the question", "right elsewhere", "beside"} <= set(rollouts)


class Lenient(GuiGrounding):
    """A task whose verifier also takes the question itself for a right answer."""

    def is_right(self, rollout: Rollout) -> bool:
        return rollout.output == "\n".join(rollout.sample.texts) or super().is_right(rollout)


def copies(rollout: Rollout) -> float:
    """A reward that pays as that verifier does: a copied question, or any point."""
    return float(rollout.parsed is not None or rollout.output == "\n".join(rollout.sample.texts))


def test_wrong_answers_that_the_verifier_accepts_are_counted(
    answers: Answers, task: GuiGrounding
) -> None:
    lenient = replace(answers, task=Lenient(task.options))
    node = {"use": "test_audit_run:copies"}
    options = AuditOptions()
    rewards = [score_answers(RewardConfig("copies", node, "copies"), lenient, USE)]
    found = audit(lenient, rewards, USE, options)
    ids = [sample.id for sample in task.samples("train")[:NUM_SAMPLES]]
    assert found.accepted == {"the question": ids}
    (ranking,) = found.rankings
    assert ranking.result is not None
    assert ranking.result.by_kind["the question"] == 0.0
    assert ranking.result.by_kind["nothing"] == 1.0
    numbers = numbers_of(found)
    assert numbers["accepted"] == {"the question": ids}
    page = page_of(found, "audit")
    assert "Wrong answers that the task takes for right" in page
    strict = audit(answers, rewards, USE, options)
    assert strict.accepted == {}
    assert "Wrong answers that the task takes for right" not in page_of(strict, "audit")


# --- answers in a file -------------------------------------------------------------------------


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_of_answers_gives_the_same_rewards(
    answers: Answers, task: Task, config: RunConfig, tmp_path: Path
) -> None:
    rows = [
        {"sample": one.sample.id, "output": one.output, "labels": {"hand": "left"}}
        for one in answers.rollouts
    ]
    path = lines(tmp_path / "answers.jsonl", rows)
    found = read_answers_file(path, task, "train")
    assert sorted(scored(found, COVERAGE)) == pytest.approx(sorted(scored(answers, COVERAGE)))
    assert found.labels[0] == {"hand": "left"}
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(plain(config)), encoding="utf-8")
    words = ["audit", "--answers", str(path), "--config", str(file), "--out", str(tmp_path)]
    assert main(words) == 0
    assert json.loads((tmp_path / "audit.json").read_text())["num_answers"] == len(rows)


RIGHT = "[1,2,3,4]"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"output": RIGHT}, "line 2: field 'id' is missing"),
        ({"sample": "elsewhere/e1", "output": RIGHT}, r"line 2: there is no sample 'elsewhere/e1'"),
        ({"output": 7, "sample": ""}, "line 2: field 'output' must be a text, not 7"),
        ({"sample": ""}, "line 2: needs `output`, `image`, or a recorded"),
        ({"sample": "", "output": "", "step": "x"}, "line 2: field 'step' must be a whole number"),
        ({"sample": "", "output": "", "reward": "x"}, "line 2: field 'reward' must be a number"),
        ({"sample": "", "output": "", "parts": [1]}, "line 2: field 'parts' must map names"),
        ({"sample": "", "output": "", "labels": [1]}, "line 2: field 'labels' must map names"),
        ({"sample": "", "output": "", "finish": "x"}, "line 2: field 'finish' must be one of"),
    ],
)
def test_a_wrong_row_is_named(
    task: Task, tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    id_ = task.samples("train")[0].id
    rows = [
        {"sample": id_, "output": RIGHT},
        {**row, **({"sample": id_} if row.get("sample") == "" else {})},
    ]
    path = lines(tmp_path / "a.jsonl", [*rows, rows[0]])
    with pytest.raises(DataError, match=message):
        read_answers_file(path, task, "train")


def test_one_answer_a_prompt_is_nothing_to_compare(task: Task, tmp_path: Path) -> None:
    ids = [sample.id for sample in task.samples("train")[:2]]
    rows = [{"sample": id_, "output": RIGHT} for id_ in ids]
    path = lines(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match="no prompt has two or more answers"):
        read_answers_file(path, task, "train")
    path = lines(tmp_path / "a.jsonl", [*rows, rows[0]])
    found = read_answers_file(path, task, "train")
    assert len(found.rollouts) == 2
    assert found.notes == ("1 groups of one answer are left out",)
    with pytest.raises(DataError, match="holds no answer"):
        read_answers_file(lines(path, []), task, "train")


def bad(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the folder of a run, or --answers"),
        (["{run}", "--answers", "x.jsonl"], "give the folder of a run, or --answers"),
        (["--answers", "x.jsonl"], "give the task of the answers too: --config FILE"),
        (["{tmp}"], "no config.yaml there"),
        (["{empty}"], "no group is recorded there; train with log.rollouts_every above 0"),
        (["{run}", "--rewards", "{task}"], "has no `reward:`"),
        (["{run}", "--rewards", "nowhere"], "no config file 'nowhere'"),
        (["{run}", "--rewards", "{wrong}"], r"wrong.yaml: reward: unknown reward 'box_hat'"),
        (["{run}", "--rewards", "rewards/rewardmap"], "rewardmap: reward: needs "),
        (["{run}", "--rewards", "rewards/hit", "--reward", "hot"], "did you mean 'hit'?"),
        (["{run}", "--independent", "run"], "it cannot judge itself"),
        (["{run}", "--labels", "hat"], "--labels: no answer has 'hat'; did you mean 'hit'?"),
        (["{run}", "--split", "nowhere"], "nowhere"),
        (["{run}", "--config", "image_generation/tiny"], "of task 'text_to_image'; give the task"),
    ],
)
def test_what_cannot_be_audited_is_said(
    folder: Path, tmp_path: Path, capsys: Any, words: list[str], message: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text((folder / "config.yaml").read_text())
    places = {
        "run": str(folder),
        "tmp": str(tmp_path),
        "empty": str(empty),
        "task": bad(tmp_path, "task.yaml", "task: {use: gui_grounding}"),
        "wrong": bad(tmp_path, "wrong.yaml", "reward: {use: box_hat}"),
    }
    out = ["--out", str(tmp_path / "out")]
    assert main(["audit", *(word.format(**places) for word in words), *out]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out" / "audit.html").exists()


def test_rewards_are_named_by_their_files_and_none_twice(tmp_path: Path) -> None:
    (tmp_path / "hit.yaml").write_text("reward: {use: box_iou}")
    found = read_reward_configs(["rewards/hit", tmp_path / "hit.yaml"], ["hit"])
    assert [one.name for one in found] == ["hit_2", "hit_3"]
    with pytest.raises(ConfigError, match="has no `reward:`"):
        read_reward_configs([ROOT / "configs/judge/lora.yaml"], [])


# --- answers that are images, and learnt rewards -----------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path, dict[str, Any]]:
    """A run of two captions, its answers in a file, and a reward that sees them by a tiny CLIP."""
    base = tmp_path_factory.mktemp("pictures")
    rows = []
    for i in range(2):
        Image.fromarray(noise_image(i, 40, 40)).save(base / f"reference{i}.png")
        reference = [str(base / f"reference{i}.png")]
        rows.append({"id": f"c{i}", "caption": f"{CAPTION} {i}", "references": reference})
    lines(base / "captions.jsonl", rows)
    answers = []
    for i in range(12):
        image = noise_image(10 + i, 40, 40) // (1 + i % 2)
        Image.fromarray(image.astype(np.uint8)).save(base / f"{i}.png")
        labels = {"light": "dark" if i % 2 else "bright"}
        answers.append(
            {"sample": f"c{i % 2 if i < 6 else i % 4 // 2}", "image": f"{i}.png", "labels": labels}
        )
    lines(base / "answers.jsonl", answers)
    clip = {"use": "clip_score", "model": str(save_clip(base / "clip")), "device": "cpu"}
    data = {"train": {"path": str(base / "captions.jsonl")}}
    raw = {
        "name": "pictures",
        "num_steps": 1,
        "task": {"use": "text_to_image", "width_px": 40, "height_px": 40, "data": data},
        "policy": {"use": "flow", "model": "unused", "width_px": 40, "height_px": 40},
        "reward": {"sum": [clip, {"use": "jpeg_compressibility"}]},
        "algo": {"num_prompts": 2, "group_size": 2},
        "dist": {"deepspeed": str(ROOT / "deepspeed_configs/zero0.json")},
    }
    return check(RunConfig, raw), base, clip


def test_learnt_features_are_probed_saved_and_used_as_a_filter(
    pictures: tuple[RunConfig, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, base, clip = pictures
    file = base / "run.yaml"
    file.write_text(to_yaml(plain(config)), encoding="utf-8")
    second = base / "second.yaml"
    again = save_clip(base / "again")
    second.write_text(to_yaml({"reward": {**clip, "model": str(again)}}), encoding="utf-8")
    answers = ["--answers", str(base / "answers.jsonl"), "--config", str(file)]
    assert main(["audit", *answers, "--rewards", str(second), "--out", str(tmp_path)]) == 0
    numbers = json.loads((tmp_path / "audit.json").read_text())
    assert numbers["probes"]["clip_score"]["light"]["num"] == 12
    (alike,) = numbers["alike"]
    assert (alike["first"], alike["second"]) == ("clip_score", "second_clip_score")
    assert -1 <= alike["rho_a"] <= 1
    assert numbers["one_right"]["run"]["by_kind"].keys() >= {"flat", "noise", "shuffled"}
    path = tmp_path / "features" / "clip_score.safetensors"
    assert load_known(path).num_features == 24
    assert load_known(path).labels is None
    assert main(["audit", *answers, "--labels", "light", "--out", str(tmp_path)]) == 0
    labels = load_known(path).labels
    assert labels is not None
    assert sorted(labels) == [0] * 6 + [1] * 6
    node = build_reward({"confidence": {"of": clip, "known": str(path), "keep": 0.5}})
    assert isinstance(node, Confidence)
    task = build_task(config)
    rollouts = list(read_answers_file(base / "answers.jsonl", task, "train").rollouts)
    passed = [one.value is not None for one in node(rollouts)]
    assert 0 < sum(passed) <= len(passed)


def test_recorded_values_stand_in_for_models_and_for_answers_that_are_gone(
    pictures: tuple[RunConfig, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, base, clip = pictures
    task, own = build_task(config), build_reward(config.reward)
    rows = [
        {"sample": f"c{i % 2}", "parts": {"clip_score": i / 10, "jpeg_compressibility": -i / 20}}
        for i in range(6)
    ]
    gone = read_answers_file(lines(tmp_path / "a.jsonl", rows), task, "train")
    assert not gone.whole.any()
    assert "only the recorded rewards" in gone.notes[0]
    found = score_answers(RewardConfig("r", config.reward, "r"), gone, "text_to_image", own)
    assert found.how == "from recorded columns: clip_score, jpeg_compressibility"
    wanted = [i / 10 - i / 20 for i in (0, 2, 4, 1, 3, 5)]
    assert found.values == pytest.approx(np.array(wanted))
    other = {**clip, "model": str(base / "again")}
    with pytest.raises(ConfigError, match=r"'clip_score' has to be scored again, but .*a\.jsonl"):
        score_answers(RewardConfig("r", other, "r"), gone, "text_to_image", own)
    # With the answers there, the model is spared and the formula is worked out again.
    answers = json.loads("[" + ",".join((base / "answers.jsonl").read_text().splitlines()) + "]")
    held = [{**row, "parts": {"clip_score": 0.25}} for row in answers]
    here = read_answers_file(lines(base / "held.jsonl", held), task, "train")
    found = score_answers(RewardConfig("r", config.reward, "r"), here, "text_to_image", own)
    assert found.recorded == ("clip_score",)
    assert found.how == "scored again, but for recorded columns: clip_score"
    formula = score_answers(
        RewardConfig("j", {"use": "jpeg_compressibility"}, "j"), here, "text_to_image"
    )
    assert found.values == pytest.approx(formula.values + 0.25)
    asked = score_answers(
        RewardConfig("r", config.reward, "r"), here, "text_to_image", own, load_models=True
    )
    assert asked.recorded == ()
    assert not np.allclose(asked.values, found.values)


def test_what_was_read_from_columns_is_neither_ranked_nor_probed_unless_asked_for(
    pictures: tuple[RunConfig, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, base, clip = pictures
    rows = json.loads("[" + ",".join((base / "answers.jsonl").read_text().splitlines()) + "]")
    held = [{**row, "parts": {"clip_score": i / 20}} for i, row in enumerate(rows)]
    lines(base / "held.jsonl", held)
    file = base / "alone.yaml"
    alone = config.model_copy(update={"reward": clip})
    file.write_text(to_yaml(plain(alone)), encoding="utf-8")
    words = ["audit", "--answers", str(base / "held.jsonl"), "--config", str(file)]
    found = {}
    for name, more in (("spared", []), ("asked", ["--load-models"])):
        assert main([*words, "--out", str(tmp_path / name), *more]) == 0
        found[name] = json.loads((tmp_path / name / "audit.json").read_text())
    assert "give --load-models" in found["spared"]["one_right"]["alone"]["why_not"]
    assert found["spared"]["probes"] == {}
    assert "accuracy" in found["asked"]["one_right"]["alone"]
    assert "clip_score" in found["asked"]["probes"]


def test_a_reward_that_learns_is_audited_by_what_it_said_in_training(
    pictures: tuple[RunConfig, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, base, _ = pictures
    task = build_task(config)
    learnt = {"use": "adversarial_dino", "model": "unused"}
    here = read_answers_file(base / "answers.jsonl", task, "train")
    with pytest.raises(
        ConfigError, match="learns along with a training, and these answers hold no"
    ):
        score_answers(RewardConfig("r", learnt, "r"), here, "text_to_image", build_reward(learnt))
    rows = [{"sample": "c0", "parts": {"adversarial_dino": float(i)}} for i in range(3)]
    gone = read_answers_file(lines(tmp_path / "a.jsonl", rows), task, "train")
    found = score_answers(
        RewardConfig("r", learnt, "r"), gone, "text_to_image", build_reward(learnt)
    )
    assert found.values.tolist() == [0, 1, 2]
    assert not math.isnan(found.values.sum())


def test_a_reward_of_another_task_is_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="needs"):
        build_scored(USE, {"use": "clip_score"}, "reward", type(task))
