"""`vlrl eval` on a video benchmark: a checkpoint, or answers and tubes made elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlrl.cli.checks import out_folder
from vlrl.cli.eval_arguments import refuse_unread
from vlrl.config.recipe import VIDEO_OPTIONS, Recipe, read_recipe
from vlrl.config.resolve import check
from vlrl.errors import ConfigError
from vlrl.eval.store import Store
from vlrl.eval.video.benchmarks import (
    VideoBenchmark,
    annotation_file,
    video_benchmark_named,
    video_folder,
)
from vlrl.eval.video.runner import ask_all, found_of, read_texts, read_tubes, write_lines
from vlrl.eval.video.scoring import Found, markdown, metrics_of, prediction_row, summarise
from vlrl.protocols import PolicySetup
from vlrl.registry import resolve
from vlrl.stats import evenly

OWN_CLIPS = {"clips": Path("assets/clips"), "new_clips": Path("assets/new_clips")}
MAX_NEW_TOKENS = 1024


def run(args: argparse.Namespace) -> int:
    """Ask or read, score, write predictions.jsonl, summary.json and .md, print the tables."""
    if (args.model is None) == (args.predictions is None):
        raise ConfigError("give one of --model and --predictions")
    refuse_unread(args)
    benchmark = video_benchmark_named(args.benchmark)
    recipe = read_recipe(args.model) if args.model else Recipe()
    task = _task(args, benchmark, recipe)
    samples = evenly(task.samples("eval"), args.limit)
    settings = _settings(args, task, recipe)
    out = out_folder(args.out or Path("runs/eval") / f"{benchmark.name}-{_label(args)}")
    cost = {"num_tokens": 0.0, "seconds": 0.0}
    if args.predictions is not None and args.predictions_format == "tubes":
        found = read_tubes(
            args.predictions,
            samples,
            first_number=args.first_frame_number,
            interpolate=args.interpolate,
            allow_missing=args.allow_missing,
        )
        return _write(out, benchmark, task, found, settings, cost, args.convention)
    if args.predictions is not None:
        answers = read_texts(
            args.predictions, samples, args.answer_field, args.id_field, args.allow_missing
        )
        found = found_of(task, samples, answers)
        return _write(out, benchmark, task, found, settings, cost, args.convention)
    from vlrl.distributed.comm import init, shutdown

    world = init(timeout_s=7200)
    model = _model(args, recipe, world)
    task.check_policy(model.image_size, "eval")
    answers = ask_all(
        samples, model, Store(out, world.rank), settings, world, args.batch_size, _told(args, world)
    )
    status = 0
    if world.is_main:
        cost = {
            "num_tokens": float(sum(one.num_tokens for one in answers.values())),
            "seconds": sum(one.seconds for one in answers.values()),
        }
        found = found_of(task, samples, answers)
        status = _write(out, benchmark, task, found, settings, cost, args.convention)
    shutdown()
    return status


def _task(args: argparse.Namespace, benchmark: VideoBenchmark, recipe: Recipe) -> Any:
    """The task plug-in over the benchmark's data; options of the command line come first."""
    data = args.data or OWN_CLIPS.get(benchmark.name)
    if data is None:
        raise ConfigError(f"--data names the folder of {benchmark.title}")
    source: dict[str, Any] = {
        "path": str(annotation_file(benchmark, data)),
        "format": args.format or benchmark.format,
        "video_root": str(args.videos or video_folder(benchmark, data)),
        # Scoring needs no videos; Charades-STA's rates are in them.
        "check_videos": args.model is not None or not benchmark.has_boxes,
        "clip_px": args.clip_px,
    }
    extra = {
        "trajectories": args.trajectories,
        "published_start": args.published_start or None,
        "end_included": args.end_included or None,
    }
    source |= {key: value for key, value in extra.items() if value is not None}
    given: dict[str, Any] = {
        "answer": args.answer_format,
        "index": args.index,
        "start_at": args.start_at,
        "edges": args.edges,
        "coordinates": args.coordinates,
        "fps": args.fps,
        "max_frames": args.max_frames,
        "longer_side_px": args.longer_side_px,
    }
    options: dict[str, Any] = {
        **(recipe.video or {}),
        **{key: value for key, value in given.items() if value is not None},
        "data": {"eval": source},
        "convention": args.convention,
        "on_bad_row": "skip" if args.skip_bad_rows else "error",
    }
    for name in ("profile", "prompt"):
        value = getattr(args, name) or getattr(recipe, name)
        if value is not None:
            options[name] = value
    if not benchmark.has_boxes:
        options.setdefault("answer", "temporal")
    task_class = resolve("task", "video_grounding")
    return task_class(check(task_class.Options, options))


def _settings(args: argparse.Namespace, task: Any, recipe: Recipe) -> dict[str, Any]:
    """What the answers depend on: kept in run.json and in the summary."""
    source = task.options.data["eval"]
    return {
        "benchmark": args.benchmark,
        "data": source.path,
        "format": source.format,
        "videos": source.video_root,
        "published_start": source.published_start,
        "end_included": source.end_included,
        "limit": args.limit,
        "model": args.model,
        "predictions": None if args.predictions is None else str(args.predictions),
        "profile": task.options.profile,
        "prompt": None if args.predictions is not None else task.options.prompt,
        "max_new_tokens": _max_new_tokens(args, recipe),
        "precision": args.precision or recipe.precision,
        "attn": args.attn if args.predictions is None else None,
        **{name: getattr(task.options, name) for name in VIDEO_OPTIONS},
    }


def _max_new_tokens(args: argparse.Namespace, recipe: Recipe) -> int:
    return args.max_new_tokens or recipe.max_new_tokens or MAX_NEW_TOKENS


def _label(args: argparse.Namespace) -> str:
    name = args.model or str(args.predictions.with_suffix(""))
    return "-".join(Path(name).parts[-2:]).replace("/", "-")


def _model(args: argparse.Namespace, recipe: Recipe, world: Any) -> Any:
    import torch

    from vlrl.policy.vision_language.options import VisionLanguageConfig
    from vlrl.policy.vision_language.policy import VisionLanguagePolicy

    given = {
        "model": args.model,
        "attn_implementation": args.attn,
        "max_new_tokens": _max_new_tokens(args, recipe),
        "sample_batch_size": args.batch_size,
    }
    options = check(VisionLanguageConfig, given)
    usual = "bf16" if world.device.type == "cuda" else "fp32"
    precision = args.precision or recipe.precision or usual
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    policy = VisionLanguagePolicy(options, PolicySetup(dtype=dtype, max_tokens_per_chunk=16_384))
    policy.module.to(world.device)
    return policy


def _told(args: argparse.Namespace, world: Any) -> Any:
    done = 0

    def tell(count: int, total: int) -> None:
        nonlocal done
        done += count
        if world.is_main:
            print(f"{args.benchmark}: {done} of {total} answered (rank 0)", file=sys.stderr)

    return tell


def _write(
    out: Path,
    benchmark: VideoBenchmark,
    task: Any,
    found: Sequence[Found],
    settings: dict[str, Any],
    cost: dict[str, float],
    convention: str,
) -> int:
    """predictions.jsonl, summary.json, summary.md; status 1 where calls failed."""
    metrics = [metrics_of(one) for one in found]
    # First of all, so that nothing that goes wrong in the tables loses an answer.
    out.mkdir(parents=True, exist_ok=True)
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
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    (out / "summary.json").write_text(text, encoding="utf-8")
    report = markdown(summary)
    if skipped:
        report += f"\n{len(skipped)} bad rows were left out; summary.json lists them.\n"
    (out / "summary.md").write_text(report, encoding="utf-8")
    print(report)
    print(f"written: {out}/summary.json, summary.md, predictions.jsonl")
    if summary["num_failed"]:
        print("some samples have no answer", file=sys.stderr)
        return 1
    return 0
