"""The one place that joins plug-ins: from a checked config to a trainer.

Reading on from here: train/trainer.py, train/update.py, algo/objectives.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from vlrl.config.changes import say_changes
from vlrl.config.loader import to_yaml
from vlrl.config.places import check_folder, check_model
from vlrl.config.resolve import check, plain
from vlrl.config.schema import DistConfig, RunConfig
from vlrl.config.sharding import read_sharding
from vlrl.errors import ConfigError, did_you_mean, writing
from vlrl.protocols import Policy, PolicyOptions, PolicySetup, Reward, Task, TrainableReward
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.lint.warn import warn_of
from vlrl.reward.parts import leaves, walk
from vlrl.reward.tree import build_reward
from vlrl.train.curriculum.read import read_stages
from vlrl.train.curriculum.stage import Stage
from vlrl.train.learnable import check_dropout, check_num_stages, check_terms
from vlrl.types import Sample

if TYPE_CHECKING:
    import torch

    from vlrl.distributed.comm import World
    from vlrl.distributed.engine import Engine
    from vlrl.train.checkpoint import Checkpoints
    from vlrl.train.given_answers import GivenAnswers
    from vlrl.train.trainer import Trainer

log = logging.getLogger(__name__)
AnswersOf = Callable[[Task, Sequence[Sample]], "GivenAnswers"]
"""A task and its training samples -> the answers that a run learns from."""
Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True)
class RunParts:
    """The sections of a run that plug-ins own, checked and built once; imports no torch."""

    config: RunConfig
    """With every default of the plug-ins filled in."""
    task_class: type[Task]
    task_options: BaseModel
    policy_options: PolicyOptions
    reward: Reward
    metrics: dict[str, Reward]
    """Rewards that are only measured, by name."""
    stages: tuple[Stage, ...]
    """Of the curriculum; without one a single stage."""


def read_parts(config: RunConfig) -> RunParts:
    """Check the sections that plug-ins own, build the rewards, and fill in defaults."""
    task_class, task_options = task_of(config)
    if task_class.names_splits:
        _check_splits(config, dict(task_options)["data"])
    reward = build_scored(config.task["use"], config.reward, "reward", task_class)
    metrics = _build_metrics(config, task_class, reward)
    options = policy_options(config)
    check = partial(_check_learning, task_class=task_class, options=options)
    check(config, reward, "reward")

    def build(config: RunConfig, node: Mapping[str, Any], where: str) -> Reward:
        return build_scored(config.task["use"], node, where, task_class)

    stages = read_stages(config, reward, build, check)
    if config.dist.sequence_parallel > 1:
        options.check_sequence_parallel()
    read_sharding(config.dist.deepspeed)
    check_folder("out", config.out)
    if not task_class.finds_stages:
        for where, one in _placed(metrics).items():
            check_num_stages(where, one, config.policy["use"], options)
    resolved = config.model_copy(
        update={
            "task": {"use": config.task["use"], **plain(task_options)},
            "policy": {"use": config.policy["use"], **plain(options)},
        }
    )
    return RunParts(resolved, task_class, task_options, options, reward, metrics, stages)


def check_plugins(config: RunConfig) -> RunConfig:
    """The config with the plug-ins' defaults filled in, as it is printed and saved."""
    return read_parts(config).config


def options_of(kind: str, section: Mapping[str, Any], model: type[Options]) -> Options:
    """The checked options of a section that names a plug-in by `use:`."""
    name = section.get("use")
    given = {key: value for key, value in section.items() if key != "use"}
    try:
        return check(model, given)
    except ConfigError as error:
        lines = [f"{kind} ({name}): {line}" for line in str(error).splitlines()]
        raise ConfigError("\n".join(lines)) from error


def task_of(config: RunConfig) -> tuple[type[Task], BaseModel]:
    """The task that the config names, and its options."""
    task_class = resolve("task", _name_in("task", config.task))
    return task_class, options_of("task", config.task, task_class.Options)


def policy_options(config: RunConfig) -> PolicyOptions:
    """The checked options of the config's policy; imports no torch where they are registered."""
    return options_of("policy", config.policy, _policy_options_class(config.policy))


def build_task(config: RunConfig) -> Task:
    """The task of the config, its data not yet read."""
    task_class, options = task_of(config)
    return task_class(options)


def build_policy(parts: RunParts, setup: PolicySetup) -> Policy[Any]:
    """The policy of a run, with its weights; imports torch."""
    policy: Policy[Any] = resolve("policy", parts.config.policy["use"])(parts.policy_options, setup)
    return policy


def provided() -> dict[str, str]:
    """All that rewards may ask of a registered task, with where it is found."""
    needs: dict[str, str] = {}
    for name in REGISTRY["task"]:
        for need, meaning in resolve("task", name).provides.items():
            needs.setdefault(need, meaning)
    return needs


def _name_in(kind: str, section: Mapping[str, Any]) -> str:
    name = section.get("use")
    if not isinstance(name, str):
        raise ConfigError(f"{kind}: `use:` names the {kind}; found {name!r}")
    return name


def _policy_options_class(section: Mapping[str, Any]) -> type[PolicyOptions]:
    """The model of a policy's options; registered ones are read without importing torch."""
    name = _name_in("policy", section)
    if name in REGISTRY["policy_options"]:
        return resolve("policy_options", name)
    return resolve("policy", name).Options


def _build_metrics(config: RunConfig, task_class: type[Task], reward: Reward) -> dict[str, Reward]:
    """The rewards that are only measured, by name.

    One that is the same as a part of `reward` is that part, so that a model that both ask is
    loaded once.
    """
    built = {
        name: build_scored(config.task["use"], node, f"metrics.{name}", task_class)
        for name, node in config.metrics.items()
    }
    for name, metric in built.items():
        learns = [
            one
            for one in walk(metric)
            if isinstance(one, Combinator) and isinstance(one, TrainableReward)
        ]
        if learns:
            raise ConfigError(
                f"{learns[0].place or f'metrics.{name}'}: {learns[0].name!r} learns along with a "
                "training, and a metric is only measured; measure what is below it instead"
            )
    parts = [part for part in leaves(reward) if not isinstance(part, TrainableReward)]
    return {
        name: next((part for part in parts if part.same_as(metric)), metric)
        for name, metric in built.items()
    }


def build_scored(task: str, node: Mapping[str, Any], where: str, task_class: type[Task]) -> Reward:
    """The reward of a config node, for answers of a task; ConfigError where it cannot score them.

    task: the name of the task, as the config writes it.
    """
    reward = build_reward(node, where)
    lacking = sorted(reward.needs - set(task_class.provides))
    if lacking:
        raise ConfigError(
            f"{where}: needs {', '.join(lacking)}, but task {task!r} "
            f"gives {', '.join(sorted(task_class.provides))}"
        )
    return reward


def _placed(metrics: Mapping[str, Reward]) -> dict[str, Reward]:
    return {f"metrics.{name}": reward for name, reward in metrics.items()}


def _check_splits(config: RunConfig, sources: Mapping[str, object]) -> None:
    """Refuse splits that `task.data` does not name."""
    if not sources:
        raise ConfigError("task.data: must name at least one split, with its source")
    wanted = {"train_split": (config.train_split,), "eval.splits": config.eval.splits}
    for key, splits in wanted.items():
        for split in splits:
            if split not in sources:
                hint = did_you_mean(split, sources)
                raise ConfigError(f"{key}: task.data has no split {split!r}; {hint}")
            if sources[split] == []:
                raise ConfigError(f"task.data.{split}: must name at least one source")


def _check_learning(
    config: RunConfig, reward: Reward, where: str, task_class: type[Task], options: PolicyOptions
) -> None:
    """Refuse rewards and algorithms that do not go together or with the policy."""
    check_terms(config, reward)
    warn_of(reward, config.algo)
    _check_policy(config, options)
    check_dropout(config, options)
    if not task_class.finds_stages:
        check_num_stages(where, reward, config.policy["use"], options)


def _check_policy(config: RunConfig, options: PolicyOptions) -> None:
    """Refuse models that are not there, and options that do nothing under the run's objective."""
    for name, model in options.models().items():
        check_model(f"policy.{name}", model)
    options.check_ahead(config.rollouts.ahead, config.rollouts.order)
    objective = config.algo.objective
    if why := options.refuses(objective):
        raise ConfigError(
            f"algo.objective: {objective} {why}; use clip, gspo, cispo or nft with policy "
            f"{config.policy['use']!r}"
        )
    unused = options.unused_under(objective)
    if unused:
        names = ", ".join(f"policy.{name}" for name in unused)
        raise ConfigError(f"{names}: no effect under algo.objective: {objective}; leave out")


def build_trainer(
    config: RunConfig, resume: str | None, answers: AnswersOf | None = None
) -> Trainer[Any]:
    """Everything of a run, in order; `resume` is a checkpoint folder or `auto`.

    answers: what it learns from instead of drawing (`vlrl sft`, `vlrl dpo`).
    """
    import torch

    from vlrl.distributed import comm
    from vlrl.distributed.engine import Engine
    from vlrl.train.checkpoint import Checkpoints
    from vlrl.train.curriculum.curriculum import Curriculum
    from vlrl.train.lock import hold
    from vlrl.train.policy_references import draw_references
    from vlrl.train.trainer import Trainer

    parts = read_parts(config)
    config = parts.config
    world = comm.init(config.dist.timeout_s, config.dist.num_threads)
    if config.algo.num_prompts % world.size:
        raise ConfigError(
            f"algo.num_prompts ({config.algo.num_prompts}) must be a multiple of the number of "
            f"ranks ({world.size}): a group never crosses a rank"
        )
    world = _with_sequences(config.dist, world)
    folder = Path(config.out) / config.name
    keep = config.checkpoint
    checkpoints = Checkpoints(folder / "checkpoints", keep.keep_last, world, keep.beside_training)
    checkpoints.check_shared()  # before gigabytes are loaded
    lock = hold(folder, world)
    path = _resume_path(resume, checkpoints, folder)
    torch.manual_seed(config.seed)
    dtype = torch.bfloat16 if config.dist.precision == "bf16" else torch.float32
    task = parts.task_class(parts.task_options)
    splits = (config.train_split, *config.eval.splits)
    samples = [sample for split in splits for sample in task.samples(split)]  # before the weights
    drawn = task.samples(config.train_split)
    given = None if answers is None else answers(task, drawn)
    curriculum = Curriculum(parts.stages, drawn, task, config.train_split, config.seed)
    policy = build_policy(parts, _setup(config, dtype, world))
    task.check_policy(policy.size_seen, config.train_split)
    engine = Engine(policy.module, config, world)
    policy.bind(engine, engine.serving)
    # After the engine, which has moved the weights to where prompts are encoded too.
    policy.prepare(samples)
    if config.algo.needs_reference or (given is not None and given.dpo is not None):
        _bind_reference(policy, engine, config, dtype)
    resolved = plain(config)
    trainer = Trainer(
        config,
        to_yaml(resolved),
        world,
        folder,
        task,
        curriculum,
        policy,
        engine,
        checkpoints,
        parts.metrics,
        given,
    )
    if path is not None:
        trainer.resume(path)
    trainer.settle_kernels()
    if path is None and given is None:
        draw_references(trainer)
    if world.is_main:
        # Only now: a resume that fails leaves the run's record as it was.
        _begin_record(trainer, path, resolved)
    if keep.every or keep.every_minutes or keep.at_end:
        checkpoints.room.warn(engine)
    trainer.lock = lock
    trainer.saving.restart()
    return trainer


def _begin_record(trainer: Trainer[Any], path: Path | None, resolved: dict[str, Any]) -> None:
    """Write the run's config, and open its logs; path: of the checkpoint that it goes on from."""
    from vlrl.log.sinks import open_sinks
    from vlrl.train.finished import mark_unfinished

    folder, config = trainer.folder, trainer.config
    if path is not None:
        say_changes(path, resolved)
    folder.mkdir(parents=True, exist_ok=True)
    mark_unfinished(folder)
    with writing(folder):
        (folder / "config.yaml").write_text(to_yaml(resolved), encoding="utf-8")
    trainer.sinks = open_sinks(config.log, folder, config.name, resolved, trainer.step)


def _bind_reference(
    policy: Policy[Any], engine: Engine, config: RunConfig, dtype: torch.dtype
) -> None:
    """Give the policy the frozen weights of the start, unless its adapter off is those."""
    from vlrl.distributed.engine import frozen_engine

    frozen = policy.reference_module(dtype)
    if frozen is not None:
        policy.bind_reference(frozen_engine(frozen, engine.stage, config, engine.world))


def _with_sequences(options: DistConfig, world: World) -> World:
    """The world in which some ranks share rows, where the config asks for it."""
    if options.sequence_parallel == 1:
        return world
    from vlrl.distributed.sequence import with_sequences  # imports the whole of DeepSpeed

    return with_sequences(world, options.sequence_parallel, options.timeout_s)


def _setup(config: RunConfig, dtype: torch.dtype, world: World) -> PolicySetup:
    """What the run tells its policy."""
    from vlrl.distributed.engine import deepspeed_config, zero_stage
    from vlrl.distributed.sharded_loading import sharded_loading

    settings = deepspeed_config(config)
    return PolicySetup(
        dtype=dtype,
        max_tokens_per_chunk=config.dist.max_tokens_per_chunk * config.dist.sequence_parallel,
        checkpointing=config.dist.gradient_checkpointing,
        kl_estimator=config.algo.kl_estimator if config.algo.kl_beta else None,
        regression=config.algo.nft if config.algo.objective == "nft" else None,
        zero_stage=zero_stage(settings),
        rank=world.rank,
        num_ranks=world.size,
        sequence=world.sequence,
        loading=partial(sharded_loading, settings),
    )


def _resume_path(resume: str | None, checkpoints: Checkpoints, folder: Path) -> Path | None:
    """The checkpoint to go on from; an existing run is never overwritten by accident."""
    if resume is not None and resume != "auto":
        path = Path(resume)
        if not (path / "trainer.json").is_file():
            raise ConfigError(f"--resume {resume}: no whole checkpoint there")
        return path
    latest: Path | None = checkpoints.latest()
    if resume is None and latest is not None:
        raise ConfigError(
            f"{folder} already holds a run; add --resume to go on with it, or set another `name`"
        )
    return latest
