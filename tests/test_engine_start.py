"""What an engine cannot do is said at the start, with what to change."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_engine import EngineServer
from pydantic import ValidationError
from test_policy import make_policy, problems

from vlrl.errors import ConfigError, EngineError
from vlrl.policy.vision_language.options import RESERVED, EngineOptions
from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.policy.vision_language.samplers import wire
from vlrl.policy.vision_language.samplers.exported import WholeModel, tensors
from vlrl.policy.vision_language.samplers.transfer import Source
from vlrl.protocols import PolicySetup

DRAW = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 7}


@pytest.fixture(scope="module")
def server(
    checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineServer]:
    folder = tmp_path_factory.mktemp("server")
    made = EngineServer(checkpoints["qwen2_5_vl"], folder, **DRAW)
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_tokens": 7}, "start it with a larger --max-model-len"),
        ({"version": "0.29.1"}, r"vLLM 0\.29\.1 is too old: 0\.30 and later"),
        (
            {"facts": {"logprobs_mode": "raw_logprobs"}},
            r"its log-probs are raw_logprobs.*--logprobs-mode processed_logprobs",
        ),
        ({"num_gpus": 2}, r"started on 2 GPUs.*or set tensor_parallel: 2"),
        ({"facts": None}, "says nothing of its model; start it by `vlrl serve-vllm"),
    ],
)
def test_a_server_that_was_started_otherwise(
    server: EngineServer, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(server, name, value)
    with pytest.raises(EngineError, match=message):
        make_policy(server.model, engine={"use": "vllm", "urls": [server.url]}, **DRAW)


@pytest.mark.parametrize("path", ["/server_info", "/v1/models", "/version"])
def test_a_plain_vllm_is_told_how_to_start(
    server: EngineServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(server, "refused", {path: 404})
    with pytest.raises(
        EngineError, match=rf"{path}.*HTTP 404: .*no {path}.*; start it by `vlrl serve-vllm[^;]*$"
    ):
        make_policy(server.model, engine={"use": "vllm", "urls": [server.url]}, **DRAW)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, r'HTTP 400: {"error": "no /inference/v1/generate"}$'),
        (404, "start it by `vlrl serve-vllm MODEL PORT`$"),
        (503, r"\(after 1 try\); if it has ended, start it again$"),
    ],
)
def test_what_a_server_refuses_is_said_in_its_words(
    server: EngineServer,
    screens: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    message: str,
) -> None:
    engine = {"use": "vllm", "urls": [server.url], "max_tries": 1}
    policy = make_policy(server.model, engine=engine, **DRAW)
    monkeypatch.setattr(server, "refused", {"/inference/v1/generate": status})
    with pytest.raises(EngineError, match=message):
        policy.sample(problems(screens, 1), 2, seed=1)


def test_a_server_of_another_model(server: EngineServer, checkpoints: dict[str, Path]) -> None:
    other = checkpoints["qwen3_vl"]
    with pytest.raises(ConfigError, match=f"serves policy, {server.model}, not {other}"):
        make_policy(other, engine={"use": "vllm", "urls": [server.url]}, **DRAW)


def test_every_rank_needs_a_server(server: EngineServer) -> None:
    options = VisionLanguagePolicy.Options(
        model=str(server.model), engine={"use": "vllm", "urls": [server.url]}
    )
    setup = PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096, num_ranks=2)
    with pytest.raises(ConfigError, match="1 servers for 2 ranks"):
        VisionLanguagePolicy(options, setup)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use": "vllm"}, "use: vllm needs urls"),
        ({"use": "sglang"}, "use: sglang needs urls"),
        ({"use": "vllm", "urls": ["localhost:8000"]}, "must begin with http"),
        ({"sync": "nccl"}, r"sync: nccl is for use: vllm with mode: server"),
        ({"sync": "ipc"}, r"sync: ipc is not there.*pickles.*/dev/shm"),
        ({"sleep": 1}, "sleep is for mode: colocate"),
        ({"mode": "colocate"}, "mode: colocate needs use: vllm"),
        ({"mode": "colocate", "use": "sglang"}, "mode: colocate needs use: vllm"),
        ({"mode": "colocate", "use": "vllm", "urls": ["http://a"]}, "urls are of servers"),
        (
            {"mode": "colocate", "use": "vllm", "tensor_parallel": 2},
            "MODEL PORT --tensor-parallel-size N",
        ),
        ({"mode": "colocate", "use": "vllm", "swap": "middle"}, "swap: middle needs mode: server"),
        (
            {"sampling_params": {"top_k": 5, "min_p": 0.1}},
            "sampling_params must not hold top_k: each request says it, by policy.temp",
        ),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EngineOptions(**options)


def test_what_a_request_says_cannot_be_overridden(server: EngineServer) -> None:
    """Not by any name that either engine has for it."""
    own: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "max_tokens": 5, "stop": ["x"],
        "stop_tokens": [3], "forbidden": [4],
    }  # fmt: skip
    asked = wire.sampling_params(
        num_each=2, seed=1, greedy=False, extra={"logit_bias": {}, "min_p": 0.1}, **own
    )
    assert asked["logit_bias"] == {"4": wire.FORBIDDEN_BIAS}
    assert asked.pop("min_p") == 0.1
    assert asked.keys() <= RESERVED
    for name in asked:
        with pytest.raises(ValidationError, match=f"must not hold {name}: each request says it"):
            EngineOptions(sampling_params={name: 1})


@pytest.mark.skipif(
    importlib.util.find_spec("vllm") is not None, reason="vLLM is in this environment"
)
def test_colocate_without_vllm_says_how_to_get_it(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'vlrl\[vllm\]'.*mode: server"):
        make_policy(checkpoints["qwen2_5_vl"], engine={"use": "vllm", "mode": "colocate"}, **DRAW)


@pytest.mark.parametrize("version", ["0.30.0", "0.32.0+cpu", "1.0.0", "0.1.dev1+g0f", None])
def test_releases_and_builds_that_are_taken(version: str | None) -> None:
    wire.refuse_old(version, "here")


@pytest.mark.parametrize("version", ["0.29.9", "0.8.5.post1"])
def test_releases_that_are_too_old(version: str) -> None:
    with pytest.raises(EngineError, match="too old"):
        wire.refuse_old(version, "here")


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_what_is_streamed_is_what_the_files_hold(
    family: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    lora = {"lora": {"rank": 2, "alpha": 4}, "train_vision": False}
    for name, options in (("whole", {}), ("merged", lora)):
        model = WholeModel(make_policy(checkpoints[family], **options).module.model)
        model(str(tmp_path / name))
        files = dict(tensors(tmp_path / name))
        source = Source()
        source.tensors = model.tensors()
        streamed = dict(source)
        assert streamed.keys() == files.keys()
        assert all(torch.equal(streamed[key], files[key]) for key in files)
        facts = {one.name: (one.dtype, one.shape) for one in source.metadata()}
        assert list(facts) == list(streamed), "in the same order"
        assert facts == {key: (t.dtype, tuple(t.shape)) for key, t in files.items()}


def test_nccl_without_a_gpu_is_refused(server: EngineServer) -> None:
    options = VisionLanguagePolicy.Options(
        model=str(server.model), engine={"use": "vllm", "urls": [server.url], "sync": "nccl"}
    )
    setup = PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096)
    with pytest.raises(ConfigError, match="nccl needs a GPU on both sides"):
        VisionLanguagePolicy(options, setup)
