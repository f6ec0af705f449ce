"""The stages of a curriculum in a dry run, with how many samples each keeps."""

from __future__ import annotations

from vlrl.build import RunParts
from vlrl.config.curriculum import ExitConfig, StageConfig
from vlrl.errors import ConfigError, DataError, first_line
from vlrl.train.curriculum.samplers import stage_samplers


def stage_lines(parts: RunParts) -> list[str]:
    """One line a stage, none without a curriculum; reads the data, where it can be read.

    Raises ConfigError for a stage that keeps no sample, or asks for what the data does not have.
    """
    config = parts.config
    if not config.curriculum:
        return []
    task = parts.task_class(parts.task_options)
    split = config.train_split
    try:
        samples = task.samples(split)
    except (ConfigError, DataError, OSError) as error:
        told = f"curriculum: the samples of {split!r} cannot be counted: {first_line(error)}"
        return [told, *(f"  {_said(stage)}" for stage in config.curriculum)]
    samplers = stage_samplers(parts.stages, samples, task, split, config.seed)
    lines = [f"curriculum: {len(samplers)} stages on the {len(samples)} samples of {split!r}"]
    for stage, sampler in zip(config.curriculum, samplers, strict=True):
        lines.append(f"  {_said(stage)}; {sampler.num_samples} samples")
    return lines


def _said(stage: StageConfig) -> str:
    own = [name for name in ("reward", "algo") if dict(stage)[name]]
    end = "to the end" if stage.exit is None else f"until {_until(stage.exit)}"
    with_own = f"; its own {' and '.join(own)}" if own else ""
    return f"{stage.name}: {stage.sampler.kind}, {end}{with_own}"


def _until(exit: ExitConfig) -> str:
    rules = [] if exit.steps is None else [f"{exit.steps} steps"]
    if (metric := exit.metric) is not None:
        bound = f">= {metric.at_least:g}" if metric.at_least is not None else f"<= {metric.at_most}"
        over = f" over {metric.over} steps" if metric.over > 1 else ""
        rules.append(f"{metric.name} {bound}{over}")
    if (plateau := exit.plateau) is not None:
        rules.append(f"{plateau.metric} without a gain for {plateau.patience} steps")
    return " or ".join(rules)
