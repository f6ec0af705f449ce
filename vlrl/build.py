"""The one place that joins plug-ins: from a checked config to a trainer.

Reading on from here: train/trainer.py, train/update.py, algo/objectives.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vlrl.config.changes import differences
from vlrl.config.loader import to_yaml
from vlrl.config.resolve import check, plain
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError
from vlrl.protocols import Reward, Task, TrainableReward
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.parts import leaves
from vlrl.reward.tree import build_reward, num_stages_needed

if TYPE_CHECKING:
    from vlrl.train.trainer import Trainer

log = logging.getLogger(__name__)


def options_of(kind: str, section: Mapping[str, Any]) -> tuple[Any, Any]:
    """The plug-in that a section names, and its checked options."""
    name = section.get("use")
    if not isinstance(name, str):
        raise ConfigError(f"{kind}: `use:` names the {kind}; found {name!r}")
    target = resolve(kind, name)
    try:
        given = {key: value for key, value in section.items() if key != "use"}
        return target, check(target.Options, given)
    except ConfigError as error:
        lines = [f"{kind} ({name}): {line}" for line in str(error).splitlines()]
        raise ConfigError("\n".join(lines)) from error


def build_task(config: RunConfig) -> Task:
    """The task of the config, its data not yet read."""
    target, options = options_of("task", config.task)
    return target(options)


def build_run_reward(config: RunConfig, task_class: Any) -> Reward:
    """The reward tree, checked against what the task gives."""
    return _build_scored(config, config.reward, "reward", task_class)


def build_metrics(
    config: RunConfig, task_class: Any, reward: Reward | None = None
) -> dict[str, Reward]:
    """The rewards that are only measured, by name.

    One that is the same scorer as a part of `reward` is that part, so that a model that both ask
    is loaded once.
    """
    built = {
        name: _build_scored(config, node, f"metrics.{name}", task_class)
        for name, node in config.metrics.items()
    }
    parts = [part for part in leaves(reward) if not isinstance(part, TrainableReward)]
    return {
        name: next((part for part in parts if _are_alike(part, metric)), metric)
        for name, metric in built.items()
    }


def _are_alike(one: Any, other: Any) -> bool:
    """Whether two scorers are of one kind with the same options; `spec` tells functions apart."""

    def traits(scorer: Any) -> tuple[Any, ...]:
        return type(scorer), getattr(scorer, "options", None), getattr(scorer, "spec", None)

    return hasattr(one, "options") and traits(one) == traits(other)


def _build_scored(
    config: RunConfig, node: Mapping[str, Any], where: str, task_class: Any
) -> Reward:
    reward = build_reward(node, where)
    lacking = sorted(reward.needs - task_class.provides)
    if lacking:
        raise ConfigError(
            f"{where}: needs {', '.join(lacking)}, but task {config.task['use']!r} "
            f"gives {', '.join(sorted(task_class.provides))}"
        )
    return reward


def check_plugins(config: RunConfig) -> RunConfig:
    """Check the sections that plug-ins own, and fill in their defaults; imports no torch."""
    task_class, task = options_of("task", config.task)
    scored = {"reward": build_run_reward(config, task_class)}
    scored |= {f"metrics.{k}": r for k, r in build_metrics(config, task_class).items()}
    policy = config.policy
    if policy.get("use") in REGISTRY["policy_options"]:
        options = resolve("policy_options", policy["use"])
        given = {key: value for key, value in policy.items() if key != "use"}
        try:
            checked = check(options, given)
        except ConfigError as error:
            raise ConfigError(f"policy ({policy['use']}): {error}") from error
        objective = config.algo.objective
        unused = checked.unused_under(objective) if hasattr(checked, "unused_under") else []
        if unused:
            names = ", ".join(f"policy.{name}" for name in unused)
            raise ConfigError(f"{names}: no effect under algo.objective: {objective}; leave out")
        policy = {"use": policy["use"], **plain(checked)}
        for where, reward in scored.items():
            if not hasattr(task_class, "stage_starts"):
                _check_stages(where, reward, policy["use"], getattr(checked, "num_stages", 1))
    task_section = {"use": config.task["use"], **plain(task)}
    return config.model_copy(update={"task": task_section, "policy": policy})


def _check_stages(where: str, reward: Reward, policy: str, has: int) -> None:
    asked = num_stages_needed(reward)
    if asked > has:
        raise ConfigError(
            f"{where}: asks for {asked} stages of an answer, those of policy {policy!r} have "
            f"{has}; stages come from voxel_tokens with policy.refine"
        )


def build_trainer(config: RunConfig, resume: str | None) -> Trainer:
    """Everything of a run, in order; `resume` is a checkpoint folder or `auto`."""
    import torch

    from vlrl.distributed import comm
    from vlrl.distributed.engine import Engine, frozen_engine
    from vlrl.log.sinks import open_sinks
    from vlrl.train.checkpoint import Checkpoints
    from vlrl.train.trainer import Trainer

    config = check_plugins(config)
    world = comm.init(config.dist.timeout_s, config.dist.num_threads)
    if config.algo.num_prompts % world.size:
        raise ConfigError(
            f"algo.num_prompts ({config.algo.num_prompts}) must be a multiple of the number of "
            f"ranks ({world.size}): a group never crosses a rank"
        )
    folder = Path(config.out) / config.name
    checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint.keep_last, world)
    checkpoints.check_shared()  # before gigabytes are loaded
    path = _resume_path(resume, checkpoints, folder)
    torch.manual_seed(config.seed)
    dtype = torch.bfloat16 if config.dist.precision == "bf16" else torch.float32
    task = build_task(config)
    reward = build_run_reward(config, type(task))
    policy_class, options = options_of("policy", config.policy)
    policy = policy_class(
        options,
        dtype=dtype,
        max_tokens_per_chunk=config.dist.max_tokens_per_chunk,
        checkpointing=config.dist.gradient_checkpointing,
        kl_estimator=config.algo.kl_estimator if config.algo.kl_beta else None,
        regression=config.algo.nft if config.algo.objective == "nft" else None,
    )
    task.check_policy(policy.image_size, config.train_split)
    engine = Engine(policy.module, config, world)
    policy.bind(engine, engine.serving)
    # After the engine, which has moved the weights to where prompts are encoded too.
    policy.prepare(
        [s for split in (config.train_split, *config.eval.splits) for s in task.samples(split)]
    )
    if config.algo.kl_beta:
        frozen = policy.reference_module(dtype)
        if frozen is not None:
            policy.bind_reference(frozen_engine(frozen, engine.stage, config, world))
    resolved = plain(config)
    trainer = Trainer(
        config,
        to_yaml(resolved),
        world,
        folder,
        task,
        reward,
        policy,
        engine,
        checkpoints,
        build_metrics(config, type(task), reward),
    )
    if path is not None:
        trainer.resume(path)
    if world.is_main:
        # Only now: a resume that fails leaves the run's record as it was.
        if path is not None:
            _say_changes(path, resolved)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(resolved), encoding="utf-8")
        trainer.sinks = open_sinks(config.log, folder, config.name, resolved, trainer.step)
    return trainer


def _say_changes(path: Path, resolved: Mapping[str, Any]) -> None:
    """Warn of what the resumed run does otherwise than the one that was saved."""
    saved = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    changes = differences(saved, yaml.safe_load(to_yaml(resolved)))
    if changes:
        log.warning("resumed with other settings than were saved: %s", "; ".join(changes))


def _resume_path(resume: str | None, checkpoints: Any, folder: Path) -> Path | None:
    """The checkpoint to go on from; an existing run is never overwritten by accident."""
    latest: Path | None = checkpoints.latest()
    if resume is None:
        if latest is not None:
            raise ConfigError(
                f"{folder} already holds a run; add --resume to go on with it, "
                "or set another `name`"
            )
        return None
    if resume == "auto":
        return latest
    path = Path(resume)
    if not (path / "trainer.json").is_file():
        raise ConfigError(f"--resume {resume}: no whole checkpoint there")
    return path
