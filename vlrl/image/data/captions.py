"""Prompts for images, with references and scenes: JSON, JSON lines or plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vlrl.config.section import Section
from vlrl.data.collect import Rows, collect
from vlrl.data.fields import check_length, field_of, shown
from vlrl.data.json_file import read_json, read_json_rows, read_text
from vlrl.data.paths import path_below
from vlrl.errors import ConfigError, DataError, did_you_mean
from vlrl.image.geneval import scene_of
from vlrl.media.images import checked_size, open_image

OURS = ("id", "caption", "references", "written", "scene")
"""What `columns` can rename."""
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of files that a folder of references is made of."""


class CaptionSource(Section):
    """One split's prompts; the file's ending and its rows say how it is read.

    - `.jsonl`, `.json` with a list: rows with `caption` (or else `prompt`) and maybe `id`,
      `references`, `written`, `scene`. Rows with `include` are GenEval's: {tag, include, exclude?,
      prompt}.
    - `.json` with an object: Adv-GRPO's {prompt: [files of reference images]}.
    - `.txt`: one prompt per line, as in Flow-GRPO.
    """

    path: str
    references: str | None = None
    """A folder whose images, in the order of their names, are the references of every prompt: a
    style to approach. References in the rows are then ignored."""
    references_root: str | None = None
    """Folder of the images that rows name as references; None = the data file's own folder."""
    within_root: bool = False
    """Refuse absolute paths, `..` and links that lead out of that folder; otherwise they are
    followed."""
    limit: int | None = Field(default=None, gt=0)
    """At most this many rows, the first good ones."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Rows of objects: our field name to theirs, e.g. {caption: text, references: images}."""


@dataclass(frozen=True)
class CaptionRow:
    """One checked prompt."""

    where: str
    """File and row, for messages."""
    id: str
    caption: str
    references: tuple[str, ...] = ()
    """Paths of images of the same caption or style; the files exist."""
    written: str | None = None
    scene: Mapping[str, Any] | None = None
    """GenEval's `tag`, `include` and `exclude`, checked."""
    labels: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The row as in the file."""


def read_captions(
    source: CaptionSource,
    *,
    labels: Sequence[str] = (),
    quoted_text: bool = False,
    on_bad_row: Literal["error", "skip"] = "error",
) -> Rows[CaptionRow]:
    """The checked prompts of a split.

    labels: row fields to report by, if a row has them. quoted_text: the text that the image
    should show is in the caption, in its first pair of double quotes. A bad row raises
    DataError, or with `skip` is listed in `skipped`; a file without a good row always raises, and
    so does a folder of references that has no image, or one that cannot be read.
    """
    path = Path(source.path)
    root = path.parent if source.references_root is None else Path(source.references_root)
    files = partial(_references, root=root, within=source.within_root)
    shared = None if source.references is None else _style(source, path)

    def checked(raw: object, where: str, number: int) -> CaptionRow:
        row = _check_row(raw, where, f"{path.stem}/{number}", files, shared, source.columns, labels)
        return _with_quoted(row) if quoted_text else row

    entries = (
        (where, partial(checked, raw, where, number))
        for raw, where, number in _raw_rows(path, source.columns)
    )
    return collect(entries, str(path), limit=source.limit, on_bad_row=on_bad_row)


def _raw_rows(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[Any, str, int]]:
    """(row, its place, its number from 1) in file order."""
    for ours in columns:
        if ours not in OURS:
            raise ConfigError(f"{path}: `columns` has no {ours!r}; {did_you_mean(ours, OURS)}")
    if path.suffix == ".jsonl":
        rows, kind = read_json_rows(path), "row"
    elif path.suffix == ".json":
        content = read_json(path)
        if isinstance(content, dict):
            _refuse_columns(path, columns, "an object {prompt: [files]}")
            pairs = content.items()
            rows, kind = [{"caption": c, "references": files} for c, files in pairs], "entry"
        elif isinstance(content, list):
            rows, kind = content, "row"
        else:
            raise DataError(
                f"{path}: holds a {type(content).__name__}; a list of rows or an object "
                "{prompt: [files]} is needed"
            )
    elif path.suffix == ".txt":
        _refuse_columns(path, columns, "plain text")
        # Not splitlines: U+2028 and the like in a prompt do not end a line of the file.
        lines = read_text(path).rstrip().split("\n")
        rows, kind = [{"caption": line} for line in lines], "line"
    else:
        raise ConfigError(f"{path}: prompts are read from .jsonl, .json and .txt files")
    for number, row in enumerate(rows, start=1):
        yield row, f"{path}, {kind} {number}", number


def _refuse_columns(path: Path, columns: Mapping[str, str], what: str) -> None:
    if columns:
        raise ConfigError(f"{path} is {what}, to which `columns` does not apply; remove it")


def _check_row(
    row: object,
    where: str,
    default_id: str,
    files: Callable[[object, str], tuple[str, ...]],
    shared: tuple[str, ...] | None,
    columns: Mapping[str, str],
    labels: Sequence[str],
) -> CaptionRow:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a row is a JSON object, not {type(row).__name__}")
    found = {name: field_of(row, columns[name], where) for name in OURS if name in columns}
    if "caption" not in found:
        # `caption` is named in the message where a row has neither.
        name = "prompt" if "prompt" in row and "caption" not in row else "caption"
        found["caption"] = field_of(row, name, where)
    found = {**{name: row.get(name) for name in OURS}, **found}
    scene = found["scene"]
    if scene is None and "include" in row:
        scene = {key: row[key] for key in ("tag", "include", "exclude") if key in row}
    return CaptionRow(
        where=where,
        id=_id(found["id"], where, default_id),
        caption=_text(found["caption"], "caption", where),
        references=files(found["references"], where) if shared is None else shared,
        written=None if found["written"] is None else _text(found["written"], "written", where),
        scene=None if scene is None else _scene(scene, where),
        labels=_labels(row, labels, where),
        fields=row,
    )


def _text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: field {name!r} must be a non-empty text, not {shown(value)}")
    return check_length(value.strip(), name, where)


def _id(value: object, where: str, default: str) -> str:
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, "id", where)


def _references(value: object, where: str, *, root: Path, within: bool) -> tuple[str, ...]:
    """Paths of the images, each of which must be there and whole."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise DataError(f"{where}: field 'references' is a list of files, not {shown(value)}")
    paths = [path_below(root, name, where, within=within) for name in value]
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"{where}: field 'references': there is no image {path}; check "
                "`references_root` (`make setup` draws those of assets/images)"
            )
        try:
            checked_size(path)
        except DataError as error:
            raise DataError(f"{where}: field 'references': {error}") from error
    return tuple(map(str, paths))


def _style(source: CaptionSource, path: Path) -> tuple[str, ...]:
    """The images of the source's folder, each read once to find broken files before training."""
    assert source.references is not None
    if source.references_root is not None or "references" in source.columns:
        raise ConfigError(
            f"{path}: `references` names the images of all prompts, `references_root` and "
            "`columns.references` those of single rows; remove one or the other"
        )
    folder = Path(source.references)
    if not folder.is_dir():
        raise DataError(
            f"{path}: `references`: there is no folder {folder}; name one that holds images "
            "(a list of files per prompt goes into the rows instead)"
        )
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES)
    if not files:
        raise DataError(
            f"{path}: `references`: no image in {folder}; put some there "
            f"({', '.join(IMAGES)}; subfolders are not searched)"
        )
    for file in files:
        try:
            open_image(file)  # decoded, since the header says nothing of the rest
        except DataError as error:
            raise DataError(f"{path}: `references`: {error}") from error
    return tuple(map(str, files))


def _labels(row: Mapping[str, Any], names: Sequence[str], where: str) -> dict[str, str]:
    found = {name: row[name] for name in names if row.get(name) is not None}
    for name, value in found.items():
        if not isinstance(value, str | int | float):
            raise DataError(
                f"{where}: field {name!r} is a label: a text or number, not {shown(value)}"
            )
    return {name: str(value) for name, value in found.items()}


def _with_quoted(row: CaptionRow) -> CaptionRow:
    """The row with the quoted part of its caption as `written`. Source: Flow-GRPO's OCR reward."""
    pieces = row.caption.split('"')
    if len(pieces) < 3 or not pieces[1].strip():
        raise DataError(
            f'{row.where}: `quoted_text` needs a text in double quotes ("...") in the caption '
            f"{row.caption!r}"
        )
    quoted = pieces[1].strip()
    if row.written is not None and row.written != quoted:
        raise DataError(
            f"{row.where}: field 'written' is {row.written!r}, but the caption quotes {quoted!r}; "
            "switch `quoted_text` off or correct the row"
        )
    return CaptionRow(**{**vars(row), "written": quoted})


def _scene(scene: object, where: str) -> dict[str, Any]:
    """GenEval's description, with an empty `exclude` if there is none; raises DataError."""
    if not isinstance(scene, Mapping):
        raise DataError(f"{where}: field 'scene' is an object, not {shown(scene)}")
    tag = _text(field_of(scene, "tag", where), "tag", where)
    include, exclude = field_of(scene, "include", where), scene.get("exclude") or []
    for name, clauses in (("include", include), ("exclude", exclude)):
        if not isinstance(clauses, list) or not all(isinstance(one, Mapping) for one in clauses):
            raise DataError(f"{where}: field {name!r} is a list of objects, not {shown(clauses)}")
        for one in clauses:
            if not isinstance(one.get("position"), list | None):
                raise DataError(
                    f"{where}: field '{name}.position' is [relation, number], "
                    f"not {shown(one['position'])}"
                )
    checked = {"tag": tag, "include": include, "exclude": exclude}
    scene_of(checked, where)  # so that a mistake is found before training
    return checked
