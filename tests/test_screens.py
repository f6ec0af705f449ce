"""Screens: names, colours, places, instructions, filters, split, the browser, the embedded set."""

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scripts.assets.screens.check import problems
from scripts.assets.screens.pages import load_icons, make_page
from vlrl.gui.capture import command as cli
from vlrl.gui.capture.browser import BrowserMissingError, find_chromium
from vlrl.gui.capture.capture import Shot, make_shot, refuse_blank
from vlrl.gui.capture.colours import colour_word, fill_word, ink_word
from vlrl.gui.capture.crawl import MAX_REASON, Source, page_key, reason
from vlrl.gui.capture.dataset import (
    Deduper,
    limit_repeats,
    split_of_page,
)
from vlrl.gui.capture.extract import ExtractOptions, iou, merge_twins, to_element
from vlrl.gui.capture.icons import canonical, icon_meaning
from vlrl.gui.capture.instructions import ScreenInstructions
from vlrl.gui.capture.names import clean_name, name_key, refuse_name
from vlrl.gui.capture.places import order_phrases, region_phrases
from vlrl.gui.capture.records import Element, Group, Row

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "screens"
SPLITS = {"train": "train.jsonl", "held_out": "held_out.jsonl", "unseen_apps": "unseen_apps.jsonl"}
SIZE = (448, 364)


def element(
    box: tuple[int, int, int, int], name: str, role: str = "button", **more: Any
) -> Element:
    """A named element with visible text."""
    kind = more.pop("element_type", "text")
    return Element(box=box, role=role, name=name, text=name, element_type=kind, **more)


def blank(colour: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """A plain image of SIZE."""
    return np.full((SIZE[1], SIZE[0], 3), colour, dtype=np.uint8)


def texts(elements: list[Element], pixels: np.ndarray | None = None) -> dict[tuple[int, str], str]:
    """Instructions of a screen by (element, kind)."""
    maker = ScreenInstructions(elements, blank() if pixels is None else pixels, SIZE, "seed")
    return {(m.index, m.kind): m.text for m in maker.build()}


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  Save\n  as…  ", "Save as..."),
        ("Save (Ctrl+S)", "Save"),
        ("Activate Command Palette Ctrl+Shift+C", "Activate Command Palette"),
        ("Zoom Tool [Z/Alt+wheels]", "Zoom Tool"),
        ("← Back to list", "Back to list"),
        ("Café", "Cafe"),
        ("\ue001 Inbox", "Inbox"),
        ("日本語", ""),
    ],
)
def test_names_are_cleaned_of_what_is_not_said(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean


@pytest.mark.parametrize("bad", ["", "12", "#7", "x" * 41, "~/work", "{{ title }}", "icon", "a"])
def test_refused_names_have_a_reason(bad: str) -> None:
    assert refuse_name(bad)


@pytest.mark.parametrize("good", ["OK", "Inbox", "Sign in", "3D view", "C++ file"])
def test_usable_names_are_not_refused(good: str) -> None:
    assert refuse_name(good) == ""


def test_name_key_ignores_case_and_marks() -> None:
    assert name_key("Sign-in!") == name_key("sign IN")
    assert name_key("Add") != name_key("Add new")


def test_icons_are_called_by_their_meaning() -> None:
    assert icon_meaning(["lg", "magnifying-glass"]) == "search"
    assert icon_meaning(["trash-fill"]) == "delete"
    assert icon_meaning(["nothing-known"]) == ""
    assert canonical("Toggle navigation", []) == "menu"


# --- colours ---------------------------------------------------------------------------------


def test_colours_are_called_by_their_plain_word() -> None:
    assert colour_word((220, 20, 30)) == "red"
    assert colour_word((30, 90, 220)) == "blue"
    assert colour_word((10, 20, 90)) == "dark blue"
    assert colour_word((255, 255, 255)) == "white"
    assert colour_word((128, 128, 128)) == "gray"


def test_fill_needs_contrast_with_the_ground() -> None:
    pixels = blank()
    pixels[20:40, 10:60] = (220, 20, 30)
    assert fill_word(pixels, (10, 20, 60, 40)) == "red"
    assert fill_word(blank((220, 20, 30)), (10, 20, 60, 40)) == ""


def test_an_icon_that_shows_nothing_is_refused() -> None:
    pixels = blank()
    pixels[12:20, 44:60] = (90, 90, 90)
    icons = [
        element((10, 10, 34, 34), "Search", element_type="icon"),
        element((40, 10, 64, 34), "Delete", element_type="icon"),
        element((70, 10, 94, 34), "Save"),
    ]
    refuse_blank(icons, pixels)
    assert [e.dropped for e in icons] == ["nothing to see", "", ""]


def test_ink_is_the_colour_of_the_strokes() -> None:
    pixels = blank()
    pixels[28:32, 15:50] = (20, 60, 200)
    assert ink_word(pixels, (10, 20, 60, 40)) == "blue"


# --- places and instructions -----------------------------------------------------------------


def _menu(more_before: bool = False, count: int = 4) -> list[Element]:
    group = Group(1, "menu", (0, 10, 100, 10 + 40 * count), more_before, False)
    return [
        element((4, 10 + 40 * i, 96, 42 + 40 * i), f"Item {'abcdef'[i]}", "link", group=group)
        for i in range(count)
    ]


def test_order_in_a_list() -> None:
    items = _menu()
    assert "second item of the left menu" in order_phrases(1, items, SIZE)
    assert "last item of the left menu" in order_phrases(3, items, SIZE)


def test_no_order_when_items_are_out_of_sight() -> None:
    assert not any("first" in p for p in order_phrases(0, _menu(more_before=True), SIZE))
    cut = _menu()
    cut[2].dropped = "cut off"
    assert order_phrases(0, cut, SIZE) == []


def test_no_order_with_two_like_groups() -> None:
    other = [
        element((110, 10 + 40 * i, 200, 42 + 40 * i), f"Other {i}", "link",
                group=Group(2, "menu", (110, 10, 200, 170)))
        for i in range(3)
    ]  # fmt: skip
    assert order_phrases(0, _menu() + other, SIZE) == []


def test_region_needs_to_be_alone_there() -> None:
    corner = element((400, 5, 440, 30), "Log in")
    far = element((5, 330, 60, 355), "Help")
    assert "button at the top right" in region_phrases(0, [corner, far], ["button"] * 2, SIZE)
    near = element((350, 8, 390, 30), "Sign up")
    found = region_phrases(0, [corner, near], ["button"] * 2, SIZE)
    assert "button at the top right" not in found


def test_label_needs_a_unique_name() -> None:
    same = [element((10, 10, 80, 30), "Edit"), element((10, 60, 80, 80), "edit!")]
    assert all(kind != "label" for _, kind in texts(same))
    assert "Save" in texts([element((10, 10, 80, 30), "Save")])[0, "label"]


def test_twins_are_told_apart_by_their_row() -> None:
    twins = [
        element((10, 10, 80, 30), "Edit", row="Anna"),
        element((10, 60, 80, 80), "Edit", row="Ben"),
    ]
    found = texts(twins)
    assert "Anna" in found[0, "label"]
    assert "Ben" in found[1, "label"]


def test_a_refused_twin_still_makes_a_name_ambiguous() -> None:
    pair = [element((10, 10, 80, 30), "Edit"), element((10, 60, 18, 66), "Edit", dropped="tiny")]
    assert (0, "label") not in texts(pair)


def test_icons_of_one_meaning_are_not_asked_for() -> None:
    icons = [
        element((10, 10, 34, 34), "delete", element_type="icon"),
        element((50, 10, 74, 34), "trash", element_type="icon"),
    ]
    assert all(kind != "icon" for _, kind in texts(icons))


def test_appearance_only_for_a_colour_seen_once() -> None:
    elements = [element((10, 20, 60, 40), "Save"), element((100, 20, 160, 40), "Drop")]
    pixels = blank()
    pixels[20:40, 10:60] = (220, 20, 30)
    pixels[20:40, 100:160] = (30, 90, 220)
    assert "red button" in texts(elements, pixels)[0, "appearance"]
    pixels[20:40, 100:160] = (220, 20, 30)
    assert (0, "appearance") not in texts(elements, pixels)


def test_instructions_are_short_ascii_unique_and_seeded() -> None:
    items = _menu()
    first, second = texts(items), texts(items)
    assert first == second
    lowered = [t.lower() for t in first.values()]
    assert len(set(lowered)) == len(lowered)
    assert all(len(t) <= 60 and t.isascii() for t in first.values())


# --- filters, duplicates, split --------------------------------------------------------------


def raw(box: list[float], text: str = "Save", **more: Any) -> dict[str, Any]:
    """A record as extract.js returns it."""
    record: dict[str, Any] = {
        "box": box, "role": "button", "text": text, "name": text, "source": "text", "fraction": 1.0,
        "wrapped": False, "hits": {"centre": True, "others": 4, "inner": False, "covers": False},
        "input": False, "disabled": False, "icons": [], "picture": False, "row": "", "group": None,
        "colours": {"text": "", "fill": "", "icon": ""}, "href": "",
    }  # fmt: skip
    return {**record, **more}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fraction": 0.4}, "cut off"),
        ({"box": [0, 0, 11, 40]}, "tiny"),
        ({"box": [0, 0, 400, 300]}, "huge"),
        ({"wrapped": True}, "wrapped over lines"),
        ({"hits": {"centre": False, "others": 4, "inner": False}}, "occluded"),
        ({"hits": {"centre": True, "others": 4, "inner": True}}, "holds another control"),
        ({"disabled": True}, "disabled"),
        ({"text": "7", "name": "7"}, "name is a number or a symbol"),
        ({}, ""),
    ],
)
def test_filters_give_their_reason(change: dict[str, Any], reason: str) -> None:
    record = {**raw([10, 10, 80, 40]), **change}
    assert to_element(record, SIZE, ExtractOptions()).dropped == reason


def test_visible_text_beats_a_hidden_name() -> None:
    made = to_element(raw([10, 10, 80, 40], "Docs", name="Open the manual"), SIZE, ExtractOptions())
    assert (made.name, made.element_type) == ("Docs", "text")
    icon = raw([10, 10, 34, 34], "", name="Search", source="aria")
    assert to_element(icon, SIZE, ExtractOptions()).element_type == "icon"


def test_avatar_names_are_refused() -> None:
    avatar = raw([10, 10, 34, 34], "", name="Douglas McGee", source="image", picture=True)
    assert to_element(avatar, SIZE, ExtractOptions()).dropped == "name of a picture"


def test_twins_in_one_place_merge() -> None:
    both = [element((10, 10, 80, 40), "", dropped="no name"), element((10, 10, 80, 41), "Save")]
    merged = merge_twins(both, ExtractOptions())
    assert [e.name for e in merged] == ["Save"]
    assert iou((0, 0, 10, 10), (20, 20, 30, 30)) == 0.0


def test_crops_keep_only_whole_elements() -> None:
    page = {"elements": [raw([490, 10, 520, 40]), raw([600, 50, 700, 80], "Open"),
                         raw([10, 10, 40, 40], "Left")], "height": 400}  # fmt: skip
    shot = make_shot(page, Image.new("RGB", SIZE), "s", ExtractOptions(), offset=(504, 0))
    by_name = {e.name: e for e in shot.elements}
    assert by_name["Open"].box == (96, 50, 196, 80)
    assert by_name["Save"].dropped == "cut off"
    assert "Left" not in by_name


def _shot(names: list[str], shade: int = 255) -> Shot:
    elements = [element((10, 40 * i, 90, 40 * i + 30), n) for i, n in enumerate(names)]
    return Shot(Image.new("RGB", SIZE, (shade,) * 3), elements, [], 0, 400)


def test_deduper_refuses_near_copies() -> None:
    dedupe = Deduper()
    names = ["One", "Two", "Three", "Four"]
    assert dedupe.is_new(_shot(names), "app", "light")
    assert not dedupe.is_new(_shot(names), "app", "light")
    assert not dedupe.is_new(_shot(names, 200), "app", "light")
    assert dedupe.is_new(_shot(["Five", "Six", "Seven"], 100), "app", "light")
    assert dedupe.is_new(_shot(names, 60), "app", "dark")


def test_split_by_page_is_stable_and_near_its_share() -> None:
    splits = [split_of_page("app", f"page{i}", 0.2, "s") for i in range(1000)]
    assert splits == [split_of_page("app", f"page{i}", 0.2, "s") for i in range(1000)]
    assert 150 < splits.count("held_out") < 250


def test_repeats_are_limited() -> None:
    rows = [
        Row(
            f"{i}", "", SIZE, "x", (9, 9, 80, 30), "label", "text", "link", "In", "a", "web", f"{i}"
        )
        for i in range(5)
    ]
    assert len(limit_repeats(rows, 2, Counter())) == 2


# --- pages, command line ---------------------------------------------------------------------


def test_synthetic_pages_are_seeded(tmp_path: Path) -> None:
    for name in ("search", "trash", "bell", "umbrella", "plus-lg"):
        (tmp_path / f"{name}.svg").write_text(
            "<svg viewBox='0 0 16 16'><path d='M0 0h16v16z'/></svg>"
        )
    icons = load_icons([tmp_path])
    assert {"search", "delete", "notifications", "umbrella", "add"} <= set(icons)
    for platform in ("mobile", "web", "desktop"):
        assert make_page("1", platform, icons) == make_page("1", platform, icons)
        assert make_page("1", platform, icons) != make_page("2", platform, icons)
    with pytest.raises(FileNotFoundError):
        load_icons([tmp_path / "empty"])


def test_failures_are_counted_by_reason_not_by_page() -> None:
    said = "Page.goto: net::ERR_CONNECTION_REFUSED at http://localhost:3000"
    assert {reason(Exception(f"{said}/{page}\nCall log:\n")) for page in ("", "a?b")} == {said}
    assert reason(Exception()) == "Exception"
    assert len(reason(Exception("x" * 999))) == MAX_REASON


def test_a_viewport_is_width_and_height_and_nothing_else() -> None:
    assert cli.viewport("390x844") == (390, 844)
    for bad in ("390", "axb", "10x10"):
        with pytest.raises(argparse.ArgumentTypeError):
            cli.viewport(bad)


def test_page_keys_leave_out_host_and_port() -> None:
    source = Source("app", "http://127.0.0.1:5000/", ())
    assert page_key(source, "http://127.0.0.1:5000/a/b.html?x=1") == "a-b.html-x-1"
    assert page_key(source, "http://127.0.0.1:5000/") == "home"


def test_a_missing_browser_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BrowserMissingError, match="apt-get install chromium"):
        find_chromium()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser


def test_unknown_state_file_is_refused(tmp_path: Path) -> None:
    args = _parser().parse_args(
        ["--source", str(tmp_path), "--out", str(tmp_path / "o"),
         "--storage-state", str(tmp_path / "none.json")]
    )  # fmt: skip
    assert args.run(args) == 2


def test_check_finds_each_fault(tmp_path: Path) -> None:
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    good = Row(
        "1", "a.png", SIZE, "Save", (9, 9, 80, 30), "label", "text", "b", "S", "a", "web", "s"
    )
    sound = json.loads(json.dumps(good.to_json()))
    assert problems([sound], tmp_path) == []
    for change in (
        {"bbox": [80, 9, 9, 30]},
        {"bbox": [9, 9, 480, 30]},
        {"bbox": [9, 9, 15, 30]},
        {"image": "none.png"},
        {"image_size": [10, 10]},
        {"kind": "other"},
        {"instruction": "x" * 61},
    ):
        assert len(problems([{**sound, **change}], tmp_path)) == 1
    assert len(problems([sound, sound], tmp_path)) == 2
