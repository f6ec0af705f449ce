"""Boxes of what moves in front of a static camera: exact without occlusion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.assets.clips.make_real_clips import CUTS, Cut, row_of, tube
from scripts.assets.clips.walkers import Walk, empty_scene, moving_boxes, walks
from vlrl.errors import DataError
from vlrl.geometry.boxes import iou
from vlrl.video.data.clips import read_row
from vlrl.video.data.video_rows import VideoSource

H, W, NUM = 120, 160, 60


def film(*paths: tuple[int, int, int, int]) -> np.ndarray:
    """Dark rectangles of 16 x 40 px on noise; a path is (x, y, step, first frame)."""
    rng = np.random.default_rng(0)
    ground = rng.integers(120, 200, (H, W, 3))
    frames = np.stack([ground + rng.integers(-5, 6, ground.shape) for _ in range(NUM)])
    for x, y, step, first in paths:
        for t in range(first, NUM):
            left = x + step * (t - first)
            frames[t, y : y + 40, max(0, left) : max(0, left + 16)] = 10
    return frames.clip(0, 255).astype(np.uint8)


def followed(frames: np.ndarray) -> list[Walk]:
    empty = empty_scene(frames)
    return walks(moving_boxes(frame, empty) for frame in frames)


def test_a_lone_walker_is_followed_exactly() -> None:
    (walk,) = followed(film((0, 30, 2, 10)))
    assert (walk.first, walk.last) == (10, NUM - 1)
    true = [(2 * t, 30, 2 * t + 16, 70) for t in range(NUM - 10)]
    np.testing.assert_allclose(walk.boxes, true, atol=2)
    assert iou(walk.boxes, np.array(true, dtype=float)).mean() > 0.9


def test_two_far_apart_are_two_walks_and_two_that_meet_end() -> None:
    apart = followed(film((0, 5, 2, 0), (140, 70, -2, 0)))
    assert [(walk.first, walk.last) for walk in apart] == [(0, NUM - 1), (0, NUM - 1)]
    meeting = followed(film((0, 30, 2, 0), (144, 30, -2, 0)))
    # They touch in frame 32, where both tracks end.
    assert {walk.first for walk in meeting if walk.last < 40} == {0}
    assert all(walk.last <= 33 or walk.first >= 30 for walk in meeting)
    assert sum(walk.first == 0 for walk in meeting) == 2


def test_nothing_moves_nothing_is_found() -> None:
    assert followed(film()) == []
    assert moving_boxes(film()[0], film()[1]).shape == (0, 4)


def test_the_tube_is_the_walk_that_the_hand_drawn_boxes_lie_on() -> None:
    far = Walk(0, np.tile([100.0, 0.0, 110.0, 30.0], (30, 1)))
    near = Walk(2, np.tile([10.0, 0.0, 20.0, 30.0], (20, 1)))
    cut = Cut("a", "who", 0, 20, 4, 12, "enter", {5: (10, 0, 20, 31)})
    found = tube(cut, [far, near])
    assert found.shape == (9, 4)
    assert found[0].tolist() == [10.0, 0.0, 20.0, 30.0]
    with pytest.raises(DataError, match="no walk fits"):
        tube(cut, [far])


def test_cuts_are_whole_and_their_lines_are_read(tmp_path: Path) -> None:
    for cut in CUTS:
        assert cut.start <= cut.first < cut.last <= cut.stop < 795
        assert len(cut.checked) == 3
        assert all(cut.first <= frame <= cut.last for frame in cut.checked)
    cut = CUTS[0]
    boxes = np.tile([10, 20, 30, 60], (cut.last + 1 - cut.first, 1))
    (tmp_path / "videos").mkdir()
    (tmp_path / f"videos/{cut.name}.mp4").touch()
    line = json.loads(json.dumps(row_of(cut, boxes, np.zeros((576, 768, 3), np.uint8))))
    row = read_row(
        VideoSource(path=str(tmp_path / "test.jsonl"), format="clips", check_videos=False),
        line,
        "line 1",
    )
    assert (row.width_px, row.num_frames, row.tube.first) == (768, 81, 0)
