"""`vlrl eval` on a GUI benchmark: a checkpoint, an endpoint, or answers made elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrl.cli.checks import out_folder
from vlrl.config.resolve import check
from vlrl.errors import ConfigError, is_missing_path
from vlrl.eval.gui.benchmarks import Benchmark, benchmark_named
from vlrl.eval.gui.items import Item, Source, load_items, unfit
from vlrl.eval.gui.options import GuiEvalOptions, LayoutSection
from vlrl.eval.gui.precomputed import PrecomputedOptions, read_precomputed
from vlrl.eval.gui.prompts import question_for
from vlrl.eval.gui.rates import Scored
from vlrl.eval.gui.render import markdown
from vlrl.eval.gui.scoring import prediction, summarise, verdict_of
from vlrl.eval.gui.strategies import Pass, Reading, Strategy
from vlrl.eval.options import completed
from vlrl.eval.own_profile import own_profile
from vlrl.eval.recipe import Recipe
from vlrl.eval.results import write_lines, write_summary
from vlrl.families.profiles import Profile, profile_named

if TYPE_CHECKING:
    from vlrl.distributed.comm import World
    from vlrl.eval.endpoint import Endpoint
    from vlrl.eval.gui.asking import Model
    from vlrl.eval.gui.runner import Job, Progress

OWN_SCREENS = {
    "held_out": Path("assets/screens"),
    "unseen_apps": Path("assets/screens"),
    "new_screens": Path("assets/new_screens"),
}
SETTINGS = (
    "benchmark", "data", "format", "box", "files", "images", "columns", "wording", "negatives",
    "limit", "model", "endpoint", "predictions", "profile", "prompt", "min_pixels", "max_pixels",
    "max_new_tokens", "precision", "attn", "temperature",
)  # fmt: skip
"""What the answers depend on: kept in run.json and in the summary, as far as it was used."""


def evaluate(given: GuiEvalOptions) -> int:
    """Ask or read, score, write predictions.jsonl and summary.json, print the tables."""
    benchmark, recipe = benchmark_named(given.benchmark), given.recipe
    profile = _profile(given, recipe)
    options = completed(given, recipe, max_new_tokens=256)
    options = options.model_copy(update={"profile": profile.name})
    question = options.prompt or question_for(profile)
    if "{instruction}" not in question:
        raise ConfigError("--prompt needs {instruction} where the instruction goes")
    limits = _limits(options, profile)
    strategy = options.strategy()
    reading = Reading(profile, options.refusal_words)
    source = _source(options, benchmark)
    items = [unfit(item, profile) for item in load_items(benchmark, source)]
    options = options.model_copy(update={"data": source.data, "prompt": question})
    settings = _settings(options, strategy)
    out = out_folder(options.folder(benchmark.name))
    if options.predictions is not None:
        precomputed = PrecomputedOptions(
            options.predictions,
            options.answer_field,
            options.id_field,
            options.allow_missing,
            *limits,
        )
        passes = read_precomputed(precomputed, items, profile)
        return _write(out, benchmark, items, passes, strategy, reading, settings)
    from vlrl.distributed.comm import shutdown

    world, passes = _ask(options, items, strategy, reading, settings, out)
    status = 0
    if world.is_main:
        status = _write(out, benchmark, items, passes, strategy, reading, settings)
    shutdown()
    return status


def _profile(options: GuiEvalOptions, recipe: Recipe) -> Profile:
    name = options.profile
    if name is None and options.model is not None:
        name = own_profile(options.model, recipe)
    if name is None:
        missing = options.model is not None and is_missing_path(options.model)
        raise ConfigError(
            "--profile names the coordinate profile of the model's family (e.g. qwen2_5_vl, "
            "qwen3_vl, ui_tars_1_5, gta1): its scale is never guessed"
            + (
                f"; --model {options.model!r} is not a folder that could state it"
                if missing
                else ""
            )
        )
    return profile_named(name)


def _source(options: GuiEvalOptions, benchmark: Benchmark) -> Source:
    data = options.data or OWN_SCREENS.get(benchmark.name)
    if data is None:
        raise ConfigError(f"--data names the folder of {benchmark.title}")
    layout = {name: value for name, value in options if name in LayoutSection.model_fields}
    return Source(data=data, format=options.format, limit=options.limit, **layout)


def _limits(options: GuiEvalOptions, profile: Profile) -> tuple[int | None, int | None]:
    """Pixel limits as they were given; raises ConfigError where no image lies between them."""
    low, high = options.min_pixels, options.max_pixels
    # A checkpoint run here has limits of its own in place of the one that is not given.
    if not options.is_local or (low is not None and high is not None):
        profile.limits(low, high)
    return low, high


def _settings(options: GuiEvalOptions, strategy: Strategy) -> dict[str, Any]:
    used = options.model_dump(mode="json", include=set(SETTINGS))
    if options.predictions is not None:
        used["prompt"] = None
    if not options.is_local or options.engine != "own":
        used["attn"] = None
    used["temperature"] = options.sampling_temperature if options.votes else 0.0
    engine = {} if options.engine == "own" else {"engine": options.engine}
    return {**{name: used[name] for name in SETTINGS}, **engine, **strategy.settings()}


def _ask(
    options: GuiEvalOptions,
    items: Sequence[Item],
    strategy: Strategy,
    reading: Reading,
    settings: Mapping[str, Any],
    out: Path,
) -> tuple[World, dict[str, list[Pass]]]:
    """Start or resume the run, get the missing answers, and gather all of them."""
    from vlrl.distributed.comm import init
    from vlrl.eval.gui.runner import Job, ask_all
    from vlrl.eval.store import Store

    world = init(timeout_s=7200)
    job = Job(items, strategy, reading, options.batch_size)
    with ExitStack() as stack:
        model: Model
        if options.endpoint is not None:
            model = stack.enter_context(_endpoint(options, options.endpoint, reading.profile))
        else:
            model = _local(stack, options, world)
        start = _bar(stack, options, world, job)
        passes = ask_all(job, model, Store(out, world.rank), settings, world, start)
    return world, passes


def _endpoint(options: GuiEvalOptions, url: str, profile: Profile) -> Endpoint:
    from vlrl.eval.endpoint import Endpoint, EndpointOptions

    key = None
    if options.api_key_env is not None:
        key = os.environ.get(options.api_key_env)
        if not key:
            raise ConfigError(f"--api-key-env: the variable {options.api_key_env} is not set")
    asked = EndpointOptions(
        url=url,
        model=str(options.model),
        question=str(options.prompt),
        max_tokens=options.max_new_tokens or 256,
        temperature=options.sampling_temperature,
        concurrency=options.concurrency,
        timeout_s=options.timeout_s,
        max_tries=options.max_tries,
        api_key=key,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
    )
    return Endpoint(asked, profile)


def _local(stack: ExitStack, options: GuiEvalOptions, world: World) -> Model:
    from vlrl.eval.gui.local_model import LocalModel, loaded_here
    from vlrl.eval.local import dtype_of
    from vlrl.policy.vision_language.options import VisionLanguageConfig

    chosen: dict[str, Any] = {
        "model": options.model,
        "attn_implementation": options.attn,
        "max_new_tokens": options.max_new_tokens,
        # Greedy answers have no temperature, which many write as 0.
        "temperature": options.sampling_temperature or 1.0,
        "min_pixels": options.min_pixels,
        "max_pixels": options.max_pixels,
        "sample_batch_size": options.batch_size,
    }
    if options.engine != "own":
        from vlrl.policy.vision_language.samplers.served import ServedModel

        chosen["engine"] = {"use": options.engine, "urls": [_server(stack, options, world)]}
        served = ServedModel(check(VisionLanguageConfig, chosen), is_ours=not options.engine_urls)
        return LocalModel(served, str(options.prompt))
    policy = check(VisionLanguageConfig, chosen)
    own = loaded_here(policy, dtype=dtype_of(options.precision, world), device=world.device)
    return LocalModel(own, str(options.prompt))


def _server(stack: ExitStack, options: GuiEvalOptions, world: World) -> str:
    """The url of this rank's server, which is started where none is named."""
    urls = options.engine_urls
    if urls and len(urls) < world.size:
        raise ConfigError(
            f"--engine-urls has {len(urls)} servers for {world.size} ranks; each rank asks its own"
        )
    if urls:
        return urls[world.rank]
    if world.size > 1:
        raise ConfigError(
            "with several ranks start a server for each, and name them: --engine-urls"
        )
    from vlrl.policy.vision_language.samplers.started import started

    flags = dict(options.engine_flags)
    if options.precision is not None:
        flags["dtype"] = {"bf16": "bfloat16", "fp32": "float32"}[options.precision]
    return stack.enter_context(started(str(options.model), options.engine_env, flags))


def _bar(
    stack: ExitStack, options: GuiEvalOptions, world: World, job: Job
) -> Callable[[int, int], Progress]:
    """A progress bar with the time left and the accuracy so far, of this rank's share."""
    from vlrl.log.console import StepConsole

    def start(total: int, done: int) -> Progress:
        name = options.benchmark
        title = name if world.size == 1 else f"{name} (rank 0's share)"
        console = StepConsole(title, total, done, show=world.is_main, quiet=options.quiet)
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
    # Before the tables, so that an error in them loses no answer.
    write_lines(out / "predictions.jsonl", rows)
    summary = summarise(
        scored,
        benchmark.table,
        title=benchmark.title,
        settings=settings,
        passes=passes,
        boxes=boxes,
        num_published=benchmark.num_items,
    )
    write_summary(out, summary, markdown(summary), "predictions.jsonl")
    if summary["outcomes"]["failed"]:
        print("some calls failed; run the same command again to retry them", file=sys.stderr)
        return 1
    return 0
