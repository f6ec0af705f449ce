"""The published tables, one layout per benchmark: which columns, in which order, averaged how.

Sources: the papers and their released code. Micro weighs every item alike, macro every
cell; papers print one or the other without saying, so both are given here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlrl.eval.gui.items import Item
from vlrl.eval.gui.rates import Choice, Rate, Scored, macro, micro
from vlrl.gui.verdict import Refusal


@dataclass(frozen=True)
class Table:
    """Rows of rates under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Rate, ...]], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableLayout:
    """Tables of a benchmark and its headline metric."""

    tables: Callable[[Sequence[Scored]], list[Table]]
    headline: Callable[[Sequence[Scored]], tuple[str, Rate]]


def has(**wanted: str) -> Choice:
    """Items whose fields have these values."""
    return lambda item: all(item.fields.get(name) == value for name, value in wanted.items())


def values(scored: Sequence[Scored], name: str) -> list[str]:
    """The values of a field, sorted."""
    return sorted({one.item.fields[name] for one in scored if one.item.fields.get(name)})


def micro_headline(scored: Sequence[Scored]) -> tuple[str, Rate]:
    """The rate over all items alike."""
    return "accuracy (micro)", micro(scored)


def by_field(scored: Sequence[Scored], name: str, title: str) -> Table:
    """One row per value of a field."""
    rows = []
    for value in values(scored, name):
        part = [one for one in scored if one.item.fields.get(name) == value]
        rows.append((value, (micro(part),)))
    return Table(title, ("accuracy",), tuple(rows))


# --- ScreenSpot and v2 -----------------------------------------------------------------------

PLATFORMS = {
    "mobile": ("mobile", "ios", "android"),
    "desktop": ("desktop", "windows", "macos"),
    "web": ("web", "gitlab", "shop", "forum", "tool"),
}
"""Words that name a platform in file names, conversions and `data_source`."""


def platform_of(item: Item) -> str:
    """mobile, desktop or web, from the reader's platform, an application or a data source."""
    place = f"{item.fields.get('platform', '')} {item.fields.get('app', '')}".casefold()
    for name, words in PLATFORMS.items():
        if any(word in place for word in words):
            return name
    return ""


def screenspot(scored: Sequence[Scored]) -> list[Table]:
    """Mobile, desktop, web by text and icon; then the macro and the micro average."""
    cells: list[Rate] = []
    columns: list[str] = []
    for platform in PLATFORMS:
        for kind in ("text", "icon"):
            columns.append(f"{platform.title()} {kind.title()}")
            cells.append(micro(scored, _on(platform, kind)))
    row = (*cells, macro(cells), micro(scored))
    title = "Mobile, desktop and web"
    return [Table(title, (*columns, "Avg (macro)", "Avg (micro)"), (("accuracy", row),))]


def _on(platform: str, kind: str) -> Choice:
    return lambda item: platform_of(item) == platform and item.fields.get("element_type") == kind


# --- ScreenSpot-Pro --------------------------------------------------------------------------

PRO_GROUPS = ("CAD", "Dev", "Creative", "Scientific", "Office", "OS")


def screenspot_pro(scored: Sequence[Scored]) -> list[Table]:
    """Groups by text and icon, then the averages; one row per application below."""
    columns: list[str] = []
    row: list[Rate] = []
    for group in PRO_GROUPS:
        for kind in ("text", "icon"):
            columns.append(f"{group} {kind.title()}")
            row.append(micro(scored, has(group=group, element_type=kind)))
    groups = [micro(scored, has(group=group)) for group in PRO_GROUPS]
    columns += ["Avg Text", "Avg Icon", "Avg (micro)", "Avg of groups (macro)"]
    row += [micro(scored, has(element_type=kind)) for kind in ("text", "icon")]
    row += [micro(scored), macro(groups)]
    main = Table("Groups", tuple(columns), (("accuracy", tuple(row)),))
    apps = tuple(
        (app, tuple(micro(scored, choice) for choice in _text_icon_all(app)))
        for app in values(scored, "app")
    )
    return [main, Table("Applications", ("Text", "Icon", "Avg"), apps)]


def _text_icon_all(app: str) -> tuple[Choice, ...]:
    return (has(app=app, element_type="text"), has(app=app, element_type="icon"), has(app=app))


# --- OSWorld-G -------------------------------------------------------------------------------

OSWORLD_TYPES: dict[str, tuple[str, ...]] = {
    "Text Matching": ("label",),
    "Element Recognition": ("icon", "image", "button"),
    "Layout Understanding": (
        "tab", "banner/notification", "accordion", "pagination", "toolbar", "menu bar",
        "dropdown menu", "list", "grid", "tree view", "dialog/modal", "panel/container",
        "sidebar", "drawer", "window hierarchy",
    ),
    "Fine-grained Manipulation": (
        "slider", "stepper", "divider", "toggle/switch", "checkbox", "radio",
        "color/date picker", "table", "text field/input box", "search bar", "window border",
    ),
}  # fmt: skip
"""A sample belongs to every category that one of its GUI types maps to."""


def in_category(category: str) -> Choice:
    """Items of an OSWorld-G category; compared without case ("Menu bar" occurs too)."""
    wanted = set(OSWORLD_TYPES[category])
    return lambda item: (
        not wanted.isdisjoint(
            name.strip().casefold() for name in item.fields.get("element_type", "").split(", ")
        )
    )


def is_refusal(item: Item) -> bool:
    """Whether the right answer is that there is no such thing."""
    return isinstance(item.target, Refusal)


def osworld_g(scored: Sequence[Scored]) -> list[Table]:
    """Categories (an item may be in several), refusals, overall with and without refusals."""
    columns = (*OSWORLD_TYPES, "Refusal", "Overall")
    placed = [one for one in scored if not is_refusal(one.item)]
    rows = []
    for label, part in (("with refusals", list(scored)), ("without refusals", placed)):
        row = [micro(part, in_category(category)) for category in OSWORLD_TYPES]
        row += [micro(part, is_refusal), micro(part)]
        rows.append((f"{label} (n = {len(part)})", tuple(row)))
    note = (
        "Published tables count refusals in the denominator (564); the cua harness leaves them "
        "out (510). Compare like with like, and say which instructions: original or refined."
    )
    return [Table("Categories", columns, tuple(rows), (note,))]


# --- MMBench-GUI L2 --------------------------------------------------------------------------

MMBENCH_PLATFORMS = {
    "Windows": "os_windows",
    "MacOS": "os_mac",
    "Linux": "os_linux",
    "iOS": "os_ios",
    "Android": "os_android",
    "Web": "os_web",
}
LEVELS = ("basic", "advanced")


def mmbench_gui_l2(scored: Sequence[Scored]) -> list[Table]:
    """Platforms by basic and advanced; the headline is the plain mean of the two levels."""
    columns: list[str] = []
    row: list[Rate] = []
    for title, platform in MMBENCH_PLATFORMS.items():
        for level in LEVELS:
            columns.append(f"{title} {'Bas.' if level == 'basic' else 'Adv.'}")
            row.append(micro(scored, has(platform=platform, group=level)))
    levels = [micro(scored, has(group=level)) for level in LEVELS]
    columns += ["Basic", "Advanced", "Avg (of the two)", "Avg (micro)"]
    row += [*levels, macro(levels), micro(scored)]
    return [Table("Platforms", tuple(columns), (("accuracy", tuple(row)),))]


def mmbench_headline(scored: Sequence[Scored]) -> tuple[str, Rate]:
    """The plain mean of basic and advanced, as its own code has it."""
    levels = [micro(scored, has(group=level)) for level in LEVELS]
    return "accuracy (mean of basic and advanced)", macro(levels)


# --- UI-Vision -------------------------------------------------------------------------------

UI_VISION_SPLITS = ("basic", "functional", "spatial")


def _split(name: str) -> Choice:
    return lambda item: f"_{name}" in item.id


def ui_vision(scored: Sequence[Scored]) -> list[Table]:
    """The three settings; "Final Avg" is their plain mean, as in the paper."""
    splits = [micro(scored, _split(name)) for name in UI_VISION_SPLITS]
    columns = (*(name.title() for name in UI_VISION_SPLITS), "Final Avg (macro)", "Avg (micro)")
    row = (*splits, macro(splits), micro(scored))
    main = Table("Settings", columns, (("accuracy", row),))
    kinds = tuple(
        (category, tuple(micro(scored, choice) for choice in _by_split(category)))
        for category in values(scored, "category")
    )
    return [main, Table("Categories", (*(n.title() for n in UI_VISION_SPLITS), "All"), kinds)]


def _by_split(category: str) -> tuple[Choice, ...]:
    def cut(name: str) -> Choice:
        return lambda item: _split(name)(item) and item.fields.get("category") == category

    return (*(cut(name) for name in UI_VISION_SPLITS), has(category=category))


def ui_vision_headline(scored: Sequence[Scored]) -> tuple[str, Rate]:
    """The plain mean of the three settings."""
    rate = macro([micro(scored, _split(name)) for name in UI_VISION_SPLITS])
    return "accuracy (mean of the three settings)", rate


# --- our own screens, and anything else ------------------------------------------------------


def screens(scored: Sequence[Scored]) -> list[Table]:
    """By kind of instruction, familiar or new elements, and application."""
    rows = [("all", (micro(scored),))]
    for label, value in (("familiar elements", "True"), ("new elements", "False")):
        if value in values(scored, "familiar"):
            rows.append((label, (micro(scored, has(familiar=value)),)))
    note = "Familiar elements are on training screens too (a site's menu); new ones do not."
    whole = Table("All", ("accuracy",), tuple(rows), (note,) if len(rows) > 1 else ())
    cuts = (("kind", "Kind"), ("element_type", "Element type"), ("app", "Application"))
    return [whole, *(by_field(scored, name, title) for name, title in cuts if values(scored, name))]


TABLES: dict[str, TableLayout] = {
    "screenspot": TableLayout(screenspot, micro_headline),
    "screenspot_pro": TableLayout(screenspot_pro, micro_headline),
    "osworld_g": TableLayout(osworld_g, micro_headline),
    "mmbench_gui_l2": TableLayout(mmbench_gui_l2, mmbench_headline),
    "ui_vision": TableLayout(ui_vision, ui_vision_headline),
    "screens": TableLayout(screens, micro_headline),
    "plain": TableLayout(screens, micro_headline),
    "layout": TableLayout(screens, micro_headline),
}
