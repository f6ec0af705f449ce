"""Evaluation by a server: the same verdicts as by the trainer's own loop, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_engine import EngineServer

from vlrl.eval.command import main
from vlrl.policy.distribution import Sampling

ANSWER_TOKENS = 8


@pytest.fixture
def server(checkpoints: dict[str, Path], tmp_path: Path) -> Iterator[EngineServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    limits = {"min_pixels": 3136, "max_pixels": 100_352}
    made = EngineServer(checkpoints["qwen2_5_vl"], folder, max_new_tokens=ANSWER_TOKENS, **limits)
    yield made
    made.stop()


def evaluate(model: Path, screens: Path, out: Path, *more: str) -> int:
    return main([
        "--benchmark", "custom", "--data", str(screens), "--model", str(model), "--out", str(out),
        "--profile", "gui_g2", "--max-new-tokens", str(ANSWER_TOKENS), "--quiet", "--limit", "6",
        "--min-pixels", "3136", "--max-pixels", "100352", *more,
    ])  # fmt: skip


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def by_server(server: EngineServer) -> list[str]:
    return ["--engine", "vllm", "--engine-urls", server.url]


@pytest.mark.parametrize("strategy", [[], ["--zoom", "0.5"]])
def test_verdicts_are_the_own_loops_item_by_item(
    server: EngineServer, screens: Path, tmp_path: Path, strategy: list[str]
) -> None:
    assert evaluate(server.model, screens, tmp_path / "own", *strategy) == 0
    calls = [*by_server(server), *strategy]
    assert evaluate(server.model, screens, tmp_path / "engine", *calls) == 0
    assert rows(tmp_path / "engine") == rows(tmp_path / "own")
    assert len(rows(tmp_path / "own")) == 6
    assert server.calls.count("/collective_rpc") == 1, "the checkpoint's own weights"
    settings = json.loads((tmp_path / "engine/run.json").read_text())
    assert settings["engine"] == "vllm"
    assert settings["attn"] is None


def test_votes_are_sampled_with_the_seeds_of_their_asks(
    server: EngineServer, screens: Path, tmp_path: Path
) -> None:
    server.policy.module.sampling = Sampling(0.7, 1.0, 0)
    for name in ("once", "again"):
        assert evaluate(server.model, screens, tmp_path / name, *by_server(server),
                        "--votes", "3") == 0  # fmt: skip
    assert rows(tmp_path / "once") == rows(tmp_path / "again")
    asked = [
        json.loads(x) for x in (tmp_path / "once/answers.rank0.jsonl").read_text().split("\n")[:-1]
    ]
    texts = [{one["output"] for one in row["passes"]} for row in asked]
    assert max(len(own) for own in texts) > 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--engine-urls", "http://127.0.0.1:1"], "--engine-urls and --engine-flags are for"),
        (["--engine", "vllm", "--endpoint", "http://127.0.0.1:1/v1"], "leave --endpoint and"),
        (["--engine", "vllm", "--attn", "eager"], "the server chooses its kernels"),
        (["--engine", "vllm", "--engine-env", "nowhere"], "no vLLM in nowhere: scripts/setup"),
        (
            ["--engine", "vllm", "--engine-urls", "http://a", "--engine-flags", "seed=3"],
            "--engine-flags are of the server that is started",
        ),
        (
            ["--engine", "vllm", "--engine-urls", "http://a", "--precision", "bf16"],
            "--precision is that of the servers",
        ),
    ],
)
def test_what_does_not_go_together_is_said(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, more: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert evaluate(checkpoints["qwen2_5_vl"], screens, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err


def test_another_model_and_an_adapter_are_refused(
    server: EngineServer, checkpoints: dict[str, Path], screens: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = checkpoints["qwen3_vl"]
    assert evaluate(other, screens, tmp_path / "out", *by_server(server)) == 2
    assert f"serves policy, {server.model}, not {other}" in capsys.readouterr().err
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    base = json.dumps({"base_model_name_or_path": str(server.model)})
    (adapter / "adapter_config.json").write_text(base)
    assert evaluate(adapter, screens, tmp_path / "out", *by_server(server)) == 2
    assert "`vlrl merge` writes the model to serve" in capsys.readouterr().err


def test_videos_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = ["--benchmark", "hcstvg_v2", "--model", str(tmp_path), "--engine", "vllm"]
    assert main(video) == 2
    assert "--engine: read on GUI benchmarks only" in capsys.readouterr().err


def test_a_prompt_without_room_for_its_answer_fails_alone(
    server: EngineServer, screens: Path, tmp_path: Path
) -> None:
    assert evaluate(server.model, screens, tmp_path / "own", *by_server(server)) == 0
    lengths = sorted(server.policy.encoder.encode(s).num_tokens for s in server.prompts.values())
    assert lengths[0] < lengths[-1]
    server.context_tokens = lengths[-1] + ANSWER_TOKENS - 1
    assert evaluate(server.model, screens, tmp_path / "short", *by_server(server)) == 1
    failed = [row for row in rows(tmp_path / "short") if row["verdict"] == "failed"]
    assert 0 < len(failed) < 6
    assert all("--max-model-len" in row["reason"] for row in failed)


def test_a_server_that_dies_leaves_the_answers_so_far(
    server: EngineServer, screens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*by_server(server), "--batch-size", "2"]
    server.dies_after = 3
    assert evaluate(server.model, screens, tmp_path / "out", *asked) != 0
    assert "HTTP 503" in capsys.readouterr().err
    done = (tmp_path / "out/answers.rank0.jsonl").read_text().splitlines()
    assert len(done) == 2
    server.dies_after = None
    assert evaluate(server.model, screens, tmp_path / "out", *asked) == 0
    assert len(rows(tmp_path / "out")) == 6
