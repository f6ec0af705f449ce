"""The task text_to_3d: data, what it provides to rewards, its metrics, files and reports."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_runs import run_job
from helpers_voxels import boxes, make_voxel_policy, save_voxel_model, voxel_run
from hypothesis import given
from hypothesis import strategies as st

from vlrl.build import build_trainer, check_plugins
from vlrl.cli.train import export
from vlrl.config.resolve import check, load_run_config
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, DataError
from vlrl.eval.generation import answers, summary_of
from vlrl.eval.mesh import set_distances
from vlrl.log.report.write import write_report
from vlrl.mesh.answer import VoxelStage
from vlrl.mesh.data import ShapeSource, read_shapes
from vlrl.mesh.store import save_shapes
from vlrl.mesh.voxelise import Voxels
from vlrl.protocols import PolicySetup
from vlrl.reward.tree import build_reward
from vlrl.set_distances import frechet_distance, kernel_distance
from vlrl.tasks.text_to_3d import TextTo3D
from vlrl.types import Finish, Rollout

ROOT = Path(__file__).resolve().parent.parent


def write(path: Path, text: str) -> ShapeSource:
    path.write_text(text, encoding="utf-8")
    return ShapeSource(path=str(path))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three captions with references of 16 voxels per side."""
    folder = tmp_path_factory.mktemp("data")
    colours = np.full((16, 16, 16, 3), 120, np.uint8)
    moved = np.roll(boxes(), 1, axis=0)
    save_shapes(folder / "s.npz", {"a": Voxels(boxes(), colours), "b": Voxels(moved, colours)})
    rows = [
        {"id": "r0", "caption": "a red table with four legs", "reference": "s.npz#a", "kind": "x"},
        {"id": "r1", "caption": "a blue table", "reference": "s.npz#b", "kind": "y"},
        {"id": "r2", "caption": "a thing", "kind": "y"},
    ]
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    return folder / "rows.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_voxel_model(tmp_path_factory.mktemp("voxel") / "model")


def task_of(data: Path, **options) -> TextTo3D:
    settings = {"view_px": 16, "num_views": 3, "labels": ("kind",), **options}
    return TextTo3D(TextTo3D.Options(data={"train": {"path": str(data)}}, **settings))


# Data


def test_captions_are_read_in_every_form(tmp_path: Path) -> None:
    rows = read_shapes(write(tmp_path / "a.jsonl", '{"caption": " a cup "}\n{"prompt": "b"}\n'))
    assert [(r.id, r.caption) for r in rows.good] == [("a/1", "a cup"), ("a/2", "b")]
    text = read_shapes(write(tmp_path / "a.txt", "a cup\na bowl\n"))
    assert [r.caption for r in text.good] == ["a cup", "a bowl"]
    csv = 'sha256,captions\nab,"[""a long one"", ""short""]"\ncd,"[""x""]"\n'
    found = read_shapes(write(tmp_path / "a.csv", csv))
    assert [(r.id, r.caption) for r in found.good] == [("ab", "a long one"), ("cd", "x")]
    last = ShapeSource(path=str(tmp_path / "a.csv"), caption_index=-1)
    assert [r.caption for r in read_shapes(last).good] == ["short", "x"]
    plain = read_shapes(write(tmp_path / "b.csv", "sha256,prompt\nab,a cup\n"))
    assert plain.good[0].caption == "a cup"
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "mesh.ply").write_text("x", encoding="utf-8")
    pattern = ShapeSource(path=str(tmp_path / "b.csv"), reference_pattern="{id}/mesh.ply")
    assert read_shapes(pattern).good[0].reference == str(tmp_path / "ab" / "mesh.ply")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"caption": ""}\n', "row 1: field 'caption'"),
        ("a.jsonl", '{"caption": 3}\n', "row 1: field 'caption'"),
        ("a.jsonl", '{"caption": "a", "reference": "no.glb"}\n', "there is no file"),
        ("a.jsonl", '{"caption": "a", "id": "x"}\n{"caption": "b", "id": "x"}\n', "also that of"),
        ("a.csv", 'sha256,captions\na,"[broken"\n', "row 1: field 'captions' is not a JSON"),
        ("a.csv", 'sha256,captions\na,"[]"\n', "has 0 captions"),
        ("a.json", '{"a": 1}', "a list of rows is needed"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_shapes(write(tmp_path / name, text))


def test_bad_rows_can_be_skipped(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", '{"caption": ""}\n{"caption": "ok"}\n')
    rows = read_shapes(source, on_bad_row="skip")
    assert [r.caption for r in rows.good] == ["ok"]
    assert len(rows.skipped) == 1


def test_the_embedded_shapes_are_whole() -> None:
    task = TextTo3D(TextTo3D.Options(data={
        split: {"path": str(ROOT / f"assets/shapes/{split}.jsonl")}
        for split in ("train", "held_out")
    }))  # fmt: skip
    train, held_out = (task.samples(split) for split in ("train", "held_out"))
    assert len(train) > 600
    assert len(held_out) > 80
    seen = {sample.target.caption for sample in train}
    assert not seen & {sample.target.caption for sample in held_out}
    for sample in [*train[::25], *held_out[::10]]:
        shape = sample.target.shape
        assert shape.occupancy.shape == (24, 24, 24)
        assert shape.occupancy.sum() >= 60
        extent = np.ptp(np.argwhere(shape.occupancy), axis=0) + 1
        assert extent.max() == 24
    size = sum(path.stat().st_size for path in (ROOT / "assets/shapes").rglob("*"))
    assert size < 15e6
    licences = (ROOT / "assets/shapes/LICENSES.md").read_text(encoding="utf-8")
    for sample in train:
        assert sample.columns["licence"] in licences
        assert sample.columns["creator"] in licences


# The task


def test_a_sample_knows_what_is_asked(data: Path) -> None:
    task = task_of(data, prompt_template="Build {caption}.")
    first, _, last = task.samples("train")
    assert first.texts == ["Build a red table with four legs."]
    assert [(p.name, p.count) for p in first.target.parts] == [("leg", 4)]
    assert first.target.colours == ("red",)
    assert first.target.shape.occupancy.sum() == boxes().sum()
    assert last.target.shape is None
    assert task.strata(first) == {"kind": "x"}
    assert math.isnan(task.difficulty(first))
    with pytest.raises(ValueError, match=r"\{caption\}"):
        task_of(data, prompt_template="a chair")


def answer(task: TextTo3D, sample, grid: np.ndarray | None, fault: str = "") -> Rollout:
    output = None if grid is None else (VoxelStage("w", (1,), grid, fault),)
    parsed = task.parse(sample, output)
    return Rollout(sample, 0, 0, output, Finish.STOP, 1, 0, parsed=parsed)


def test_metrics_by_hand(data: Path) -> None:
    task = task_of(data)
    first, _, last = task.samples("train")
    empty = np.zeros((16, 16, 16), bool)
    rows = [answer(task, first, boxes()), answer(task, first, empty, "no codes"),
            answer(task, first, None), answer(task, last, boxes())]  # fmt: skip
    found = task.metrics(rows)
    assert found["iou"][:3] == [1, 0, 0]
    assert found["f_score"][:3] == [1, 0, 0]
    assert found["chamfer"][:3] == [0, 1, 1]  # unreadable is as far away as empty
    assert found["well_formed"] == [1, 0, 0, 1]
    assert found["floaters"] == [0, 1, 1, 0]
    assert math.isnan(found["iou"][3])
    assert math.isnan(found["chamfer"][3])
    for junk in ("text", (), ("a",), None, np.zeros(3), [VoxelStage("", (), empty)]):
        assert task.parse(first, junk) is None


def test_views_wait_until_they_are_looked_at(data: Path, monkeypatch) -> None:
    task = task_of(data)
    calls = []
    monkeypatch.setattr(
        task, "views_of", lambda mesh: calls.append(1) or np.zeros((3, 4, 4, 3), "u1")
    )
    one = answer(task, task.samples("train")[0], boxes())
    build_reward({"use": "voxel_iou"})([one])
    assert not calls
    assert one.parsed.image.shape == (4, 12, 3)
    assert one.parsed.image is one.parsed.image
    assert len(calls) == 1


def test_policy_and_references_have_one_resolution(data: Path, tmp_path: Path) -> None:
    task = task_of(data)
    task.check_policy(lambda sample: (16, 16), "train")
    with pytest.raises(ConfigError, match="16 voxels per side, the policy makes 64"):
        task_of(data).check_policy(lambda sample: (64, 64), "train")
    import trimesh

    trimesh.creation.box().export(tmp_path / "box.ply")
    row = {"id": "m", "caption": "a box", "reference": "box.ply"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    meshes = task_of(tmp_path / "rows.jsonl")
    meshes.check_policy(lambda sample: (20, 20), "train")
    assert meshes.samples("train")[0].target.shape.occupancy.shape == (20, 20, 20)


def test_images_and_files(data: Path, tmp_path: Path) -> None:
    task = task_of(data)
    first, _, last = task.samples("train")
    one = answer(task, first, boxes())
    assert task.draw(first, []).size == (48, 16)
    assert task.draw(first, [one]).size == (48, 32)
    assert task.draw(last, []) is None
    task.save_files(one, tmp_path / "one")
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {"object.glb", "object.ply", "object.obj", "voxels.ply", "codes-0.json",
                     "turntable.webp"}  # fmt: skip
    task.save_files(answer(task, first, np.zeros((16, 16, 16), bool)), tmp_path / "none")
    assert {path.name for path in (tmp_path / "none").iterdir()} == {"codes-0.json"}


# Sets of views


@given(st.integers(0, 1000))
def test_set_distances_by_plain_references(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(30, 4)), rng.normal(0.5, 1.5, size=(40, 4))
    from scipy.linalg import sqrtm

    left, right = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected += np.trace(left + right - 2 * np.real(sqrtm(left @ right)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    k = lambda x, y: (sum(x * y) / 4 + 1) ** 3  # noqa: E731
    within = [
        sum(k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j)
        / (len(x) * (len(x) - 1))
        for x in (a[:6], b[:7])
    ]
    across = sum(k(x, y) for x in a[:6] for y in b[:7]) / 42
    found = kernel_distance(a[:6], b[:7])
    assert found == pytest.approx(sum(within) - 2 * across, rel=1e-9, abs=1e-9)


def test_the_unbiased_kernel_distance_is_a_distance() -> None:
    """Near 0 for two samples of one distribution, above for a shifted one; unlike the release's."""
    rng = np.random.default_rng(0)
    same = [kernel_distance(rng.normal(size=(60, 8)), rng.normal(size=(60, 8))) for _ in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(40)
    assert kernel_distance(rng.normal(size=(60, 8)), rng.normal(1, 1, size=(60, 8))) > max(same)
    with pytest.raises(ValueError, match="two images or more"):
        kernel_distance(np.zeros((1, 3)), np.zeros((5, 3)))


def test_an_evaluation_has_metrics_strata_and_distances(folder: Path, data: Path) -> None:
    task, policy = task_of(data), make_voxel_policy(folder)
    task.check_policy(policy.size_seen, "train")
    rollouts = answers(policy, task, task.samples("train"), batch_size=2, seed=None)
    again = answers(policy, task, task.samples("train"), batch_size=3, seed=None)
    assert [r.output[1].codes for r in rollouts] == [r.output[1].codes for r in again]
    metrics = {"whole": build_reward({"use": "no_floaters"})}
    found = summary_of(task, rollouts, metrics, 50)
    assert found["num_samples"] == 3
    assert found["overall"]["iou"]["num"] == 2
    assert found["strata"]["kind"]["y"]["whole"]["num"] == 2
    embed = lambda images: np.stack([image.mean((0, 1)) for image in images])  # noqa: E731
    views = set_distances(task, rollouts, embed)
    assert views["num_views"] == 6
    perfect = [answer(task, s, s.target.shape.occupancy) for s in task.samples("train")[:2]]
    nearer = set_distances(task, perfect, embed)
    assert nearer["num_views"] == 6
    assert nearer["fid"] < views["fid"]


# Runs and recipes


def test_a_run_leaves_sheets_files_turntables_and_a_viewer(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A random model's objects are noise, with ten times the faces of anything real.
    monkeypatch.setattr("vlrl.tasks.text_to_3d.NUM_FRAMES", 2)
    over = {
        "num_steps": 1,
        "eval__splits": ["train"],
        "eval__limit": 1,
        "algo__num_prompts": 2,
        "algo__group_size": 2,
        "log__report": True,
        "log__rollouts_every": 1,
        "task__view_px": 16,
        "task__num_views": 3,
        "checkpoint__export": True,
    }
    job = voxel_run(folder, data, tmp_path, "shown", **over)
    trainer = build_trainer(check(RunConfig, job), None)
    trainer.train()
    export(trainer)
    write_report(trainer.folder)
    run = tmp_path / "shown"
    first = run / "evaluations/after/images/train-00"
    assert {"truth.webp", "answer-00.webp", "codes-0.json", "codes-1.json"} <= {
        path.name for path in first.iterdir()
    }
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Objects all around" in report
    assert "view3d.html" in report
    viewer = (run / "view3d.html").read_text(encoding="utf-8")
    assert "http" not in viewer.replace("http-equiv", "")
    assert "ROWS=" in viewer
    assert "before" in viewer
    assert (run / "model" / "codec" / "model.safetensors").is_file()
    record = json.loads((run / "rollouts/step-000001/group-0.json").read_text(encoding="utf-8"))
    assert {"coarse", "refined"} <= set(record["answers"][0]["parts"])
    trainer.engine.engine.destroy()


@pytest.mark.parametrize("name", ["tiny", "ar3d_r1_shapellm_omni_7b"])
def test_recipes_are_whole(name: str) -> None:
    config = load_run_config([str(ROOT / f"configs/text_to_3d/{name}.yaml")], [], None)
    checked = check_plugins(config)
    assert checked.policy["refine"]["instruction"]
    assert checked.algo.aggregate == "stage_token"
    if name != "tiny":
        from vlrl.config.loader import read_yaml

        tree = read_yaml(ROOT / "configs/rewards/hi_grpo.yaml")
        alone = build_reward(tree["reward"])
        here = build_reward(config.reward)
        assert alone.range == here.range
        low, high = (child.range[1] for child in alone.children)
        assert (low, high) == pytest.approx((1 + 5 + 1, 1 + 15 / 3 + 3 / 3 + 1))


def test_the_embedded_model_writes_what_it_should() -> None:
    """The shipped weights: well-formed answers that beat chance on held-out captions."""
    config = load_run_config([str(ROOT / "configs/text_to_3d/tiny.yaml")], [], None)
    import torch

    from vlrl.build import build_policy, read_parts

    parts = read_parts(config)
    task = parts.task_class(parts.task_options)
    policy = build_policy(parts, PolicySetup(dtype=torch.float32, max_tokens_per_chunk=10_000))
    samples = list(task.samples("held_out"))[::8]
    rollouts = answers(policy, task, samples, batch_size=32, seed=None)
    found = task.metrics(rollouts)
    assert np.mean(found["well_formed"]) == 1
    shuffled = [answer_for(task, samples[i - 1], rollouts[i]) for i in range(len(samples))]
    assert np.nanmean(found["f_score"]) > np.nanmean(task.metrics(shuffled)["f_score"])


def answer_for(task: TextTo3D, sample, rollout: Rollout) -> Rollout:
    """The same object as the answer to another caption."""
    parsed = task.parse(sample, rollout.output)
    return Rollout(sample, 0, 0, rollout.output, Finish.STOP, 1, 0, parsed=parsed)


def test_hi_grpo_runs_with_a_reward_a_stage(folder: Path, data: Path, tmp_path: Path) -> None:
    job = voxel_run(folder, data, tmp_path, "hi", task__view_px=16, task__num_views=2)
    job["reward"] = {
        "stages": {
            "coarse": {"views": {"pool": "max", "of": {"use": "jpeg_compressibility"}}},
            "refined": {"sum": [
                {"views": {"pool": "mean", "of": {"use": "jpeg_compressibility"}}},
                {"use": "part_counts", "weight": 0.5},
                {"use": "silhouette_iou", "weight": 0.5},
            ]},
        }
    }  # fmt: skip
    job["num_steps"] = 1
    run_job({"config": job})
    (row,) = [json.loads(x) for x in (tmp_path / "hi/metrics.jsonl").read_text().splitlines()]
    assert {"reward/coarse", "reward/refined", "reward/refined_part_counts"} <= set(row)


def test_the_command_measures_a_model(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scripts/evaluate_meshes.py: metrics by group, distances of views, a sheet of answers."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import evaluate_meshes
    import yaml

    over = {"task__view_px": 32, "task__num_views": 2, "task__labels": ["kind"]}
    config = voxel_run(folder, data, tmp_path, "measured", **over)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = ["evaluate_meshes.py", "--config", str(tmp_path / "config.yaml")]
    command += ["--split", "train", "--backbone", str(ROOT / "assets/models/tiny_dinov2")]
    command += ["--sheet", str(tmp_path / "s.png"), "--out", str(tmp_path / "figures.json")]
    monkeypatch.setattr(sys, "argv", [*command, "--model", str(folder)])
    assert evaluate_meshes.main() == 0
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert found["num_samples"] == 3
    assert set(found["strata"]["kind"]) == {"x", "y"}
    assert found["views"]["num_views"] == 4
    assert found["views"]["fid"] > 0
    assert (tmp_path / "s.png").is_file()
    monkeypatch.setattr(sys, "argv", [*command, "--model", str(tmp_path / "nowhere")])
    assert evaluate_meshes.main() == 2
