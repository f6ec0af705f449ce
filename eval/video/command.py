"""`vlrl eval` on a video benchmark: a checkpoint, or answers and tubes made elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrl.cli.checks import out_folder
from vlrl.config.resolve import check
from vlrl.errors import ConfigError
from vlrl.eval.options import completed
from vlrl.eval.own_profile import own_profile
from vlrl.eval.recipe import Recipe
from vlrl.eval.results import write_lines, write_summary
from vlrl.eval.store import Store
from vlrl.eval.video.benchmarks import (
    VideoBenchmark,
    annotation_file,
    video_benchmark_named,
    video_folder,
)
from vlrl.eval.video.options import VideoEvalOptions
from vlrl.eval.video.runner import VideoTask, ask_all, found_of, read_texts, read_tubes
from vlrl.eval.video.scoring import Found, markdown, metrics_of, prediction_row, summarise
from vlrl.registry import resolve
from vlrl.stats import evenly
from vlrl.video.model_options import MODEL_OPTIONS

if TYPE_CHECKING:
    from vlrl.distributed.comm import World
    from vlrl.policy.vision_language.policy import VisionLanguagePolicy

OWN_CLIPS = {"clips": Path("assets/clips"), "new_clips": Path("assets/new_clips")}


def evaluate(given: VideoEvalOptions) -> int:
    """Ask or read, score, write predictions.jsonl, summary.json and .md, print the tables."""
    benchmark, recipe = video_benchmark_named(given.benchmark), given.recipe
    options = completed(given, recipe, max_new_tokens=1024)
    task = _task(options, benchmark, recipe)
    samples = evenly(task.samples("eval"), options.limit)
    settings = _settings(options, task)
    out = out_folder(options.folder(benchmark.name))
    cost = {"num_tokens": 0.0, "seconds": 0.0}
    if options.predictions is not None:
        if options.predictions_format == "tubes":
            found = read_tubes(
                options.predictions,
                samples,
                first_number=options.first_frame_number,
                interpolate=options.interpolate,
                allow_missing=options.allow_missing,
            )
        else:
            fields = (options.answer_field, options.id_field, options.allow_missing)
            found = found_of(task, samples, read_texts(options.predictions, samples, *fields))
        return _write(out, benchmark, task, found, settings, cost, options.convention)
    from vlrl.distributed.comm import init, shutdown

    world = init(timeout_s=7200)
    model = _model(options, world)
    task.check_policy(model.size_seen, "eval")
    store, size = Store(out, world.rank), options.batch_size
    told = _told(options.benchmark, world)
    answers = ask_all(samples, model, store, settings, world, size, told)
    status = 0
    if world.is_main:
        cost = {
            "num_tokens": float(sum(one.num_tokens for one in answers.values())),
            "seconds": sum(one.seconds for one in answers.values()),
        }
        found = found_of(task, samples, answers)
        status = _write(out, benchmark, task, found, settings, cost, options.convention)
    shutdown()
    return status


def _task(options: VideoEvalOptions, benchmark: VideoBenchmark, recipe: Recipe) -> VideoTask:
    """The task over the benchmark's data; given options come before the model's."""
    data = options.data or OWN_CLIPS.get(benchmark.name)
    if data is None:
        raise ConfigError(f"--data names the folder of {benchmark.title}")
    source: dict[str, Any] = {
        "path": str(annotation_file(benchmark, data)),
        "format": options.format or benchmark.format,
        "video_root": str(options.videos or video_folder(benchmark, data)),
        "within_root": options.within_root,
        # Scoring needs no videos; Charades-STA's rates are in them.
        "check_videos": options.model is not None or not benchmark.has_boxes,
        "clip_px": options.clip_px,
        "trajectories": options.trajectories,
        "published_start": options.published_start or None,
        "end_included": options.end_included or None,
    }
    given = dict(options)
    own = {name: given.get(name) for name in (*MODEL_OPTIONS, "profile", "prompt")}
    if own["profile"] is None and options.model is not None:
        own["profile"] = own_profile(options.model, recipe)
    own["answer"] = options.answer_format
    chosen: dict[str, Any] = {
        **(recipe.video or {}),
        **{key: value for key, value in own.items() if value is not None},
        "data": {"eval": {key: value for key, value in source.items() if value is not None}},
        "convention": options.convention,
        "on_bad_row": "skip" if options.skip_bad_rows else "error",
    }
    if not benchmark.has_boxes:
        chosen.setdefault("answer", "temporal")
    task_class = resolve("task", "video_grounding")
    task: VideoTask = task_class(check(task_class.Options, chosen))
    return task


def _settings(options: VideoEvalOptions, task: VideoTask) -> dict[str, Any]:
    """What the answers depend on: kept in run.json and in the summary."""
    source = task.options.data["eval"]
    asked = options.predictions is None
    chosen = dict(task.options)
    return {
        "benchmark": options.benchmark,
        "data": source.path,
        "format": source.format,
        "videos": source.video_root,
        "published_start": source.published_start,
        "end_included": source.end_included,
        "limit": options.limit,
        "model": options.model,
        "predictions": None if asked else str(options.predictions),
        "profile": task.options.profile,
        "prompt": task.options.prompt if asked else None,
        "max_new_tokens": options.max_new_tokens,
        "precision": options.precision,
        "attn": options.attn if asked else None,
        **{name: chosen[name] for name in MODEL_OPTIONS},
    }


def _model(options: VideoEvalOptions, world: World) -> VisionLanguagePolicy:
    from vlrl.eval.local import dtype_of
    from vlrl.policy.vision_language.options import VisionLanguageConfig
    from vlrl.policy.vision_language.policy import VisionLanguagePolicy
    from vlrl.protocols import PolicySetup

    chosen = {
        "model": options.model,
        "attn_implementation": options.attn,
        "max_new_tokens": options.max_new_tokens,
        "sample_batch_size": options.batch_size,
    }
    policy = VisionLanguagePolicy(
        check(VisionLanguageConfig, chosen),
        PolicySetup(dtype=dtype_of(options.precision, world), max_tokens_per_chunk=16_384),
    )
    policy.module.to(world.device)
    return policy


def _told(benchmark: str, world: World) -> Callable[[int, int], None]:
    done = 0

    def tell(count: int, total: int) -> None:
        nonlocal done
        done += count
        if world.is_main:
            print(f"{benchmark}: {done} of {total} answered (rank 0)", file=sys.stderr)

    return tell


def _write(
    out: Path,
    benchmark: VideoBenchmark,
    task: VideoTask,
    found: Sequence[Found],
    settings: dict[str, Any],
    cost: dict[str, float],
    convention: str,
) -> int:
    """predictions.jsonl, summary.json, summary.md; status 1 where calls failed."""
    metrics = [metrics_of(one) for one in found]
    # Before the tables, so that an error in them loses no answer.
    rows = [prediction_row(*pair) for pair in zip(found, metrics, strict=True)]
    write_lines(out / "predictions.jsonl", rows)
    summary = summarise(
        benchmark.title,
        found,
        metrics,
        convention=convention,
        cut_by=benchmark.cut_by,
        num_published=benchmark.num_items,
        settings=settings,
        cost=cost,
    )
    skipped = task.skipped.get("eval", [])
    summary["skipped_rows"] = skipped
    report = markdown(summary)
    if skipped:
        report += f"\n{len(skipped)} bad rows were left out; summary.json lists them.\n"
    write_summary(out, summary, report, "predictions.jsonl")
    if summary["num_failed"]:
        print("some samples have no answer", file=sys.stderr)
        return 1
    return 0
