"""The published layouts of grounding data, one row of a table each."""

from __future__ import annotations

from dataclasses import replace

from vlrl.data.fields import Row, shown
from vlrl.errors import DataError
from vlrl.gui.data.layout import Layout
from vlrl.gui.data.rows import RawRow
from vlrl.gui.data.training_sets import TRAINING_SETS

__all__ = ["LAYOUTS", "Layout"]


def _with(raw: RawRow, **fields: object) -> RawRow:
    return replace(raw, fields={**raw.fields, **fields})


def _joined(kinds: object) -> str:
    return ", ".join(map(str, kinds)) if isinstance(kinds, list) else str(kinds)


def _screenspot(raw: RawRow, row: Row, stem: str) -> RawRow:
    return _with(raw, platform=stem.removeprefix("screenspot_").removesuffix("_v2"))


def _screenspot_pro(raw: RawRow, row: Row, stem: str) -> RawRow:
    """`ui_type` is text or icon, or a list of GUI types."""
    return _with(raw, element_type=_joined(row["ui_type"]))


def _osworld_g(raw: RawRow, row: Row, stem: str) -> RawRow:
    """Boxes, polygons (flat x, y lists), and targets that are absent."""
    kind, types = raw.fields["kind"], raw.fields["element_type"]
    if kind not in ("bbox", "polygon", "refusal"):
        raise DataError(
            f"{raw.where}: field 'box_type' must be bbox, polygon or refusal, not {shown(kind)}"
        )
    if not isinstance(types, list):
        raise DataError(
            f"{raw.where}: field 'GUI_types' must be a list of strings, not {shown(types)}"
        )
    return replace(
        _with(raw, element_type=_joined(types)),
        box=raw.box if kind == "bbox" else None,
        polygon=raw.box if kind == "polygon" else None,
        refusal=kind == "refusal",
    )


def _osworld_g_mai(raw: RawRow, row: Row, stem: str) -> RawRow:
    """Undoes the conversion's two faults; both can be detected and reverted exactly.

    Its boxes are xyxy, made from the published xywh; polygons and refusals went the same way: a
    polygon's second corner had the first added to it, and a refusal became [0, 0, 0, 0].
    """
    raw = _screenspot_pro(raw, row, stem)
    numbers = raw.box
    if not isinstance(numbers, list) or len(numbers) < 4:
        return raw
    if not any(numbers):
        return replace(raw, box=None, refusal=True)
    if len(numbers) == 4:
        return raw
    x1, y1, x2, y2 = numbers[:4]
    return replace(raw, box=None, polygon=[x1, y1, x2 - x1, y2 - y1, *numbers[4:]])


def _osworld_g_mai_verbatim(raw: RawRow, row: Row, stem: str) -> RawRow:
    """Takes the conversion literally: of longer lists the first four numbers count.

    40 polygons are then wrong rectangles, and a click at exactly (0, 0) counts as a refusal.
    """
    raw = _screenspot_pro(raw, row, stem)
    return replace(raw, box=raw.box[:4]) if isinstance(raw.box, list) else raw


def _mmbench_gui(raw: RawRow, row: Row, stem: str) -> RawRow:
    """Images are in one folder per platform."""
    platform = str(raw.fields["platform"])
    image = f"{platform}/{raw.image}" if isinstance(raw.image, str) else raw.image
    return _with(replace(raw, image=image), platform=platform)


def _ui_vision_layout(raw: RawRow, row: Row, stem: str) -> RawRow:
    """A region's name with its explanation."""
    explanation = row.get("explanation")
    return replace(raw, instruction=f"{raw.instruction}: {explanation}") if explanation else raw


SCREENSPOT_PRO = Layout(
    "xyxy_px",
    "img_filename",
    "bbox",
    size="img_size",
    id="own in file",
    fields={"element_type": "ui_type"},
    texts={"app": "application"},
    kept=("platform", "group", "instruction_cn"),
    finish=_screenspot_pro,
)

LAYOUTS: dict[str, Layout] = {
    # vlrl's own screens sets: one instruction for one element of one screenshot per row.
    "screens": Layout(
        "xyxy_px",
        "image",
        "bbox",
        id="own",
        kept=("kind", "element_type", "role", "name", "app", "platform", "screen", "familiar"),
    ),
    # GUI-G2's training rows. As in its loader, `rela_box` (0 to 1) and `image_url` are not read.
    "gui_g2": Layout("xyxy_px", "image_path", "abs_box", size=("width", "height")),
    # GUI-G1's rows, which are VLM-R1's too; `rate` is a difficulty weight.
    "gui_g1": Layout(
        "xyxy_px",
        "image",
        "solution",
        needs_size=False,
        instruction="problem",
        id="place",
        kept=("rate", "normal_caption", "dataset"),
    ),
    # ScreenSpot v1 and v2: SeeClick's files and OS-Atlas's relabelling. `data_type` is text or
    # icon, `data_source` the operating system or site. Re-uploads with other corners need `box:`.
    "screenspot": Layout(
        "xywh_px",
        "img_filename",
        "bbox",
        size="img_size",
        needs_size=False,
        id="place",
        fields={"element_type": "data_type"},
        texts={"app": "data_source"},
        finish=_screenspot,
    ),
    # ScreenSpot-Pro's annotation files, whose keys many conversions use.
    "screenspot_pro": SCREENSPOT_PRO,
    # xlang-ai/OSWorld-G's files, original and refined (same boxes, other wording).
    "osworld_g": Layout(
        "xywh_px",
        "image_path",
        "box_coordinates",
        id="own",
        fields={"element_type": "GUI_types", "kind": "box_type"},
        finish=_osworld_g,
    ),
    # OSWorld-G in MAI-UI's conversion, repaired, and as its authors score it.
    "osworld_g_mai": replace(SCREENSPOT_PRO, finish=_osworld_g_mai),
    "osworld_g_mai_verbatim": replace(SCREENSPOT_PRO, finish=_osworld_g_mai_verbatim),
    # MMBench-GUI's L2_annotations.json; `grounding_type` is basic or advanced.
    "mmbench_gui": Layout(
        "xyxy_unit",
        "image_path",
        "bbox",
        fields={"element_type": "data_type", "group": "grounding_type", "platform": "platform"},
        texts={"app": "app_name"},
        finish=_mmbench_gui,
    ),
    # UI-Vision's element grounding; `platform` is the application. Of its 5,479 boxes 27 lie up
    # to 2.3 px outside the image: use `clip_px: 3`. One has no area.
    "ui_vision": Layout(
        "xyxy_px",
        "image_path",
        "bbox",
        instruction="prompt_to_evaluate",
        texts={"element_type": "element_type", "app": "platform", "category": "category"},
    ),
    # UI-Vision's layout grounding: a described region of a screen.
    "ui_vision_layout": Layout(
        "xyxy_px",
        "image_path",
        "bbox",
        instruction="name",
        texts={"app": "platform"},
        finish=_ui_vision_layout,
    ),
    **TRAINING_SETS,
}
"""A new layout is a row here, and its name in `options.Format`."""
