"""Every registered reward on tiny models, and answers of every task for the contract tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers_images import (
    OPEN_CLIP,
    SCENES,
    noise_image,
    save_aesthetic_head,
    save_clip,
    save_detr,
    save_dinov2,
    save_open_clip,
    word,
)
from helpers_judge import with_words
from helpers_reasoning import QUESTIONS
from helpers_tubes import answer_of, rollout_of, still, track_of
from helpers_voxels import boxes
from PIL import Image
from safetensors.torch import save_file

from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.mesh.answer import VoxelStage
from vlrl.mesh.colour_names import colours_in
from vlrl.mesh.parts import parts_in
from vlrl.mesh.store import save_shapes
from vlrl.mesh.voxelise import Voxels
from vlrl.reward.functions import reward_function
from vlrl.tasks.gui_grounding import GuiAnswer, GuiTarget
from vlrl.tasks.preference_judgement import PreferenceJudgement, VerdictTarget
from vlrl.tasks.text_to_3d import ShapeTarget, TextTo3D
from vlrl.tasks.text_to_image import ImageAnswer, ImageTarget
from vlrl.tasks.visual_reasoning import VisualReasoning
from vlrl.types import Finish, Rollout, Sample

ROOT = Path(__file__).resolve().parent.parent
SCREEN = Frame(1000, 500)
SHAPES = TextTo3D(TextTo3D.Options(data={}, view_px=32, num_views=2))
JUDGING = PreferenceJudgement(PreferenceJudgement.Options(data={}))
REASONING = VisualReasoning(VisualReasoning.Options(data={}))
CAPTION = "a red table with four legs"
RIGHT = (
    "<think>\n1. Look: Image 1 (8/10) - x; Image 2 (5/10) - y\n</think>\n"
    "<answer>Image 1 is better</answer>"
)
VERDICTS = (RIGHT, RIGHT.replace("Image 1 is", "Image 2 is"), "Image 1 is better", "")


def rated(low: float, high: float) -> Callable[..., float | None]:
    """Brightness on its own scale, as a served judge returns it."""

    @reward_function(range=(low, high), formula="brightness", needs=("image", "caption"))
    def brightness(rollout: Rollout) -> float:
        image = None if rollout.parsed is None else rollout.parsed.image
        return low if image is None else float(low + (high - low) * image.mean() / 255)

    return brightness


tiny = category_match = rated(0, 1)
unified_alignment = rated(1, 5)
unified_sum = rated(3, 15)
appearance_sum = rated(0, 3)


@reward_function(range=(0.0, 1.0), formula="none")
def never(rollout: Rollout) -> float | None:
    """Applies to no answer."""
    return None


def served_nodes() -> dict[str, dict[str, Any]]:
    """Rewards that a server must serve for every shipped recipe."""
    names = ("tiny", "category_match", "unified_alignment", "unified_sum", "appearance_sum")
    return {name: {"use": f"helpers_contract:{name}"} for name in names}


def tiny_options(base: Path, checkpoint: Path, url: str) -> dict[str, dict[str, Any]]:
    """Options that point each reward at a tiny model; rewards without a model need none."""
    clip = str(save_clip(base / "clip"))
    wide = str(save_clip(base / "wide", width=768))
    save_open_clip(base / "open_clip")
    dino = str(save_dinov2(base / "dino"))
    judge = with_words(checkpoint, base / "judge")
    torch.manual_seed(0)
    head = {"score.weight": torch.randn(1, 32) * 0.1, "score.bias": torch.zeros(1)}
    save_file(head, judge / "head.safetensors")
    pair = {"model": clip, "processor": clip}
    options: dict[str, dict[str, Any]] = {
        "image_class": {
            "model": str(ROOT / "assets/models/judge_style"),
            "class_name": "noto",
        },
        "adversarial_dino": {"model": dino, "width": 16, "num_patches": 2},
        "adversarial_scorer": {**pair, "num_layers": 1},
        "clip_score": {"model": clip},
        "pick_score": pair,
        "hps_v2": {"model": OPEN_CLIP, "checkpoint": str(base / "weights.pt")},
        "aesthetic": {"model": wide, "head": str(save_aesthetic_head(base / "head.pth"))},
        "dino_similarity": {"model": dino},
        "geneval": {"detector": str(save_detr(base / "detr")), "model": clip, "threshold": 0.2},
        "yes_token": {"judge": str(judge)},
        "preference_head": {"model": str(judge)},
    }
    recognise = {"recognise_only": True}  # finding lines in noise takes ten times as long
    options = {name: {**given, "device": "cpu"} for name, given in options.items()}
    options["ocr_match"] = recognise
    options["remote"] = {"url": url, "reward": "tiny"}
    return options


def on_tiny_models(node: Any, options: Mapping[str, Mapping[str, Any]]) -> Any:
    """A tree with its models replaced; a reward's other options stay."""
    if isinstance(node, list):
        return [on_tiny_models(inner, options) for inner in node]
    if not isinstance(node, Mapping):
        return node
    inner = {key: on_tiny_models(value, options) for key, value in node.items()}
    tiny = options.get(str(node.get("use")), {})
    named = {"reward": node["reward"]} if "reward" in node and "use" in node else {}
    return {**inner, **tiny, **named}


Answer = Callable[[np.random.Generator, int, int], Rollout]


def screen_rollout(parsed: Any, group: int, index: int) -> Rollout:
    """Every group has a true box of its own."""
    box = Box(100.0 * group, 50.0, 100.0 * group + 80, 90.0, SCREEN)
    sample = Sample(f"s{group}", "gui_grounding", (), GuiTarget(box), {"kind": "icon"})
    return Rollout(sample, group, index, "", Finish.STOP, 0, 0, parsed=parsed)


def on_screen(rng: np.random.Generator, group: int, index: int) -> Rollout:
    """A box anywhere, near the true one or inverted, with clicks; or no answer."""
    if rng.random() < 0.2:
        return screen_rollout(None, group, index)
    edges = rng.integers(-50, 1100, 4).astype(float) if rng.random() < 0.5 else np.array(
        [100.0 * group, 50.0, 100.0 * group + 80, 90.0]
    ) + rng.integers(-20, 20, 4)  # fmt: skip
    clicks = tuple(Point(*xy, SCREEN) for xy in rng.integers(-5, 500, (rng.integers(4), 2)) * 1.0)
    parsed = GuiAnswer(Box(*edges.tolist(), SCREEN), clicks, bool(rng.random() < 0.5))
    return screen_rollout(parsed, group, index)


def references(folder: Path) -> tuple[str, ...]:
    """Two files of noise."""
    paths = [folder / f"reference{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        if not path.exists():
            Image.fromarray(noise_image(90 + i, 32, 40)).save(path)
    return tuple(map(str, paths))


def image_answers(folder: Path) -> Answer:
    """Noise, a word, or nothing; every second group has references."""

    def answer(rng: np.random.Generator, group: int, index: int) -> Rollout:
        known = references(folder) if group % 2 == 0 else ()
        target = ImageTarget(CAPTION, known, "cat", SCENES[group % 3], {"concept": "cat"})
        sample = Sample(f"s{group}", "text_to_image", (), target)
        kind = rng.random()
        image = noise_image(int(rng.integers(10_000)), 40, 52)
        if kind < 0.2:
            return Rollout(sample, group, index, None, Finish.STOP, 1, 0, parsed=None)
        if kind < 0.4:
            image = word("cat", 64, 20)
        return Rollout(sample, group, index, image, Finish.STOP, 1, 0, parsed=ImageAnswer(image))

    return answer


def shape_answers(folder: Path) -> Answer:
    """A table with some voxels flipped, in two stages; or nothing."""
    path = folder / "s.npz"
    save_shapes(path, {"table": Voxels(boxes(), np.full((16, 16, 16, 3), 100, np.uint8))})

    def answer(rng: np.random.Generator, group: int, index: int) -> Rollout:
        parts, colours = parts_in(CAPTION), tuple(colours_in(CAPTION))
        target = ShapeTarget(CAPTION, f"{path}#table", None, parts, colours)
        sample = Sample(f"s{group}", "text_to_3d", (), target)
        output = None
        if rng.random() > 0.2:
            first, last = (boxes() ^ (rng.random((16, 16, 16)) < p) for p in (0.02, 0.01))
            fault = "bad code" if rng.random() < 0.2 else ""
            output = (
                VoxelStage("plan", (0,), first, fault),
                VoxelStage("red", (1,), last, fault),
            )
        parsed = SHAPES.parse(sample, output)
        return Rollout(sample, group, index, output, Finish.STOP, 0, 0, parsed=parsed)

    return answer


def in_video(rng: np.random.Generator, group: int, index: int) -> Rollout:
    """Spans and tracks near the true tube, or nothing."""
    true = still(3 + group, 6 + group)
    if rng.random() < 0.2:
        return rollout_of(true, None, group, index)
    first = int(rng.integers(0, 8))
    span = (float(first), float(first + rng.integers(0, 5)))
    low = rng.integers(0, 50, 2)
    said = still(first, int(span[1]), (*low, *(low + rng.integers(1, 50, 2))))
    think = track_of(said) if rng.random() < 0.8 else None
    final = track_of(said) if rng.random() < 0.8 else None
    return rollout_of(true, answer_of(span, think, final, bool(rng.random() < 0.8)), group, index)


def verdict(rng: np.random.Generator, group: int, index: int) -> Rollout:
    """A right, a wrong, a malformed or no verdict."""
    sample = Sample(f"s{group}", "preference_judgement", (), VerdictTarget(1 + group % 2, "x", "y"))
    text = VERDICTS[rng.integers(len(VERDICTS))]
    parsed = JUDGING.parse(sample, text)
    return Rollout(sample, group, index, text, Finish.STOP, 1, 0, parsed=parsed)


def reasoned(rng: np.random.Generator, group: int, index: int) -> Rollout:
    """A right, a wrong, an unreadable or no answer to a question of each kind."""
    sample, texts = QUESTIONS[group % len(QUESTIONS)]
    text = texts[rng.integers(len(texts))]
    text = f"<think>[1, 1, 20, 20]</think><answer>{text}</answer>" if rng.random() < 0.7 else text
    sample = replace(sample, id=f"s{group}")
    parsed = REASONING.parse(sample, text)
    return Rollout(sample, group, index, text, Finish.STOP, 1, 0, parsed=parsed)


def answers_by_task(folder: Path) -> dict[str, Answer]:
    """Random answers of every registered task."""
    return {
        "gui_grounding": on_screen,
        "text_to_image": image_answers(folder),
        "text_to_3d": shape_answers(folder),
        "video_grounding": in_video,
        "preference_judgement": verdict,
        "visual_reasoning": reasoned,
    }


def groups_of(answer: Answer, seed: int, sizes: tuple[int, ...] = (3, 1, 4)) -> list[Rollout]:
    """Groups of random answers."""
    rng = np.random.default_rng(seed)
    return [answer(rng, group, index) for group, n in enumerate(sizes) for index in range(n)]
