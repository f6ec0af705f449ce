"""Images of held-out samples before and after, and of the answers of recorded groups."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from vlrl.log.answer_images import SMALL_PX, TRUTH, answer_file
from vlrl.log.report.files import Run
from vlrl.log.report.numbers import writer

MAX_GROUPS = 10
CARD_HEIGHT_PX = 128
STRIP_HEIGHT_PX = 64
NUM_LARGE_IN_STRIP = 6
"""Where a group has no more images, they are shown as large as in the gallery."""
WIDE = 2.5
"""Images wider than so many heights, contact sheets, stand one below the other."""
BARS = "grey boxes: thinking; the bars below are time, truth first"
BOXES = '<i style="border-color:#12a150"></i>true box <i style="border-color:#1f6feb"></i>'


def held_out(run: Run) -> str:
    """The same samples before and after: screens where answers are text, else a gallery."""
    folder = run.folder / "evaluations"
    screens: dict[str, list[str]] = {}
    gallery: dict[str, list[str]] = {}
    large = False
    images = (folder / "before" / "images").glob("*.json")
    for path in sorted(images, key=lambda path: (run.place(_split_of(path)), path.name)):
        later = folder / "after" / "images" / path.name
        if not later.is_file():
            continue
        old, new = _read(path), _read(later)
        # Each rank shows its own samples: with other ranks they are not the same ones.
        if old["id"] != new["id"]:
            continue
        split = _split_of(path)
        if isinstance(old["output"], str):
            screens.setdefault(split, []).append(_screen(path, later, old, new))
            continue
        shots = _shots(path.with_suffix(""), later.with_suffix(""))
        large = large or any(_size(image)[1] >= SMALL_PX for image, _ in shots)
        gallery.setdefault(split, []).append(_card(shots, old, _change(run, split, old["id"])))
    html = _pairs(screens) if screens else ""
    if gallery:
        html += (
            '<h2>Held-out images</h2><p class="note">Before and after training, drawn from the '
            "same seed.</p>"
        )
    for split, cards in gallery.items():
        title = f"<h3>{escape(split)}</h3>" if len(gallery) > 1 else ""
        html += f'{title}<div class="gallery{" large" if large else ""}">{"".join(cards)}</div>'
    return html


def _pairs(screens: Mapping[str, Sequence[str]]) -> str:
    """Screens or contact sheets of videos, split by split."""
    sheets = all('class="pair wide"' in pair for pairs in screens.values() for pair in pairs)
    title, note = ("videos", f"answer; {BARS}") if sheets else ("screens", "answer and its click")
    html = f'<h2>Held-out {title}</h2><p class="note key">{BOXES}{note}</p>'
    for split, pairs in screens.items():
        head = f"<h3>{escape(split)}</h3>" if len(screens) > 1 else ""
        html += f'{head}<div class="pairs{" large" if sheets else ""}">{"".join(pairs)}</div>'
    return html


def _split_of(path: Path) -> str:
    """Of an image's file, `<split>-<number>.json`."""
    return path.stem.rpartition("-")[0]


def _screen(path: Path, later: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    wide = _is_wide(path.with_suffix(".webp"))
    kind, most = ("pair wide", 240) if wide else ("pair", 60)
    shots = "".join(
        f"<figure>{_image(p.with_suffix('.webp'))}<figcaption>{label}: "
        f"<code>{escape(str(row['output'])[:most])}</code></figcaption></figure>"
        for p, row, label in ((path, old, "before"), (later, new, "after"))
    )
    return (
        f'<div class="{kind}"><p><b>{escape(old["prompt"])}</b></p>'
        f'<div class="shots">{shots}</div></div>'
    )


def _shots(before: Path, after: Path) -> list[tuple[Path, str]]:
    """Images of a sample and what stands below each."""
    pieces = [
        (before / TRUTH, "reference"),
        (before / answer_file(0), "before"),
        (after / answer_file(0), "after"),
    ]
    if not any(path.is_file() for path, _ in pieces[1:]):
        # A task that draws answers and truth into one image.
        pieces = [(p.with_name(f"{p.name}.webp"), p.parents[1].name) for p in (before, after)]
    return [(path, label) for path, label in pieces if path.is_file()]


def _card(shots: Sequence[tuple[Path, str]], row: Mapping[str, Any], change: str) -> str:
    shots_html = []
    heights = [_enlarged(path, CARD_HEIGHT_PX) for path, _ in shots]
    for (path, label), height_px in zip(shots, heights, strict=True):
        width, height = _size(path)
        # In proportion to its form: all images of a row come out equally high.
        style = f"flex:{width / height:.3f} 1 0"
        if height_px and all(heights):
            style += f";max-width:{height_px * width // height}px"
        shots_html.append(
            f'<figure style="{style}">{_image(path)}<figcaption>{label}</figcaption></figure>'
        )
    return (
        f'<div class="card"><div class="shots">{"".join(shots_html)}</div>'
        f"<p><b>{escape(row['prompt'])}</b></p>{change}</div>"
    )


def _change(run: Run, split: str, sample: str) -> str:
    """The main figures of one sample before and after."""
    texts = []
    for comparison in run.comparisons:
        if comparison.split != split:
            continue
        for name in run.main_metrics(comparison):
            columns = (comparison.before.values[name], comparison.after.values[name])
            if all(sample in column for column in columns):
                old, new = (column[sample] for column in columns)
                write = writer([old, new])
                texts.append(
                    f'<span class="whole">{escape(name)} {write(old)} &rarr; {write(new)}</span>'
                )
    return f'<p class="note">{", ".join(texts)}</p>' if texts else ""


def groups(run: Run) -> str:
    """Best and worst answers of recorded groups, spread over the run."""
    paths = sorted((run.folder / "rollouts").glob("step-*/group-*.json"))
    step = max(1, len(paths) // MAX_GROUPS)
    records = [(path, _read(path)) for path in paths[::step][:MAX_GROUPS]]
    if not records:
        return ""
    if any(isinstance(answer["output"], str) for _, r in records for answer in r["answers"]):
        head = (
            "<h2>Groups: the best and the worst answer</h2>"
            f'<p class="note key">{BOXES}best answer '
            '<i style="border-color:#d1242f"></i>worst answer</p>'
        )
    else:
        head = (
            "<h2>Groups: from the best to the worst image</h2>"
            '<p class="note">Sampled in training, one prompt a group, in the order of reward.</p>'
        )
    return head + "".join(_group(path, record) for path, record in records)


def _group(path: Path, record: Mapping[str, Any]) -> str:
    folder = path.with_suffix("")
    places = [i for i in range(len(record["answers"])) if (folder / answer_file(i)).is_file()]
    return _strip(folder, record, places) if places else _listed(path, record)


def _listed(path: Path, record: Mapping[str, Any]) -> str:
    """A group whose answers are told in a table."""
    told = any(isinstance(answer["output"], str) for answer in record["answers"])
    rows = []
    for place, answer in enumerate(record["answers"]):
        reward = "n/a" if answer["reward"] is None else f"{answer['reward']:.3f}"
        parts = ", ".join(f"{k} {v:.2f}" for k, v in answer["parts"].items())
        text = f"<code>{escape(str(answer['output'])[:80])}</code>" if told else f"{place + 1}"
        rows.append(
            f"<tr><td>{text}</td><td>{reward}</td>"
            f"<td>{answer['advantage']:+.2f}</td><td>{escape(parts)}</td></tr>"
        )
    image = path.with_suffix(".webp")
    shot = f'<div class="shot">{_image(image)}</div>' if image.is_file() else ""
    kind = "group wide" if image.is_file() and _is_wide(image) else "group"
    return (
        f'<div class="{kind}">{shot}<div class="answers"><b>{_title(record)}</b>'
        "<table><tr><th>answer</th><th>reward</th><th>advantage</th><th>parts</th></tr>"
        f"{''.join(rows)}</table></div></div>"
    )


def _strip(folder: Path, record: Mapping[str, Any], places: Sequence[int]) -> str:
    """A group whose answers are images: a column each, with reward, advantage and parts."""
    answers = [record["answers"][place] for place in places]
    images = [folder / answer_file(place) for place in places]
    least_px = CARD_HEIGHT_PX if len(images) <= NUM_LARGE_IN_STRIP else STRIP_HEIGHT_PX
    height_px = _enlarged(images[0], least_px) or least_px
    truth = folder / TRUTH
    first = f"{_image(truth, height_px)}<br>reference" if truth.is_file() else ""
    head = "".join(f"<th>{_image(image, height_px)}</th>" for image in images)
    rewards = [answer["reward"] for answer in answers]
    names = dict.fromkeys(name for answer in answers for name in answer["parts"])
    parts = {name: [answer["parts"].get(name) for answer in answers] for name in names}
    rows = [_numbers("reward", rewards)]
    rows.append(_numbers("advantage", [answer["advantage"] for answer in answers], sign="+"))
    # A reward that stands alone is its own part.
    rows += [_numbers(name, column) for name, column in parts.items() if column != rewards]
    num = len(record["answers"])
    some = "" if num == len(places) else f' <span class="soft">{len(places)} of {num}</span>'
    return (
        f'<div class="strip"><b>{_title(record)}</b>{some}<div class="wide"><table>'
        f"<tr><th>{first}</th>{head}</tr>{''.join(rows)}</table></div></div>"
    )


def _numbers(name: str, values: Sequence[float | None], sign: str = "") -> str:
    write = writer([value for value in values if value is not None])
    cells = "".join(f"<td>{'n/a' if v is None else write(v, sign)}</td>" for v in values)
    return f"<tr><td>{escape(name)}</td>{cells}</tr>"


def _title(record: Mapping[str, Any]) -> str:
    return escape(f"step {record['step']}: {' '.join(record['prompt'])}")


def _image(path: Path, height_px: int | None = None) -> str:
    """The image in the page, as wide as its place allows or of a given height."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    # A pixel of a small image stays one: what looks like a fault is one.
    look = ' class="pixels"' if _size(path)[1] < SMALL_PX else ""
    style = f' style="height:{height_px}px"' if height_px else ""
    return f'<img alt=""{look}{style} src="data:image/webp;base64,{data}">'


def _enlarged(path: Path, least_px: int) -> int | None:
    """Height of a small image enlarged by a whole factor; None for a large one."""
    height = _size(path)[1]
    return height * -(-least_px // height) if height < SMALL_PX else None


def _is_wide(path: Path) -> bool:
    width, height = _size(path)
    return width > WIDE * height


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
