"""Writes README.md and LICENSES.md of the embedded screens from what was built."""

from collections import Counter
from pathlib import Path

from scripts.assets.screens.new_screen_apps import NEW_APPS
from scripts.assets.screens.screen_apps import APPS, JUPYTER_LICENCE, JUPYTER_PACKAGE

from vlrl.gui.capture.dataset import read_jsonl

SPLITS = {"train": "train.jsonl", "held_out": "held_out.jsonl", "unseen_apps": "unseen_apps.jsonl"}

ABOUT = """Built by `{command}` from {sources}; sources and
licences in `LICENSES.md`.

Each line of {files} is one instruction for one
element of one screen: `id`, `image`, `image_size` (px), `instruction`, `bbox` (x1, y1, x2, y2 in
px of the image), `kind` (label, icon, appearance, region), `element_type` (text, icon, input),
`role`, `name`, `app`, `platform`, `screen`. `screens.jsonl` has one line per screen.

Every screen is rendered natively at its size (280x504 mobile, 448x364 web, 504x364 desktop),
sides multiples of 28 px; desktop windows are cropped at native scale, never shrunk. Pages of one
application go to either train or held_out (one-page applications: scroll positions or window
tiles do). In held_out, `familiar` says whether train shows an element of the same name, role and
place (such as menus, which every page repeats); results are reported separately.{more}
"""
UNSEEN = """ The applications of
unseen_apps appear in neither."""
NEW = """ The embedded model was
warmed up on none of these applications: the demo's reinforcement learning starts on them."""


def write_docs(out: Path, dropped: Counter[str]) -> None:
    """Counts and sources, as found in the written files."""
    screens = read_jsonl(out / "screens.jsonl")
    rows = {s: read_jsonl(out / file) for s, file in SPLITS.items() if (out / file).is_file()}
    is_new = "unseen_apps" not in rows
    about = ABOUT.format(
        command=f"scripts/assets/screens/make_screens.py{' --new' if is_new else ''}",
        sources="npm packages" if is_new else "npm packages and a live JupyterLab",
        files=" and ".join(f"`{SPLITS[split]}`" for split in rows),
        more=NEW if is_new else UNSEEN,
    )
    size = sum(p.stat().st_size for p in (out / "images").glob("*.webp")) / 1e6
    elements = len({r["id"].rsplit("/", 1)[0] for part in rows.values() for r in part})
    total = sum(map(len, rows.values()))
    apps = {s["app"] for s in screens}
    lines = [
        "# New screens" if is_new else "# Embedded screens",
        "",
        f"{len(screens)} screens of {len(apps)} applications, {elements} elements, {total} "
        f"instructions, {size:.1f} MB of lossless webp.",
        about,
        "| split | "
        + " | ".join(("screens", "rows", "label", "icon", "appearance", "region"))
        + " |",
        "|---|---|---|---|---|---|---|",
    ]
    for split, part in rows.items():
        kinds = Counter(r["kind"] for r in part)
        counts = [sum(s["split"] == split for s in screens), len(part)]
        counts += [kinds[k] for k in ("label", "icon", "appearance", "region")]
        lines.append(f"| {split} | " + " | ".join(map(str, counts)) + " |")
    lines += [
        "",
        "| application | platforms | screens | " + " | ".join(rows) + " |",
        "|---|---|---|" + "---|" * len(rows),
    ]
    for app in sorted({s["app"] for s in screens}):
        platforms = ", ".join(sorted({s["platform"] for s in screens if s["app"] == app}))
        counts = [sum(r["app"] == app for r in rows[s]) for s in rows]
        many = sum(s["app"] == app for s in screens)
        lines.append(f"| {app} | {platforms} | {many} | " + " | ".join(map(str, counts)) + " |")
    lines += ["", "Left out while building, by reason (elements and screens, all viewports):", ""]
    lines += [f"- {reason}: {count}" for reason, count in dropped.most_common()]
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_licences(out, {s["app"] for s in screens})


def write_licences(out: Path, used: set[str]) -> None:
    """One line per source, with version and licence."""
    lines = [
        "# Sources of the embedded screens",
        "",
        "| application | package | licence |",
        "|---|---|---|",
    ]
    helpers = set()
    for app in (*APPS, *NEW_APPS):
        if app.name in used:
            lines.append(f"| {app.name} | npm {app.package} | {app.licence} |")
            helpers |= {package for _, package, _ in app.redirects}
    if "jupyterlab" in used:
        lines.append(f"| jupyterlab | pip {JUPYTER_PACKAGE} | {JUPYTER_LICENCE} |")
    lines += [
        "",
        "Files that some packages load from elsewhere come from: "
        + ", ".join(sorted(helpers))
        + " "
        "(MIT; the Font Awesome icons CC-BY-4.0, its fonts and Source Sans 3 OFL-1.1; "
        "simple-datatables LGPL-3.0). Their code is not in the repository.",
        "",
        "The images are renderings of these packages' own demonstration pages. Host pages for "
        "libraries without one are written by `scripts/assets/screens/screen_apps.py`.",
    ]
    (out / "LICENSES.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
