"""What every long recipe takes of the GPUs that it states, as the table of docs/gpus.md.

python benchmarks/plan_table.py              # the shipped recipes, about three minutes
python benchmarks/plan_table.py --sizes      # larger models on 8 x 80 GB
python benchmarks/plan_table.py --long       # rows over several GPUs
"""

from __future__ import annotations

import argparse

from vlrl.build import read_parts
from vlrl.cli.checks import run_program
from vlrl.cli.plan import plan_of
from vlrl.config.loader import compose
from vlrl.config.resolve import load_run_config
from vlrl.config.shipped import shipped_files
from vlrl.plan.text import HEADER, table_row

MERGED = (
    ("gui_grounding/gui_g2_qwen2_5_vl_7b", "gui_grounding/lora"),
    ("image_generation/sd3_5_medium_ocr", "image_generation/fast"),
    ("image_generation/flux_1_dev_ocr", "image_generation/flux_fast"),
)
"""Recipes with another merged over them."""
G2 = ("gui_grounding/gui_g2_qwen2_5_vl_7b",)
LORA = (*G2, "gui_grounding/lora")
SHARDED = (*LORA, "dist.deepspeed=zero3")
LARGER = "policy.model=Qwen/Qwen2.5-VL-{}-Instruct"
PACKED = "policy.quantize=nf4"
SMALL = ("policy.max_pixels=2359296", "dist.max_tokens_per_chunk=4096")
"""Screens of 1080p, 3,009 visual tokens."""
SIZES = {
    "7B, all weights, ZeRO-3": (*G2,),
    "7B, adapter, ZeRO-2": LORA,
    "32B, all weights, ZeRO-3": (*G2, LARGER.format("32B")),
    "32B, adapter, ZeRO-3": (*SHARDED, LARGER.format("32B")),
    "32B, adapter, ZeRO-2, 1080p": (*LORA, LARGER.format("32B"), *SMALL),
    "32B, adapter, NF4, ZeRO-2": (*LORA, LARGER.format("32B"), PACKED),
    "72B, adapter, NF4, ZeRO-2, 1080p": (*LORA, LARGER.format("72B"), PACKED, *SMALL),
    "72B, adapter, ZeRO-3": (*SHARDED, LARGER.format("72B")),
}
"""The GUI-G2 recipe with other models."""
LENGTHY = (
    "video_grounding/stvg_o1_qwen2_5_vl_7b", "algo.num_prompts=8", "policy.max_new_tokens=8192",
    "plan.max_prompt_tokens=65536", "plan.mean_prompt_tokens=65536", "plan.mean_answer_tokens=4096",
)  # fmt: skip
DIVIDED = {
    f"{n} GPUs a row" if n > 1 else "a row on one GPU": (
        *LENGTHY, f"dist.sequence_parallel={n}", f"dist.max_tokens_per_chunk={73_728 // n}"
    )
    for n in (1, 2, 4)
}  # fmt: skip
"""7B with all weights at ZeRO-3; videos of 65,536 tokens, eight answers of up to 8,192 each."""


def long_recipes() -> list[tuple[str, ...]]:
    """The shipped recipes that state their GPUs, and the merged ones."""
    names = [name for name in shipped_files("configs") if not name.startswith("architectures/")]
    stated = [(name,) for name in names if (compose([name]).get("plan") or {}).get("gpu")]
    return [*stated, *MERGED]


def row(label: str, words: tuple[str, ...], gpu: str | None = None) -> str:
    """The table's line of some recipes and overrides."""
    files = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    plan = plan_of(read_parts(load_run_config(files, overrides)), gpu)
    assert plan is not None
    return table_row(label, plan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", action="store_true", help="larger models instead")
    parser.add_argument("--long", action="store_true", help="rows over several GPUs instead")
    args = parser.parse_args()
    print(HEADER)
    if args.sizes or args.long:
        for label, words in (SIZES if args.sizes else DIVIDED).items():
            print(row(label, words), flush=True)
        return
    for words in long_recipes():
        print(row(" + ".join(words), words), flush=True)


if __name__ == "__main__":
    raise SystemExit(run_program(main))
