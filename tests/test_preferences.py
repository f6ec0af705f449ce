"""Preference sets in their own layouts, damage of known severity, metrics of judges."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers_judge import noise_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scripts.assets.images.degrade import DEGRADATIONS, HELD_OUT_KINDS, degrade
from scripts.assets.images.judge_pairs import TRAINED_KINDS, PairMaker, read_rows, write_pairs
from vlrl.errors import DataError
from vlrl.eval.judge.agreement import (
    markdown,
    read_judgements,
    reward_bench_metrics,
    summarise,
)
from vlrl.judge.agreement import (
    Judgement,
    calibration,
    correct,
    one_against_many,
    order_consistency,
    p_of_scores,
    pairwise_accuracy,
    tie_accuracy,
)
from vlrl.judge.data.preference import PreferenceSource
from vlrl.judge.data.preferences import read_preferences

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path):
    """Four images, and a function that writes rows as a file."""
    for i in range(4):
        Image.fromarray(noise_image(i)).save(tmp_path / f"{i}.png")

    def write(rows, name="rows.jsonl"):
        if name.endswith(".jsonl"):
            text = "".join(json.dumps(row) + "\n" for row in rows)
        else:
            text = json.dumps(rows)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def read(path, format="pairs", **options):
    return read_preferences(PreferenceSource(path=path, format=format, **options))


def test_pairs_of_our_own(folder):
    row = {"caption": "a cat", "chosen": "0.png", "rejected": "1.png", "kind": "blur"}
    rows = [row, {**row, "id": "own", "tie": True, "criterion": "beauty", "reasoning": "sharper"}]
    (one,) = read(folder(rows)).good
    assert (one.id, one.preferred, one.kind) == ("rows/1", 1, "blur")
    assert (one.chosen.name, one.rejected.name) == ("0.png", "1.png")
    both = read(folder(rows), ties="keep").good
    assert (both[1].id, both[1].preferred, both[1].criterion) == ("own", 0, "beauty")
    texts = {"prompt": "2 + 2?", "chosen_text": "4", "rejected_text": "5", "images": ["2.png"]}
    (one,) = read(folder([texts])).good
    assert (one.chosen, one.rejected) == ("4", "5")
    assert one.context[0].name == "2.png"


def test_hpd_v2_train_and_test(folder):
    train = [
        {"prompt": "a cat", "file_path": ["0.png", "1.png"], "human_preference": [0, 1]},
        {"prompt": "a dog", "image_path": ["2.png", "3.png"], "human_preference": [1, 0]},
    ]
    rows = read(folder(train, "train.json"), "hpd_v2").good
    assert [row.preferred for row in rows] == [2, 1]
    assert rows[0].chosen.name == "1.png"
    test = [{"prompt": "a cat", "image_path": ["0.png", "1.png", "2.png"], "rank": [2, 0, 2]}]
    rows = read(folder(test, "test.json"), "hpd_v2", ties="keep").good
    assert [row.preferred for row in rows] == [2, 0, 1]
    assert [row.id for row in rows] == ["test/1#0-1", "test/1#0-2", "test/1#1-2"]


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(noise_image(seed)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_pick_a_pic_in_parquet(tmp_path):
    from datasets import Dataset

    rows = {
        "caption": ["a cat", "a dog", "a car"],
        "jpg_0": [png(0), png(1), png(2)],
        "jpg_1": [png(1), png(2), png(3)],
        "label_0": [1.0, 0.5, 0.0],
        "label_1": [0.0, 0.5, 1.0],
        "has_label": [True, True, False],
        "ranking_id": [7, 8, 9],
    }
    Dataset.from_dict(rows).to_parquet(tmp_path / "pick.parquet")
    found = read(str(tmp_path / "pick.parquet"), "pick_a_pic", ties="keep").good
    assert [(row.id, row.preferred) for row in found] == [("7", 1), ("8", 0)]
    with Image.open(found[0].first) as image:
        assert (np.asarray(image) == noise_image(0)).all()
    assert found[0].second == found[1].first  # the same bytes are one file


def test_image_reward_db_joins_the_images_of_a_prompt(folder):
    base = {"classification": "People", "image_amount_in_total": 3, "overall_rating": 4}
    rows = [
        {**base, "prompt_id": "p1", "prompt": "a cat", "image_path": "0.png", "rank": 2},
        {**base, "prompt_id": "p2", "prompt": "a dog", "image_path": "3.png", "rank": 1},
        {**base, "prompt_id": "p1", "prompt": "a cat", "image_path": "1.png", "rank": 1},
        {**base, "prompt_id": "p1", "prompt": "a cat", "image_path": "2.png", "rank": 2},
    ]
    found = read(folder(rows, "train_1.json"), "image_reward_db", ties="keep").good
    assert [(row.id, row.preferred) for row in found] == [
        ("train_1/p1#0-1", 2),
        ("train_1/p1#0-2", 0),
        ("train_1/p1#1-2", 1),
    ]


def test_published_benchmarks_of_judges_are_read(folder):
    genai = {"prompt": "a cat", "left_image": "0.png", "right_image": "1.png"}
    rows = [{**genai, "vote_type": vote} for vote in ("leftvote", "rightvote", "bothbad_vote")]
    found = read(folder(rows), "genai_bench", ties="keep").good
    assert [row.preferred for row in found] == [1, 2, 0]
    vl = {"id": "v1", "query": "What?", "response": ["a", "b"], "image": "0.png"}
    (one,) = read(
        folder([{**vl, "human_ranking": [1, 0], "query_source": "povid"}]), "vl_reward_bench"
    ).good
    assert (one.chosen, one.kind, one.context[0].name) == ("b", "povid", "0.png")
    bench = {"id": 3, "prompt": "Hi", "chosen": "yes", "rejected": "no", "subset": "chat"}
    assert read(folder([bench]), "reward_bench").good[0].group == ""
    lone = {**bench, "chosen": ["c"], "rejected": ["r"]}
    assert read(folder([lone]), "reward_bench").good[0].group == "3#0", "version 2 has lists"
    many = {**bench, "chosen": ["c"], "rejected": ["r1", "r2", "r3"]}
    found = read(folder([many]), "reward_bench").good
    assert {row.group for row in found} == {"3#0"}
    assert [row.rejected for row in found] == ["r1", "r2", "r3"]


GOOD = {"caption": "a cat", "chosen": "0.png", "rejected": "1.png"}
HPD = {"prompt": "a cat", "image_path": ["0.png", "1.png"], "human_preference": [1, 0]}


@pytest.mark.parametrize(
    ("format", "row", "said"),
    [
        ("pairs", {"chosen": "0.png", "rejected": "1.png"}, "row 2: field 'caption' is missing"),
        ("pairs", {**GOOD, "caption": "  "}, "row 2: field 'caption' must be a non-empty string"),
        ("pairs", {**GOOD, "chosen": "9.png"}, r"row 2: field 'chosen'.*9.png; check `image_root`"),
        (
            "pairs",
            {**GOOD, "rejected": 3},
            "row 2: field 'rejected' must be an image file or bytes",
        ),
        ("pairs", {**GOOD, "tie": "no"}, "row 2: field 'tie'"),
        ("pairs", ["a"], "row 2: a row is a JSON object"),
        ("hpd_v2", {**HPD, "human_preference": [1]}, "row 2: field 'human_preference'"),
        ("hpd_v2", {**HPD, "image_path": ["0.png"]}, "row 2: field 'image_path'"),
        ("pick_a_pic", {"caption": "x", "label_0": 1, "label_1": 1}, "row 2: fields 'label_0'"),
        ("genai_bench", {"prompt": "x", "vote_type": "left"}, "row 2: field 'vote_type'"),
        ("vl_reward_bench", {"query": "x", "response": ["a"]}, "row 2: field 'response'"),
        ("reward_bench", {"prompt": "x", "chosen": 1, "rejected": "b"}, "row 2: field 'chosen'"),
        ("image_reward_db", {"prompt": "x"}, "row 2: field 'prompt_id' is missing"),
    ],
)
def test_a_bad_row_is_named(folder, format, row, said):
    good = {
        "pairs": GOOD,
        "hpd_v2": HPD,
        "genai_bench": {
            "prompt": "x",
            "vote_type": "leftvote",
            "left_image": "0.png",
            "right_image": "1.png",
        },
        "vl_reward_bench": {"query": "x", "response": ["a", "b"], "human_ranking": [0, 1]},
        "reward_bench": {"prompt": "x", "chosen": "a", "rejected": "b"},
        "image_reward_db": {"prompt_id": "p", "prompt": "x", "image_path": "0.png", "rank": 1},
        "pick_a_pic": {"caption": "x", "has_label": False},
    }[format]
    with pytest.raises(DataError, match=said):
        read(folder([good, row]), format)
    if format in ("pairs", "hpd_v2"):
        rows = read(folder([good, row]), format, on_bad_row="skip")
        assert len(rows.good) == len(rows.skipped) == 1


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_damage_grows_with_severity_and_is_reproducible(kind):
    rows = read_rows(ROOT / "assets/images/held_out.jsonl")
    image = PairMaker(ROOT / "assets/images", rows, 0).image(rows[0], "noto")
    before = np.asarray(image, dtype=float)
    errors = []
    for severity in (0.0, 0.2, 0.5, 1.0):
        worse = degrade(kind, image, severity, seed=3)
        assert (np.asarray(worse) == np.asarray(degrade(kind, image, severity, seed=3))).all()
        assert worse.size == image.size
        errors.append(float(np.abs(np.asarray(worse, dtype=float) - before).mean()))
    assert errors[0] == 0.0
    assert errors[0] < errors[1] < errors[2] < errors[3]
    with pytest.raises(ValueError, match="severity"):
        degrade(kind, image, 1.2, 0)
    with pytest.raises(ValueError, match="did you mean"):
        degrade(kind + "x", image, 0.5, 0)


def test_made_pairs_are_true_and_the_same_every_time(tmp_path):
    rows = read_rows(ROOT / "assets/images/held_out.jsonl")
    for hard in (False, True):
        made = list(PairMaker(ROOT / "assets/images", rows, 5, hard=hard).draw(40, TRAINED_KINDS))
        assert {one.kind for one in made} == set(TRAINED_KINDS)
        assert not set(TRAINED_KINDS) & set(HELD_OUT_KINDS)
        for one in made:
            assert 0 <= one.severity[0] < one.severity[1] <= 1
            assert np.asarray(one.chosen).shape == np.asarray(one.rejected).shape == (64, 64, 3)
            assert (np.asarray(one.chosen) != np.asarray(one.rejected)).any()
    again = list(PairMaker(ROOT / "assets/images", rows, 5, hard=True).draw(40, TRAINED_KINDS))
    assert [a.chosen.tobytes() for a in again] == [b.chosen.tobytes() for b in made]
    assert write_pairs(iter(made[:6]), tmp_path / "t.jsonl", "t") == 6
    found = read(str(tmp_path / "t.jsonl")).good
    assert [row.kind for row in found] == [one.kind for one in made[:6]]


def view(p, truth=1.0, **more):
    return Judgement(f"{p}", truth, p, **more)


def test_a_hand_worked_table():
    views = [view(0.9), view(0.6), view(0.2), view(0.3, 0.0), view(0.5), view(0.55, 0.5)]
    assert [correct(one) for one in views] == [1, 1, 0, 1, 0.5, None]
    accuracy = pairwise_accuracy(views)
    assert accuracy["mean"] == pytest.approx(3.5 / 5)
    assert accuracy["num"] == 5
    assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    # A width of 0.05 calls 0.55 a tie, rightly, and 0.5 too: 4 of 6.
    ties = tie_accuracy(views)
    assert (ties["mean"], ties["num_ties"]) == (pytest.approx(4 / 6), 1)
    assert ties["tie_width"] == pytest.approx(0.05)
    assert tie_accuracy(views[:3]) == {}
    error = calibration([view(0.9), view(0.9), view(0.9), view(0.1)])
    assert error["ece"] == pytest.approx(0.15)
    assert error["brier"] == pytest.approx((3 * 0.01 + 0.81) / 4)


def test_order_consistency_counts_verdicts_that_do_not_turn():
    views = [
        view(0.5, first_order=0.9, second_order=0.1),
        view(0.8, first_order=0.8, second_order=0.8),
    ]
    metrics = order_consistency(views)
    assert metrics == {"consistent": 0.5, "first_place": pytest.approx(0.2), "num": 2.0}
    assert order_consistency([view(0.5)]) == {}
    # An exact tie is not a verdict for the first.
    for orders in ((0.5, 0.6), (0.6, 0.5)):
        tie = view(0.55, first_order=orders[0], second_order=orders[1])
        assert order_consistency([tie])["consistent"] == 0.0


@given(ps=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=8), power=st.floats(0.3, 3))
def test_one_against_many_sees_only_the_order(ps, power):
    """A constant judge has 0 and 1 / (1 + n); an increasing transform about 0.5 changes nothing."""
    flat = [Judgement(str(i), 1.0, 0.5, group="g") for i in range(len(ps))]
    metrics = one_against_many(flat, num_bootstrap=10)
    assert metrics["accuracy"]["mean"] == 0.0
    assert metrics["mrr"]["mean"] == pytest.approx(1 / (1 + len(ps)))
    views = [Judgement(str(i), 1.0, p, group="g") for i, p in enumerate(ps)]
    bent = [
        Judgement(
            one.id, 1.0, 0.5 + 0.5 * np.sign(one.p - 0.5) * abs(2 * one.p - 1) ** power, group="g"
        )
        for one in views
    ]
    assert one_against_many(views, num_bootstrap=10) == one_against_many(bent, num_bootstrap=10)
    assert one_against_many([view(0.9)]) == {}


def scored_pair(first, second, group="", kind=""):
    return Judgement(
        "x", 1.0, p_of_scores(first, second), labels={"kind": kind}, group=group,
        scores=(first, second),
    )  # fmt: skip


def test_ties_by_each_benchmarks_own_rule():
    """RewardMATH: a shared first place is lost; RewardBench 2: it counts 1 / k."""
    three = [scored_pair(2.0, score, "g") for score in (2.0, 1.0, 2.0)]
    assert one_against_many(three)["accuracy"]["mean"] == 0.0
    assert one_against_many(three)["mrr"]["mean"] == pytest.approx(1 / 3)
    shared = one_against_many(three, tied_top="shared")
    assert shared["accuracy"]["mean"] == pytest.approx(1 / 3)
    beaten = [*three, scored_pair(2.0, 3.0, "g")]
    assert one_against_many(beaten, tied_top="shared")["accuracy"]["mean"] == 0.0
    # Equal scores: half elsewhere, wrong in RewardBench's first version; a verdict "tie" is half.
    pairs = [scored_pair(1.0, 1.0), view(0.5)]
    assert pairwise_accuracy(pairs)["mean"] == 0.5
    assert reward_bench_metrics(pairs)["accuracy"]["mean"] == 0.25


def test_the_ties_subset_by_hand():
    """Right answers 5 and 4, wrong 2: lead 2, spread 1; the twin leads by 0.5 only."""
    rows = [scored_pair(s, 2.0, f"tied:7#{i}", "Ties") for i, s in enumerate((5.0, 4.0))]
    rows.append(scored_pair(2.5, 2.0, "ref:7#0", "Ties"))
    found = reward_bench_metrics(rows)["ties_subset"]
    assert found["margin"] == 1.0
    assert found["margin_with_ref"] == 0.0
    size = np.tanh(0.5 / 1 - 1)
    assert found["score"] == pytest.approx(0.3 + 0.3 + 0.2 + 0.01 * size)
    assert "ties_subset" not in reward_bench_metrics(rows[:2]), "a prompt without its twin"
    unscored = [Judgement("x", 1.0, 0.9, labels={"kind": "Ties"}, group="tied:7#0")]
    assert "ties_subset" not in reward_bench_metrics(unscored)


def test_reward_bench_by_sections_in_the_table():
    rows = [scored_pair(1, 0, kind="math-prm"), scored_pair(0, 1, kind="hep-cpp")]
    summary = summarise(rows, reward_bench=True)
    assert summary["all"]["sections"] == {"Reasoning": pytest.approx(984 / (984 + 164))}
    assert "sections: Reasoning 85.7" in markdown(summary, "t")


@given(a=st.floats(-30, 30), b=st.floats(-30, 30), shift=st.floats(-5, 5))
def test_bradley_terry_of_scores_sees_only_the_difference(a, b, shift):
    assert p_of_scores(a, b) + p_of_scores(b, a) == pytest.approx(1.0)
    assert p_of_scores(a + shift, b + shift) == pytest.approx(p_of_scores(a, b), abs=1e-9)


def test_judgements_made_elsewhere(folder, tmp_path):
    rows = [{**GOOD, "id": f"q{i}", "kind": "blur" if i else "noise"} for i in range(4)]
    pairs = read(folder(rows)).good
    said = [
        {"id": "q0", "p": 0.9, "p_swapped": 0.2},
        {"id": "q1", "verdict": "B"},
        {"id": "q2", "scores": [2.5, 1]},
        {"id": "q3", "verdict": "tie"},
    ]
    path = Path(folder(said, "said.jsonl"))
    views = read_judgements(path, pairs)
    assert [one.p for one in views] == [pytest.approx(0.85), 0.0, 1.0, 0.5]
    summary = summarise(views)
    assert summary["all"]["accuracy"]["mean"] == pytest.approx(2.5 / 4)
    assert summary["kind"]["noise"]["accuracy"]["mean"] == 1.0
    assert "| kind: blur" in markdown(summary, "test")
    for bad, why in (
        ({"id": "q3"}, "exactly one of"),
        ({"id": "q3", "p": 1.2}, "in \\[0, 1\\]"),
        ({"id": "q3", "verdict": "maybe"}, "'verdict' must be one of"),
        ({"id": "q3", "scores": [1]}, "two finite numbers"),
        ({"id": "q0", "p": 0.1}, "appears twice"),
        ({"p": 0.1}, "needs `id`"),
    ):
        with pytest.raises(DataError, match=f"line 4.*{why}"):
            read_judgements(Path(folder([*said[:3], bad], "said.jsonl")), pairs)
    with pytest.raises(DataError, match="1 pairs have no judgement, the first: 'q3'"):
        read_judgements(Path(folder(said[:3], "said.jsonl")), pairs)
