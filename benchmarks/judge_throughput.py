"""Images per second of a judge: batched with a shared prefix, against one call per image.

    python benchmarks/judge_throughput.py    # the small judge: see configs/judge/tiny_judge.yaml
    python benchmarks/judge_throughput.py --model Qwen/Qwen2.5-VL-7B-Instruct --examples 4

Sides: the reward's own batches with the shared prefix; the same without sharing; one call per
image (both orders in it); one forward of transformers per question, as most released judges do.
All answer the same questions; the largest difference of their log-probs is printed. The sides
take turns, best of `--repeats`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from vlrl.judge.local import LocalJudge
from vlrl.judge.question import Ask, Example, ImageBook, Questions, template_of
from vlrl.judge.yes_token import Reading

Side = Callable[[], list[Reading]]


def main() -> None:
    """Measure all sides and print a table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "runs/tiny_judge/model"))
    parser.add_argument("--num", type=int, default=32, help="images")
    parser.add_argument("--size", type=int, default=64, help="side in px")
    parser.add_argument(
        "--examples", type=int, default=0, help="few-shot pairs before the question"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    template, criteria = template_of(args.model)
    judge = LocalJudge.load(args.model, template)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.num + 1, args.size, args.size, 3), dtype=np.uint8)
    example = ROOT / "assets/images/references/grapes--white.webp"
    shots = [
        Example(caption="grapes", first=str(example), second=str(example), answer="no")
        for _ in range(args.examples)
    ]
    questions = Questions(template, criteria or "quality", shots)
    caption, reference = "a red apple on a white background", images[-1]

    def asked(members: list[int]) -> tuple[ImageBook, list[Ask]]:
        book, asks = ImageBook(), []
        for i in members:
            asks.append(questions.compare(book, caption, images[i], reference))
            asks.append(questions.compare(book, caption, reference, images[i]))
        return book, asks

    everything = list(range(args.num))

    def batched(share: bool) -> list[Reading]:
        judge.share = share
        return judge.ask(*asked(everything))

    def one_by_one() -> list[Reading]:
        judge.share = True
        return [reading for i in everything for reading in judge.ask(*asked([i]))]

    def plain() -> list[Reading]:
        return [
            r for i in everything for book, asks in [asked([i])] for r in forward(judge, book, asks)
        ]

    sides: dict[str, Side] = {
        "batched, shared prefix": lambda: batched(True),
        "batched, own prefixes": lambda: batched(False),
        "one call per image": one_by_one,
        "one forward per question": plain,
    }
    best = dict.fromkeys(sides, float("inf"))
    answers: dict[str, list[Reading]] = {}
    for _ in range(args.repeats):
        for name, side in sides.items():
            judge._kept.clear()
            start = time.perf_counter()
            answers[name] = side()
            best[name] = min(best[name], time.perf_counter() - start)
    first = answers["batched, shared prefix"]
    table = {
        name: {
            "images_a_second": round(args.num / seconds, 2),
            "times_one_call_a_image": round(best["one call per image"] / seconds, 2),
            "largest_difference_nats": max(
                abs(a.yes - b.yes) for a, b in zip(first, answers[name], strict=True)
            ),
        }
        for name, seconds in best.items()
    }
    print(json.dumps({"settings": vars(args), "table": table}, indent=2))


@torch.no_grad()
def forward(judge: LocalJudge, book: ImageBook, asks: list[Ask]) -> list[Reading]:
    """Each question through the processor and the model, unbatched."""
    readings = []
    for ask in asks:
        content: list[dict[str, Any]] = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", "image": book.images[part]}
            for part in ask.parts
        ]
        inputs = judge.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        ).to(judge.device)
        logp = judge.module.core(**inputs).logits[0, -1].float().log_softmax(-1)
        yes, no = (float(logp[ids].logsumexp(0)) for ids in (judge.yes, judge.no))
        readings.append(Reading(yes, no))
    return readings


if __name__ == "__main__":
    main()
