"""Time of a GRPO step by the trainer's own loop and by a vLLM server: the same model and group.

    python benchmarks/engine_speed.py --engine-env .venv-vllm
    python benchmarks/engine_speed.py --answers 32 --repeats 1 --prompts 1     # the smallest check

Own and vLLM take turns in one run: the embedded model, screens of the demo, G = 8, answers forced
to one length. Sampling includes what the engine needs first, its weights (written, read, caches
emptied). Where ENGINE_ENV has TRL too (`uv pip install --python ENGINE_ENV/bin/python trl`), its
GRPOTrainer follows with vLLM in its process, after the server has ended (engine_speed_trl.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for key, value in {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}.items():
    os.environ.setdefault(key, value)

import torch

MODEL = ROOT / "assets/models/tiny_qwen2_5_vl"
PHASES = ("sampling", "update", "step")


def letters(rollout: Any) -> float:
    """A reward that differs from answer to answer."""
    return (sum(ord(c) for c in rollout.output) % 17) / 17


def trainer_of(folder: Path, engine: dict[str, Any], num_tokens: int, args: Any) -> Any:
    """A trainer whose answers all have `num_tokens` tokens."""
    from vlrl.build import build_trainer
    from vlrl.config.resolve import check
    from vlrl.config.schema import RunConfig

    config = {
        "name": engine["use"],
        "out": str(folder / str(num_tokens)),
        "seed": 0,
        "num_steps": args.repeats + 1,
        "task": {
            "use": "gui_grounding",
            "prompt": "Click: {instruction}",
            "data": {"train": {"path": str(ROOT / "assets/new_screens/train.jsonl")}},
        },
        "policy": {
            "use": "vision_language",
            "model": str(MODEL),
            "max_new_tokens": num_tokens,
            "engine": engine,
        },
        "reward": {"use": "engine_speed:letters"},
        "algo": {"num_prompts": args.prompts, "group_size": args.group, "kl_beta": 0.0},
        "optim": {"lr": 1e-5},
        "dist": {
            "deepspeed": str(ROOT / "deepspeed_configs/zero0.json"),
            "num_threads": args.threads,
            "precision": "fp32",
        },
        "checkpoint": {"at_end": False, "export": False},
        "log": {"console": False, "report": False, "rollouts_every": 0},
    }
    trainer = build_trainer(check(RunConfig, config), None)
    trainer.policy.stop_tokens = torch.zeros(0, dtype=torch.long)
    if engine["use"] != "own":
        trainer.policy.sampler.inner.stop_tokens = []
    return trainer


def compare(url: str, num_tokens: int, folder: Path, args: Any) -> None:
    """Alternate the two samplers; print a row each, without the first step."""
    endless = {"ignore_eos": True}
    engines: dict[str, dict[str, Any]] = {
        "own": {"use": "own"},
        "vllm": {"use": "vllm", "urls": [url], "sampling_params": endless, "timeout_s": 3600.0},
    }
    trainers = {n: trainer_of(folder, e, num_tokens, args) for n, e in engines.items()}
    seconds: dict[str, dict[str, list[float]]] = {n: {p: [] for p in PHASES} for n in trainers}
    for _ in range(args.repeats + 1):
        for name, trainer in trainers.items():
            start = time.perf_counter()
            metrics = trainer.train_step()
            whole = time.perf_counter() - start
            if metrics["rollout/num_actions"] != num_tokens:
                raise SystemExit(f"{name}: answers have {metrics['rollout/num_actions']} tokens")
            found = (metrics["time/sampling_s"], metrics["time/update_s"], whole)
            for phase, value in zip(PHASES, found, strict=True):
                seconds[name][phase].append(value)
    own = {phase: median(seconds["own"][phase][1:]) for phase in PHASES}
    for name, phases in seconds.items():
        now = {phase: median(phases[phase][1:]) for phase in PHASES}
        cells = " | ".join(f"{now[phase]:.2f} ({own[phase] / now[phase]:.2f}x)" for phase in PHASES)
        print(f"| {num_tokens} | {name} | {cells} |", flush=True)


def time_trl(python: Path, num_tokens: int, args: argparse.Namespace) -> None:
    """TRL's row of a length."""
    sizes = ("prompts", "group", "repeats", "threads")
    options = [f"--{name}={getattr(args, name)}" for name in sizes]
    script = str(ROOT / "benchmarks/engine_speed_trl.py")
    command = [str(python), script, f"--tokens={num_tokens}", *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    phases = (found["sampling"], found["step"] - found["sampling"], found["step"])
    print(f"| {num_tokens} | TRL | {' | '.join(f'{s:.2f}' for s in phases)} |", flush=True)


def main() -> None:
    """Start the server, and compare at every length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine-env", type=Path, default=ROOT / ".venv-vllm")
    parser.add_argument("--answers", type=int, nargs="+", default=[32, 256, 1024])
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from vlrl.policy.vision_language.samplers.started import started

    with (
        tempfile.TemporaryDirectory() as folder,
        started(str(MODEL), args.engine_env, {}, publishes=True) as url,
    ):
        print(f"G = {args.group}, {args.prompts} prompts, {torch.get_num_threads()} threads")
        print("| tokens | sampler | sampling s | update s | step s |")
        print("|---|---|---|---|---|", flush=True)
        for num_tokens in args.answers:
            compare(url, num_tokens, Path(folder), args)
    python = args.engine_env.resolve() / "bin/python"
    if subprocess.run([python, "-c", "import trl"], check=False, capture_output=True).returncode:
        print(f"no TRL in {args.engine_env}")
        return
    for num_tokens in args.answers:
        time_trl(python, num_tokens, args)


if __name__ == "__main__":
    main()
