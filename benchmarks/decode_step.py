"""One decoding step of a 7B-shaped model: kernels, waits of the host, and time, old way and new.

    python benchmarks/decode_step.py                              # CPU: tiny widths, 28 layers
    python benchmarks/decode_step.py --device cuda --hidden 3584  # a GPU, Qwen2.5-VL-7B's shape

`plain` is one row per answer with transformers' own cache; `shared` is what runs sample with, its
steps run one by one; `recorded` the same played again as a CUDA graph. Random weights in bf16.
Counted on the host: kernels are operators that are no views; a wait is a value read on the host.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.distribution import Sampling
from vlrl.policy.vision_language import group_attention
from vlrl.policy.vision_language.decode import LOOK_EVERY, decode
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.recorded import GraphRecorder, Recorder

VIEWS = ("view", "alias", "detach", "expand", "permute", "reshape", "select", "slice", "split",
         "squeeze", "transpose", "unbind", "unsqueeze", "aten.t.", "lift_fresh")  # fmt: skip
WAITS = ("_local_scalar_dense", "aten.nonzero")


class Counted(TorchDispatchMode):
    """Calls of every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def model_of(args: argparse.Namespace, attention: str) -> TokenLogProbs:
    """Qwen2.5-VL with 28 layers and random weights, on the device."""
    heads = args.hidden // 128 if args.hidden >= 1024 else 28
    text = {
        "vocab_size": 152064 if args.hidden >= 1024 else 1024,
        "hidden_size": args.hidden,
        "intermediate_size": 18944 if args.hidden >= 1024 else 64,
        "num_hidden_layers": 28,
        "num_attention_heads": heads,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [16, 24, 24] if args.hidden >= 1024 else [1, 1, 2],
        },
    }
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
              "out_hidden_size": args.hidden, "fullatt_block_indexes": [0]}  # fmt: skip
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    with torch.device(args.device):
        model = transformers.Qwen2_5_VLForConditionalGeneration._from_config(
            config,
            attn_implementation={"text_config": attention, "vision_config": "sdpa"},
            dtype=torch.bfloat16,
        )
    module = TokenLogProbs(model.eval(), Sampling(), torch.tensor([1000]), num_head_chunks=1)
    return module.to(args.device)


def main() -> None:
    """Print one row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden", type=int, default=224)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the prompt")
    parser.add_argument("--group", type=int, default=8, help="answers")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of an answer")
    args = parser.parse_args()
    group_attention.register()
    ids = torch.arange(args.prompt) % 900
    prompt = EncodedPrompt(ids, torch.arange(args.prompt).expand(3, -1), None, None)
    ways = {"plain": ("sdpa", False, Recorder), "shared": (group_attention.NAME, True, Recorder)}
    if args.device == "cuda":
        ways["recorded"] = (group_attention.NAME, True, GraphRecorder)
    print("| way | ms a step | kernels | waits |\n|---|---|---|---|")
    for name, (attention, share, recorder) in ways.items():
        module = model_of(args, attention)

        def run(
            num_tokens: int,
            module: TokenLogProbs = module,
            share: bool = share,
            recorder: type[Recorder] = recorder,
        ) -> float:
            # On a CPU the time of this process alone: other programs run there too.
            clock = time.process_time if args.device == "cpu" else time.perf_counter
            start = clock()
            decode(
                module, [prompt], args.group, list(range(args.group)), share_prompt=share,
                max_new_tokens=num_tokens, stop_tokens=torch.tensor([-5]), pad_id=0,
                recorder=recorder(), look_every=LOOK_EVERY if share else 1,
            )  # fmt: skip
            return clock() - start

        run(8)
        half = args.tokens // 2
        long, short = (min(run(n) for _ in range(3)) for n in (args.tokens, half))
        seconds = (long - short) / (args.tokens - half)
        counts: list[Counter[str]] = []
        for num_tokens in (20, 28):
            with Counted() as counted:
                run(num_tokens)
            counts.append(counted.calls)
        each = {op: (counts[1][op] - counts[0][op]) / 8 for op in counts[1]}
        kernels = sum(n for op, n in each.items() if not any(view in op for view in VIEWS))
        waits = sum(n for op, n in each.items() if any(wait in op for wait in WAITS))
        shown = "-" if name == "recorded" else f"{kernels:.0f}"
        print(f"| {name} | {1000 * seconds:.2f} | {shown} | {waits:.2f} |", flush=True)


if __name__ == "__main__":
    main()
