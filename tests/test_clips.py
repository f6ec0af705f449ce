"""Clips of moving sprites: exact tubes, true sentences, and the embedded set."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "scripts")]
from helpers_video import save_shades

from scripts.assets.clips.dataset import write_split
from scripts.assets.clips.draw_clips import draw_clips, photographs_folder
from scripts.assets.clips.motion import DIRECTIONS, SCRIPTS, STEPS, native_path
from scripts.assets.clips.render import Actor, render
from scripts.assets.clips.scene import (
    CONCEPTS,
    FRAMES_A_STEP,
    LEAST_VISIBLE,
    NEW_CONCEPTS,
    NUM_FRAMES,
    Pool,
    all_frames,
    draw_scene,
    questions_of,
)
from vlrl.media.video import read_frames, video_info
from vlrl.tasks.video_grounding import VideoGrounding

EMBEDDED = ROOT / "assets/clips"
NEW = ROOT / "assets/new_clips"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """The embedded sprites over shades of colour."""
    path = save_shades(tmp_path_factory.mktemp("photographs"))
    return Pool.load(ROOT / "assets/images", [path])


def square(side: int, centres: list[tuple[float, float]]) -> Actor:
    sprite = np.ones((side, side, 4), dtype=np.float32)
    return Actor("square", (sprite,) * len(centres), np.array(centres))


def test_boxes_hold_the_visible_pixels_by_hand() -> None:
    background = np.zeros((40, 60, 3), dtype=np.float32)
    back = square(10, [(20, 20), (2, 20), (-20, 20)])
    front = square(10, [(25, 20), (50, 30), (50, 30)])
    drawn = render(background, [back, front], range(3))
    # Half occluded; half outside the image; gone.
    assert drawn.boxes[0, 0].tolist() == [15, 15, 20, 25]
    assert drawn.boxes[0, 1].tolist() == [20, 15, 30, 25]
    assert drawn.boxes[1, 0].tolist() == [0, 15, 7, 25]
    assert np.isnan(drawn.boxes[2, 0]).all()
    assert drawn.visible[:, 0].tolist() == pytest.approx([0.5, 0.7, 0.0])
    assert drawn.frames[0, 15:25, 15:30].min() == 255


@pytest.mark.parametrize("script", sorted(set(SCRIPTS), key=lambda s: s.__name__))
def test_what_is_said_is_what_happens(script) -> None:
    for seed in range(40):
        motion = script(random.Random(seed), 80.0)
        assert motion.path.shape == (STEPS + 1, 2)
        moves = np.diff(motion.path, axis=0)
        for text, first, last in motion.sayings:
            if motion.from_sight:
                continue
            inside = moves[first : last + 1]
            outside = np.concatenate([moves[:first], moves[last + 1 :]])
            if "stands still" in text:
                assert not inside.any()
                assert outside.any(axis=1).all()
            elif "moves" in text and text.rsplit(" ", 1)[-1] in DIRECTIONS:
                way = np.array(DIRECTIONS[text.rsplit(" ", 1)[-1]])
                assert (inside @ way > 0).all()
                assert not (outside @ way > 0).any()
            elif "moves" in text:
                assert inside.any(axis=1).all()
            for word, look in (("big", "big"), ("upside down", "flipped")):
                if word in text:
                    assert set(motion.looks[first : last + 1]) == {look}
                    assert look not in motion.looks[:first] + motion.looks[last + 1 :]
        if not motion.from_sight:
            assert motion.path.min() >= -1e-9
            assert motion.path.max() <= 80 + 1e-9


def test_paths_are_linear_between_steps() -> None:
    path = np.stack([np.arange(STEPS + 1) * 4.0, np.zeros(STEPS + 1)], axis=1)
    assert native_path(path, 4)[:5, 0].tolist() == [0, 1, 2, 3, 4]
    assert len(native_path(path, FRAMES_A_STEP)) == NUM_FRAMES


def test_questions_are_true_of_what_is_drawn(pool: Pool) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(60):
        scene = draw_scene(pool, random.Random(seed))
        drawn = all_frames(scene)
        for question in questions_of(scene, drawn):
            kinds[question.kind] += 1
            number = next(
                k
                for k, motion in enumerate(scene.motions)
                if motion is not None and scene.actors[k].name == question.concept
            )
            span = slice(question.first, question.last + 1)
            assert np.array_equal(question.boxes, drawn.boxes[span, number])
            assert (drawn.visible[span, number] >= LEAST_VISIBLE).all()
            assert question.first % FRAMES_A_STEP == 0
            assert question.sentence.startswith(f"the {question.concept} ")
            if question.kind == "enter":
                assert drawn.visible[: question.first : FRAMES_A_STEP, number].max() < LEAST_VISIBLE
            if question.kind == "leave":
                after = drawn.visible[question.last + 1 :, number]
                assert after.size
                assert after[0] < LEAST_VISIBLE
    assert set(kinds) == {"enter", "leave", "grow", "flip", "turn", "stop", "start"}


def test_a_seed_gives_one_scene(pool: Pool) -> None:
    one, other = (all_frames(draw_scene(pool, random.Random(5))) for _ in range(2))
    assert np.array_equal(one.frames, other.frames)
    assert not np.array_equal(one.frames, all_frames(draw_scene(pool, random.Random(6))).frames)


def test_written_clips_are_read_back(pool: Pool, tmp_path: Path) -> None:
    num = write_split(tmp_path, "train", pool, 3, 2, seed=0)
    task = VideoGrounding(
        VideoGrounding.Options(data={"train": {"path": str(tmp_path / "train.jsonl")}})
    )
    samples = task.samples("train")
    assert len(samples) == num
    for sample in samples:
        assert len(sample.target.timeline.frames) == STEPS
    rng = random.Random("0/train/0")
    while not questions_of(scene := draw_scene(pool, rng), drawn := all_frames(scene)):
        pass
    read = read_frames(tmp_path / "videos/train-0000.mp4", range(NUM_FRAMES))
    # Lossy, but the same image.
    assert np.abs(read.astype(int) - drawn.frames.astype(int)).mean() < 12


# ---------------------------------------------------------------- the embedded set


def rows(split: str, folder: Path = EMBEDDED) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_the_embedded_set() -> None:
    size = sum(path.stat().st_size for path in EMBEDDED.rglob("*"))
    assert size < 15e6
    found = {split: rows(split) for split in ("train", "held_out")}
    assert {split: len(lines) for split, lines in found.items()} == {
        "train": 764,
        "held_out": 294,
    }
    videos = {split: {line["video"] for line in lines} for split, lines in found.items()}
    assert not videos["train"] & videos["held_out"]
    assert len(videos["train"]) == 300
    for lines in found.values():
        assert {line["concept"] for line in lines} == set(CONCEPTS)
        assert len({line["kind"] for line in lines}) == 7
        assert 0.1 < np.mean([line["twin"] == "twin" for line in lines]) < 0.6


def test_every_embedded_line_and_some_videos_are_good() -> None:
    task = VideoGrounding(
        VideoGrounding.Options(
            data={s: {"path": str(EMBEDDED / f"{s}.jsonl")} for s in ("train", "held_out")},
            edges="after",
        )
    )
    for split in ("train", "held_out"):
        for sample in task.samples(split):
            target = sample.target
            assert target.track.span[0] * FRAMES_A_STEP == target.tube.first
            assert 1 <= len(target.track.boxes) <= STEPS
    for line in rows("held_out")[::40]:
        info = video_info(EMBEDDED / line["video"])
        assert (info.num_frames, info.width_px, info.height_px, info.fps) == (24, 112, 112, 8.0)


def test_one_answer_for_everything_is_no_match() -> None:
    """The README's baseline: the whole clip, every time."""
    spans = [
        (line["first_frame"], line["first_frame"] + len(line["boxes"])) for line in rows("held_out")
    ]
    best = max(
        np.mean([max(0, min(b, y) - max(a, x)) / (max(b, y) - min(a, x)) for x, y in spans])
        for a in range(0, 24, 4)
        for b in range(a + 4, 25, 4)
    )
    assert 0.45 < best < 0.56


def test_new_kinds_are_new_and_drawn_alike_every_time(tmp_path: Path) -> None:
    """`make setup` has drawn the whole set; here the first clips of it again, to the byte."""
    assert not set(NEW_CONCEPTS) & set(CONCEPTS)
    found = {split: rows(split, NEW) for split in ("train", "held_out")}
    assert {split: len(lines) for split, lines in found.items()} == {"train": 761, "held_out": 300}
    for lines in found.values():
        assert {line["concept"] for line in lines} == set(NEW_CONCEPTS)
    photographs = photographs_folder()
    assert photographs is not None
    assert draw_clips(tmp_path, ROOT / "assets/images", photographs, 3, 2) == 5
    for split in found:
        again = rows(split, tmp_path)
        assert again == found[split][: len(again)]
        for video in {line["video"] for line in again}:
            assert (tmp_path / video).read_bytes() == (NEW / video).read_bytes()
    assert draw_clips(tmp_path, ROOT / "assets/images", photographs, 3, 2) == 0, "drawn once"
