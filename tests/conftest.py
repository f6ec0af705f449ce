"""Real classes at tiny size: checkpoints of every family, and a few real problems."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from helpers_ranks import Ranks

# Shared machines are slow at times; no test is about how long it takes.
settings.register_profile("search", deadline=None)
# The same examples every time, so that a failure comes from a change and not from chance.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("VLRL_HYPOTHESIS", "search"))

# With VLRL_REQUIRE_ALL=1, as in CI, a skipped test fails, unless it lacks one of these.
HARDWARE = ("no GPU", "no EGL device", "moderngl")

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
# Names in Qwen2.5-VL and Qwen3-VL; Qwen2-VL has others.
NEWER_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 32,
}


def _seed_all(name: str) -> None:
    import torch

    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(autouse=True, scope="module")
def _seeded_module(request: pytest.FixtureRequest) -> None:
    """A module's fixtures draw the same numbers in any order of tests."""
    _seed_all(Path(request.node.nodeid).name)


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Every test draws its own numbers, the same ones in any order of tests."""
    _seed_all(request.node.nodeid.partition("@")[0])


def _is_allowed(reason: str) -> bool:
    if not os.environ.get("VLRL_REQUIRE_ALL"):
        return True
    lacking = os.environ.get("VLRL_MAY_LACK", "")
    return any(name in reason for name in (*HARDWARE, *filter(None, [lacking])))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not _is_allowed(reason):
            report.outcome = "failed"
            report.longrepr = f"VLRL_REQUIRE_ALL is set, and this would be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is skipped for what could be installed."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for whole modules."""
    report = yield
    _refuse_skip(report)
    return report


def _text(vocab_size: int) -> dict:
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }


def make_checkpoint(family: str, folder: Path) -> Path:
    """A random model of the family's real class, with the embedded tokenizer, as a checkpoint."""
    import torch
    import transformers
    from transformers import AutoProcessor, AutoTokenizer

    torch.manual_seed(0)
    embedded = ROOT / "assets/models/tiny_qwen2_5_vl"
    tokenizer = AutoTokenizer.from_pretrained(embedded)
    vocab = -(-len(tokenizer) // 64) * 64
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    text = _text(vocab)
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    if family == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
        config = transformers.Qwen2VLConfig(
            text_config={**text, "rope_parameters": rope}, vision_config=vision, **ids
        )
    elif family == "qwen2_5_vl":
        config = transformers.Qwen2_5_VLConfig(
            text_config={**text, "rope_parameters": rope},
            vision_config={**NEWER_VISION, "fullatt_block_indexes": [1]},
            **ids,
        )
    else:
        vision = {
            **NEWER_VISION,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0],
        }
        rope = {**rope, "mrope_interleaved": True}
        config = transformers.Qwen3VLConfig(
            text_config={**text, "head_dim": 16, "rope_parameters": rope},
            vision_config=vision,
            **ids,
        )
    config.tie_word_embeddings = True
    names = {
        "qwen2_vl": "Qwen2VLForConditionalGeneration",
        "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
        "qwen3_vl": "Qwen3VLForConditionalGeneration",
    }
    model = getattr(transformers, names[family])(config)
    # Larger than the default 0.02, so that two wrong models would not look alike.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor = AutoProcessor.from_pretrained(embedded)
    if family == "qwen3_vl":
        image_processor = transformers.Qwen2VLImageProcessor(patch_size=16, merge_size=2)
        processor = transformers.Qwen3VLProcessor(
            image_processor=image_processor,
            tokenizer=tokenizer,
            video_processor=transformers.Qwen3VLVideoProcessor(),
            chat_template=processor.chat_template,
        )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny checkpoint per family."""
    base = tmp_path_factory.mktemp("checkpoints")
    return {family: make_checkpoint(family, base / family) for family in FAMILIES}


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Two ranks under the launcher, kept warm between tests."""
    from helpers_ranks import Ranks

    made = Ranks(tmp_path_factory.mktemp("ranks"))
    yield made
    made.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process per file (`--dist loadgroup`); files that start ranks share one, first."""
    for item in items:
        alone = item.get_closest_marker("ranks")
        item.add_marker(pytest.mark.xdist_group("ranks" if alone else item.path.stem))
    items.sort(key=lambda item: item.get_closest_marker("ranks") is None)


def pytest_collection_finish() -> None:
    """Objects made by imports stay: garbage collection skips them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def hidden_damage(screens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The screens, of which s3 has a large file that is damaged in its middle."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("hidden_damage")
    shutil.copytree(screens.parent, folder, dirs_exist_ok=True)
    rows = [json.loads(line) for line in (folder / screens.name).read_text().splitlines()]
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    path = folder / "images/3.png"
    Image.fromarray(noise).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    rows[3]["image_size"] = [320, 320]
    (folder / screens.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / screens.name


@pytest.fixture(scope="session")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grounding dataset of twelve small images with one coloured box each."""
    from PIL import Image, ImageDraw

    folder = tmp_path_factory.mktemp("screens")
    (folder / "images").mkdir()
    rows = []
    for i in range(12):
        size = (84, 112) if i % 3 else (112, 84)
        x, y = 7 + 5 * (i % 5), 9 + 4 * (i % 7)
        box = [x, y, x + 24, y + 18]
        image = Image.new("RGB", size, (30 * (i % 8), 90, 160))
        ImageDraw.Draw(image).rectangle(box, fill=(250, 20 * i % 255, 30))
        name = f"images/{i}.png"
        image.save(folder / name)
        rows.append(
            {
                "id": f"s{i}",
                "image": name,
                "image_size": list(size),
                "instruction": "the box" + " please" * (i % 4),
                "bbox": box,
                "kind": "appearance" if i % 2 else "region",
                "element_type": "icon",
                "role": "button",
                "name": "box",
                "app": "tests",
                "platform": "web",
                "screen": f"s{i}",
            }
        )
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path
