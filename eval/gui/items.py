"""From a benchmark's files to its questions.

Unlike training data, published boxes are kept as they are: some exceed the image by a pixel or
have no area, and the published denominators count them. What cannot be right is still an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlrl.data.collect import LeftOutError
from vlrl.data.fields import field_of, shown
from vlrl.data.paths import path_below
from vlrl.errors import ConfigError, DataError, did_you_mean
from vlrl.eval.gui.benchmarks import Benchmark, annotation_files, image_folder
from vlrl.families.profiles import Profile
from vlrl.families.resize import why_unfit
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.data.layouts import LAYOUTS
from vlrl.gui.data.mapped import mapped_rows, row_reader
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.read import file_rows, row_place, row_targets
from vlrl.gui.data.rows import (
    Convention,
    RawRow,
    counted_in,
    four_numbers,
    image_size_of,
    stated_size,
    written_box,
)
from vlrl.gui.verdict import Refusal, Target, polygon_of
from vlrl.media.images import checked_size
from vlrl.stats import evenly


@dataclass(frozen=True)
class Item:
    """One question of a benchmark."""

    id: str
    image: str
    frame: Frame
    """The image's pixels."""
    instruction: str
    target: Target
    """In the frame in which the file has it: pixels, 0 to 1, or 0 to 1000."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """element_type, group, platform, app, ...: what the tables are split by."""
    problem: str | None = None
    """Why no model can be asked: the image is damaged or too long; the item counts as failed."""


@dataclass(frozen=True)
class Source:
    """Where to read a benchmark's items, and how they are written."""

    data: Path
    format: str | None = None
    """Reader, where the files are not the published ones; None = the benchmark's own."""
    box: Convention | None = None
    """How boxes are written; None = the format's own."""
    files: tuple[str, ...] = ()
    images: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column names of tables (`rows`, `hub`), ours to theirs."""
    wording: str | None = None
    """Field with the instruction, where a set has several, e.g. instruction_cn."""
    within_root: bool = False
    """Refuse paths that lead out of the images' folder."""
    negatives: bool = False
    """Ask for things that are absent (`wording`, by default negative_instruction)."""
    limit: int = 0
    """At most so many items, spread evenly over the set; 0 = all."""


def load_items(benchmark: Benchmark, source: Source) -> list[Item]:
    """The items in file order; raises DataError with file and row, ConfigError on options."""
    root = source.images or image_folder(benchmark, source.data)
    items: list[Item] = []
    seen: dict[str, str] = {}
    for raw, convention in _raw_items(benchmark, source):
        item = item_of(
            raw,
            convention,
            root,
            reorder=benchmark.reorder_corners,
            within_root=source.within_root,
        )
        if item.id in seen:
            raise DataError(f"{raw.where}: id {item.id!r} is also that of {seen[item.id]}")
        seen[item.id] = raw.where
        items.append(item)
    if not items:
        raise DataError(f"{source.data}: no item in it")
    return evenly(items, source.limit)


def _raw_items(benchmark: Benchmark, source: Source) -> Iterator[tuple[RawRow, Convention]]:
    name = source.format or benchmark.format
    if name in ("rows", "hub"):
        yield from _table_items(source, name)
        return
    if name not in LAYOUTS:
        known = (*LAYOUTS, "rows", "hub")
        raise ConfigError(f"unknown --format {name!r}; {did_you_mean(name, known)}")
    if source.columns:
        raise ConfigError(f"--columns belongs to the formats rows and hub, not to {name!r}")
    layout = LAYOUTS[name]
    taken: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for path in annotation_files(benchmark, source.data, source.files):
        for index, row in enumerate(file_rows(path, layout)):
            for read, _ in row_targets(layout, row, row_place(path, index, layout), path):
                try:
                    raw = read().apart(taken, path.stem)
                except LeftOutError as error:
                    left_out[str(error)] += 1
                    continue
                convention = source.box or raw.convention or layout.convention
                yield _worded(raw, row, source), convention
    for why, count in left_out.most_common():
        print(f"left out: {count} rows: {why}")


def _table_items(source: Source, name: str) -> Iterator[tuple[RawRow, Convention]]:
    if source.box is None:
        raise ConfigError(f"--format {name} needs --box, e.g. --box xyxy_px: nothing is guessed")
    options = SourceOptions.model_validate(
        {"path": str(source.data), "format": name, "box": source.box, "columns": source.columns}
    )
    read_row = row_reader(options)
    for row, where, stem in mapped_rows(options):
        yield _worded(read_row(row, where, stem), row, source), source.box


def _worded(raw: RawRow, row: object, source: Source) -> RawRow:
    """The row with the wording that was asked for."""
    name = source.wording or ("negative_instruction" if source.negatives else None)
    if name is None:
        return raw
    return replace(raw, instruction=field_of(row, name, raw.where), refusal=source.negatives)


def item_of(
    raw: RawRow,
    convention: Convention,
    root: Path,
    *,
    reorder: bool = False,
    within_root: bool = False,
) -> Item:
    """One checked question; its box may have no area or exceed the image, but must touch it.

    An image that is there is compared with the row; one that cannot be read is the item's
    `problem`, and its box is not checked where its size is not known.
    """
    # OSWorld-G's refined file has one empty instruction, which its denominator counts.
    if not isinstance(raw.instruction, str):
        raise DataError(
            f"{raw.where}: field 'instruction' must be a string, not {shown(raw.instruction)}"
        )
    if not isinstance(raw.image, str) or not raw.image:
        raise DataError(f"{raw.where}: field 'image' must be a path, not {shown(raw.image)}")
    path = path_below(root, raw.image, raw.where, within=within_root)
    problem, size = _damage(path), stated_size(raw)
    if problem is None:
        # Answers that were made elsewhere need no images: without a file the row's size counts.
        size = image_size_of(raw, path, compare=path.exists())
    fields = {name: str(value) for name, value in raw.fields.items()}
    own = (raw.id, str(path))
    if size is None:
        nowhere = Frame(1, 1)
        target: Target = Refusal() if raw.refusal else Box(0, 0, 1, 1, nowhere)
        return Item(*own, nowhere, raw.instruction.strip(), target, fields, problem)
    frame = Frame(*size)
    target = _target(raw, convention, frame, reorder)
    return Item(*own, frame, raw.instruction.strip(), target, fields, problem)


def _damage(path: Path) -> str | None:
    """Why the image that is there cannot be read; None where it can, or is not there."""
    if not path.exists():
        return None
    try:
        checked_size(path)
    except DataError as error:
        return str(error)
    return None


def unfit(item: Item, profile: Profile) -> Item:
    """The item with its problem, where the profile's models cannot be shown its image."""
    if item.problem is not None:
        return item
    why = why_unfit(int(item.frame.height), int(item.frame.width), profile.factor)
    return item if why is None else replace(item, problem=f"the image {item.image}: {why}")


def _target(raw: RawRow, convention: Convention, frame: Frame, reorder: bool) -> Target:
    if raw.refusal:
        return Refusal()
    if raw.polygon is not None:
        return polygon_of(_corner_values(raw), frame)
    size = counted_in(raw, int(frame.width), int(frame.height))
    box = written_box(four_numbers(raw), convention, *size)
    if reorder:
        left, right = sorted((box.x1, box.x2))
        top, bottom = sorted((box.y1, box.y2))
        box = Box(left, top, right, bottom, box.frame)
    if box.x2 < box.x1 or box.y2 < box.y1:
        raise DataError(
            f"{raw.where}: box {box.xyxy} is inverted; read as {convention}: is that right? "
            "(--format, --box)"
        )
    width, height = box.frame.extent
    if box.x2 < 0 or box.y2 < 0 or box.x1 > width or box.y1 > height:
        raise DataError(
            f"{raw.where}: box {box.xyxy} lies off its image of {width:g} x {height:g}; read as "
            f"{convention}: is that right? (--format, --box)"
        )
    return box


def _corner_values(raw: RawRow) -> list[float]:
    values = raw.polygon
    good = (
        isinstance(values, list)
        and len(values) >= 6
        and len(values) % 2 == 0
        and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    )
    if not good:
        raise DataError(
            f"{raw.where}: a polygon must be a flat list of x, y pairs, not {shown(values)}"
        )
    return [float(value) for value in values]
