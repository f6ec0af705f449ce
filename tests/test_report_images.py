"""The report of a run whose answers are images: metrics, curves, gallery, groups."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlrl.log.answer_images import TRUTH, answer_file
from vlrl.log.report.charts import line_chart
from vlrl.log.report.files import read_run
from vlrl.log.report.numbers import is_rate, percent, points, writer
from vlrl.log.report.write import write_report
from vlrl.log.rollouts import MAX_ANSWER_IMAGES, record_groups
from vlrl.rewards.image.jpeg_compressibility import JpegCompressibility, JpegOptions
from vlrl.stats import bootstrap_difference
from vlrl.tasks.text_to_image import TextToImage
from vlrl.train.evaluation_files import NUM_IMAGES, NUM_SMALL_IMAGES, write_evaluation
from vlrl.train.summary import rows_of, summarise
from vlrl.types import Finish, Rollout, Score

IMAGES = Path(__file__).resolve().parent.parent / "assets/images"
NUM_SAMPLES = 30
CONFIG = """name: run
task: {use: text_to_image}
metrics:
  small:
    use: jpeg_compressibility
  right: {use: geneval}
"""
LEARNER = "trainable_reward/adversarial_dino"


@pytest.fixture
def task(tmp_path: Path) -> TextToImage:
    """Real captions and references; one caption consists of characters special in HTML."""
    return make_task(tmp_path, 64)


def make_task(folder: Path, size_px: int) -> TextToImage:
    lines = (IMAGES / "held_out.jsonl").read_text(encoding="utf-8").splitlines()[:NUM_SAMPLES]
    rows = [json.loads(line) for line in lines]
    rows[0]["caption"] = '<b>grapes</b> & "a" bowl'
    rows[1]["references"] = []
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    data = {"held_out": {"path": str(path), "references_root": str(IMAGES)}}
    return TextToImage(
        TextToImage.Options(data=data, width_px=size_px, height_px=size_px, labels=("concept",))
    )


def drawn(task: TextToImage, seed: int, split: str = "held_out") -> list[Rollout]:
    """A random image for every sample."""
    rng = np.random.default_rng(seed)
    shape = (task.options.height_px, task.options.width_px, 3)
    rollouts = []
    for sample in task.samples(split):
        output = rng.integers(0, 256, shape, dtype=np.uint8)
        rollout = Rollout(sample, 0, 0, output, Finish.STOP, 2, 0)
        rollout.parsed = task.parse(sample, output)
        rollouts.append(rollout)
    return rollouts


def evaluate(
    folder: Path, label: str, task: TextToImage, rollouts: Sequence[Rollout], right: Sequence[Any]
) -> None:
    """An evaluation with a real reward that is only measured, and one of chosen values."""
    rewards = {"small": JpegCompressibility(JpegOptions(scale_kb=100.0))}
    rows = rows_of(task, rollouts, rewards)
    for row, value in zip(rows, right, strict=True):
        row["metrics"]["right"] = value
    out = folder / "evaluations" / label
    write_evaluation(out, "held_out", rows, summarise(rows, 50), task, rollouts)


def write_metrics(folder: Path, metrics: Mapping[str, Sequence[float]]) -> None:
    """metrics.jsonl of some steps, and the config."""
    folder.mkdir(parents=True, exist_ok=True)
    num = len(next(iter(metrics.values())))
    rows = [{"step": i + 1, **{k: v[i] for k, v in metrics.items()}} for i in range(num)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")


def record(folder: Path, task: TextToImage, num: int, step: int = 1) -> list[Rollout]:
    """One recorded group of `num` images; the first is the best."""
    sample = task.samples("held_out")[0]
    rng = np.random.default_rng(step)
    group = []
    for i in range(num):
        output = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        value = 1.0 - i / 8
        rollout = Rollout(sample, 0, i, output, Finish.STOP, 2, 0, task.parse(sample, output))
        rollout.score = Score(value, {"dino": value, "dino_patches": i / 100})
        group.append(rollout)
    record_groups(folder, step, task, group[::-1], 1)
    return group


def html_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def titles(html: str) -> list[str]:
    """Headings of the charts, in order."""
    return re.findall(r'<figure class="chart"><figcaption>(.*?)</figcaption>', html)


def tile(html: str, label: str) -> str:
    (found,) = re.findall(rf'<div class="tile"><span>{label}</span>(.*?)</div>', html)
    return found


@pytest.fixture
def run(tmp_path: Path, task: TextToImage) -> Path:
    """A run that was evaluated twice, without discriminator, KL or entropy."""
    folder = tmp_path / "run"
    write_metrics(
        folder,
        {
            "reward/mean": [0.5, 0.25, 0.75],
            "reward/jpeg": [0.5, 0.5, 0.5],
            "rollout/brightness": [0.5, 0.4, 0.3],
            "rollout/num_actions": [2.0, 2.0, 2.0],
            "update/clip_fraction": [0.0, 0.125, 0.25],
            "update/ratio": [1.0, 1.0, 1.0],
        },
    )
    evaluate(folder, "before", task, drawn(task, 1), [float(i < 6) for i in range(NUM_SAMPLES)])
    evaluate(folder, "after", task, drawn(task, 2), [float(i < 18) for i in range(NUM_SAMPLES)])
    return folder


def test_tiles_show_what_was_only_measured(run: Path) -> None:
    html = html_of(run)
    right = tile(html, "right, held_out")
    assert "<b>20.0 % &rarr; 60.0 %</b>" in right
    change = bootstrap_difference(*read_run(run).comparisons[0].pairs("right"))
    assert f"+40.0 points [{100 * change['low']:+.1f}, {100 * change['high']:+.1f}]" in right
    assert 'class="up"' in right
    before, after = read_run(run).comparisons[0].pairs("small")
    assert len(before) == NUM_SAMPLES
    assert -0.2 < np.mean(before) < -0.01
    write = writer([float(np.mean(before)), float(np.mean(after))])
    small = tile(html, "small, held_out")
    assert f"<b>{write(np.mean(before))} &rarr; {write(np.mean(after))}</b>" in small
    assert "%" not in small
    assert re.search(r"<b>-0\.0\d{3} &rarr; -0\.0\d{3}</b>", small)
    # In the config's order; the task's own metrics have no tile.
    assert re.findall(r'class="tile"><span>(\w+)', html) == ["small", "right", "training"]


def test_tables_and_strata_of_every_main_figure(run: Path) -> None:
    html = html_of(run)
    assert "<h2>Held-out metrics</h2>" in html
    assert "accuracy" not in html
    for name in ("brightness", "contrast", "saturation", "small", "right"):
        assert re.search(rf"<tr><td>{name}</td><td>-?\d", html), name
    assert "<summary>small by concept</summary>" in html
    concept = read_run(run).comparisons[0].before.strata["concept"]
    group, metrics = next(iter(concept.items()))
    shown = re.findall(rf"<td>concept: {group}</td><td>(.*?)</td>", html)
    assert len(shown) == 2
    assert shown[1] == percent(metrics["right"]["mean"])


def test_a_sample_counts_where_it_has_both_values(tmp_path: Path, task: TextToImage) -> None:
    write_metrics(tmp_path / "run", {"reward/mean": [0.5, 1.0]})
    right: list[float | None] = [None, None, *[0.0] * 28]
    evaluate(tmp_path / "run", "before", task, drawn(task, 1), right)
    evaluate(tmp_path / "run", "after", task, drawn(task, 2), [1.0, None, None, *[1.0] * 27])
    shown = tile(html_of(tmp_path / "run"), "right, held_out")
    assert "0.0 % &rarr; 100.0 %" in shown
    assert "+100.0 points [+100.0, +100.0]" in shown
    assert "27 of 30 samples" in shown


def test_hit_stands_for_itself_and_text_may_hold_any_sign(tmp_path: Path) -> None:
    write_metrics(tmp_path, {"reward/mean": [0.5, 1.0]})
    for label, hits in (("before", (0.0, 0.0)), ("after", (0.0, 1.0))):
        rows = [
            {"id": str(i), "output": "a\u2028b", "metrics": {"hit": h, "small": 0.5}, "strata": {}}
            for i, h in enumerate(hits)
        ]
        out = tmp_path / "evaluations" / label
        out.mkdir(parents=True)
        (out / "web.json").write_text(json.dumps(summarise(rows, 50)), encoding="utf-8")
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (out / "web.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "config.yaml").write_text("task: {use: gui_grounding}\n", encoding="utf-8")
    html = html_of(tmp_path)
    assert "<h2>Held-out accuracy</h2>" in html
    assert "<b>0.0 % &rarr; 50.0 %</b>" in tile(html, "hit rate, web")
    assert "small, web" not in html


def test_a_run_whose_task_is_not_at_hand_is_reported_without_its_part(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run / "config.yaml").write_text(CONFIG.replace("text_to_image", "nowhere.at_all:Task"))
    html = html_of(run)
    assert "reported without its task's part" in caplog.text
    assert "brightness (mean)" in titles(html)
    assert html.count('<div class="card">') == NUM_SMALL_IMAGES


def test_only_metrics_of_the_run_are_drawn(run: Path) -> None:
    html = html_of(run)
    assert titles(html) == [
        "Reward",
        "Parts of the reward",
        "Sampled images (mean)",
        "Actions where the ratio is clipped (share)",
    ]
    assert "The same at every step: num_actions 2, ratio 1." in html
    assert "Discriminator" not in html
    assert "over the run" not in html
    assert "Groups" not in html


def test_a_reward_that_learns_has_its_section(tmp_path: Path) -> None:
    names = ("gap", "patch_gap", "reference", "generated", "accuracy", "loss", "temperature")
    metrics = {f"{LEARNER}_{name}": [0.5, 1.0] for name in names}
    metrics |= {f"{LEARNER}_skipped": [0.0, 0.0], f"{LEARNER}_accuracy": [1.0, 1.0]}
    write_metrics(
        tmp_path,
        {
            "reward/mean": [0.5, 1.0],
            **metrics,
            "trainable_reward/other_thing": [1.0, 2.0],
        },
    )
    html = html_of(tmp_path)
    assert titles(html) == [
        "Reward",
        "Gap: references above generated (logits)",
        "Logits (mean)",
        # An accuracy that is always 1 is a finding and is shown.
        "Accuracy (share classified correctly)",
        "Loss",
        "temperature",
        "other_thing",
    ]
    assert "<h3>Discriminator: adversarial_dino</h3>" in html
    assert "The same at every step: skipped 0." in html
    assert re.findall(r"</i>(\w+)</span>", html) == ["gap", "patch_gap", "reference", "generated"]


def test_evaluations_on_the_way_are_lines(run: Path, task: TextToImage) -> None:
    values = [float(i < 9) for i in range(NUM_SAMPLES)]
    evaluate(run, "step-000002", task, drawn(task, 3), values)
    evaluate(run, "step-000003", task, drawn(task, 2), [0.0] * NUM_SAMPLES)
    found = read_run(run).evaluations
    means = [(step, splits["held_out"].overall["right"]["mean"]) for step, splits in found]
    # The last step's own folder gives way to `after`.
    assert means == [(0, 0.2), (2, 0.3), (3, 0.6)]
    html = html_of(run)
    assert "<h2>Held-out metrics over the run</h2>" in html
    assert titles(html)[:5] == [
        f"{name} (held_out)" for name in ("small", "right", "brightness", "contrast", "saturation")
    ]
    chart = html.split("<figcaption>right (held_out)</figcaption>")[1].split("</figure>")[0]
    assert len(re.findall("<circle", chart)) == 3


def test_the_gallery_shows_escaped_captions_and_every_image(run: Path, task: TextToImage) -> None:
    html = html_of(run)
    cards = html.split('<div class="card">')[1:]
    assert len(cards) == NUM_SMALL_IMAGES
    assert "&lt;b&gt;grapes&lt;/b&gt; &amp; &#34;a&#34; bowl" in cards[0]
    assert "<b>grapes</b>" not in html
    labels = [re.findall(r"<figcaption>(\w+)</figcaption>", card) for card in cards]
    assert labels[0] == ["reference", "before", "after"]
    assert labels[1] == ["before", "after"]
    assert html.count("data:image/webp;base64,") == 3 * NUM_SMALL_IMAGES - 1
    assert html.count("<img") == 3 * NUM_SMALL_IMAGES - 1
    assert "right 1.00 &rarr; 1.00</span></p>" in cards[0]
    assert "None" not in html
    assert "Held-out screens" not in html
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_answers_are_kept_pixel_by_pixel(run: Path, task: TextToImage) -> None:
    rollouts = drawn(task, 2)
    folder = run / "evaluations/after/images/held_out-03"
    with Image.open(folder / answer_file(0)) as image:
        np.testing.assert_array_equal(np.asarray(image), rollouts[3].output)
    truth = task.draw(rollouts[3].sample, [])
    assert truth is not None
    with Image.open(folder / TRUTH) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(truth))
    assert not (run / "evaluations/after/images/held_out-01" / TRUTH).exists()


def test_large_images_are_fewer_and_smaller(tmp_path: Path) -> None:
    task = make_task(tmp_path, 400)
    write_metrics(tmp_path / "run", {"reward/mean": [0.5, 1.0]})
    for label in ("before", "after"):
        evaluate(tmp_path / "run", label, task, drawn(task, 1), [0.0] * NUM_SAMPLES)
    images = tmp_path / "run/evaluations/after/images"
    assert len(list(images.glob("*.webp"))) == NUM_IMAGES
    with Image.open(images / "held_out-00" / answer_file(0)) as image:
        assert image.size == (384, 384)
    html = html_of(tmp_path / "run")
    assert html.count('<div class="card">') == NUM_IMAGES
    assert '<div class="gallery large">' in html


def test_a_run_without_images_of_single_answers(run: Path) -> None:
    for path in run.glob("evaluations/*/images/held_out-*/"):
        if path.is_dir():
            shutil.rmtree(path)
    cards = html_of(run).split('<div class="card">')[1:]
    assert len(cards) == NUM_SMALL_IMAGES
    for card in cards:
        assert re.findall(r"<figcaption>(\w+)</figcaption>", card) == ["before", "after"]
        assert card.count("<img") == 2
        assert "None" not in card


def test_only_the_same_sample_is_laid_side_by_side(run: Path) -> None:
    path = run / "evaluations/after/images/held_out-02.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**row, "id": "another"}), encoding="utf-8")
    assert html_of(run).count('<div class="card">') == NUM_SMALL_IMAGES - 1


def test_groups_show_every_image_with_its_reward(run: Path, task: TextToImage) -> None:
    group = record(run, task, 4)
    folder = run / "rollouts/step-000001/group-0"
    for place, rollout in enumerate(group):
        with Image.open(folder / answer_file(place)) as image:
            np.testing.assert_array_equal(np.asarray(image), rollout.output)
    html = html_of(run).split("<h2>Groups: from the best to the worst image</h2>")[1]
    assert html.count("<img") == 5
    assert "step 1: &lt;b&gt;grapes&lt;/b&gt;" in html
    rows = dict(re.findall(r"<tr><td>(\w+)</td>(.*?)</tr>", html))
    assert re.findall(r"<td>(.*?)</td>", rows["reward"]) == ["1.00", "0.88", "0.75", "0.62"]
    assert re.findall(r"<td>(.*?)</td>", rows["dino_patches"]) == [
        "0.0000",
        "0.0100",
        "0.0200",
        "0.0300",
    ]
    # The same numbers as the reward's.
    assert "dino" not in rows
    assert "true box" not in html


def test_a_large_group_shows_some(run: Path, task: TextToImage) -> None:
    record(run, task, 16)
    names = sorted(path.name for path in run.glob("rollouts/step-000001/group-0/answer-*"))
    assert len(names) == MAX_ANSWER_IMAGES
    assert (names[0], names[-1]) == (answer_file(0), answer_file(15))
    html = html_of(run)
    assert "10 of 16" in html
    shutil.rmtree(run / "rollouts/step-000001/group-0")
    html = html_of(run).split("<h2>Groups")[1]
    # The best and the worst in one image, and the table of all.
    assert html.count("<img") == 1
    assert html.count("<tr>") == 17
    assert "None" not in html


def test_labels_of_an_axis_differ_and_fit() -> None:
    svg = line_chart("a", {"x": [(0, -0.0030941), (1, -0.0030992)]})
    labels = re.findall(r'<text x="([\d.]+)" [^>]*text-anchor="end">(-[\d.]+)</text>', svg)
    assert len({text for _, text in labels}) == len(labels) >= 3
    assert all(float(x) >= 6 * len(text) for x, text in labels)
    flat = line_chart("a", {"x": [(0, 0.51211), (1, 0.51213)]})
    texts = re.findall(r'text-anchor="end">(0[\d.]+)</text>', flat)
    assert len(set(texts)) == len(texts) >= 3


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.2712, 1.437], ["0.27", "1.44"]),
        ([-0.0030941], ["-0.00309"]),
        ([1234.5, 2.0], ["1234", "2"]),
        ([0.0], ["0.00"]),
        ([1e-20, -3.67e-6], ["0.00e+00", "-3.67e-06"]),
        ([-0.0001, 0.5], ["0.000", "0.500"]),
    ],
)
def test_numbers_have_three_digits(values: list[float], texts: list[str]) -> None:
    assert list(map(writer(values), values)) == texts


@given(st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-9))
def test_a_written_number_is_the_number(value: float) -> None:
    assert float(writer([value])(value)) == pytest.approx(value, rel=0.006, abs=1e-12)


def test_only_zeros_and_ones_are_a_rate() -> None:
    assert is_rate([0.0, 1.0], [1.0])
    assert not is_rate([0.0, 1.0], [0.5])
    assert points(0.025) == "+2.5"
