"""The embedded screens: files, boxes, counts, splits, licences."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from scripts.assets.screens.check import problems
from vlrl.gui.capture.dataset import read_jsonl
from vlrl.gui.capture.records import KINDS

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "screens"
NEW = ASSETS.parent / "new_screens"
SPLITS = {"train": "train.jsonl", "held_out": "held_out.jsonl", "unseen_apps": "unseen_apps.jsonl"}

Rows = dict[str, list[dict[str, Any]]]


def _read(folder: Path) -> Rows:
    return {s: read_jsonl(folder / f) for s, f in SPLITS.items() if (folder / f).is_file()}


@pytest.fixture(scope="module")
def embedded() -> Rows:
    return _read(ASSETS)


@pytest.mark.parametrize("folder", [ASSETS, NEW], ids=lambda folder: folder.name)
def test_embedded_rows_are_sound(folder: Path) -> None:
    assert problems([row for rows in _read(folder).values() for row in rows], folder) == []


def test_new_screens_share_no_application_with_the_warm_up_and_no_page_between_splits() -> None:
    new, rows = read_jsonl(NEW / "screens.jsonl"), _read(NEW)
    assert set(rows) == {"train", "held_out"}
    assert len(rows["train"]) >= 500
    assert len(rows["held_out"]) >= 200
    assert len({s["app"] for s in new}) >= 4
    assert not {s["app"] for s in new} & {s["app"] for s in read_jsonl(ASSETS / "screens.jsonl")}
    pages = {split: {(s["app"], s["page"]) for s in new if s["split"] == split} for split in rows}
    assert not pages["train"] & pages["held_out"]
    split_of = {s["id"]: s["split"] for s in new}
    assert len(split_of) == len(new)
    for split, part in rows.items():
        assert {split_of[r["screen"]] for r in part} == {split}
    assert {s["image"] for s in new} == {f"images/{p.name}" for p in (NEW / "images").iterdir()}


def test_the_embedded_screens_are_enough_and_varied(embedded: Rows) -> None:
    screens = read_jsonl(ASSETS / "screens.jsonl")
    rows = [row for part in embedded.values() for row in part]
    assert len(screens) >= 250
    assert len({s["app"] for s in screens}) >= 6
    assert {s["platform"] for s in screens} == {"web", "mobile", "desktop"}
    everything = rows + [row for part in _read(NEW).values() for row in part]
    assert len({r["id"].rsplit("/", 1)[0] for r in everything}) >= 3000
    assert len(embedded["train"]) >= 2000
    assert len(embedded["held_out"]) >= 500
    assert len(embedded["unseen_apps"]) >= 300
    assert {r["kind"] for r in rows} == set(KINDS)
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) < 25e6


def test_embedded_splits_are_disjoint(embedded: Rows) -> None:
    screens = read_jsonl(ASSETS / "screens.jsonl")
    split_of = {s["id"]: s["split"] for s in screens}
    assert len(split_of) == len(screens)
    for split, rows in embedded.items():
        assert {split_of[r["screen"]] for r in rows} == {split}
    pages = defaultdict(set)
    apps = defaultdict(set)
    for s in screens:
        pages[s["app"], s["page"]].add(s["split"])
        apps[s["split"]].add(s["app"])
    assert all(len(found) == 1 for found in pages.values())
    assert len(apps["unseen_apps"]) == 2
    assert not apps["unseen_apps"] & (apps["train"] | apps["held_out"])
    assert {s["image"] for s in screens} == {
        f"images/{p.name}" for p in (ASSETS / "images").iterdir()
    }


def test_held_out_rows_say_whether_training_shows_them(
    embedded: Rows,
) -> None:
    assert {row["familiar"] for row in embedded["held_out"]} == {True, False}
    assert sum(not row["familiar"] for row in embedded["held_out"]) >= 500
    assert not any("familiar" in row for row in embedded["train"] + embedded["unseen_apps"])


@pytest.mark.parametrize("folder", [ASSETS, NEW], ids=lambda folder: folder.name)
def test_embedded_sources_are_listed(folder: Path) -> None:
    screens = read_jsonl(folder / "screens.jsonl")
    licences = (folder / "LICENSES.md").read_text()
    for app in {s["app"] for s in screens}:
        assert f"| {app} |" in licences


def test_embedded_sizes_are_native_multiples_of_the_token(
    embedded: Rows,
) -> None:
    sizes = {tuple(r["image_size"]) for rows in embedded.values() for r in rows}
    assert sizes == {(280, 504), (448, 364), (504, 364)}
    assert all(side % 28 == 0 for size in sizes for side in size)
