"""`vlrl screens`: a grounding data set from running web pages."""

import argparse
import json
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vlrl.gui.capture.browser import Browser, BrowserMissingError
from vlrl.gui.capture.crawl import Crawler, CrawlOptions, open_source
from vlrl.gui.capture.extract import ExtractOptions


def viewport(text: str) -> tuple[int, int]:
    """Parses '390x844' (width x height in CSS pixels)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no viewport; write WIDTHxHEIGHT, as 390x844")
    width, height = int(parts[0]), int(parts[1])
    if not (100 <= width <= 8000 and 100 <= height <= 8000):
        raise argparse.ArgumentTypeError(f"{text!r}: sides must lie between 100 and 8000 pixels")
    return width, height


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl screens`."""
    parser.description = (
        "Opens pages in headless Chromium and writes screenshots with instructions and boxes. "
        "Only the hosts of the named sources (and --allow-host) are contacted."
    )
    parser.add_argument("--source", action="append", required=True, metavar="URL_OR_FOLDER")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--viewport", action="append", type=viewport, metavar="WxH", help="px; may be repeated"
    )
    parser.add_argument("--scrolls", type=int, default=2, help="scroll positions a page")
    parser.add_argument("--max-screens", type=int, default=500)
    parser.add_argument("--link-depth", type=int, default=1, help="same-origin links to follow")
    parser.add_argument("--storage-state", help="saved browser state (cookies) for a log-in")
    parser.add_argument("--allow-host", action="append", default=[], help="e.g. a host of fonts")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of the pages")
    parser.add_argument("--min-side", type=int, default=12, help="px; smaller elements go")
    parser.add_argument("--settle-ms", type=int, default=300, help="wait after loading")
    parser.add_argument("--dark", action="store_true", help="ask pages for their dark theme")
    parser.add_argument("--chromium", help="path of the browser")
    parser.add_argument("--seed", default="0")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `vlrl screens`; 0 = rows were written, 1 = none, 2 = the request cannot be met."""
    console = Console()
    if args.storage_state and not Path(args.storage_state).is_file():
        console.print(f"[red]--storage-state {args.storage_state}: no such file[/red]")
        return 2
    hosts = [urlsplit(s).hostname for s in args.source]
    options = CrawlOptions(
        viewports=tuple(args.viewport or [(390, 844), (1280, 800)]),
        scrolls=args.scrolls,
        max_screens=args.max_screens,
        link_depth=args.link_depth,
        seed=args.seed,
        held_out=args.held_out,
        settle_ms=args.settle_ms,
        dark=args.dark,
        extract=ExtractOptions(min_side=args.min_side),
    )
    try:
        with Browser(
            chromium=args.chromium,
            allowed_hosts=[*(h for h in hosts if h), *args.allow_host],
            storage_state=args.storage_state,
        ) as browser:
            crawler = crawl(browser, args.source, args.out, options, console)
            summarise(console, crawler, browser.blocked, args.out)
    except (BrowserMissingError, FileNotFoundError) as error:
        console.print(f"[red]{error}[/red]")
        return 2
    return 0 if any(crawler.rows.values()) else 1


def crawl(
    browser: Browser, sources: list[str], out: Path, options: CrawlOptions, console: Console
) -> Crawler:
    """Visits the sources with a progress bar and writes the files."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("screens", total=options.max_screens)
        crawler = Crawler(
            browser, out, options, on_screen=lambda count: progress.update(task, completed=count)
        )
        for text in sources:
            with open_source(text) as source:
                progress.update(task, description=source.app)
                crawler.visit(source)
        crawler.write()
    return crawler


def summarise(console: Console, crawler: Crawler, blocked: dict[str, int], out: Path) -> None:
    """Prints and writes (summary.json) what was made and what was left out, by reason."""
    rows = [row for part in crawler.rows.values() for row in part]
    kinds = dict(Counter(row.kind for row in rows))
    splits = {split: len(part) for split, part in crawler.rows.items()}
    dropped = {reason: n for reason, n in crawler.dropped.most_common() if n}
    console.print(f"{len(crawler.screens)} screens, {len(rows)} instructions in {out}")
    console.print(f"  splits {splits}  kinds {kinds}")
    if dropped:
        console.print("left out:")
        for reason, count in dropped.items():
            console.print(f"  {count:6d}  {reason}", markup=False, soft_wrap=True)
    if blocked:
        hosts = ", ".join(f"{host} ({count})" for host, count in sorted(blocked.items()))
        console.print(f"requests blocked (see --allow-host): {hosts}")
    summary = {
        "screens": len(crawler.screens),
        "splits": splits,
        "kinds": kinds,
        "dropped": dropped,
        "blocked": blocked,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
