"""Parts of synthetic pages as HTML: bars, menus, forms, cards, tables, dialogs."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape

from scripts.assets.screens import page_words as words


@dataclass
class Draw:
    """What a page draws from: random numbers, icons by name, the names already used."""

    rng: random.Random
    icons: dict[str, list[str]]
    used: set[str] = field(default_factory=set)

    def fresh(self, make: Callable[[], str]) -> str:
        """A name not yet on the page; a repeated one would only be dropped later."""
        for _ in range(12):
            name = make()
            if name.lower() not in self.used:
                break
        self.used.add(name.lower())
        return name

    def nav(self) -> str:
        """A section name."""
        return self.fresh(lambda: self.rng.choice(words.NAV))

    def action(self) -> str:
        """A button text."""

        def make() -> str:
            verb = self.rng.choice(words.ACTIONS)
            if self.rng.random() < 0.45:
                return f"{verb} {self.rng.choice(words.THINGS)}"
            return verb

        return self.fresh(make)

    def thing(self) -> str:
        """A made-up title of some record."""

        def make() -> str:
            text = f"{self.rng.choice(words.ADJECTIVES)} {self.rng.choice(words.THINGS)}"
            if self.rng.random() < 0.25:
                text = f"{self.rng.choice(words.THINGS)} {self.rng.randint(2, 99)}"
            return text.capitalize() if self.rng.random() < 0.6 else text.title()

        return self.fresh(make)

    def person(self) -> str:
        """A person's name."""
        rng = self.rng
        return self.fresh(lambda: f"{rng.choice(words.PEOPLE)} {rng.choice(words.SURNAMES)}")

    def field_name(self) -> str:
        """A form label."""
        return self.fresh(lambda: self.rng.choice(words.FIELDS))

    def choice(self) -> str:
        """A checkbox label."""
        return self.fresh(lambda: self.rng.choice(words.CHOICES))

    def icon(self, name: str) -> str:
        """Inline SVG of an icon."""
        return self.rng.choice(self.icons[name])

    def icon_button(self, extra: str = "") -> str:
        """A button that is only an icon, named for assistive technology."""
        name = self.fresh(lambda: self.rng.choice(list(self.icons)))
        return (
            f'<button class="icon {extra}" aria-label="{escape(name)}">{self.icon(name)}</button>'
        )

    def any_icon(self) -> str:
        """A decorative icon."""
        return self.icon(self.rng.choice(list(self.icons)))


def top_bar(d: Draw, narrow: bool) -> str:
    """Brand, links where there is room, icons."""
    rng = d.rng
    left = d.icon_button() if rng.random() < 0.5 else ""
    links = "" if narrow else "".join(
        f'<a href="#">{d.nav()}</a>' for _ in range(rng.randint(0, 3))
    )  # fmt: skip
    search = ""
    if not narrow and rng.random() < 0.3:
        d.used.add("search")
        search = '<input class="in" style="max-width:120px" placeholder="Search" type="search">'
    icons = "".join(d.icon_button() for _ in range(rng.randint(1, 3 if narrow else 4)))
    brand = f'<span class="brand">{rng.choice(words.APP_NAMES)}</span>'
    return f'<header class="bar">{left}{brand}{links}{search}{icons}</header>'


def side_bar(d: Draw) -> str:
    """A column of sections."""
    rng = d.rng
    icons = rng.random() < 0.6
    rows = []
    chosen = rng.randint(0, 5)
    for i in range(rng.randint(4, 9)):
        picture = d.any_icon() if icons else ""
        rows.append(f'<a href="#" class="{"on" if i == chosen else ""}">{picture}{d.nav()}</a>')
    return f'<nav class="side" style="width:{rng.randint(105, 140)}px">{"".join(rows)}</nav>'


def icon_rail(d: Draw) -> str:
    """A column of icons."""
    icons = "".join(d.icon_button() for _ in range(d.rng.randint(4, 8)))
    return f'<nav class="side" role="toolbar" style="gap:5px">{icons}</nav>'


def tabs(d: Draw, narrow: bool) -> str:
    """A row of tabs, one selected."""
    count = d.rng.randint(2, 3 if narrow else 5)
    chosen = d.rng.randrange(count)
    items = "".join(
        f'<button role="tab" aria-selected="{str(i == chosen).lower()}">{d.nav()}</button>'
        for i in range(count)
    )
    return f'<div class="tabs" role="tablist">{items}</div>'


def buttons(d: Draw) -> str:
    """A row of buttons in several looks."""
    rng = d.rng
    looks = rng.sample(["main", "second", "bad", "good", "flat", ""], rng.randint(1, 4))
    made = []
    for look in looks:
        icon = d.any_icon() if rng.random() < 0.3 else ""
        made.append(f'<button class="btn {look}">{icon}{d.action()}</button>')
    if rng.random() < 0.3:
        made.append(d.icon_button("btn"))
    return f'<div class="row">{"".join(made)}</div>'


def _control(d: Draw) -> str:
    rng = d.rng
    name = d.field_name()
    key = name.replace(" ", "-").lower() + str(rng.randint(0, 999))
    draw = rng.random()
    if draw < 0.2:
        options = "".join(f"<option>{d.rng.choice(words.CHOICES)}</option>" for _ in range(3))
        control = f'<select class="in" id="{key}">{options}</select>'
    elif draw < 0.28:
        control = f'<textarea class="in" id="{key}" rows="2"></textarea>'
    else:
        filled = f'value="{rng.choice(words.THINGS)}"' if rng.random() < 0.3 else ""
        control = f'<input class="in" id="{key}" {filled}>'
    if rng.random() < 0.2:
        return f'<div class="field"><input class="in" placeholder="{name}"></div>'
    return f'<div class="field"><label for="{key}">{name}</label>{control}</div>'


def form(d: Draw, narrow: bool) -> str:
    """Fields, choices and buttons in a card."""
    rng = d.rng
    rows = []
    for _ in range(rng.randint(2, 4)):
        pair = "" if narrow or rng.random() < 0.5 else _control(d)
        rows.append(f'<div class="row" style="align-items:flex-end">{_control(d)}{pair}</div>')
    rows.extend(choices(d) for _ in range(rng.randint(0, 1)))
    return f'<form class="card"><h2>{d.thing()}</h2>{"".join(rows)}{buttons(d)}</form>'


def choices(d: Draw) -> str:
    """Checkboxes, radios or switches with labels."""
    rng = d.rng
    kind = rng.choice(["checkbox", "radio", "switch"])
    made = []
    for _ in range(rng.randint(2, 4)):
        name = d.choice()
        mark = "checked" if rng.random() < 0.4 else ""
        if kind == "switch":
            on = "on" if mark else ""
            made.append(
                f'<div class="check"><button type="button" role="switch" class="toggle {on}" '
                f'aria-label="{escape(name)}"></button><span>{name}</span></div>'
            )
        else:
            made.append(
                f'<label class="check"><input type="{kind}" name="x{rng.random()}" {mark}>'
                f"<span>{name}</span></label>"
            )
    flow = "row" if rng.random() < 0.4 else "grid"
    return f'<div class="{flow}">{"".join(made)}</div>'


def items(d: Draw, narrow: bool) -> str:
    """A list of records with a link and sometimes an icon or a button."""
    rng = d.rng
    tail = rng.choice(["none", "text", "text", "button"])
    lead = rng.random() < 0.5
    people = rng.random() < 0.4
    rows = []
    for _ in range(rng.randint(3, 7)):
        title = d.person() if people else d.thing()
        end = ""
        if tail == "text":
            unit = rng.choice(["min", "h", "d", "pts"])
            end = f'<span class="faint">{rng.randint(1, 28)} {unit}</span>'
        elif tail == "button" and not narrow:
            end = f'<button class="btn">{d.action()}</button>'
        icon = d.any_icon() if lead else ""
        rows.append(f'<li>{icon}<a href="#">{title}</a>{end}</li>')
    return f'<ul class="list card">{"".join(rows)}</ul>'


def cards(d: Draw, narrow: bool) -> str:
    """A grid of small cards."""
    rng = d.rng
    columns = rng.randint(1, 2) if narrow else rng.randint(2, 3)
    made = []
    for _ in range(columns * rng.randint(1, 2)):
        look = rng.choice(["main", "second", "flat", "", "bad", "good"])
        text = f'<span class="faint">{rng.randint(2, 990)}</span>'
        act = f'<button class="btn {look}">{d.action()}</button>'
        if rng.random() < 0.3:
            act = f'<a href="#">{d.thing()}</a>'
        made.append(
            f'<div class="card"><h2>{rng.choice(words.THINGS)}</h2>{text}<div>{act}</div></div>'
        )
    style = f"grid-template-columns:repeat({columns},1fr)"
    return f'<div class="grid" style="{style}">{"".join(made)}</div>'


def table(d: Draw, narrow: bool) -> str:
    """A table with links in the first column and one action per row."""
    rng = d.rng
    columns = 1 if narrow else rng.randint(1, 3)
    act = rng.random() < 0.5
    rows = []
    verb = rng.choice(words.ACTIONS)
    d.used.add(verb.lower())
    for _ in range(rng.randint(3, 6)):
        name = d.person() if rng.random() < 0.4 else d.thing()
        cells = "".join(f"<td>{rng.choice(words.THINGS)}</td>" for _ in range(columns))
        first = f'<td><a href="#">{name}</a></td>'
        last = f'<td><button class="btn">{verb}</button></td>' if act else ""
        rows.append(f"<tr>{first}{cells}{last}</tr>")
    return f'<div class="card" style="padding:0"><table>{"".join(rows)}</table></div>'


def pages(d: Draw) -> str:
    """Page numbers between two words."""
    numbers = "".join(f'<a href="#">{i}</a>' for i in range(1, d.rng.randint(3, 5)))
    return (
        f'<div class="pick pagination"><a href="#">Previous</a>{numbers}<a href="#">Next</a></div>'
    )


def text(d: Draw) -> str:
    """A heading and a sentence with a link."""
    sentence = d.rng.choice(words.SENTENCES)
    link = f' <a href="#">{d.thing()}</a>' if d.rng.random() < 0.6 else ""
    return f'<div><h1>{d.thing()}</h1><p class="faint">{sentence}{link}</p></div>'


def crumbs(d: Draw) -> str:
    """A path of links."""
    parts = "<span>/</span>".join(f'<a href="#">{d.nav()}</a>' for _ in range(d.rng.randint(2, 3)))
    return f'<div class="crumbs breadcrumb">{parts}</div>'


def dialog(d: Draw, narrow: bool) -> str:
    """A dialog over a dimmed page."""
    rng = d.rng
    inner = rng.choice([lambda: choices(d), lambda: _control(d), lambda: ""])()
    width = rng.randint(200, 250) if narrow else rng.randint(230, 330)
    return (
        f'<div class="dim"><div class="card" role="dialog" style="width:{width}px">'
        f'<div class="row"><h2 style="flex:1">{d.thing()}</h2>{d.icon_button()}</div>'
        f'<p class="faint">{rng.choice(words.SENTENCES)}</p>{inner}{buttons(d)}</div></div>'
    )


def menu(d: Draw, x: int, y: int) -> str:
    """A drop-down menu with its corner at (x, y) px."""
    icons = d.rng.random() < 0.5
    names = [d.fresh(lambda: d.rng.choice(words.MENU_ITEMS)) for _ in range(d.rng.randint(4, 8))]
    rows = "".join(
        f'<div role="menuitem">{d.any_icon() if icons else ""}{escape(n)}</div>' for n in names
    )
    return f'<div class="menu" role="menu" style="left:{x}px;top:{y}px">{rows}</div>'


def menu_bar(d: Draw) -> str:
    """A desktop menu bar."""
    names = [n for n in words.MENU_BAR if d.rng.random() < 0.6][:8] or ["File", "Edit"]
    d.used.update(n.lower() for n in names)
    rows = "".join(f'<div role="menuitem">{n}</div>' for n in names)
    return f'<div class="menubar" role="menubar">{rows}</div>'


def tool_bar(d: Draw) -> str:
    """A row of tool icons."""
    icons = "".join(d.icon_button() for _ in range(d.rng.randint(5, 12)))
    return f'<div class="tools" role="toolbar">{icons}</div>'


def foot_bar(d: Draw) -> str:
    """The tab bar of a phone application."""
    named = d.rng.random() < 0.75
    made = []
    for _ in range(d.rng.randint(3, 5)):
        if named:
            made.append(f'<a href="#">{d.any_icon()}<span>{d.nav()}</span></a>')
        else:
            made.append(d.icon_button())
    return f'<nav class="foot">{"".join(made)}</nav>'
