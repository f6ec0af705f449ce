"""Two ranks, each with a rollout server of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_engine import EngineServer
from helpers_ranks import Ranks, zero
from helpers_runs import run_config

DRAW = {"max_new_tokens": 6, "min_pixels": 3136, "max_pixels": 1003520}


@pytest.mark.parametrize("stage", [2, 3])
def test_each_rank_hands_its_weights_to_its_own_server(
    stage: int, ranks: Ranks, checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    model = checkpoints["qwen2_5_vl"]
    servers = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        servers.append(EngineServer(model, tmp_path / name, **DRAW))
    engine = {"use": "vllm", "urls": [s.url for s in servers], "max_gap": 1e-4, "max_tries": 1}
    parts: dict[str, Any] = {
        "task": {
            "use": "gui_grounding",
            "prompt": "Click: {instruction}",
            "data": {"train": {"path": str(screens)}},
        },
        "policy": {"use": "vision_language", "model": str(model), "engine": engine, **DRAW},
        "reward": {"use": "helpers_runs:letters"},
        "algo": {"num_prompts": 4, "group_size": 4},
    }
    over = {"dist__deepspeed": zero(stage), "optim__lr": 1e-2}
    ranks.run([{"config": run_config(tmp_path, "run", parts, over)}])
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    steps = [row for row in map(json.loads, lines) if "engine/gap" in row]
    assert len(steps) == 3
    for server in servers:
        assert server.calls.count("/collective_rpc") == 3, "every step, on every rank"
        server.stop()
    mine, other = (server.policy.module.state_dict() for server in servers)
    assert all(torch.equal(mine[name], other[name]) for name in mine)
