"""Images of held-out samples before and after, and of the answers of recorded groups."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from vlrl.data.fields import field_of
from vlrl.geometry.overlay import ANSWER_COLOURS, TRUE_COLOUR
from vlrl.log.answer_images import SMALL_PX, TRUTH, answer_file
from vlrl.log.recorded import recorded_group, recorded_paths
from vlrl.log.report.files import Run, readable, record_of
from vlrl.log.report.numbers import writer
from vlrl.log.report.page import render
from vlrl.media.images import image_size

MAX_GROUPS = 10
CARD_HEIGHT_PX = 128
STRIP_HEIGHT_PX = 64
NUM_LARGE_IN_STRIP = 6
"""Where a group has no more images, they are shown as large as in the gallery."""
WIDE = 2.5
"""Images wider than so many heights, contact sheets, stand one below the other."""


class Shot(NamedTuple):
    """An image in the page."""

    data: str
    """Base64 of the WebP."""
    is_small: bool
    """A pixel of a small image stays one: what looks like a fault is one."""
    height_px: int | None
    """None: as wide as its place allows."""


def held_out(run: Run) -> Markup:
    """The same samples before and after: drawings where answers are text, else a gallery."""
    folder = run.folder / "evaluations"
    pairs: dict[str, list[dict[str, Any]]] = {}
    gallery: dict[str, list[dict[str, Any]]] = {}
    large = False
    images = (folder / "before" / "images").glob("*.json")
    paths = sorted(images, key=lambda path: (run.place(_split_of(path)), path.name))
    after = {path: folder / "after" / "images" / path.name for path in paths}
    both = [path for path in paths if after[path].is_file()]
    for path, (old, new) in readable(both, lambda path: (_shown(path), _shown(after[path]))):
        later = after[path]
        # Each rank shows its own samples: with other ranks they are not the same ones.
        if old["id"] != new["id"]:
            continue
        split = _split_of(path)
        if isinstance(old["output"], str):
            pairs.setdefault(split, []).append(_pair(path, later, old, new))
            continue
        shots = _shots(path.with_suffix(""), later.with_suffix(""))
        large = large or any(_size(image)[1] >= SMALL_PX for image, _ in shots)
        card = {"shots": _row(shots), "prompt": old["prompt"]}
        gallery.setdefault(split, []).append({**card, "changes": _changes(run, split, old["id"])})
    drawing = run.task.drawing
    return render(
        "held_out.html.j2",
        title=drawing.title,
        legend=_legend(drawing.truth, drawing.answer),
        note=drawing.note,
        pairs=pairs,
        wide=all(pair["is_wide"] for shown in pairs.values() for pair in shown),
        gallery=gallery,
        large=large,
    )


def _legend(truth: str, *answers: str) -> list[tuple[str, str]]:
    entries = zip((TRUE_COLOUR, *ANSWER_COLOURS), (truth, *answers), strict=False)
    return [(colour, text) for colour, text in entries if text]


def _split_of(path: Path) -> str:
    """Of an image's file, `<split>-<number>.json`."""
    return path.stem.rpartition("-")[0]


def _pair(
    path: Path, later: Path, old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    wide = _is_wide(path.with_suffix(".webp"))
    shots = [
        (_shot(p.with_suffix(".webp")), label, str(row["output"])[: 240 if wide else 60])
        for p, row, label in ((path, old, "before"), (later, new, "after"))
    ]
    return {"is_wide": wide, "prompt": old["prompt"], "shots": shots}


def _shots(before: Path, after: Path) -> list[tuple[Path, str]]:
    """Images of a sample and the caption below each."""
    # Not written with an answer that could not be read.
    truth = next((f / TRUTH for f in (before, after) if (f / TRUTH).is_file()), before / TRUTH)
    pieces = [
        (truth, "reference"),
        (before / answer_file(0), "before"),
        (after / answer_file(0), "after"),
    ]
    if not any(path.is_file() for path, _ in pieces[1:]):
        # A task that draws answers and truth into one image.
        pieces = [(p.with_name(f"{p.name}.webp"), p.parents[1].name) for p in (before, after)]
    return [(path, label) for path, label in pieces if path.is_file()]


def _row(shots: Sequence[tuple[Path, str]]) -> list[tuple[Shot, str, str]]:
    """Images with their captions and styles; all in a row have the same height."""
    row = []
    heights = [_enlarged(path, CARD_HEIGHT_PX) for path, _ in shots]
    for (path, label), height_px in zip(shots, heights, strict=True):
        width, height = _size(path)
        style = f"flex:{width / height:.3f} 1 0"
        if height_px and all(heights):
            style += f";max-width:{height_px * width // height}px"
        row.append((_shot(path), label, style))
    return row


def _changes(run: Run, split: str, sample: str) -> list[tuple[str, str, str]]:
    """The main metrics of one sample before and after."""
    texts = []
    for comparison in run.comparisons:
        if comparison.split != split:
            continue
        for name in run.main_metrics(comparison):
            columns = (comparison.before.values[name], comparison.after.values[name])
            if all(sample in column for column in columns):
                old, new = (column[sample] for column in columns)
                write = writer([old, new])
                texts.append((name, write(old), write(new)))
    return texts


def groups(run: Run) -> Markup:
    """Best and worst answers of recorded groups, spread over the run."""
    paths = recorded_paths(run.folder)
    step = max(1, len(paths) // MAX_GROUPS)
    records = readable(paths[::step][:MAX_GROUPS], _recorded)
    if not records:
        return Markup()
    return render(
        "groups.html.j2",
        told=any(isinstance(answer["output"], str) for _, r in records for answer in r["answers"]),
        legend=_legend(run.task.drawing.truth, "best answer", "worst answer"),
        groups=[_group(path, record) for path, record in records],
    )


def _recorded(path: Path) -> dict[str, Any]:
    record = recorded_group(path, "output", "reward", "parts", "advantage")
    return {**record, "prompt": field_of(record, "prompt", str(path))}


def _group(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    folder = path.with_suffix("")
    places = [i for i in range(len(record["answers"])) if (folder / answer_file(i)).is_file()]
    group = _strip(folder, record, places) if places else _listed(path, record)
    return {**group, "title": f"step {record['step']}: {' '.join(record['prompt'])}"}


def _listed(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """A group whose answers are listed in a table."""
    told = any(isinstance(answer["output"], str) for answer in record["answers"])
    answers = []
    for place, answer in enumerate(record["answers"], 1):
        reward = "n/a" if answer["reward"] is None else f"{answer['reward']:.3f}"
        parts = ", ".join(f"{k} {v:.2f}" for k, v in answer["parts"].items())
        output = str(answer["output"])[:80] if told else None
        answers.append((output, place, (reward, f"{answer['advantage']:+.2f}", parts)))
    image = path.with_suffix(".webp")
    shown = image.is_file()
    return {
        "shots": (),
        "image": _shot(image) if shown else None,
        "is_wide": shown and _is_wide(image),
        "answers": answers,
    }


def _strip(folder: Path, record: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """A group whose answers are images: a column each, with reward, advantage and parts."""
    answers = [record["answers"][place] for place in places]
    images = [folder / answer_file(place) for place in places]
    least_px = CARD_HEIGHT_PX if len(images) <= NUM_LARGE_IN_STRIP else STRIP_HEIGHT_PX
    height_px = _enlarged(images[0], least_px) or least_px
    truth = folder / TRUTH
    rewards = [answer["reward"] for answer in answers]
    names = dict.fromkeys(name for answer in answers for name in answer["parts"])
    parts = {name: [answer["parts"].get(name) for answer in answers] for name in names}
    rows = [("reward", _numbers(rewards))]
    rows.append(("advantage", _numbers([answer["advantage"] for answer in answers], sign="+")))
    # A single reward is its own part.
    rows += [(name, _numbers(column)) for name, column in parts.items() if column != rewards]
    num = len(record["answers"])
    return {
        "some": "" if num == len(places) else f"{len(places)} of {num}",
        "truth": _shot(truth, height_px) if truth.is_file() else None,
        "shots": [_shot(image, height_px) for image in images],
        "rows": rows,
    }


def _numbers(values: Sequence[float | None], sign: str = "") -> list[str]:
    write = writer([value for value in values if value is not None])
    return ["n/a" if v is None else write(v, sign) for v in values]


def _shot(path: Path, height_px: int | None = None) -> Shot:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return Shot(data, _size(path)[1] < SMALL_PX, height_px)


def _enlarged(path: Path, least_px: int) -> int | None:
    """Height of a small image enlarged by a whole factor; None for a large one."""
    height = _size(path)[1]
    return height * -(-least_px // height) if height < SMALL_PX else None


def _is_wide(path: Path) -> bool:
    width, height = _size(path)
    return width > WIDE * height


def _size(path: Path) -> tuple[int, int]:
    return image_size(path)


def _shown(path: Path) -> dict[str, Any]:
    return record_of(path, "id", "output", "prompt")
