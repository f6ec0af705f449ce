"""Broken files of every type, each through what reads it in training, evaluation and judges."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from forks import Forks
from trying import Tally, try_all

pytestmark = pytest.mark.faults

NUM = {"image": 320, "video": 160, "rows": 420, "shape": 160, "cached": 40, "model": 70}


def test_images(forks: Forks, tally: Tally, tmp_path: Path) -> None:
    """Broken images: PNG, JPEG, WebP, GIF"""
    try_all(forks, tally, "broken_media:image", tmp_path, NUM["image"])
    tally.check(NUM["image"])


def test_videos(forks: Forks, tally: Tally, tmp_path: Path) -> None:
    """Broken videos: MP4, AVI, MKV, WebM"""
    try_all(forks, tally, "broken_media:video", tmp_path, NUM["video"])
    tally.check(NUM["video"])


def test_rows(forks: Forks, tally: Tally, tmp_path: Path) -> None:
    """Broken tables: JSON, JSONL, CSV, TXT, YAML, parquet"""
    try_all(forks, tally, "broken_rows:row_file", tmp_path, NUM["rows"])
    tally.check(NUM["rows"])


def test_shapes(forks: Forks, tally: Tally, tmp_path: Path) -> None:
    """Broken shapes: npz, GLB, OBJ, PLY"""
    try_all(forks, tally, "broken_models:shape", tmp_path, NUM["shape"])
    tally.check(NUM["shape"])


def test_caches(forks: Forks, tally: Tally, tmp_path: Path) -> None:
    """Broken caches of features: safetensors"""
    try_all(forks, tally, "broken_models:cached", tmp_path, NUM["cached"])
    tally.check(NUM["cached"])


def test_models(forks: Forks, tally: Tally, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    """Broken models: safetensors, JSON, Jinja"""
    shutil.copytree(checkpoints["qwen2_5_vl"], tmp_path / "whole_model")
    try_all(forks, tally, "broken_models:model", tmp_path, NUM["model"])
    tally.check(NUM["model"])
