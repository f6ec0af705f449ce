"""Screens in a real browser: extraction, request blocking, the command on a folder."""

import argparse
import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scripts.assets.screens.check import problems
from vlrl.gui.capture import command as cli
from vlrl.gui.capture.browser import Browser, BrowserMissingError, find_chromium
from vlrl.gui.capture.capture import CAPTURE_TRIES, load, screenshot, shoot
from vlrl.gui.capture.dataset import read_jsonl, rows_of
from vlrl.gui.capture.extract import ExtractOptions
from vlrl.gui.capture.records import Screen
from vlrl.gui.capture.server import serve

SIZE = (448, 364)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser


PAGE = """<!doctype html><html><body style="margin:0;font:14px sans-serif;background:#fff">
<button style="position:absolute;left:10px;top:10px;width:100px;height:30px;background:#c62828;
 color:#fff">Remove</button>
<button style="position:absolute;left:130px;top:10px;width:80px;height:30px">Twin</button>
<button style="position:absolute;left:230px;top:10px;width:80px;height:30px">Twin</button>
<button style="position:absolute;left:10px;top:60px;width:80px;height:30px">Covered</button>
<div style="position:absolute;left:0;top:55px;width:100px;height:40px;background:#eee"></div>
<button style="position:absolute;left:330px;top:10px;width:8px;height:8px"
 aria-label="Dot"></button>
<button style="position:absolute;left:400px;top:10px;width:30px;height:30px" aria-label="Search">
 <svg width="16" height="16"><circle cx="8" cy="8" r="6"/></svg></button>
<label style="position:absolute;left:120px;top:60px">City <input style="width:120px"></label>
<a href="two.html" style="position:absolute;left:10px;top:200px">Second page</a>
<div style="height:900px"></div><a href="#x" style="position:absolute;top:800px">Deep link</a>
</body></html>"""


@pytest.fixture(scope="module")
def browser() -> Any:
    pytest.importorskip("playwright", reason="playwright is not installed (extra 'browser')")
    try:
        find_chromium()
    except BrowserMissingError:
        pytest.skip("no Chromium on PATH (apt-get install chromium)")
    with Browser() as running:
        yield running


def test_extraction_in_a_browser(browser: Browser) -> None:
    with browser.page(SIZE) as page:
        page.set_content(PAGE)
        shot = shoot(page, "seed", ExtractOptions())
    found = {e.name: e for e in shot.elements}
    assert found["Remove"].box == (10, 10, 110, 40)
    assert found["Dot"].dropped == "tiny"
    assert "Covered" not in found
    assert found["City"].element_type == "input"
    assert found["Search"].element_type == "icon"
    assert "Deep link" not in found
    named = defaultdict(set)
    for made in shot.instructions:
        named[shot.elements[made.index].name].add(made.kind)
    assert "label" in named["Remove"]
    assert "appearance" in named["Remove"]
    assert "icon" in named["Search"]
    assert "label" not in named["Twin"]


@pytest.mark.parametrize("failures", [1, CAPTURE_TRIES])
def test_a_capture_that_fails_is_tried_again(
    failures: int, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import Error

    with browser.page(SIZE) as page:
        page.set_content(PAGE)
        plain, told = page.screenshot, []

        def flaky(**options: Any) -> bytes:
            if len(told) < failures:
                told.append("Page.captureScreenshot): Unable to capture screenshot")
                raise Error(told[-1])
            return plain(**options)

        monkeypatch.setattr(page, "screenshot", flaky)
        if failures < CAPTURE_TRIES:
            assert screenshot(page).size == SIZE
        else:
            with pytest.raises(Error, match="Unable to capture"):
                screenshot(page)


def test_old_names_do_not_survive_in_a_single_page_application(browser: Browser) -> None:
    with browser.page(SIZE) as page:
        page.set_content("<button id=b style='width:90px;height:30px'>Before</button>")
        assert shoot(page, "s", ExtractOptions()).elements[0].name == "Before"
        page.evaluate("document.getElementById('b').textContent = 'After'")
        assert shoot(page, "s", ExtractOptions()).elements[0].name == "After"


def test_the_clock_of_a_page_stands_still(browser: Browser) -> None:
    with browser.page(SIZE) as page:
        page.set_content("<p>now</p>")
        assert page.evaluate("new Date().toISOString()") == "2025-03-12T10:24:00.000Z"


def test_only_allowed_hosts_are_asked(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        "<img src='http://elsewhere.invalid/x.png'><a href=x>Home</a>"
    )
    with serve(tmp_path) as base, browser.page(SIZE) as page:
        assert load(page, base + "index.html", settle_ms=0)
        assert not load(page, base + "missing.html", settle_ms=0)
    assert browser.blocked.get("elsewhere.invalid") == 1


def test_command_makes_a_set_from_a_folder(browser: Browser, tmp_path: Path) -> None:
    site = tmp_path / "shop"
    site.mkdir()
    (site / "index.html").write_text(PAGE)
    second = PAGE.replace("Remove", "Order now").replace("City", "Street").replace("Search", "Bell")
    (site / "two.html").write_text(second.replace("Second page", "Back home"))
    out = tmp_path / "set"
    args = _parser().parse_args(
        ["--source", str(site), "--out", str(out), "--viewport", "448x364",
         "--viewport", "280x504", "--scrolls", "2", "--settle-ms", "0", "--held-out", "0.5"]
    )  # fmt: skip
    # In its own thread: Playwright's blocking interface allows one browser per thread.
    with ThreadPoolExecutor(1) as other:
        assert other.submit(args.run, args).result() == 0
    rows = read_jsonl(out / "train.jsonl") + read_jsonl(out / "held_out.jsonl")
    assert problems(rows, out) == []
    assert {tuple(r["image_size"]) for r in rows} == {(448, 364), (280, 504)}
    dropped = json.loads((out / "summary.json").read_text())["dropped"]
    assert dropped["tiny"] > 0
    assert dropped["name not unique on the screen"] > 0


def test_rows_carry_the_fixed_fields(browser: Browser) -> None:
    with browser.page(SIZE) as page:
        page.set_content(PAGE)
        shot = shoot(page, "seed", ExtractOptions())
    screen = Screen("a/b", "images/a__b.webp", SIZE, "a", "web", SIZE, "b", 0, "light")
    record = rows_of(shot, screen)[0].to_json()
    assert set(record) == {
        "id", "image", "image_size", "instruction", "bbox", "kind", "element_type", "role", "name",
        "app", "platform", "screen",
    }  # fmt: skip
