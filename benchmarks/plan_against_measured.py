"""A plan's memory next to what torch's allocator counts in one step of a small run on the CPU.

    python benchmarks/plan_against_measured.py

`lasting`: weights, optimizer states, average, reference and decoders, as the plan has them and as
the bytes of the run's own tensors. `update`: gradients, buckets, activations and logits; measured
is the peak of torch's own record of allocations (torch.profiler) over an update, above its start.
Prompts and answers have the lengths of that step. Gradient buckets are made small here: they are
set aside whole, and would hide the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("DS_ACCELERATOR", "cpu")
MIB = 2**20
BUCKET = 1_000_000
QUIET = ("log.console=false", "log.report=false", "log.rollouts_every=0", "eval.before=false")
SCREENS = ("gui_grounding/tiny", "algo.num_prompts=8")
IMAGES = (
    "image_generation/tiny",
    "metrics={}",
    "eval.splits=[]",
    "algo.num_prompts=2",
    "reward={use: image_class, model: assets/models/judge_style, class_name: noto}",
)
TOKENS = ("janus", "dist.max_tokens_per_chunk=2048")
"""The Janus of tests/helpers_janus.py."""
LORA = "policy.lora={rank: 8, alpha: 16}"
CASES: dict[str, tuple[str, ...]] = {
    "screens, frozen tower": SCREENS,
    "screens, all weights": (*SCREENS, "policy.train_vision=true", "algo.kl_beta=0.04"),
    "screens, adapter, checkpointing": (*SCREENS, LORA, "dist.gradient_checkpointing=true"),
    "images, all weights": IMAGES,
    "images, adapter, guidance": (*IMAGES, LORA, "policy.guidance=cfg"),
    "image tokens, all weights": TOKENS,
    "voxels, ZeRO-3": ("text_to_3d/tiny", "algo.num_prompts=4", "zero3"),
}


class Measured(NamedTuple):
    """Bytes, planned and measured."""

    lasting: tuple[float, float]
    update: tuple[float, float]


def run_case(words: Sequence[str], out: Path) -> Measured:
    """One step of a run, and its plan."""
    from vlrl.build import build_trainer, read_parts
    from vlrl.config.resolve import load_run_config
    from vlrl.log.metrics import Meter
    from vlrl.plan.measure import training_cost
    from vlrl.plan.memory import always_bytes, modules_of, weights_of
    from vlrl.plan.plan import planned_run
    from vlrl.plan.sharding import FULL, HALF, Sharding, bucket_bytes
    from vlrl.train.update import update

    stage = 3 if "zero3" in words else 2
    sharding_file = out / "sharding.json"
    zero = {"stage": stage, "reduce_bucket_size": BUCKET, "contiguous_gradients": True}
    zero |= {"overlap_comm": False}
    sharding_file.write_text(json.dumps({"zero_optimization": zero}))
    files = [word for word in words if "=" not in word and word != "zero3"]
    overrides = [word for word in words if "=" in word]
    if IMAGES[0] in files:
        overrides.append(f"task.data={{train: {{path: {_captions(out)}}}}}")
    if files == [TOKENS[0]]:
        files = [_janus(out)]
    config = load_run_config(
        files, [*overrides, *QUIET, f"out={out}", f"dist.deepspeed={sharding_file}"]
    )
    trainer = build_trainer(config, None)
    config = trainer.config
    trainer.train_step()  # the optimizer's states are made
    meter = Meter()
    batch = trainer.prepare(trainer.collect(meter), meter)
    lasting = _lasting_bytes(trainer)
    with _allocations() as events:
        update(trainer.policy, trainer.engine, batch, config.algo, trainer.world, meter)
    peak = _peak(events)

    told = read_parts(_with_lengths(config, batch.trajectory))
    planned = told.policy_options.planned(planned_run(told.config, 1, flash=False))
    assert planned is not None
    sharding, weights = Sharding.read(str(sharding_file)), weights_of(planned)
    size = HALF if config.dist.precision == "bf16" else FULL
    always = always_bytes(told.config, planned, weights, sharding, size, 1)
    gradients = always.pop("gradients")
    total = planned.num_step_tokens(largest=False)
    chunk = planned.chunk(min(total, config.dist.max_tokens_per_chunk), largest=False)
    cost = training_cost(modules_of(planned), chunk.forward)
    # On one rank a shard is all of a weight, so that gathered layers are no copies.
    passing = cost.peak_bytes + bucket_bytes(weights, sharding, size)
    return Measured((sum(always.values()), lasting), (gradients + passing, peak))


def _janus(out: Path) -> str:
    """A run's config on a Janus of the tests, in YAML."""
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers_janus import janus_run, save_janus, write_captions

    from vlrl.config.loader import to_yaml

    data = write_captions(out / "data")
    config = janus_run(save_janus(out / "janus"), data, out, "janus")
    file = out / "janus.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    return str(file)


def _captions(out: Path) -> Path:
    """The image recipe's captions without the references, which `make setup` draws."""
    file = out / "captions.jsonl"
    rows = (ROOT / "assets/images/train.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [{k: v for k, v in json.loads(row).items() if k != "references"} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return file


def _with_lengths(config: Any, trajectory: Any) -> Any:
    """The config with the typical lengths of a trajectory, where it has any."""
    from vlrl.policy.token_trajectory import TokenTrajectory

    if not isinstance(trajectory, TokenTrajectory):
        return config
    prompts = [prompt.num_tokens for prompt in trajectory.prompts]
    stated = {
        "mean_prompt_tokens": round(sum(prompts) / len(prompts)),
        "mean_answer_tokens": round(float(_present(trajectory).sum(1).float().mean())),
    }
    return config.model_copy(update={"plan": config.plan.model_copy(update=stated)})


def _present(trajectory: Any) -> Any:
    from vlrl.policy.voxel_tokens.trajectory import VoxelTrajectory

    return trajectory.present if isinstance(trajectory, VoxelTrajectory) else trajectory.mask


def _lasting_bytes(trainer: Any) -> float:
    """Bytes of the tensors that a run holds between updates, each storage once."""
    from torch import Tensor, nn

    found: dict[int, int] = {}

    def see(value: object) -> None:
        if isinstance(value, Tensor):
            storage = getattr(value, "ds_tensor", value).untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, nn.Module):
            for one in value.parameters():
                see(one)
        elif isinstance(value, dict):
            for one in value.values():
                see(one)
        elif isinstance(value, list | tuple):
            for one in value:
                see(one)

    engine, policy = trainer.engine, trainer.policy
    see(engine.engine.module)
    for group in engine.schedule.optimizer.param_groups:
        see(group["params"])
    see(list(engine.schedule.optimizer.state.values()))
    see([] if engine.average is None else engine.average.shadow)
    see([vars(policy).get(name) for name in ("_reference", "vae", "decoder", "codec")])
    return float(sum(found.values()))


class _allocations:  # noqa: N801, used as a function
    """Inside, torch records every allocation on the CPU."""

    def __enter__(self) -> _allocations:
        from torch.profiler import ProfilerActivity, profile

        self.profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.profile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.profile.__exit__(*error)

    def __iter__(self) -> Iterator[int]:
        profiler: Any = self.profile.profiler
        events: list[Any] = profiler.kineto_results.events()
        memory = [event for event in events if event.name() == "[memory]"]
        return (event.nbytes() for event in sorted(memory, key=lambda event: event.start_ns()))


def _peak(changes: Iterator[int] | _allocations) -> float:
    now = peak = 0
    for change in changes:
        now += change
        peak = max(peak, now)
    return float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, help="one case, in this process")
    args = parser.parse_args()
    if args.case:
        with tempfile.TemporaryDirectory() as out:
            print("RESULT", json.dumps(run_case(CASES[args.case], Path(out))))
        return
    print("| run | lasting, planned | measured | | update, planned | measured | | all |")
    print("|---|---|---|---|---|---|---|---|")
    for name in CASES:
        command = [sys.executable, __file__, "--case", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
        if line is None:
            raise SystemExit(f"{name}: {done.stderr[-3000:]}")
        parts = json.loads(line.removeprefix("RESULT "))
        cells: list[str] = []
        for planned, measured in parts:
            cells += [f"{planned / MIB:.1f}", f"{measured / MIB:.1f}", _gap(planned, measured)]
        whole = _gap(*(sum(pair) for pair in zip(*parts, strict=True)))
        print(f"| {name} | {' | '.join(cells)} | {whole} |", flush=True)


def _gap(planned: float, measured: float) -> str:
    return f"{100 * (planned / measured - 1):+.1f} %"


if __name__ == "__main__":
    main()
