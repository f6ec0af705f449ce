"""Small runs for the trainer's tests; also the program that the two-rank tests launch.

    python tests/helpers_runs.py JOBS.json
    deepspeed --num_gpus 2 tests/helpers_runs.py FOLDER

runs the jobs of a JSON list, or of FOLDER/0.json, 1.json, ... as they come, one after the other in
the same processes, since importing costs more than a small run. A job: {"config": {...},
"resume": null, "stop_at": null} or {"judge": {...}}. helpers_ranks.py starts it and sends jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run_config(out: Path, name: str, parts: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A config of three quick and silent steps; `over` sets dotted keys (__ for the dot)."""
    from vlrl.config.loader import apply_override

    config: dict[str, Any] = {
        "name": name,
        "out": str(out),
        "seed": 3,
        "num_steps": 3,
        "optim": {"lr": 1e-3},
        "dist": {"deepspeed": str(ROOT / "deepspeed_configs/zero0.json"), "num_threads": 1},
        "checkpoint": {"at_end": False, "export": False},
        "log": {"console": False, "report": False, "rollouts_every": 0},
        **parts,
    }
    for key, value in over.items():
        apply_override(config, f"{key.replace('__', '.')}={json.dumps(value)}")
    return config


def small_run(model: Path, data: Path, out: Path, name: str, **over: Any) -> dict[str, Any]:
    """A run on the tiny images; `over` as in run_config."""
    parts: dict[str, Any] = {
        "task": {
            "use": "gui_grounding",
            "prompt": "Click: {instruction}",
            "data": {"train": {"path": str(data)}},
        },
        "policy": {
            "use": "vision_language",
            "model": str(model),
            "max_new_tokens": 6,
            "min_pixels": 3136,
            "max_pixels": 1003520,
        },
        # A random model never writes a box, so the reward is one that it can move.
        "reward": {"use": f"{Path(__file__).stem}:letters"},
        "algo": {"num_prompts": 4, "group_size": 4, "kl_beta": 0.04},
    }
    return run_config(out, name, parts, over)


def letters(rollout: Any) -> float:
    """A stand-in for a task's reward that differs from answer to answer."""
    text = rollout.output
    return (sum(ord(c) for c in text) % 17) / 17


def length(rollout: Any) -> float:
    """Another one."""
    return len(set(rollout.output)) / 10


def remembering_rewards() -> dict[str, Any]:
    """What to lay over `small_run` for rewards that all learn, summed as GDPO has it."""
    own = Path(__file__).stem
    letters, length = {"use": f"{own}:letters"}, {"use": f"{own}:length"}
    factors = {"letters": letters, "length": length}
    parts = [
        {"shape": {"kind": "running_clip", "of": letters}},
        {"hierarchy": {"factors": factors, "margins": 0.1, "reduce": "head"}},
        {"novelty": {"features": "text", "kind": "distilled", "num_random": 32}},
        {"novelty": {"features": "text", "kind": "archive"}},
    ]
    return {"reward": {"sum": parts}, "algo__advantage": "gdpo"}


def learnt_blend() -> dict[str, Any]:
    """A reward that learns how much a helper counts."""
    own = Path(__file__).stem
    letters, length = {"use": f"{own}:letters"}, {"use": f"{own}:length"}
    return {"blend": {"primary": letters, "helpers": {"length": length}, "held_out": 0.5}}


def staged() -> dict[str, Any]:
    """What to lay over `small_run` for stages of one, two and one steps; the second is adaptive."""
    own = Path(__file__).stem
    share = {"shape": {"kind": "tanh", "of": {"use": f"{own}:letters"}}}
    clipped = {"shape": {"kind": "running_clip", "of": {"use": f"{own}:length"}}}
    adaptive = {"kind": "adaptive", "rate": 0.5}
    stages = [
        {"name": "regions", "keep": {"kind": "region"}, "exit": {"steps": 1}},
        {
            "name": "adaptive",
            "sampler": adaptive,
            "algo": {"advantage": "leave_one_out", "kl_beta": 0.0},
            "exit": {"metric": {"name": "reward/mean", "at_least": -1, "over": 2}},
        },
        {
            "name": "last",
            "sampler": {"kind": "by_field", "field": "target_area"},
            "reward": clipped,
        },
    ]
    return {"reward": share, "curriculum": stages, "num_steps": 4}


def letters_on_the_last_rank(rollout: Any) -> float:
    """Of two ranks the first has only zero-variance groups, in each step of an epoch of 12."""
    from vlrl.train.sampler import PromptSampler

    order = PromptSampler(12, seed=3).take(12)
    dull = {f"s{i}" for place, i in enumerate(order) if place % 4 < 2}
    return 0.0 if rollout.sample.id in dull else letters(rollout)


def fails_on_the_last_rank(rollout: Any) -> float:
    """A metric that another machine would have to give."""
    from vlrl.distributed.comm import current

    if current().rank:
        raise ValueError("nobody answers")
    return letters(rollout)


def letters_until_a_kill(rollout: Any) -> float:
    """`letters`; after its third step rank 1 is killed, once: then $VLRL_KILLED exists."""
    import signal

    mark = Path(os.environ["VLRL_KILLED"])
    if rollout.policy_version == 3 and os.environ["RANK"] == "1" and not mark.exists():
        mark.write_text(str(time.time()), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    return letters(rollout)


def vowels(rollout: Any) -> float:
    """The share of vowels in an answer: something that a random model can learn to write."""
    text = rollout.output
    return sum(c in "aeiou" for c in text) / max(1, len(text))


def broken(rollout: Any) -> float:
    """A reward whose server does not answer."""
    raise ConnectionError("the judge is down")


def run_job(job: dict[str, Any]) -> None:
    """One training, perhaps resumed, perhaps stopped early as if killed."""
    from vlrl.build import build_trainer
    from vlrl.config.resolve import check
    from vlrl.config.schema import RunConfig

    if "judge" in job:
        train_judge(job["judge"])
        return
    if "refused" in job:
        refused_job(job["config"], Path(job["refused"]))
        return
    with noting_shards(job):
        trainer = build_trainer(check(RunConfig, job["config"]), job.get("resume"))
    if "fault" in job:
        fault_in_update(trainer, **job["fault"])
    if job.get("back"):
        noted_first_step(trainer, Path(job["back"]))
    if "interfaces" in job:
        counted_bytes(trainer, job["interfaces"][trainer.world.rank])
    if job.get("some_text_only"):
        from helpers_sequence import text_only_for_some

        text_only_for_some(trainer)
    if job.get("divided"):
        from helpers_sequence import noting_columns_and_weights

        noting_columns_and_weights(trainer)
    stop_at = job.get("stop_at")
    if "die_at" in job:
        die_in_update(trainer, job["die_at"])
    if job.get("shards"):
        loaded_and_exported(trainer)
    elif job.get("gathers"):
        counted_gathers(trainer)
    elif job.get("told"):
        told_ending(trainer)
    elif job.get("poison"):
        poisoned_step(trainer)
    elif stop_at is None:
        trainer.train()
    else:
        while trainer.step < stop_at:
            trainer.train_step()
            if trainer._due(trainer.config.checkpoint.every):
                trainer.save()
    trainer.engine.engine.destroy()


def refused_job(config: dict[str, Any], told: Path) -> None:
    """A run that ends at its start; each rank writes down why, and on which host."""
    import platform

    from vlrl.build import build_trainer
    from vlrl.config.resolve import check
    from vlrl.config.schema import RunConfig
    from vlrl.errors import ConfigError

    try:
        build_trainer(check(RunConfig, config), None)
    except ConfigError as error:
        text = f"{platform.node()}: {error}"
        (told / f"refused{os.environ['RANK']}.txt").write_text(text, encoding="utf-8")


def train_judge(config: dict[str, Any]) -> None:
    """One training of a judge."""
    from vlrl.config.resolve import check
    from vlrl.judge.train.build import build_trainer
    from vlrl.judge.train.config import JudgeTrainConfig

    trainer = build_trainer(check(JudgeTrainConfig, config))
    trainer.train()
    trainer.engine.engine.destroy()


def die_in_update(trainer: Any, step: int) -> None:
    """kill -9 this process in the middle of a step, when its gradients exist."""
    import signal

    backward = trainer.engine.backward

    def deadly(loss: Any) -> None:
        backward(loss)
        if trainer.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.engine.backward = deadly


@contextlib.contextmanager
def noting_shards(job: dict[str, Any]) -> Iterator[None]:
    """Writes down the elements of each weight that a rank holds when its policy has been loaded."""
    from vlrl import build

    plain = build.build_policy

    def noted(*args: Any) -> Any:
        policy = plain(*args)
        held = {name: p.numel() for name, p in policy.module.named_parameters()}
        folder = Path(job["config"]["out"]) / job["config"]["name"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"held{os.environ['RANK']}.json").write_text(json.dumps(held), encoding="utf-8")
        return policy

    if job.get("shards"):
        build.build_policy = noted
    try:
        yield
    finally:
        build.build_policy = plain


def loaded_and_exported(trainer: Any) -> None:
    """Exports before any step, in pieces of a few kilobytes; notes how large the largest was."""
    import deepspeed

    from vlrl.cli.train import export
    from vlrl.distributed import gathering

    gathering.PIECE_BYTES = 40_000
    gathered: list[int] = []
    plain = deepspeed.zero.GatheredParameters

    def noted(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        gathered.append(sum(p.ds_numel * p.element_size() for p in parameters))
        return plain(parameters, *args, **kwargs)

    deepspeed.zero.GatheredParameters = noted
    try:
        export(trainer)
    finally:
        deepspeed.zero.GatheredParameters = plain
    path = trainer.folder / f"pieces{trainer.world.rank}.json"
    path.write_text(json.dumps(gathered), encoding="utf-8")


def fault_in_update(trainer: Any, rank: int, step: int, command: str) -> None:
    """Run a shell command on one rank after a backward pass; $PID is this process."""
    import subprocess

    backward = trainer.engine.backward

    def faulty(loss: Any) -> None:
        backward(loss)
        if trainer.step == step and trainer.world.rank == rank:
            (trainer.folder / "fault").write_text(str(time.time()), encoding="utf-8")
            environment = {**os.environ, "PID": str(os.getpid())}
            subprocess.run(["sh", "-c", command], env=environment, check=True)

    trainer.engine.backward = faulty


def noted_first_step(trainer: Any, path: Path) -> None:
    """Writes down when the first step of this process was done."""
    plain = trainer.train_step

    def noted() -> Any:
        metrics = plain()
        if not path.exists():
            path.write_text(str(time.time()), encoding="utf-8")
        return metrics

    trainer.train_step = noted


def counted_bytes(trainer: Any, interface: str) -> None:
    """Writes down what this rank sends and receives over an interface, per step."""
    plain, steps = trainer.train_step, []

    def counted() -> Any:
        before = traffic(interface)
        metrics = plain()
        steps.append([b - a for a, b in zip(before, traffic(interface), strict=True)])
        path = trainer.folder / f"bytes{trainer.world.rank}.json"
        path.write_text(json.dumps(steps), encoding="utf-8")
        return metrics

    trainer.train_step = counted


def traffic(interface: str) -> tuple[int, int]:
    """Bytes sent and received so far."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    (found,) = [line.split(":")[1].split() for line in lines if line.strip().startswith(interface)]
    return int(found[8]), int(found[0])


def counted_gathers(trainer: Any) -> None:
    """Trains; for each step, how often every weight was gathered by ZeRO-3's hooks."""
    from collections import Counter

    from deepspeed.runtime.zero.partitioned_param_coordinator import (
        PartitionedParameterCoordinator as Coordinator,
    )

    names = {p.ds_id: name for name, p in trainer.engine.engine.module.named_parameters()}
    gather = "_PartitionedParameterCoordinator__all_gather_params"
    plain = getattr(Coordinator, gather)
    counts: Counter[str] = Counter()

    def counted(self: Any, parameters: Any, forward: bool) -> Any:
        missing = [p for p in parameters if p.ds_status.name == "NOT_AVAILABLE"]
        counts.update(names[p.ds_id] for p in missing)
        return plain(self, parameters, forward)

    setattr(Coordinator, gather, counted)
    steps = []
    try:
        while trainer.step < trainer.config.num_steps:
            counts.clear()
            trainer.train_step()
            steps.append(dict(counts))
    finally:
        setattr(Coordinator, gather, plain)
    path = trainer.folder / f"gathers{trainer.world.rank}.json"
    path.write_text(json.dumps(steps), encoding="utf-8")


def told_ending(trainer: Any) -> None:
    """A run that fails; each rank writes down what it says."""
    from vlrl.errors import VlrlError

    try:
        trainer.train()
        ending = "no error"
    except VlrlError as error:
        ending = str(error)
    path = trainer.folder / f"rank{trainer.world.rank}.txt"
    path.write_text(ending, encoding="utf-8")


def poisoned_step(trainer: Any) -> None:
    """A step in which the last rank's loss is nan; each rank writes down how it ended."""
    import math

    import torch

    from vlrl.distributed.ema import held
    from vlrl.errors import NonFiniteError
    from vlrl.log.metrics import Meter
    from vlrl.train.update import update

    batch = trainer.prepare(trainer.collect(Meter()), Meter())
    parameters = list(trainer.policy.module.parameters())
    before = [held(p).detach().clone() for p in parameters]
    if trainer.world.rank == trainer.world.size - 1:
        batch.advantage[0] = math.nan
    try:
        update(trainer.policy, trainer.engine, batch, trainer.config.algo, trainer.world, Meter())
        ending = "no error"
    except NonFiniteError as error:
        kept = all(torch.equal(a, held(p)) for a, p in zip(before, parameters, strict=True))
        ending = f"{error} weights kept: {kept}"
    path = trainer.folder / f"rank{trainer.world.rank}.txt"
    trainer.folder.mkdir(parents=True, exist_ok=True)
    path.write_text(ending, encoding="utf-8")


def curve(config: dict[str, Any]) -> list[dict[str, float]]:
    """The metrics of a finished run, one dict per step."""
    path = Path(config["out"]) / config["name"] / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_jobs(path: Path) -> None:
    """The jobs of a JSON list, one after the other."""
    for one in json.loads(path.read_text(encoding="utf-8")):
        run_job(one)


def serve(folder: Path) -> None:
    """Run incoming jobs until FOLDER/stop exists or the tests have ended; an error ends it."""
    tests = Path("/proc") / (folder / "pid").read_text(encoding="utf-8")
    number = 0
    while tests.exists() and not (folder / "stop").exists():
        jobs = folder / f"{number}.json"
        if not jobs.exists():
            time.sleep(0.05)
            continue
        run_jobs(jobs)
        (folder / f"{number}.done{os.environ['RANK']}").touch()
        number += 1


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if not a.startswith("--local_rank")]
    given = Path(arguments[0])
    if given.is_dir():
        serve(given)
    else:
        from vlrl.errors import VlrlError

        try:
            run_jobs(given)
        except VlrlError as problem:
            print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
            sys.exit(problem.exit_status)
