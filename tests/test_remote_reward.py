"""`use: remote` against a real server: equal scores, whole groups, named failures."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import pytest
from helpers_runs import curve, run_job, small_run
from helpers_served import CALLS, ImageAnswer, noise_groups, noise_image, texts
from helpers_server import EVERYTHING, NODES, Running, local_values, post, remote, running, values
from PIL import Image

from vlrl.errors import ConfigError, RewardError
from vlrl.http.client import retry_after_s
from vlrl.reward.server.settings import ServeConfig
from vlrl.reward.server.wire import Health, ScoreResponse, encode_request, encode_scores, read
from vlrl.reward.tree import build_reward, score
from vlrl.types import Finish, Rollout, Sample, Score

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(NODES) as made:
        yield made


# The server's scores equal the reward's


def test_scores_and_parts_equal_local_ones(server):
    rollouts = noise_groups(num_groups=5, G=4)
    rollouts[3].parsed = None
    rollouts[7].parsed.image[:] = 0
    options = {"url": server.url, "reward": "brightness", "needs": ["image"], "batch_size": 7}
    reward = build_reward({"use": "remote", "label": "light", **options})
    mine, theirs = score(build_reward(NODES["brightness"]), rollouts), score(reward, rollouts)
    assert [one.value for one in theirs] == [one.value for one in mine]
    assert theirs[3].value == 0.0
    assert theirs[7].value is None
    assert theirs[0].parts == {"light/Brightness": mine[0].value}
    assert reward([]) == []


def test_a_tree_is_served_whole(server):
    rollouts = noise_groups(num_groups=4)
    options = {"range": build_reward(NODES["tree"]).range, "needs": EVERYTHING}
    reward = remote(server.url, "tree", **options)
    mine, theirs = score(build_reward(NODES["tree"]), rollouts), score(reward, rollouts)
    assert [one.value for one in theirs] == [one.value for one in mine]
    for one, other in zip(mine, theirs, strict=True):
        assert other.parts == {f"remote/{name}": value for name, value in one.parts.items()}


@pytest.mark.parametrize("send", ["send", "path"])
def test_images_and_texts_arrive_bit_by_bit(tmp_path, send):
    paths = []
    for i, ending in enumerate((".png", ".jpg", ".webp")):
        paths.append(str(tmp_path / f"reference{i}{ending}"))
        Image.fromarray(noise_image(i, 40, 30)).save(paths[-1])
    scene = {"tag": "counting", "include": [{"class": "zebra", "count": 3}], "exclude": []}
    rollouts = noise_groups(references=tuple(paths), written="“Öl” 50 %", scene=scene)
    local = local_values("fingerprint", rollouts)
    assert len(set(local)) == len(local)
    nodes = {"fingerprint": NODES["fingerprint"]}
    with running(nodes, references=str(tmp_path)) as server:
        reward = remote(server.url, None, needs=EVERYTHING, references=send)
        assert values(reward, rollouts) == local
        assert values(reward, rollouts[:3]) == local[:3]
        kept = sorted(server.rewards.references.folder.iterdir())
        assert len(kept) == (3 if send == "send" else 0)
    assert not server.rewards.references.folder.exists()


def test_rewards_on_texts(server):
    rollouts = texts("a cat", "a dog on a mat", "")
    reward = remote(server.url, "brevity", needs=())
    assert values(reward, rollouts) == local_values("brevity", rollouts)
    unstated = (float("-inf"), float("inf"))
    reward = remote(server.url, "solved", needs=(), columns=("solution",), range=unstated)
    assert values(reward, rollouts) == local_values("solved", rollouts) == [1.0, 0.0, 0.0]
    with pytest.raises(RewardError, match=r"'q1' has no column 'solutoin'.*'solution'"):
        remote(server.url, "solved", needs=(), columns=("solutoin",), range=unstated)(rollouts)


def test_numbers_survive_json():
    random.seed(5)
    scores = [Score(random.uniform(-1, 1) * 10.0 ** random.randint(-300, 300)) for _ in range(3000)]
    parts = {"a": float("nan"), "b": float("-inf"), "c": 5e-324}
    scores.append(Score(None, parts))
    sample = Sample("s", "t", (), None)
    rollouts = [Rollout(sample, 0, i, "", Finish.STOP, 0, 0) for i in range(len(scores))]
    body = encode_scores(scores, rollouts, (float("-inf"), float("inf")))
    back = read(ScoreResponse, body)
    assert [one.value for one in back.scores] == [one.value for one in scores]
    assert {k: float(v) for k, v in back.scores[-1].parts.items()} == pytest.approx(
        parts, nan_ok=True, abs=0
    )
    with pytest.raises(RewardError, match="inf for sample 's'"):
        encode_scores([Score(float("inf"))], rollouts[:1], (0.0, 1.0))


def test_a_group_is_never_split_nor_mixed(server):
    rollouts = noise_groups(num_groups=5, G=3)
    order = list(range(15))
    random.Random(1).shuffle(order)
    shuffled = [rollouts[i] for i in order]
    CALLS.clear()
    reward = remote(server.url, "place", needs=("image",), batch_size=4, concurrency=1)
    local = local_values("place", shuffled)
    CALLS.clear()
    scores = score(reward, shuffled)
    assert [one.value for one in scores] == local
    assert all(one.parts == {"remote/size": 3.0} for one in scores)
    assert CALLS == [3] * 5


def test_a_run_with_the_served_reward_is_the_same_run(checkpoints, screens, tmp_path):
    curves = []
    with running({"letters": {"use": "helpers_runs:letters"}}) as server:
        served = {
            "use": "remote",
            "url": server.url,
            "needs": [],
            "range": [float("-inf"), float("inf")],
            "batch_size": 4,
        }
        for name, node in (("inside", {"use": "helpers_runs:letters"}), ("served", served)):
            config = small_run(
                checkpoints["qwen2_5_vl"], screens, tmp_path, name, reward=node, num_steps=2
            )
            run_job({"config": config})
            curves.append(curve(config))
        assert server.rewards.batchers["letters"].num_calls >= 2
    for mine, theirs in zip(*curves, strict=True):
        # Called while other groups are sampled, which changes no metric.
        assert theirs.pop("scoring/overlapped_s") > 0
        for key in [key for key in mine if key.partition("/")[2].startswith("letters")]:
            mine[key.replace("/letters", "/remote/letters")] = mine.pop(key)
        # Parts of a served reward have no range of their own.
        del mine["reward_health/remote/letters_saturated"]
        assert set(theirs) == set(mine)
        assert len(mine) > 20
        for key in mine:
            assert key.startswith("time/") or theirs[key] == mine[key], key


# Failures: named, retried where that is safe, never a number


def test_a_rewards_own_exception_is_final(server):
    waits: list[float] = []
    bad = noise_groups(num_groups=1, caption="bad")
    message = r"1:\d+ for 3 rollouts of samples 'run0/s0': reward 'moody' failed: ValueError"
    with pytest.raises(RewardError, match=message.replace("moody", r"\w+")):
        remote(server.url, "moody", waits)(bad)
    assert waits == []
    body = encode_request("moody", bad, frozenset({"image", "caption"}))
    answer = post(server, body)
    assert answer.status_code == 500
    assert answer.json()["error"]["kind"] == "reward"
    assert "scores" not in answer.json()
    assert "Traceback" not in answer.text


def test_what_was_not_sent_is_an_error_not_a_default(server):
    with pytest.raises(RewardError, match=r"target\.written, which was not sent"):
        remote(server.url, "sneaky", needs=())(noise_groups())
    with pytest.raises(RewardError, match="nan"):
        remote(server.url, "nan", needs=())(noise_groups())


def test_what_cannot_travel_names_the_sample():
    needs = frozenset({"image", "scene", "references"})
    rollouts = noise_groups(num_groups=1, G=1)
    rollouts[0].parsed = ImageAnswer(np.zeros((4, 4, 3), dtype=np.float32))
    with pytest.raises(RewardError, match=r"'run0/s0': an image must be a uint8 array"):
        encode_request("a", rollouts, needs)
    for target, message in (
        ({"scene": {"count": np.int64(3)}}, r"target\.scene\.count: .*int64"),
        ({"scene": {1: 2}}, r"target\.scene: "),
        ({"scene": {"a": [float("nan")]}}, r"target\.scene\.a\[0\]: nan"),
        ({"references": ("/no/such.png",)}, r"'run0/s0': cannot read .*'/no/such\.png'"),
    ):
        with pytest.raises(RewardError, match=message):
            encode_request("a", noise_groups(num_groups=1, G=1, **target), needs)


def test_the_declared_range_and_needs_are_compared(server):
    with pytest.raises(RewardError, match=r"range \[0, 1\], but the config says \[0, 2\]"):
        remote(server.url, "brightness", range=(0.0, 2.0))(noise_groups())
    with pytest.raises(RewardError, match="needs caption, image, references, scene, written"):
        remote(server.url, "fingerprint")(noise_groups())


def test_an_unknown_reward_is_answered_with_the_nearest(server):
    assert "did you mean 'moody'?" in post(server, {"reward": "mody", "rollouts": []}).text
    with pytest.raises(RewardError, match=r"no reward 'brigthness'; did you mean 'brightness'"):
        remote(server.url, "brigthness")(noise_groups())
    with pytest.raises(RewardError, match=r"it serves brevity, brightness.*choose"):
        remote(server.url, None)(noise_groups())


@contextmanager
def process_at(tmp_path: Path, port: str = "0") -> Iterator[tuple[subprocess.Popen, str]]:
    """`vlrl serve-rewards` as users start it, and its address."""
    config = tmp_path / "rewards.yaml"
    config.write_text("rewards: {moody: {use: 'helpers_served:Moody'}}\n")
    places = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    process = subprocess.Popen(
        [sys.executable, "-m", "vlrl", "serve-rewards", "--config", str(config),
         "--port", port],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": places},
    )  # fmt: skip
    with process:
        try:
            line = process.stdout.readline()
            assert line.startswith("serving moody on http://127.0.0.1:"), line
            yield process, line.split()[-1]
        finally:
            process.kill()


def test_a_server_killed_in_the_middle(tmp_path, caplog):
    with process_at(tmp_path) as (process, url):
        waits: list[float] = []
        client = remote(url, "moody", waits, max_tries=3, backoff_s=2.0)
        assert values(client, noise_groups()) == [1.0] * 6
        slow = noise_groups(num_groups=2, caption="slow", seed=4)

        def kill_when_asked() -> None:
            assert process.stdout.readline() == "slow caption arrived\n"
            process.kill()

        killer = threading.Thread(target=kill_when_asked)
        killer.start()
        message = rf"{url} for 6 rollouts of samples 'run4/s0', 'run4/s1': .*\(after 3 tries\)"
        with pytest.raises(RewardError, match=message):
            client(slow)
        killer.join()
        assert len(waits) == 2
        assert 1.0 <= waits[0] <= 3.0
        assert 2.0 <= waits[1] <= 6.0
        assert "try 1 of 3" in caplog.text

    # With a budget, rollouts go without a score until it is used up.
    client = remote(url, "moody", max_tries=1, failure_budget=10)
    scores = client(noise_groups())
    assert [one.value for one in scores] == [None] * 6
    assert scores[0].parts == {"remote/given_up": 6.0}
    assert "6 of 10 that failure_budget allows" in caplog.text
    with pytest.raises(RewardError, match="6 rollouts went without a score before"):
        client(noise_groups())
    # The server comes back under the same address: scores again, the count is kept.
    with process_at(tmp_path, url.rpartition(":")[2]) as (process, _):
        scores = client(noise_groups())
        assert [one.value for one in scores] == [1.0] * 6
        assert scores[0].parts["remote/given_up"] == 6.0
        process.terminate()
        assert process.wait(30) in (0, -15)


def test_a_budget_also_covers_a_rewards_exception(server):
    client = remote(server.url, "moody", failure_budget=3, batch_size=3)
    rollouts = noise_groups(num_groups=1) + noise_groups(num_groups=1, caption="bad")
    for rollout in rollouts[3:]:
        rollout.group = 1
    assert values(client, rollouts) == [1.0] * 3 + [None] * 3
    with pytest.raises(RewardError, match="this caption is bad"):
        client(rollouts)


class Scripted:
    """Another program's server: answers from a list, records its requests."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = left.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.left = left
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def test_retries_honour_retry_after_and_stop_at_refusals():
    late = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 40))
    other = Scripted(
        (429, {"Retry-After": "17"}, b"slow down"),
        (503, {"Retry-After": late}, b""),
        (502, {"Retry-After": "100000"}, b""),
        (500, {}, b"<html>"),
        (403, {}, b"no entry"),
    )
    waits: list[float] = []
    try:
        with pytest.raises(RewardError, match="HTTP 403 at /health: 'no entry'; is that a reward"):
            remote(other.url, "a", waits, max_tries=9, backoff_s=0.01)(noise_groups())
    finally:
        other.close()
    assert other.left == []
    assert waits[0] == 17.0
    assert 30 < waits[1] <= 40
    assert waits[2] == 120.0
    assert waits[3] < 0.2


def test_another_programs_answer_is_no_score():
    limits = ServeConfig(rewards={"a": {}}).limits
    health = Health(status="ok", version="9", wire=99, limits=limits, rewards={})
    for body, message in (
        (b"{}", "not a reward server's: status"),
        (b"hello", "not a reward server's"),
        (health.model_dump_json().encode(), "version 99 of the wire format"),
    ):
        other = Scripted((200, {}, body))
        try:
            with pytest.raises(RewardError, match=message):
                remote(other.url, "moody")(noise_groups())
        finally:
            other.close()


def test_a_date_in_retry_after():
    for text, low, high in (("", 0, 0), ("soon", 0, 0), ("12", 12, 12), ("-3", 0, 0)):
        response = httpx2.Response(503, headers={"Retry-After": text})
        assert low <= retry_after_s(response) <= high


# Refused before any request


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "127.0.0.1:8088"}, "option 'url'"),
        ({"range": [1.0, 0.0]}, "not below"),
        ({"range": [0.0, float("nan")]}, "option 'range.1': must be a number, or an infinity"),
        ({"needs": ["image", "box"]}, "needs box.*microseconds"),
        ({"timeout": 3}, "did you mean 'timeout_s'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        build_reward({"use": "remote", **options})


def test_an_unbounded_range_survives_a_saved_config():
    for written in ([None, None], ["-inf", "inf"], [float("-inf"), float("inf")]):
        reward = build_reward({"use": "remote", "range": written})
        assert reward.range == (float("-inf"), float("inf"))
        saved = reward.options.model_dump(mode="json")["range"]
        assert build_reward({"use": "remote", "range": saved}).range == reward.range
    assert build_reward({"use": "remote", "range": [0, None]}).range == (0.0, float("inf"))


def test_construction_imports_no_http_and_opens_nothing():
    code = (
        "import sys; from vlrl.reward.tree import build_reward;"
        "reward = build_reward({'use': 'remote', 'url': 'http://192.0.2.1'});"
        "assert reward([]) == [];"
        "sys.exit(any(m in sys.modules for m in ('httpx2', 'torch', 'starlette', 'uvicorn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
