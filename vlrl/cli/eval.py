"""`vlrl eval` and `deepspeed scripts/evaluate.py`: a model, an endpoint or given answers."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrl.cli.checks import out_folder, told
from vlrl.cli.eval_arguments import add_arguments, refuse_unread
from vlrl.config.recipe import Recipe, read_recipe
from vlrl.config.resolve import check
from vlrl.errors import ConfigError, VlrlError, did_you_mean, is_missing_path
from vlrl.eval.gui.benchmarks import BENCHMARKS, Benchmark
from vlrl.eval.gui.items import Item, Source, load_items
from vlrl.eval.gui.precomputed import PrecomputedOptions, read_precomputed
from vlrl.eval.gui.prompts import question_for
from vlrl.eval.gui.rates import Scored
from vlrl.eval.gui.render import markdown
from vlrl.eval.gui.scoring import prediction, summarise, verdict_of
from vlrl.eval.gui.strategies import Pass, Reading, Single, Strategy, Vote, Zoom
from vlrl.eval.video.benchmarks import VIDEO_BENCHMARKS
from vlrl.families.profiles import Profile, profile_named

if TYPE_CHECKING:
    from vlrl.distributed.comm import World
    from vlrl.eval.asking import Model
    from vlrl.eval.runner import Job, Progress

OWN_SCREENS = {
    "held_out": Path("assets/screens"),
    "unseen_apps": Path("assets/screens"),
    "new_screens": Path("assets/new_screens"),
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `vlrl eval`."""
    parser = commands.add_parser("eval", help="evaluate GUI or video grounding on a benchmark")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask or read, score, write predictions.jsonl and summary.json, print the tables."""
    if args.benchmark in VIDEO_BENCHMARKS:
        from vlrl.cli.eval_video import run as run_on_videos

        return run_on_videos(args)
    if (args.model is None) == (args.predictions is None):
        raise ConfigError("give one of --model and --predictions")
    benchmark = _benchmark(args.benchmark)
    refuse_unread(args)
    recipe = read_recipe(args.model) if args.model else Recipe()
    profile, question = _profile(args, recipe), _question(args, recipe)
    limits = _limits(args, recipe, profile)
    strategy = _strategy(args)
    reading = Reading(profile, tuple(args.refusal_words))
    source = _source(args, benchmark)
    items = load_items(benchmark, source)
    settings = _settings(args, source, profile, question, recipe, strategy)
    out = out_folder(args.out or Path("runs/eval") / f"{benchmark.name}-{_label(args)}")
    if args.predictions is not None:
        given = PrecomputedOptions(
            args.predictions, args.answer_field, args.id_field, args.allow_missing, *limits
        )
        passes = read_precomputed(given, items, profile)
        return _write(out, benchmark, items, passes, strategy, reading, settings)
    from vlrl.distributed.comm import shutdown

    world, passes = _ask(args, recipe, items, strategy, reading, question, settings, out)
    status = 0
    if world.is_main:
        status = _write(out, benchmark, items, passes, strategy, reading, settings)
    shutdown()
    return status


def _benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        hint = did_you_mean(name, [*BENCHMARKS, *VIDEO_BENCHMARKS])
        raise ConfigError(f"unknown benchmark {name!r}; {hint}")
    return BENCHMARKS[name]


def _profile(args: argparse.Namespace, recipe: Recipe) -> Profile:
    name = args.profile or recipe.profile
    if name is None:
        missing = args.model is not None and is_missing_path(args.model)
        raise ConfigError(
            "--profile names the coordinate profile of the model's family (e.g. qwen2_5_vl, "
            "qwen3_vl, ui_tars_1_5, gta1): its scale is never guessed"
            + (f"; --model {args.model!r} is no folder that could say it" if missing else "")
        )
    return profile_named(name)


def _question(args: argparse.Namespace, recipe: Recipe) -> str:
    question = args.prompt or recipe.prompt or question_for(_profile(args, recipe))
    if "{instruction}" not in question:
        raise ConfigError("--prompt needs {instruction} where the instruction goes")
    return question


def _strategy(args: argparse.Namespace) -> Strategy:
    if args.zoom is not None and args.votes is not None:
        raise ConfigError("--zoom and --votes do not go together")
    if args.predictions is not None and (args.zoom is not None or args.votes is not None):
        raise ConfigError("--zoom and --votes ask a model; with --predictions nobody is asked")
    if args.zoom is not None:
        return Zoom(args.zoom)
    if args.votes is None and args.temperature:
        raise ConfigError("--temperature is for sampled answers, which --votes N asks for")
    if args.votes is not None and args.temperature == 0:
        raise ConfigError("--votes samples answers: --temperature is above 0, not 0")
    return Single() if args.votes is None else Vote(args.votes, args.vote_radius)


def _source(args: argparse.Namespace, benchmark: Benchmark) -> Source:
    data = args.data or OWN_SCREENS.get(benchmark.name)
    if data is None:
        raise ConfigError(f"--data names the folder of {benchmark.title}")
    columns = dict(pair.split("=", 1) for pair in args.columns if "=" in pair)
    if len(columns) != len(args.columns):
        raise ConfigError(f"--columns takes OURS=THEIRS, not {args.columns}")
    return Source(
        data=data,
        format=args.format,
        box=args.box,
        files=tuple(args.files),
        images=args.images,
        columns=columns,
        wording=args.wording,
        negatives=args.negatives,
        limit=args.limit,
    )


def _pixels(args: argparse.Namespace, recipe: Recipe, name: str) -> int | None:
    given: int | None = getattr(args, name)
    return getattr(recipe, name) if given is None else given


def _limits(
    args: argparse.Namespace, recipe: Recipe, profile: Profile
) -> tuple[int | None, int | None]:
    """Pixel limits as they were given; raises ConfigError where no image lies between them."""
    low, high = _pixels(args, recipe, "min_pixels"), _pixels(args, recipe, "max_pixels")
    # A checkpoint asked here has limits of its own in place of the one that is not given.
    is_local = args.predictions is None and args.endpoint is None
    if not is_local or (low is not None and high is not None):
        profile.limits(low, high)
    return low, high


def _settings(
    args: argparse.Namespace,
    source: Source,
    profile: Profile,
    question: str,
    recipe: Recipe,
    strategy: Strategy,
) -> dict[str, Any]:
    """What the answers depend on: kept in run.json and in the summary."""
    return {
        "benchmark": args.benchmark,
        "data": str(source.data),
        "format": source.format,
        "box": source.box,
        "files": list(source.files),
        "images": None if source.images is None else str(source.images),
        "columns": dict(source.columns),
        "wording": source.wording,
        "negatives": source.negatives,
        "limit": source.limit,
        "model": args.model,
        "endpoint": args.endpoint,
        "predictions": None if args.predictions is None else str(args.predictions),
        "profile": profile.name,
        "prompt": None if args.predictions is not None else question,
        "min_pixels": _pixels(args, recipe, "min_pixels"),
        "max_pixels": _pixels(args, recipe, "max_pixels"),
        "max_new_tokens": _max_new_tokens(args, recipe),
        "precision": args.precision or recipe.precision,
        "attn": args.attn if args.predictions is None and args.endpoint is None else None,
        "temperature": _temperature(args) if args.votes else 0.0,
        **strategy.settings(),
    }


def _max_new_tokens(args: argparse.Namespace, recipe: Recipe) -> int:
    return args.max_new_tokens or recipe.max_new_tokens or 256


def _temperature(args: argparse.Namespace) -> float:
    return 0.7 if args.temperature is None else args.temperature


def _label(args: argparse.Namespace) -> str:
    name = args.model or str(args.predictions.with_suffix(""))
    return "-".join(Path(name).parts[-2:]).replace("/", "-")


def _ask(
    args: argparse.Namespace,
    recipe: Recipe,
    items: Sequence[Item],
    strategy: Strategy,
    reading: Reading,
    question: str,
    settings: Mapping[str, Any],
    out: Path,
) -> tuple[World, dict[str, list[Pass]]]:
    """Join the run, ask for what is missing, and gather everything."""
    from vlrl.distributed.comm import init
    from vlrl.eval.runner import Job, ask_all
    from vlrl.eval.store import Store

    world = init(timeout_s=7200)
    job = Job(items, strategy, reading, args.batch_size)
    with ExitStack() as stack:
        if args.endpoint is not None:
            model = stack.enter_context(_endpoint(args, recipe, question, reading.profile))
        else:
            model = _local(args, recipe, question, world)
        start = _bar(stack, args, world, job)
        passes = ask_all(job, model, Store(out, world.rank), settings, world, start)
    return world, passes


def _endpoint(args: argparse.Namespace, recipe: Recipe, question: str, profile: Profile) -> Any:
    from vlrl.eval.endpoint import Endpoint, EndpointOptions

    key = None
    if args.api_key_env is not None:
        key = os.environ.get(args.api_key_env)
        if not key:
            raise ConfigError(f"--api-key-env: the variable {args.api_key_env} is not set")
    options = EndpointOptions(
        url=args.endpoint,
        model=args.model,
        question=question,
        max_tokens=_max_new_tokens(args, recipe),
        temperature=_temperature(args),
        concurrency=args.concurrency,
        timeout_s=args.timeout_s,
        max_tries=args.max_tries,
        api_key=key,
        min_pixels=_pixels(args, recipe, "min_pixels"),
        max_pixels=_pixels(args, recipe, "max_pixels"),
    )
    return Endpoint(options, profile)


def _local(args: argparse.Namespace, recipe: Recipe, question: str, world: World) -> Model:
    import torch

    from vlrl.eval.local_model import LocalModel
    from vlrl.policy.vision_language.options import VisionLanguageConfig

    given = {
        "model": args.model,
        "attn_implementation": args.attn,
        "max_new_tokens": _max_new_tokens(args, recipe),
        # Greedy answers know no temperature, and 0 is how many say so.
        "temperature": _temperature(args) or 1.0,
        "min_pixels": _pixels(args, recipe, "min_pixels"),
        "max_pixels": _pixels(args, recipe, "max_pixels"),
        "sample_batch_size": args.batch_size,
    }
    options = check(VisionLanguageConfig, given)
    usual = "bf16" if world.device.type == "cuda" else "fp32"
    precision = args.precision or recipe.precision or usual
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return LocalModel(options, question, dtype=dtype, device=world.device)


def _bar(
    stack: ExitStack, args: argparse.Namespace, world: World, job: Job
) -> Callable[[int, int], Progress]:
    """A progress bar with the time left and the accuracy so far, of this rank's share."""
    from vlrl.log.console import StepConsole

    def start(total: int, done: int) -> Progress:
        title = args.benchmark if world.size == 1 else f"{args.benchmark} (rank 0's share)"
        console = StepConsole(title, total, done, show=world.is_main, quiet=args.quiet)
        stack.enter_context(console)
        return lambda count, rate: console.advance(count, {"rollout/hit": rate})

    return start


def _write(
    out: Path,
    benchmark: Benchmark,
    items: Sequence[Item],
    passes: Mapping[str, Sequence[Pass]],
    strategy: Strategy,
    reading: Reading,
    settings: Mapping[str, Any],
) -> int:
    """predictions.jsonl, summary.json, summary.md; status 1 where calls failed."""
    scored, rows, boxes = [], [], {}
    for item in items:
        verdict, final = verdict_of(item, passes[item.id], strategy, reading)
        scored.append(Scored(item, verdict))
        rows.append(prediction(item, passes[item.id], verdict, final))
        boxes[item.id] = final.box
    # First of all, so that nothing that goes wrong in the tables loses an answer.
    out.mkdir(parents=True, exist_ok=True)
    with (out / "predictions.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    summary = summarise(
        scored,
        benchmark.table,
        title=benchmark.title,
        settings=settings,
        passes=passes,
        boxes=boxes,
        num_published=benchmark.num_items,
    )
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    (out / "summary.json").write_text(text, encoding="utf-8")
    report = markdown(summary)
    (out / "summary.md").write_text(report, encoding="utf-8")
    print(report)
    print(f"written: {out}/summary.json, summary.md, predictions.jsonl")
    if summary["outcomes"]["failed"]:
        print("some calls failed; the same command asks them again", file=sys.stderr)
        return 1
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry of scripts/evaluate.py: a user's mistake is one clear message and status 2."""
    parser = argparse.ArgumentParser(description="Evaluate GUI or video grounding on a benchmark.")
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except (VlrlError, OSError) as error:
        # All ranks read the same arguments and files and complain alike; disks differ by rank.
        if os.environ.get("RANK", "0") == "0" or isinstance(error, OSError):
            print(told(error), file=sys.stderr)
        return 2
