"""Make the embedded model that writes voxel codes, from the embedded shapes and their VQ-VAE.

    python scripts/assets/models/make_tiny_voxel_codec.py --out assets/models/tiny_voxel/codec
    python scripts/assets/models/make_tiny_voxel_model.py --out assets/models/tiny_voxel

Supervised: captions of training shapes, plan and details in words, codes. The log is written next to
the model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from vlrl.distributed.memory import keep_freed_memory
from vlrl.policy.voxel_tokens.codec_files import load_codec
from scripts.assets.models.image.clock import Clock
from scripts.assets.models.voxel.lessons import (
    INSTRUCTION,
    Writer,
    detail_words,
    lessons,
    plan_words,
    read_rows,
)
from scripts.assets.models.voxel.writer import new_model, new_processor, train_writer


def main() -> None:
    """Train, save."""
    from vlrl.policy.voxel_tokens.policy import further_turn

    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    codec = load_codec(str(args.out / "codec"))
    train, held_out = (read_rows(args.assets, split) for split in ("train", "held_out"))
    texts = []
    for row in train:
        turns = ["user\n", "assistant\n", INSTRUCTION]
        texts += [*turns, row["caption"], plan_words(row), detail_words(row)]
    num_codes = codec.shape.num_codes
    processor = new_processor(texts, num_codes)
    tokenizer = processor.tokenizer
    model = new_model(tokenizer, args.seed)
    if args.start is not None:
        model = model.from_pretrained(args.start, dtype=torch.float32)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters", flush=True)
    first = tokenizer.convert_tokens_to_ids("<mesh0>")
    writer = Writer(processor, further_turn(processor, INSTRUCTION), first, num_codes)
    with (args.out / "warmup_log.jsonl").open("a", encoding="utf-8") as log:
        train_writer(
            model,
            lessons(args.assets, train, codec),
            lessons(args.assets, held_out, codec),
            writer,
            Clock(args.minutes),
            batch=args.batch,
            lr=args.lr,
            code_noise=args.code_noise,
            log=log,
        )
    processor.save_pretrained(args.out)
    model.to(torch.bfloat16).save_pretrained(args.out)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("assets/shapes"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="continue from a checkpoint")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--code-noise", type=float, default=0.2, help="share of codes replaced by random ones")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
