"""The benchmarks that are known by name: their files, formats, image folders and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlrl.errors import ConfigError, DataError, did_you_mean


@dataclass(frozen=True)
class Benchmark:
    """Where a published set keeps its files, relative to the folder given by `--data`."""

    name: str
    title: str
    files: tuple[str, ...]
    """Glob patterns of the annotation files, as published."""
    format: str
    """Reader of the published files, a name of `vlrl.gui.data.layouts.LAYOUTS`."""
    images: tuple[str, ...]
    """Folders that image paths may be relative to; the first that exists is taken."""
    table: str
    """Layout of the published table, a name of `vlrl.eval.gui.tables.TABLES`."""
    num_items: int | None = None
    """How many items the published set has; a run on fewer says so."""
    reorder_corners: bool = False
    """Reorder corners of inverted true boxes, as this suite's own code does (only UI-Vision's)."""


_ALL = (
    Benchmark(
        "screenspot",
        "ScreenSpot",
        ("screenspot_mobile.json", "screenspot_desktop.json", "screenspot_web.json"),
        "screenspot",
        ("images", "screenspot_imgs"),
        "screenspot",
        1_272,
    ),
    Benchmark(
        "screenspot_v2",
        "ScreenSpot-v2",
        ("screenspot_*_v2.json",),
        "screenspot",
        ("screenspotv2_image", "images"),
        "screenspot",
        1_272,
    ),
    Benchmark(
        "screenspot_pro",
        "ScreenSpot-Pro",
        ("annotations/*.json",),
        "screenspot_pro",
        ("images",),
        "screenspot_pro",
        1_581,
    ),
    Benchmark(
        "osworld_g",
        "OSWorld-G",
        ("OSWorld-G.json", "benchmark/OSWorld-G.json"),
        "osworld_g",
        ("images", "benchmark/images"),
        "osworld_g",
        564,
    ),
    Benchmark(
        "osworld_g_refined",
        "OSWorld-G (refined instructions)",
        ("OSWorld-G_refined.json", "benchmark/OSWorld-G_refined.json"),
        "osworld_g",
        ("images", "benchmark/images"),
        "osworld_g",
        564,
    ),
    Benchmark(
        "mmbench_gui_l2",
        "MMBench-GUI L2",
        ("L2_annotations.json",),
        "mmbench_gui",
        ("offline_images",),
        "mmbench_gui_l2",
        3_594,
    ),
    Benchmark(
        "ui_vision",
        "UI-Vision, element grounding",
        ("annotations/element_grounding/element_grounding_*.json",),
        "ui_vision",
        ("images",),
        "ui_vision",
        5_479,
        reorder_corners=True,
    ),
    Benchmark(
        "ui_vision_layout",
        "UI-Vision, layout grounding",
        ("annotations/layout_grounding/layout_grounding.json",),
        "ui_vision_layout",
        ("images",),
        "layout",
        reorder_corners=True,
    ),
    Benchmark(
        "held_out", "vlrl held-out screens", ("held_out.jsonl",), "screens", (".",), "screens"
    ),
    Benchmark(
        "unseen_apps",
        "vlrl unseen applications",
        ("unseen_apps.jsonl",),
        "screens",
        (".",),
        "screens",
    ),
    Benchmark("new_screens", "vlrl new screens", ("held_out.jsonl",), "screens", (".",), "screens"),
    Benchmark("custom", "Own data", ("*.json", "*.jsonl"), "screens", (".", "images"), "plain"),
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def benchmark_named(name: str) -> Benchmark:
    """The benchmark; raises ConfigError with the nearest known name."""
    if name not in BENCHMARKS:
        raise ConfigError(f"unknown benchmark {name!r}; {did_you_mean(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def annotation_files(benchmark: Benchmark, data: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The annotation files under `data`, which may also be one file; raises DataError."""
    if data.is_file():
        return [data]
    wanted = patterns or benchmark.files
    try:
        found = sorted({path for pattern in wanted for path in data.glob(pattern)})
    except (NotImplementedError, ValueError) as error:
        raise ConfigError(
            f"--files takes patterns below {data}, such as 'annotations/*.json', not "
            f"{', '.join(map(repr, wanted))}: {error}"
        ) from error
    if not found:
        raise DataError(
            f"{data}: no file of {benchmark.title} there ({', '.join(wanted)}); give the folder "
            "that holds it, or name the files with --files"
        )
    return found


def image_folder(benchmark: Benchmark, data: Path) -> Path:
    """The first of the benchmark's image folders that is there, or the data folder."""
    base = data if data.is_dir() else data.parent
    return next((base / name for name in benchmark.images if (base / name).is_dir()), base)
