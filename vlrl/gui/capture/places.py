"""Places: corners of the screen, order in a list, neighbours with a name."""

from itertools import pairwise

from vlrl.gui.capture.records import Element

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
GROUP_ITEM = {
    "tabs": "tab",
    "toolbar": "button",
    "menu bar": "item",
    "pages": "page link",
    "path": "link",
    "menu": "item",
    "list": "item",
}
NEAR = 56  # px between an element and the neighbour that names its place


def noun(element: Element, filled: bool) -> str:
    """What a person would call the element by its looks."""
    role = element.role
    if role in ("textbox", "searchbox", "spinbutton"):
        return "field"
    if role == "combobox":
        return "dropdown" if element.element_type == "input" else "button"
    if role == "radio" and element.element_type == "input":
        return "radio button"
    if role in ("checkbox", "switch", "slider", "tab"):
        return role
    if element.element_type == "icon":
        return "picture" if element.picture else "icon"
    if role.startswith("menuitem") or role in ("option", "radio", "treeitem"):
        return "item"
    if role == "item" and not filled:
        return "item"
    if filled or role == "button":
        return "button"
    return "link"


def zone(centre: tuple[float, float], size: tuple[int, int], slack: float = 0.0) -> set[str]:
    """Names of the screen regions that hold a point; `slack` (share of a side) widens them."""
    x, y = centre[0] / size[0], centre[1] / size[1]
    edge = 0.3 + slack
    found = set()
    vertical = "top" if y < edge else "bottom" if y > 1 - edge else ""
    horizontal = "left" if x < edge else "right" if x > 1 - edge else ""
    if vertical and horizontal:
        found.add(f"{vertical} {horizontal}")
    if y < edge:
        found.add("top")
    if y > 1 - edge:
        found.add("bottom")
    if abs(x - 0.5) < 0.2 + slack and abs(y - 0.5) < 0.2 + slack:
        found.add("middle")
    return found


def region_phrases(
    index: int, elements: list[Element], nouns: list[str], size: tuple[int, int]
) -> list[str]:
    """'the button at the top right' for the only one of its noun there."""
    me = elements[index]
    mine = zone(me.centre, size)
    found = []
    for name in ("top left", "top right", "bottom left", "bottom right", "top", "bottom", "middle"):
        if name not in mine:
            continue
        rivals = [
            i
            for i, other in enumerate(elements)
            if i != index
            and _alike(nouns[i], nouns[index])
            and name in zone(other.centre, size, 0.12)
        ]
        if not rivals:
            found.append(f"{nouns[index]} {'in' if name == 'middle' else 'at'} the {name}")
    if all(i == index or not _alike(nouns[i], nouns[index]) for i in range(len(elements))):
        found.append(f"only {nouns[index]} on the screen")
    return found


def _alike(a: str, b: str) -> bool:
    """Whether two nouns could be taken for each other at a glance."""
    same = [{"button", "link", "item", "tab"}, {"field", "dropdown"}, {"icon", "picture"}]
    same.append({"checkbox", "radio button", "switch"})
    return a == b or any(a in s and b in s for s in same)


def _place_of_group(element: Element, size: tuple[int, int]) -> str:
    """'left', 'top', ... for a group that lies clearly at one side, else ''."""
    assert element.group is not None
    x1, y1, x2, y2 = element.group.box
    width, height = size
    if x2 < 0.55 * width and y2 - y1 > 0.4 * height:
        return "left"
    if x1 > 0.45 * width and y2 - y1 > 0.4 * height:
        return "right"
    if y2 < 0.35 * height:
        return "top"
    if y1 > 0.7 * height:
        return "bottom"
    return ""


def _in_line(members: list[Element]) -> list[Element] | None:
    """Members in reading order if they form one row or one column, else None."""
    down = sorted(members, key=lambda e: e.box[1])
    across = sorted(members, key=lambda e: e.box[0])
    column = all(b.box[1] >= a.box[3] - 3 for a, b in pairwise(down))
    row = all(b.box[0] >= a.box[2] - 3 for a, b in pairwise(across))
    if column and max(e.box[0] for e in members) - min(e.box[0] for e in members) < 40:
        return down
    if row and max(e.box[1] for e in members) - min(e.box[1] for e in members) < 12:
        return across
    return None


def order_phrases(
    index: int, elements: list[Element], size: tuple[int, int], min_members: int = 3
) -> list[str]:
    """'second item of the left menu' when the group, its order and its end are all seen."""
    me = elements[index]
    if me.group is None:
        return []
    members = [e for e in elements if e.group and e.group.id == me.group.id]
    # A clipped or covered member makes the count depend on how a reader counts it.
    if len(members) < min_members or any(m.dropped in ("cut off", "occluded") for m in members):
        return []
    kind = me.group.kind
    # Colour swatches in a side bar are not a menu, and a reader would not count them as one.
    if kind in ("menu", "list") and any(m.element_type != "text" for m in members):
        return []
    place = _place_of_group(me, size)
    others = {
        e.group.id
        for e in elements
        if e.group
        and e.group.kind == kind
        and e.group.id != me.group.id
        and (not place or _place_of_group(e, size) in (place, ""))
    }
    line = _in_line(members)
    if others or line is None:
        return []
    starts, ends = not me.group.more_before, not me.group.more_after
    position = next(i for i, m in enumerate(line) if m is me)
    item = GROUP_ITEM[kind]
    where = f"of the {place} {kind}" if place else f"of the {kind}"
    if kind == "pages":
        where = "of the page list"
    if kind == "tabs":
        where = f"at the {place}" if place else ""
    found = []
    if starts and position < len(ORDINALS) and len(members) <= 14:
        found.append(f"{ORDINALS[position]} {item} {where}".strip())
    if ends and position == len(line) - 1:
        found.append(f"last {item} {where}".strip())
    return found


def neighbour_phrases(
    index: int, elements: list[Element], nouns: list[str], names: dict[str, int]
) -> list[str]:
    """'icon right of "Search"' when that named neighbour is close and unique.

    `names` counts each name key on the screen; both directions are checked, so that the
    neighbour has no second element of the same noun on that side.
    """
    me = elements[index]
    found = []
    for j, other in enumerate(elements):
        if j == index or other.dropped or other.element_type == "icon" or not other.name:
            continue
        if names.get(other.name.lower(), 0) != 1 or len(other.name) > 24 or not other.text:
            continue
        for side in ("right of", "left of", "below", "above"):
            gap = _gap(other, me, side)
            if gap is None or gap > NEAR:
                continue
            rivals = [
                i
                for i, e in enumerate(elements)
                if i not in (index, j) and _alike(nouns[i], nouns[index])
                and _loose_gap(other, e, side)
            ]  # fmt: skip
            if not rivals:
                found.append(f'{nouns[index]} {side} "{other.name}"')
    return found


def _gap(anchor: Element, me: Element, side: str) -> float | None:
    """Pixels between an anchor and an element that lies straight on that side of it."""
    a, b = anchor.box, me.box
    if side in ("right of", "left of"):
        if min(a[3], b[3]) - max(a[1], b[1]) < 0.6 * min(a[3] - a[1], b[3] - b[1]):
            return None
        gap = b[0] - a[2] if side == "right of" else a[0] - b[2]
    else:
        if min(a[2], b[2]) - max(a[0], b[0]) < 0.6 * min(a[2] - a[0], b[2] - b[0]):
            return None
        gap = b[1] - a[3] if side == "below" else a[1] - b[3]
    return gap if gap >= -2 else None


def _loose_gap(anchor: Element, other: Element, side: str) -> bool:
    """Whether another element might also be read as lying on that side, nearby."""
    a, b = anchor.box, other.box
    reach = 2 * NEAR
    if side in ("right of", "left of"):
        if min(a[3], b[3]) - max(a[1], b[1]) <= 0:
            return False
        gap = b[0] - a[2] if side == "right of" else a[0] - b[2]
    else:
        if min(a[2], b[2]) - max(a[0], b[0]) <= 0:
            return False
        gap = b[1] - a[3] if side == "below" else a[1] - b[3]
    return -2 <= gap < reach
