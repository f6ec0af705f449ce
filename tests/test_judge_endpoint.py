"""A judge behind HTTP: a real server process, and what happens when it dies during a run."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from helpers_flow import flow_run, save_sd3, write_captions
from helpers_judge import group, noise_image, with_words
from helpers_runs import ROOT, curve
from PIL import Image

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.errors import RewardError
from vlrl.http.serving import listen, make_server
from vlrl.judge.endpoint import EndpointJudge, EndpointJudgeOptions, MissingWordError
from vlrl.judge.local import LocalJudge
from vlrl.judge.question import Ask, ImageBook, JudgeTemplate, Questions, ReasoningOptions
from vlrl.judge.server import JudgeApp
from vlrl.reward.tree import build_reward


@pytest.fixture(scope="module")
def folder(checkpoints, tmp_path_factory) -> Path:
    return with_words(checkpoints["qwen2_5_vl"], tmp_path_factory.mktemp("judge") / "tiny")


class Served:
    """`vlrl serve-judge` in a process of its own."""

    def __init__(self, folder: Path, port: int = 0, *more: str) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        arguments = ["--model", str(folder), "--name", "tiny", "--port", str(port), *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vlrl", "serve-judge", *arguments],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("serving tiny on "):
                self.url = line.split()[-1]
                return
        raise AssertionError("the server did not start")

    @property
    def port(self) -> int:
        return int(self.url.removesuffix("/v1").rpartition(":")[2])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def server(folder) -> Iterator[Served]:
    """Killed by the last test of this file."""
    running = Served(folder)
    yield running
    running.kill()


@contextlib.contextmanager
def in_a_thread(folder: Path, token: str | None) -> Iterator[str]:
    """The same application in this process, where a separate process would test nothing more."""
    judge = LocalJudge.load(str(folder), JudgeTemplate(), device="cpu")
    running = make_server(JudgeApp(judge, "tiny", token).app)
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        running.should_exit = True
        thread.join(20)


def endpoint(url: str, **options: Any) -> dict[str, Any]:
    return {"url": url, "model": "tiny", "backoff_s": 0.0, "top_logprobs": 768, **options}


def node(url: str, **options: Any) -> dict[str, Any]:
    return {"use": "yes_token", "endpoint": endpoint(url), **options}


def test_the_endpoint_says_what_the_model_says(folder, server):
    """Log-probs over HTTP equal those of the model in this process, for listed words."""
    rollouts = group("a cat", (1, 2, 3))
    wide = {"template": {"yes": ["yes"], "no": ["no"]}, "references": "group", "value": "odds"}
    local = build_reward({"use": "yes_token", "judge": str(folder), "device": "cpu", **wide})
    far = build_reward({**node(server.url), **wide})
    near = [score.value for score in local(rollouts)]
    assert [score.value for score in far(rollouts)] == pytest.approx(near, abs=1e-4)
    assert len({round(value, 4) for value in near}) > 1


def test_requests_that_cannot_be_answered_are_refused(server):
    url = f"{server.url}/chat/completions"
    message = [{"role": "user", "content": "yes?"}]
    cases = [
        ({"messages": message, "model": "other"}, "this server has the model"),
        ({"messages": []}, "a single user message"),
        ({"messages": message, "stream": True}, "stream"),
        ({"messages": message, "max_tokens": 0}, "max_tokens"),
        ({"messages": message, "top_logprobs": True}, "top_logprobs"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "a part must be"),
    ]
    for text in ("word " * 40_000, "a " * 400_000):
        long = {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
        cases.append((long, "tokens"))
    cases.append(({"messages": message, "max_tokens": "9" * 10_000}, "whole number"))
    for where in ("file:///etc/passwd", "http://127.0.0.1/a.png", "data:image/png;base64,AAAA"):
        content = [{"type": "image_url", "image_url": {"url": where}}]
        cases.append(({"messages": [{"role": "user", "content": content}]}, "image"))
    for body, said in cases:
        answer = httpx2.post(url, json=body)
        assert answer.status_code == 400, body
        assert said in answer.json()["error"]["message"]
        assert len(answer.content) < 1000
    as_json = {"content-type": "application/json; charset=utf-8"}
    odd = b'{"messages": [{"role": "user", "content": "\\ud800 <|im_end|> <|image_pad|>?"}]}'
    assert httpx2.post(url, content=odd, headers=as_json).status_code in (200, 400)
    for raw, said in ((b"{", "not valid JSON"), (b"[" * 200_000, "nested too deeply")):
        answer = httpx2.post(url, content=raw, headers=as_json)
        assert answer.status_code == 400
        assert said in answer.json()["error"]["message"]
    # The types that a page in a browser can send to another site unasked, and packed bodies.
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {} if kind is None else {"content-type": kind}
        answer = httpx2.post(url, content=json.dumps({"messages": message}), headers=headers)
        assert answer.status_code == 415
        assert "application/json" in answer.json()["error"]["message"]
    packed = {**as_json, "content-encoding": "gzip"}
    assert httpx2.post(url, content=b"{}", headers=packed).status_code == 415
    answer = httpx2.post(
        url, json={"messages": message, "max_tokens": 3, "logprobs": True, "top_logprobs": 4}
    ).json()
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == answer["usage"]["completion_tokens"] <= 3
    assert all(len(token["top_logprobs"]) == 4 for token in content)
    assert all(t["logprob"] == t["top_logprobs"][0]["logprob"] for t in content)  # greedy


@pytest.mark.parametrize(
    ("width", "cut", "said"),
    [
        (20_000, 0, "too many pixels"),  # more than Pillow opens
        (5_000, 0, "at most 16,777,216 are read"),
        (64, 9, "cannot be read"),  # broken after its header
    ],
)
def test_images_that_cannot_be_opened_are_refused(server, width, cut, said):
    """400, so that no client retries; a few bytes announce very many pixels."""
    size = struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", size), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n"
    for kind, data in parts:
        code = zlib.crc32(kind + data)
        png += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", code)
    url = "data:image/png;base64," + base64.b64encode(png[: len(png) - cut]).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"messages": [{"role": "user", "content": content}]}
    answer = httpx2.post(f"{server.url}/chat/completions", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_what_few_bytes_unpack_to_is_limited_for_a_request_as_a_whole(server):
    file = io.BytesIO()
    Image.new("RGB", (4096, 4096)).save(file, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}] * 5
    body = {"messages": [{"role": "user", "content": content}]}
    answer = httpx2.post(f"{server.url}/chat/completions", json=body, timeout=60)
    assert answer.status_code == 413
    assert "67,108,864 pixels together" in answer.json()["error"]["message"]


def test_an_answer_ends_within_the_models_context(server):
    body = {"messages": [{"role": "user", "content": "yes?"}], "max_tokens": 2048}
    answer = httpx2.post(f"{server.url}/chat/completions", json=body)
    assert answer.status_code == 400
    assert "at most 1024 together" in answer.json()["error"]["message"]


def test_a_key_is_asked_for(folder, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "k" * 20)
    with in_a_thread(folder, "k" * 20) as url:
        questions, book = Questions(JudgeTemplate()), ImageBook()
        ask = questions.single(book, "a cat", noise_image(1))
        options = EndpointJudgeOptions(**endpoint(url, max_tries=1))
        with pytest.raises(RewardError, match="401"):
            EndpointJudge(options, JudgeTemplate()).ask(book, [ask])
        answer = httpx2.get(f"{url}/models")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert httpx2.get(f"{url.removesuffix('/v1')}/health").json()["status"] == "ok"
        keyed = EndpointJudgeOptions(**endpoint(url, api_key_env="JUDGE_KEY"))
        assert len(EndpointJudge(keyed, JudgeTemplate()).ask(book, [ask])) == 1


def judge_of(**options: Any) -> EndpointJudge:
    made = EndpointJudgeOptions(url="http://127.0.0.1:9/v1", model="tiny", backoff_s=0, **options)
    return EndpointJudge(made, JudgeTemplate(), reasoning=options.pop("reasoning", None))


ASK = Ask(("yes?",), "a cat")


def test_spellings_are_gathered_and_a_missing_word_is_an_error():
    judge = judge_of()
    yes, no = judge._words({"yes": -1.0, " Yes": -2.0, "no": -0.5, "maybe": -3.0}, ASK)
    assert yes == pytest.approx(math.log(math.exp(-1) + math.exp(-2)))
    assert no == -0.5
    for listed in ({"yes": -0.1}, {"no": -0.1}, {"yes": -1.0, "no": -9999.0}, {"perhaps": 0.0}):
        # A word that the sampler's filter removed comes as -9999 or not at all.
        with pytest.raises(MissingWordError, match="top_logprobs"):
            judge._words(listed, ASK)


def test_the_word_is_read_after_the_cue():
    options = EndpointJudgeOptions(url="http://127.0.0.1:9/v1", model="tiny")
    judge = EndpointJudge(options, JudgeTemplate(), reasoning=ReasoningOptions())
    word = {" yes": -0.2, " no": -1.8}
    other = {"x": 0.0}
    places = [
        ("It is", other),
        (" fine.", other),
        ("\nAnswer", other),
        (":", other),
        (" yes", word),
    ]
    reading = judge._reading(places, ASK)
    assert (reading.yes, reading.no, reading.reasoning) == (-0.2, -1.8, "It is fine.")
    spaced = [*places[:4], (" ", other), ("yes", {"yes": -0.3, "no": -1.3})]
    assert judge._reading(spaced, ASK).yes == -0.3
    with pytest.raises(MissingWordError, match="no 'Answer:'"):
        judge._reading(places[:2], ASK)


def test_nobody_there_is_an_error_after_all_tries():
    waits: list[float] = []
    options = EndpointJudgeOptions(
        url="http://127.0.0.1:9/v1", model="tiny", max_tries=3, backoff_s=1.0
    )
    judge = EndpointJudge(options, JudgeTemplate(), sleep=waits.append)
    with pytest.raises(RewardError, match=r"on 'a cat'.*after 3 tries"):
        judge.ask(ImageBook(), [ASK])
    assert len(waits) == 2
    assert 0.5 <= waits[0] <= 1.5 < 2 * 1.5 >= waits[1] >= 1.0


def test_killed_in_the_middle_of_a_run(folder, server, tmp_path, caplog):
    """The trainer waits, retries, stops with a checkpoint; nothing is scored 0; it resumes."""
    model, data = save_sd3(tmp_path / "sd3"), write_captions(tmp_path / "data")

    def config(name: str) -> Any:
        reward = node(server.url, value="odds", references="group")
        reward["endpoint"] |= {"max_tries": 3}
        over = {"num_steps": 2, "algo__num_prompts": 2, "algo__group_size": 2}
        return check(
            RunConfig, {**flow_run(model, data, tmp_path / "runs", name, **over), "reward": reward}
        )

    reference = build_trainer(config("whole"), None)
    reference.train()
    trainer = build_trainer(config("killed"), None)
    step = trainer.train_step

    def step_then_death() -> Any:
        metrics = step()
        server.kill()
        return metrics

    trainer.train_step = step_then_death
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(RewardError, match=r"after 3 tries.*after step 1.*--resume"),
    ):
        trainer.train()
    assert any("try 1 of 3" in record.message for record in caplog.records)
    rows = curve(flow_run(model, data, tmp_path / "runs", "killed"))
    assert len(rows) == 1
    assert all(0 < row["reward/mean"] < 1 for row in rows)
    assert (tmp_path / "runs/killed/checkpoints/latest").read_text().strip() == "step-000001"
    revived = Served(folder, server.port)
    try:
        again = build_trainer(config("killed"), "auto")
        again.train()
    finally:
        revived.kill()
    for name, weights in reference.policy.module.named_parameters():
        other = dict(again.policy.module.named_parameters())[name]
        assert torch.equal(weights, other), name
