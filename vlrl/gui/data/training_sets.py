"""The sets that grounding is trained on, as their authors publish them, one row of a table each.

Keys and box conventions are those that each set's card or loader states; docs/data.md names
the source of each. A row that holds no target (an action without a place, a point where a box is
needed) is counted by reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlrl.data.fields import Row, field_of, row_of, shown
from vlrl.data.json_file import read_json, read_text
from vlrl.data.paths import path_below
from vlrl.errors import DataError
from vlrl.gui.data.conversations import answered_place, question_of, turns_of
from vlrl.gui.data.layout import Layout, LeftOut, Place, Target
from vlrl.gui.data.table_images import image_path_of

NO_PLACE = "an answer without a place"
JEDI_PIXELS = (28, 3_136, 2_700 * 28**2)
"""Jedi's card: its coordinates are pixels of images resized to at most 2,700 units of 28 x 28."""


def _listed(row: Row, name: str, where: str) -> list[Row]:
    value = field_of(row, name, where)
    if not isinstance(value, list):
        raise DataError(f"{where}: field {name!r} must be a list of elements, not {shown(value)}")
    return [row_of(one, f"{where}, field {name!r}") for one in value]


def _os_atlas(row: Row, place: Place) -> Iterator[Target]:
    """One element per row, or a list of them in `elements`."""
    image = field_of(row, "img_filename", place.where)
    for one in _listed(row, "elements", place.where) if "elements" in row else [row]:
        yield Target(
            image,
            field_of(one, "instruction", place.where),
            field_of(one, "bbox", place.where),
            fields={"element_type": one.get("data_type", "")},
        )


def _showui(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """`element` lists what a screenshot shows; `point` is where ShowUI clicks in `bbox`."""
    image = field_of(row, "img_url", place.where)
    for one in _listed(row, "element", place.where):
        yield Target(
            image,
            field_of(one, "instruction", place.where),
            field_of(one, "bbox", place.where),
            image_size=row.get("img_size"),
            fields={"element_type": one.get("data_type", "")},
        )


def _conversation(row: Row, place: Place, syntax: str) -> Iterator[Target | LeftOut]:
    """Every question of a conversation with the place in its answer."""
    images = row["image"] if "image" in row else field_of(row, "images", place.where)
    turns = turns_of(row, place.where)
    several = isinstance(images, list) and len(images) > 1
    if several and len(images) != len(turns):
        yield LeftOut("several images for one question")
        return
    # Bytes in a table are written out once for all elements.
    shared = None if several else image_path_of(images, place.where)
    for number, (asked, answer) in enumerate(turns):
        found = answered_place(answer, syntax)
        if found is None:
            yield LeftOut(NO_PLACE)
            continue
        image = images[number] if several else shared
        box, point = (found, None) if len(found) == 4 else (None, found)
        yield Target(image, question_of(asked), box, point)


def _uground(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """UGround-V1-Data-Box has (x1, y1, x2, y2) as answers, UGround-V1-Data (x, y)."""
    yield from _conversation(row, place, "paren_point")


def _aguvis(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """Stage 1: every answer is a call of pyautogui with a point."""
    yield from _conversation(row, place, "pyautogui")


def _jedi(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """Answers are Qwen2.5-VL's, tool calls and boxes."""
    yield from _conversation(row, place, "tool_call")


def _gta1(row: Row, place: Place) -> Iterator[Target]:
    asked = turns_of(row, place.where)[0][0]
    image, box = (field_of(row, name, place.where) for name in ("image", "bbox"))
    yield Target(image, question_of(asked), box)


def _se_gui(row: Row, place: Place) -> Iterator[Target]:
    """`bbox` ends with the width and height that it counts in."""
    asked = turns_of(row, place.where)[0][0]
    box = field_of(row, "bbox", place.where)
    if not isinstance(box, list) or len(box) != 6:
        raise DataError(
            f"{place.where}: field 'bbox' must be [x1, y1, x2, y2, width, height], not {shown(box)}"
        )
    image = image_path_of(field_of(row, "images", place.where), place.where)
    yield Target(image, question_of(asked), box[:4], frame=box[4:])


def _gui_r1(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """Only clicks have a target; `gt_bbox` is a box or, for some sources, a point."""
    action = field_of(row, "gt_action", place.where)
    if action != "click":
        yield LeftOut(f"the action {action!r}, which clicks nothing")
        return
    numbers = field_of(row, "gt_bbox", place.where)
    is_point = isinstance(numbers, Sequence) and len(numbers) == 2
    yield Target(
        image_path_of(field_of(row, "image", place.where), place.where),
        field_of(row, "instruction", place.where),
        None if is_point else numbers,
        numbers if is_point else None,
        fields={"kind": row.get("task_type", "")},
    )


def _ui_r1(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """Rows of other actions than clicks have `action` in place of a box."""
    if "bbox" not in row:
        yield LeftOut(f"the action {row.get('action', '')!r}, which clicks nothing")
        return
    image, asked = (field_of(row, name, place.where) for name in ("img_filename", "instruction"))
    yield Target(image, asked, row["bbox"])


_RESOLUTION = re.compile(r"resolution is ([0-9]{1,6})x([0-9]{1,6})\.")
_SOUGHT = re.compile(r"Locate the UI element\(s\) for \"(.*)\", output the coordinates", re.DOTALL)


def _infigui(row: Row, place: Place) -> Iterator[Target]:
    """verl's rows; the prompt states the resolution that the box counts in."""
    where = place.where
    truth = row_of(field_of(field_of(row, "reward_model", where), "ground_truth", where), where)
    messages = _listed(row, "prompt", where)
    text = str(messages[-1].get("content", "")) if messages else ""
    resolution, sought = _RESOLUTION.search(text), _SOUGHT.search(text)
    if resolution is None or sought is None:
        raise DataError(
            f"{where}: field 'prompt' must end with InfiGUI-G1's question, which states the "
            f"screen's resolution and the element, not {shown(text)}"
        )
    yield Target(
        image_path_of(field_of(row, "images", where), where),
        sought[1],
        [field_of(truth, side, where) for side in ("x1", "y1", "x2", "y2")],
        frame=[int(side) for side in resolution.groups()],
    )


def _groundcua(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """An annotated element with its text, or an instruction of the tuning files."""
    where = place.where
    asked = row["instruction"] if "instruction" in row else field_of(row, "text", where)
    if not isinstance(asked, str) or not asked.strip():
        yield LeftOut("an element without text")
        return
    if "image_path" in row:
        image = row["image_path"]
    else:
        image = f"{field_of(row, 'platform', where)}/{field_of(row, 'id', where)}.png"
    fields = {"element_type": row.get("category") or "", "app": row.get("platform", "")}
    yield Target(image, asked, field_of(row, "bbox", where), fields=fields)


_REF = re.compile(r"<ref>(.*?)</ref>", re.DOTALL)
_ACTION = re.compile(r"<action>\s*\w+\((.*?)\)\s*</action>", re.DOTALL)


def _scalecua(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """Boxes and points in thousandths (InternVL's tags), clicks in fractions (`<action>`)."""
    image = field_of(row, "image", place.where)
    for asked, answer in turns_of(row, place.where):
        action = _ACTION.search(answer)
        tagged = action is None
        syntax = "nested_box" if tagged else "pyautogui"
        place_of = answer if tagged else f"pyautogui.click({action[1] if action else ''})"
        found = answered_place(place_of, syntax)
        if found is None or not isinstance(image, str):
            yield LeftOut(NO_PLACE if isinstance(image, str) else "several images for one question")
            continue
        named = _REF.search(answer) if tagged else None
        yield Target(
            image,
            question_of(asked) if named is None else named[1].strip(),
            found if len(found) == 4 else None,
            found if len(found) == 2 else None,
            image_size=[row["width"], row["height"]] if {"width", "height"} <= {*row} else None,
            convention="xyxy_thousand" if tagged else "xyxy_unit",
        )


_CLICK = re.compile(r"pyautogui\.(?:click|rightClick|doubleClick)\(([-0-9.]+),\s*([-0-9.]+)\)")


def _omniact(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """A task whose script is one click: the smallest annotated box around it.

    The index names files of `screen_1`, which the web part calls `screen1`.
    """
    task, boxes, image = (_omniact_file(row, name, place) for name in ("task", "box", "image"))
    asked, _, script = read_text(
        path_below(place.folder, task, place.where, within=True)
    ).partition("Output Script:")
    steps = [line.strip() for line in script.splitlines() if "pyautogui." in line]
    click = _CLICK.fullmatch(steps[0]) if len(steps) == 1 else None
    if click is None:
        yield LeftOut("a script that is not one click")
        return
    x, y = float(click[1]), float(click[2])
    found = read_json(path_below(place.folder, boxes, place.where, within=True))
    around = []
    for one in row_of(found, f"{place.where}, {boxes}").values():
        corners = [*field_of(one, "top_left", boxes), *field_of(one, "bottom_right", boxes)]
        x1, y1, x2, y2 = map(float, corners)
        if x1 <= x <= x2 and y1 <= y <= y2:
            around.append(((x2 - x1) * (y2 - y1), [x1, y1, x2, y2]))
    if not around:
        yield LeftOut("a click outside every annotated box")
        return
    asked = asked.strip().removeprefix("Task:").strip()
    yield Target(image, asked, min(around)[1], fields={"kind": "task"})


def _omniact_file(row: Row, name: str, place: Place) -> str:
    """The file that a column names, as it is called on disk."""
    stated = str(field_of(row, name, place.where))
    plain = stated.replace("screen_", "screen")
    for path in (stated, plain, plain.replace(".json", "_boxes.json")):
        if path_below(place.folder, path, place.where, within=True).is_file():
            return path
    if name != "image":
        raise DataError(f"{place.where}: there is no file {place.folder / stated}")
    return stated


def _amex(row: Row, place: Place) -> Iterator[Target | LeftOut]:
    """Clickable elements by their function, and by their name where they have one."""
    image = field_of(row, "image_path", place.where)
    for one in _listed(row, "clickable_elements", place.where):
        names = {name for name in _texts(one.get("xml_desc")) if name.strip()}
        wordings = {"function": one.get("functionality") or ""}
        if len(names) == 1:
            wordings["name"] = names.pop()
        given = {kind: text for kind, text in wordings.items() if str(text).strip()}
        if not given:
            yield LeftOut("an element without a function or one name")
        for kind, text in given.items():
            yield Target(image, text, field_of(one, "bbox", place.where), fields={"kind": kind})


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


TRAINING_SETS: Mapping[str, Layout] = {
    "os_atlas": Layout("xyxy_unit", elements=_os_atlas),
    "showui": Layout("xyxy_unit", elements=_showui),
    "uground": Layout("xyxy_thousand", elements=_uground),
    "aguvis": Layout("xyxy_unit", elements=_aguvis),
    "jedi": Layout("xyxy_px", elements=_jedi, resize=JEDI_PIXELS),
    "gta1": Layout("xyxy_thousand", elements=_gta1),
    "se_gui": Layout("xyxy_px", elements=_se_gui),
    "gui_r1": Layout("xyxy_unit", elements=_gui_r1),
    "ui_r1": Layout("xyxy_px", elements=_ui_r1),
    "infigui": Layout("xyxy_px", elements=_infigui),
    "groundcua": Layout("xyxy_px", elements=_groundcua, nested=True),
    "scalecua": Layout("xyxy_px", elements=_scalecua),
    "omniact": Layout("xyxy_px", elements=_omniact, objects="rows"),
    "amex": Layout("xyxy_px", elements=_amex, objects="row"),
}
