"""`vlrl compare a/ b/`: two evaluations of the same items, paired."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlrl.eval.gui.compare import compare, markdown, to_json
from vlrl.eval.gui.gallery import write_gallery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl compare`."""
    parser.add_argument("first", type=Path, help="folder that vlrl eval wrote")
    parser.add_argument("second", type=Path, help="folder that vlrl eval wrote")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: SECOND/compare")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table; write compare.md, compare.json and the gallery compare.html."""
    result = compare(args.first, args.second)
    out: Path = args.out or args.second / "compare"
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(result)
    (out / "compare.md").write_text(text, encoding="utf-8")
    (out / "compare.json").write_text(to_json(result), encoding="utf-8")
    write_gallery(result, out / "compare.html")
    print(text)
    print(f"written: {out}/compare.html, compare.md, compare.json")
    return 0
