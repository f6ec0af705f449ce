"""A GRPO step of Qwen3.5 with its recurrent state forked, beside rows that each hold the prompt.

    python benchmarks/forked_state.py                        # P = 1,024, G = 8, answers of 32
    python benchmarks/forked_state.py --answers 32 128

Random weights, fp32, the two ways in turn in one process; sampling and update (forward and
backward) are timed apart. The model has eight layers, three of four with a recurrent state, as the
published ones.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import transformers

from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.distribution import Sampling
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language import group_attention, layout
from vlrl.policy.vision_language.decode import decode
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.packed import recurrent

VOCABULARY = 4096


def model_of(hidden: int, attention: str) -> TokenLogProbs:
    """Qwen3.5 with random weights; the same ones for both ways."""
    text = {
        "vocab_size": VOCABULARY, "hidden_size": hidden, "intermediate_size": 3 * hidden,
        "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 2,
        "linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 32,
        "linear_value_head_dim": 32, "linear_conv_kernel_dim": 4, "eos_token_id": VOCABULARY - 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3],
                            "mrope_interleaved": True, "partial_rotary_factor": 0.5},
    }  # fmt: skip
    config = transformers.Qwen3_5Config(
        text_config=text, vision_config={"depth": 1, "hidden_size": 32, "num_heads": 2,
                                         "intermediate_size": 32, "out_hidden_size": hidden},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Qwen3_5ForConditionalGeneration._from_config(
        config, attn_implementation={"text_config": attention, "vision_config": "sdpa"}
    )
    recurrent.use_in(model, ("Qwen3_5GatedDeltaNet",))
    nothing = torch.zeros(0, dtype=torch.long)
    return TokenLogProbs(model, Sampling(), nothing, 1, keeps_features=True)


def step(
    module: TokenLogProbs, prompts: list[EncodedPrompt], num_each: int, num_tokens: int, share: bool
) -> tuple[float, float, torch.Tensor]:
    """Seconds of sampling and of the update, and the update's log-probs."""
    start = time.perf_counter()
    module.eval()
    made = decode(
        module, prompts, num_each, list(range(len(prompts) * num_each)), share_prompt=share,
        max_new_tokens=num_tokens, stop_tokens=torch.tensor([-1]), pad_id=0,
    )  # fmt: skip
    sampled = time.perf_counter()
    group = torch.arange(len(prompts)).repeat_interleave(num_each)
    traj = TokenTrajectory(made.tokens, made.mask, made.logp, group, tuple(prompts))
    rows = (layout.shared if share else layout.plain)(traj, 0)
    module.zero_grad()
    logp, _ = module(
        rows.input_ids, rows.positions, rows.attention_mask, None, rows.predictor, rows.targets,
        rows.groups,
    )  # fmt: skip
    logp.sum().backward()
    return sampled - start, time.perf_counter() - sampled, logp.detach()


def main() -> None:
    """Print a row for each length of answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--answers", type=int, nargs="+", default=[32])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    group_attention.register()
    torch.set_num_threads(1)
    modules = {
        True: model_of(args.hidden, group_attention.NAME),
        False: model_of(args.hidden, "sdpa"),
    }
    ids = torch.randint(2, VOCABULARY - 1, (args.prompt,), generator=torch.manual_seed(1))
    prompts = [EncodedPrompt(ids, torch.arange(args.prompt).expand(3, -1))]
    print(
        "| answers | forked: sample + update | plain: sample + update | ratio | log-probs apart |"
    )
    print("|---|---|---|---|---|")
    for num_tokens in args.answers:
        times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        apart = 0.0
        for _ in range(args.repeats):
            found = {}
            for share, module in modules.items():
                sampling, update, found[share] = step(
                    module, prompts, args.group, num_tokens, share
                )
                times[share].append((sampling, update))
            apart = max(apart, float((found[True] - found[False]).abs().max()))
        middle = {s: [statistics.median(x) for x in zip(*t, strict=True)] for s, t in times.items()}
        shown = {s: f"{a:.2f} + {b:.2f} s" for s, (a, b) in middle.items()}
        ratio = sum(middle[False]) / sum(middle[True])
        print(f"| {num_tokens} | {shown[True]} | {shown[False]} | {ratio:.1f}x | {apart:.1e} |")


if __name__ == "__main__":
    main()
