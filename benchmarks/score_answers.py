"""Speed of parsing and scoring answers: items per second, and the slowest of 100,000 bad ones.

    python benchmarks/score_answers.py data/benchmarks/annotations

Every annotation gets an answer in a family's own notation (half of them off target) and is scored
as `vlrl eval --predictions` does. It is compared with a plain loop with one regular expression that
reads the first four numbers, as most released scorers do. The malformed answers are real ones
truncated, doubled, shuffled and filled with digits and brackets.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vlrl.cli.checks import run_program
from vlrl.eval.gui.benchmarks import benchmark_named
from vlrl.eval.gui.items import Item, Source, load_items
from vlrl.eval.gui.precomputed import PrecomputedOptions, read_precomputed
from vlrl.eval.gui.scoring import prediction, verdict_of
from vlrl.eval.gui.strategies import Reading, Single
from vlrl.families.profiles import PROFILES, profile_named
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.refusal import read_click
from vlrl.gui.syntax import write_answer
from vlrl.gui.verdict import Polygon

SETS = (
    ("screenspot_v2", "ScreenSpot_V2_data", "screenspot_pro"),
    ("screenspot_pro", "ScreenSpot_Pro_data", "screenspot_pro"),
    ("osworld_g", "OS_G_data", "osworld_g_mai"),
    ("osworld_g_refined", "OS_G_Refine_data", "osworld_g_mai"),
    ("mmbench_gui_l2", "MMbench_data", "screenspot_pro"),
    ("ui_vision", "UI_Vision_data", "ui_vision"),
)
PROFILE = profile_named("qwen2_5_vl")


def answer_to(item: Item, rng: random.Random) -> str:
    """An answer in the family's notation: the true box, or the same one moved."""
    target = item.target.box if isinstance(item.target, Polygon) else item.target
    if not isinstance(target, Box):
        return "There is no such element."
    shift = 0.0 if rng.random() < 0.5 else 60.0
    x1, y1, x2, y2 = target.xyxy
    moved = Box(x1 + shift, y1 + shift, x2 + shift, y2 + shift, target.frame)
    resized = PROFILE.resized(int(item.frame.width), int(item.frame.height))
    return write_answer(moved, PROFILE, resized)


def plain_loop(items: list[Item], answers: list[str]) -> float:
    """Seconds of the plain loop over the items with boxes."""
    started = time.perf_counter()
    hits = 0
    for item, text in zip(items, answers, strict=True):
        numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", text.partition("2d")[2])][:4]
        if len(numbers) == 4 and isinstance(item.target, Box):
            x, y = (numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2
            x1, y1, x2, y2 = item.target.xyxy
            hits += x1 <= x <= x2 and y1 <= y <= y2
    return time.perf_counter() - started


def score_all(folder: Path) -> None:
    """Score every annotation under `folder` and print items per second."""
    rng = random.Random(0)
    total, load_s, score_s, plain_s = 0, 0.0, 0.0, 0.0
    for name, place, layout in SETS:
        source = Source(folder / place, format=layout, files=("*.json",))
        started = time.perf_counter()
        items = load_items(benchmark_named(name), source)
        load_s += time.perf_counter() - started
        answers = [answer_to(item, rng) for item in items]
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "answers.jsonl"
            rows = zip(items, answers, strict=True)
            path.write_text("\n".join(json.dumps({"id": i.id, "output": a}) for i, a in rows))
            started = time.perf_counter()
            passes = read_precomputed(PrecomputedOptions(path), items, PROFILE)
            reading, strategy = Reading(PROFILE), Single()
            for item in items:
                verdict, final = verdict_of(item, passes[item.id], strategy, reading)
                json.dumps(prediction(item, passes[item.id], verdict, final))
            score_s += time.perf_counter() - started
        plain_s += plain_loop(items, answers)
        total += len(items)
    print(f"{total} items: read in {load_s:.2f} s, scored in {score_s:.2f} s")
    print(f"{total / score_s:,.0f} items/s ({total / plain_s:,.0f} in the plain loop, which only")
    print("finds four numbers: no profiles, refusals, polygons, reasons or checks)")


def odd_answers(count: int, seed: int = 0) -> list[str]:
    """Answers in every family's notation, truncated, doubled, shuffled and filled up."""
    rng = random.Random(seed)
    frame = Frame(1920, 1080)
    whole = [
        write_answer(Box(100, 100, 200, 140, frame), profile, profile.resized(1920, 1080))
        for profile in PROFILES.values()
    ]
    pieces = ["[", "]", "(", ")", ",", " ", "-", ".", "1", "999999999", "1e999", "nan", '"x":', "{"]
    pieces += [
        "<think>",
        "</think>",
        "<answer>",
        "<point>",
        "٣",
        "\n",
        "bbox_2d",
        "null",
        "=",
        "％",
    ]
    made = []
    for _ in range(count):
        text = rng.choice(whole)
        for _ in range(rng.randint(0, 6)):
            start, end = sorted(rng.randint(0, len(text)) for _ in range(2))
            kind = rng.randint(0, 3)
            if kind == 0:
                text = text[:start] + text[end:]
            elif kind == 1:
                text = text[:end] + rng.choice(pieces) * rng.choice((1, 1, 2, 50)) + text[end:]
            elif kind == 2:
                text += text[start:end] + rng.choice(whole)
            else:
                text = text[:start] + "".join(rng.sample(text[start:end], end - start)) + text[end:]
        made.append(text[:20_000])
    return made


def slowest(count: int) -> None:
    """Parse malformed answers under random profiles and print the slowest."""
    rng = random.Random(1)
    names = sorted(PROFILES)
    worst, whole = (0.0, ""), time.perf_counter()
    for text in odd_answers(count):
        profile = PROFILES[rng.choice(names)]
        started = time.thread_time()  # not wall time, which includes other programs
        read_click(text, profile, Frame(1932, 1092))
        worst = max(worst, (time.thread_time() - started, text))
    whole = time.perf_counter() - whole
    print(f"{count} malformed answers in {whole:.1f} s; slowest {1000 * worst[0]:.2f} ms", end=" ")
    print(f"({len(worst[1])} characters)")


def main() -> None:
    """Both measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path, nargs="?", help="shared/benchmarks/annotations")
    parser.add_argument("--odd", type=int, default=100_000)
    args = parser.parse_args()
    if args.annotations is not None:
        score_all(args.annotations)
    slowest(args.odd)


if __name__ == "__main__":
    sys.exit(run_program(main))
