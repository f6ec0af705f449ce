"""The video benchmarks that are known by name: files, readers, and how their tables are split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlrl.errors import ConfigError, DataError, did_you_mean


@dataclass(frozen=True)
class VideoBenchmark:
    """Where a published set keeps its files, relative to the folder given by `--data`."""

    name: str
    title: str
    files: tuple[str, ...]
    """Annotation files; the first that exists is read."""
    format: str
    """Reader, a name of `vlrl.video.data.video_rows.READERS`."""
    videos: tuple[str, ...]
    """Folders that video paths may be relative to; the first that exists is taken."""
    cut_by: tuple[str, ...] = ()
    """Labels whose groups are reported apart."""
    num_items: int | None = None
    """How many sentences the published set has; a run on fewer says so."""
    has_boxes: bool = True
    notes: str = ""


_ALL = (
    VideoBenchmark(
        "hcstvg_v1",
        "HC-STVG v1, test",
        ("test.json", "annos/hcstvg_v1/test.json"),
        "hcstvg",
        ("video", "v1_video", "videos"),
        num_items=1_160,
    ),
    VideoBenchmark(
        "hcstvg_v2",
        "HC-STVG v2, val",
        ("valv2.json", "val.json", "annos/hcstvg_v2/test.json"),
        "hcstvg",
        ("video", "v2_video", "videos"),
        num_items=2_000,
        notes="the test labels are not public: published numbers are on val",
    ),
    VideoBenchmark(
        "vidstg",
        "VidSTG, test",
        ("test_annotations.json", "sent_annos/test_annotations.json"),
        "vidstg",
        ("video", "videos"),
        cut_by=("question",),
        num_items=10_303,
        notes="declarative and interrogative sentences are reported apart",
    ),
    VideoBenchmark(
        "charades_sta",
        "Charades-STA, test",
        ("charades_sta_test.txt",),
        "charades_sta",
        ("Charades_v1", "Charades_v1_480", "videos"),
        num_items=3_720,
        has_boxes=False,
    ),
    VideoBenchmark(
        "clips",
        "vlrl held-out clips",
        ("held_out.jsonl",),
        "clips",
        (".",),
        cut_by=("kind", "twin"),
    ),
    VideoBenchmark(
        "new_clips",
        "vlrl clips of kinds that the embedded model was never shown",
        ("held_out.jsonl",),
        "clips",
        (".",),
        cut_by=("kind", "twin"),
    ),
    VideoBenchmark(
        "custom_video", "Own videos", ("test.jsonl", "test.json"), "clips", ("videos", ".")
    ),
)

VIDEO_BENCHMARKS: dict[str, VideoBenchmark] = {one.name: one for one in _ALL}


def video_benchmark_named(name: str) -> VideoBenchmark:
    """The benchmark; raises ConfigError with the nearest known name."""
    if name not in VIDEO_BENCHMARKS:
        raise ConfigError(
            f"unknown video benchmark {name!r}; {did_you_mean(name, VIDEO_BENCHMARKS)}"
        )
    return VIDEO_BENCHMARKS[name]


def annotation_file(benchmark: VideoBenchmark, data: Path) -> Path:
    """The file of annotations: `data` itself or the first known one in it; raises DataError."""
    if data.is_file():
        return data
    found = next((data / name for name in benchmark.files if (data / name).is_file()), None)
    if found is None:
        raise DataError(
            f"{data}: no file of {benchmark.title} there ({', '.join(benchmark.files)}); give the "
            "file itself with --data"
        )
    return found


def video_folder(benchmark: VideoBenchmark, data: Path) -> Path:
    """The first of the benchmark's video folders that is there, or that of the annotations."""
    base = data if data.is_dir() else data.parent
    return next((base / name for name in benchmark.videos if (base / name).is_dir()), base)
