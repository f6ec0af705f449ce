"""Published rows recomputed from their cells, and the averages that papers use."""

from __future__ import annotations

import pytest

from vlrl.eval.gui.items import Item
from vlrl.eval.gui.rates import Rate, Scored, macro, micro
from vlrl.eval.gui.tables import TABLES, Table, in_category
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.verdict import Outcome, Refusal, Verdict

FRAME = Frame(100, 100)
CELLS_V1 = (273, 229, 194, 140, 230, 206)  # mobile, desktop, web; text and icon each
CELLS_V2 = (290, 211, 194, 140, 234, 203)


def scored(number: int, hit: bool, target: object = None, **fields: str) -> Scored:
    target = target or Box(0, 0, 1, 1, FRAME)
    name = fields.pop("name", f"i{number}")
    item = Item(name, "a.png", FRAME, "x", target, fields)  # type: ignore[arg-type]
    return Scored(item, Verdict(Outcome.CORRECT if hit else Outcome.WRONG, ""))


def screenspot(hits: list[int], sizes: tuple[int, ...]) -> list[Scored]:
    found = []
    cells = [(p, k) for p in ("mobile", "desktop", "web") for k in ("text", "icon")]
    for (platform, kind), num_hits, size in zip(cells, hits, sizes, strict=True):
        found += [
            scored(len(found) + n, n < num_hits, platform=platform, element_type=kind)
            for n in range(size)
        ]
    return found


def cell(table: Table, column: str, row: int = 0) -> float:
    value = table.rows[row][1][table.columns.index(column)].value
    assert value is not None
    return round(100 * value, 1)


def test_gui_g2_on_screenspot_and_v2() -> None:
    # The cell counts behind the published percentages.
    (v1,) = TABLES["screenspot"].tables(screenspot([264, 208, 186, 124, 209, 179], CELLS_V1))
    assert cell(v1, "Avg (micro)") == 92.0
    assert cell(v1, "Mobile Text") == 96.7
    assert v1.rows[0][1][-1].cells == ((1170, 1272),)
    (v2,) = TABLES["screenspot"].tables(screenspot([285, 194, 185, 125, 220, 178], CELLS_V2))
    assert cell(v2, "Avg (micro)") == 93.3
    assert v2.rows[0][1][-1].cells == ((1187, 1272),)


def test_gui_g1_fits_the_cells_of_v2_and_not_of_v1() -> None:
    published = (98.6, 85.8, 96.4, 80.7, 91.4, 82.3)
    hits = [286, 181, 187, 113, 214, 167]
    (v2,) = TABLES["screenspot"].tables(screenspot(hits, CELLS_V2))
    # One published cell is truncated rather than rounded: 214 / 234 = 91.45 %.
    metrics = [cell(v2, column) for column in v2.columns[:6]]
    assert metrics == pytest.approx(published, abs=0.11)
    assert v2.rows[0][1][-1].cells == ((1148, 1272),), "90.25 %, printed as 90.3"
    impossible = [
        all(abs(100 * n / size - figure) > 0.06 for n in range(size + 1))
        for figure, size in zip(published, CELLS_V1, strict=True)
    ]
    assert sum(impossible) == 4


@pytest.mark.parametrize(
    ("cells", "average", "column"),
    [
        # Published rows of ScreenSpot: text and icon on mobile, desktop, web; then their "Avg".
        ((78.0, 52.0, 72.2, 30.0, 55.7, 32.5), 53.4, "Avg (macro)"),  # SeeClick
        ((67.0, 24.0, 74.2, 20.0, 70.4, 28.6), 47.4, "Avg (macro)"),  # CogAgent
        ((82.8, 60.3, 82.5, 63.6, 80.4, 70.4), 73.3, "Avg (macro)"),  # UGround
        ((92.3, 75.5, 76.3, 61.1, 81.7, 63.6), 75.1, "Avg (macro)"),  # ShowUI
        ((93.0, 72.9, 91.8, 62.9, 90.9, 74.3), 82.5, "Avg (micro)"),  # OS-Atlas
    ],
)
def test_papers_print_macro_or_micro(cells: tuple, average: float, column: str) -> None:
    hits = [round(figure * size / 100) for figure, size in zip(cells, CELLS_V1, strict=True)]
    (table,) = TABLES["screenspot"].tables(screenspot(hits, CELLS_V1))
    # ShowUI prints a desktop icon rate (61.1) that no count out of 140 gives.
    assert [cell(table, name) for name in table.columns[:6]] == pytest.approx(cells, abs=0.4)
    assert cell(table, column) == pytest.approx(average, abs=0.11)
    other = "Avg (micro)" if column == "Avg (macro)" else "Avg (macro)"
    assert abs(cell(table, other) - average) > 0.5


def test_screenspot_pro_groups_and_applications() -> None:
    rows = [
        scored(0, True, group="CAD", element_type="text", app="inventor"),
        scored(1, False, group="CAD", element_type="icon", app="inventor"),
        scored(2, True, group="CAD", element_type="text", app="vivado"),
        scored(3, False, group="OS", element_type="icon", app="macos_common"),
    ]
    groups, apps = TABLES["screenspot_pro"].tables(rows)
    assert (cell(groups, "CAD Text"), cell(groups, "Avg (micro)")) == (100.0, 50.0)
    assert groups.rows[0][1][groups.columns.index("Dev Text")].value is None
    assert groups.rows[0][1][-1].value is None, "a macro mean over empty groups is no number"
    assert [name for name, _ in apps.rows] == ["inventor", "macos_common", "vivado"]


def test_osworld_g_is_multi_label_and_names_both_denominators() -> None:
    rows = [
        scored(0, True, element_type="Label, Button"),
        scored(1, False, element_type="Menu bar"),
        scored(2, True, element_type="Slider"),
        scored(3, True, target=Refusal(), element_type="Icon"),
        scored(4, False, target=Refusal(), element_type="/"),
    ]
    (table,) = TABLES["osworld_g"].tables(rows)
    assert [name for name, _ in table.rows] == [
        "with refusals (n = 5)",
        "without refusals (n = 3)",
    ]
    assert table.rows[0][1][-1].cells == ((3, 5),)
    assert table.rows[1][1][-1].cells == ((2, 3),)
    assert table.rows[0][1][table.columns.index("Refusal")].cells == ((1, 2),)
    assert table.rows[0][1][1].cells == ((2, 2),), "Button and Icon are elements"
    assert in_category("Text Matching")(rows[0].item)
    assert in_category("Layout Understanding")(rows[1].item), "spelt Menu bar in the file"


def test_mmbench_headline_is_the_mean_of_its_levels_and_not_micro() -> None:
    rows = [scored(n, n < 3, group="basic", platform="os_web") for n in range(4)]
    rows += [scored(9, False, group="advanced", platform="os_web")]
    name, headline = TABLES["mmbench_gui_l2"].headline(rows)
    assert headline.value == pytest.approx((0.75 + 0) / 2)
    assert "mean of basic and advanced" in name
    assert micro(rows).value == pytest.approx(3 / 5)


def test_ui_vision_final_average_is_the_mean_of_three() -> None:
    # UI-TARS-72B: 31.4, 30.5, 14.7 -> 25.5, with 1772, 1772 and 1935 items.
    rows = []
    for split, size, hits in (
        ("basic", 1772, 556),
        ("functional", 1772, 541),
        ("spatial", 1935, 285),
    ):
        rows += [
            scored(n, n < hits, name=f"element_grounding_{split}_{n}", category="Button")
            for n in range(size)
        ]
    table, kinds = TABLES["ui_vision"].tables(rows)
    assert [cell(table, name) for name in ("Basic", "Functional", "Spatial")] == [31.4, 30.5, 14.7]
    assert cell(table, "Final Avg (macro)") == 25.5
    assert cell(kinds, "All") == cell(table, "Avg (micro)")


def test_intervals_are_those_of_the_normal_approximation() -> None:
    rate = Rate(((50, 100),))
    low, high = rate.interval()  # type: ignore[misc]
    # Normal approximation: 0.5 +- 1.96 * 0.05.
    assert (low, high) == pytest.approx((0.402, 0.598), abs=0.012)
    both = macro([Rate(((50, 100),)), Rate(((10, 10),))])
    assert both.value == 0.75
    width = [b - a for a, b in (rate.interval(), both.interval())]  # type: ignore[misc]
    assert width[1] == pytest.approx(width[0] / 2, rel=0.1), "a cell of full marks adds no spread"
    assert Rate(((0, 0),)).interval() is None
