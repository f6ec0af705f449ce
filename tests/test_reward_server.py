"""The reward server over real sockets: batches, the token, hostile requests, its config."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from helpers_served import CALLS, noise_groups, noise_image
from helpers_server import NODES, Running, local_values, one, png, post, remote, running, values
from PIL import Image

from vlrl.cli.main import main
from vlrl.errors import ConfigError, RewardError
from vlrl.http.serving import listen
from vlrl.reward.server.references import ReferenceStore
from vlrl.reward.server.wire import encode_request
from vlrl.rewards.remote import Remote, RemoteOptions

TOKEN = "a-token-of-more-than-sixteen-characters"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(NODES) as made:
        yield made


# Batches


def test_two_clients_are_scored_together_and_stay_apart():
    mine, yours = noise_groups(num_groups=2, G=2, seed=1), noise_groups(num_groups=1, G=4, seed=2)
    local = [local_values("place", mine), local_values("place", yours)]
    with running({"place": NODES["place"]}, gather_ms=1500) as server:
        clients = [remote(server.url, None, needs=("image",)) for _ in range(2)]
        for client in clients:
            client._known()
        CALLS.clear()
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(values, clients, (mine, yours)))
        assert both == local
        assert CALLS == [8]


def test_large_batches_are_cut_between_requests():
    node = {"use": "helpers_served:PlaceInGroup", "seconds": 0.2}
    with running({"place": node}, max_batch=5, gather_ms=100) as server:
        CALLS.clear()
        client = remote(server.url, None, needs=("image",), batch_size=3, concurrency=4)
        rollouts = noise_groups(num_groups=4, G=2)
        assert values(client, rollouts) == local_values("place", rollouts)
        assert sum(CALLS[:-1]) == 8
        assert max(CALLS[:-1]) == 4


def test_one_clients_failure_costs_the_others_nothing():
    with running({"moody": NODES["moody"]}, gather_ms=1500) as server:
        good, bad = remote(server.url, None), remote(server.url, None)
        for client in (good, bad):
            client._known()
        with ThreadPoolExecutor(2) as pool:
            fine = pool.submit(good, noise_groups(num_groups=1))
            broken = pool.submit(bad, noise_groups(num_groups=1, caption="bad"))
            assert [one.value for one in fine.result()] == [1.0] * 3
            with pytest.raises(RewardError, match="ValueError: this caption is bad"):
                broken.result()
        assert server.rewards.batchers["moody"].num_calls == 3


def test_too_many_waiting_are_told_to_come_back():
    node = {"use": "helpers_served:PlaceInGroup", "seconds": 0.5}
    with running({"place": node}, max_waiting=4, max_batch=4, gather_ms=0) as server:
        body = encode_request("place", noise_groups(num_groups=1, G=3), frozenset({"image"}))
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: post(server, body), range(3)))
        assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
        busy = next(answer for answer in answers if answer.status_code == 503)
        assert busy.headers["retry-after"] == "1"
        options = RemoteOptions(
            url=server.url, needs=("image",), batch_size=3, max_tries=20, backoff_s=0.1
        )
        with closing(Remote(options)) as client:  # really waits
            rollouts = noise_groups(num_groups=3)
            assert values(client, rollouts) == local_values("place", rollouts)


def test_a_client_that_left_is_not_scored():
    node = {"use": "helpers_served:PlaceInGroup", "seconds": 1.0}
    with running({"place": node}, max_batch=1, gather_ms=0) as server:
        body = encode_request("place", noise_groups(num_groups=1, G=3), frozenset({"image"}))
        CALLS.clear()
        with ThreadPoolExecutor(1) as pool:
            patient = pool.submit(post, server, body)
            while not CALLS:
                time.sleep(0.01)
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.post(
                    f"{server.url}/score",
                    content=body,
                    headers={"Content-Type": "application/json"},
                    timeout=0.3,
                )
            assert patient.result().status_code == 200
        assert post(server, body).status_code == 200
        assert CALLS == [3, 3]


# The token and the address


def test_the_token_is_needed_everywhere(monkeypatch):
    with running({"brightness": NODES["brightness"]}, TOKEN) as server:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": TOKEN}):
            for path in ("/health", "/score"):
                method = "GET" if path == "/health" else "POST"
                answer = httpx2.request(method, server.url + path, headers=headers)
                assert answer.status_code == 401, path
                assert answer.json()["error"]["field"] == "authorization"
        waits: list[float] = []
        with pytest.raises(RewardError, match=r"401.*send the server's token"):
            remote(server.url, None, waits, needs=("image",))(noise_groups())
        assert waits == []
        monkeypatch.setenv("REWARD_TOKEN", TOKEN)
        client = remote(server.url, None, needs=("image",), token_env="REWARD_TOKEN")
        assert values(client, noise_groups()) == local_values("brightness", noise_groups())
        monkeypatch.setenv("REWARD_TOKEN", "too short")
        with pytest.raises(ConfigError, match="at least 16"):
            remote(server.url, None, token_env="REWARD_TOKEN")
        monkeypatch.delenv("REWARD_TOKEN")
        with pytest.raises(ConfigError, match=r"'REWARD_TOKEN'.*not set"):
            remote(server.url, None, token_env="REWARD_TOKEN")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_no_open_server_without_a_token(tmp_path, capsys, host):
    config = tmp_path / "rewards.yaml"
    config.write_text("rewards: {light: {use: 'helpers_served:Brightness'}}\n")
    assert main(["serve-rewards", "--config", str(config), "--host", host, "--port", "0"]) == 2
    assert "--token-env" in capsys.readouterr().err


# Malformed and hostile requests


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> str:
    """A few kilobytes that unpack to side x side black pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    rows = zlib.compress(bytes((1 + 3 * side) * 200), 9)
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def test_a_request_by_hand(server):
    answer = post(server, one())
    assert answer.status_code == 200
    assert answer.json() == {"scores": [{"value": 1.0, "parts": {"Moody": 1.0}}], "range": [0, 1]}
    assert post(server, {"reward": "moody", "rollouts": []}).json()["scores"] == []


PNG16 = base64.b64encode(
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(7)))
    + chunk(b"IEND", b"")
).decode()  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, ""),
        (b"[" * 100_000, 400, ""),
        (b"\xff\xfe", 400, ""),
        ([], 400, ""),
        ({"rollouts": []}, 400, "reward"),
        ({"reward": "moody"}, 400, "rollouts"),
        ({"reward": "moody", "rollouts": [], "extra": 1}, 400, "extra"),
        ({"reward": "moody", "rollouts": [{"group": 0}]}, 400, "rollouts[0].id"),
        (one(group="0"), 400, "rollouts[0].group"),
        (one(imgae="x"), 400, "rollouts[0].imgae"),
        (one(image=7), 400, "rollouts[0].image"),
        (one(image="not base64!"), 400, "rollouts[0].image"),
        (one(image=png(noise_image(1), "JPEG")), 400, "rollouts[0].image"),
        (one(image=png(Image.new("RGBA", (4, 4)))), 400, "rollouts[0].image"),
        (one(image=png(Image.new("P", (4, 4)))), 400, "rollouts[0].image"),
        (one(image=PNG16), 400, "rollouts[0].image"),
        (one(image=png(noise_image(1))[:-60] + "AAAA"), 400, "rollouts[0].image"),
        (one(image=None, parsed=True), 400, "rollouts[0].image"),
        (one(target={}), 400, "rollouts[0].target.caption"),
        (one(target={"caption": None}), 400, "rollouts[0].target.caption"),
        (one(target={"caption": "c", "box": [1]}), 400, "rollouts[0].target.box"),
        (one(finish="ended"), 400, "rollouts[0].finish"),
        (one(prompt=[{"role": "user"}]), 400, "rollouts[0].prompt[0].content"),
        (one(image=bomb(50_000)), 413, "rollouts[0].image"),
        (one(image=bomb(9_000)), 413, "rollouts[0].image"),
        ({**one(), "reward": "mody"}, 404, "reward"),
    ],
)  # fmt: skip
def test_malformed_requests_name_the_field(server, body, status, field):
    answer = post(server, body)
    problem = answer.json()["error"]
    assert (answer.status_code, problem["field"]) == (status, field), problem
    assert "scores" not in answer.json()
    assert post(server, one()).status_code == 200  # and the server keeps running


def test_a_type_that_browsers_send_unasked_is_refused(server):
    assert post(server, one(), kind="text/plain").status_code == 415
    assert httpx2.get(f"{server.url}/score").status_code == 405
    assert httpx2.get(f"{server.url}/nothing").status_code == 404


def test_references_are_checked(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "secret.png").write_bytes(base64.b64decode(png(noise_image(3))))
    (tmp_path / "own" / "link.png").symlink_to(tmp_path / "secret.png")
    fields = {"target": {"caption": "c", "written": None, "scene": None}}
    nodes = {"moody": NODES["fingerprint"]}
    digest = "0" * 64
    cases = [
        (None, {}, "rollouts[0].references"),
        (["../secret.png"], {}, "rollouts[0].references[0]"),
        (["path:../secret.png"], {}, "rollouts[0].references[0]"),
        ([f"path:{tmp_path}/secret.png"], {}, "rollouts[0].references[0]"),
        (["path:link.png"], {}, "rollouts[0].references[0]"),
        (["path:none.png"], {}, "rollouts[0].references[0]"),
        (["path:a\0b"], {}, "rollouts[0].references[0]"),
        ([f"sha256:{digest}"], {}, "rollouts[0].references[0]"),
        ([f"sha256:{digest}"], {digest: png(noise_image(1))}, f"files.{digest}"),
        ([f"sha256:{digest}"], {digest: "?"}, f"files.{digest}"),
    ]
    with running(nodes, references=str(tmp_path / "own")) as server:
        for references, files, field in cases:
            body = one(**fields)
            body["files"] = files
            if references is not None:
                body["rollouts"][0]["references"] = references
            answer = post(server, body)
            assert answer.status_code == 400, (references, answer.text)
            assert answer.json()["error"]["field"] == field
        assert not list(server.rewards.references.folder.iterdir())
    with running(nodes) as server:
        body = one(**fields, references=["path:a.png"])
        assert "has no `references:` folder" in post(server, body).text


def test_old_references_go_first_and_never_while_in_use(tmp_path):
    files = {}
    for i in range(3):
        data = base64.b64decode(png(noise_image(i, 30, 30)))
        files[hashlib.sha256(data).hexdigest()] = base64.b64encode(data).decode()
    size = max(len(base64.b64decode(text)) for text in files.values())
    store = ReferenceStore(tmp_path, None, int(1.5 * size), 10**6)
    names = [f"sha256:{digest}" for digest in files]
    with store.lease(files) as first:
        paths = [Path(first.path_of(name, "")) for name in names]
        with store.lease(files) as second:
            assert second.path_of(names[1], "") == str(paths[1])
        # Too many bytes, but the first request still reads them all.
        assert [path.exists() for path in paths] == [True, True, True]
    # The most recently used file stays; the other two do not fit next to it.
    assert [path.exists() for path in paths] == [False, True, False]
    with store.lease(files) as again:
        assert Path(again.path_of(names[0], "")).read_bytes() == base64.b64decode(
            files[names[0].removeprefix("sha256:")]
        )


def test_a_request_above_a_limit_is_refused():
    node = {"moody": NODES["moody"]}
    with running(node, max_body_mib=1, max_rollouts=4, max_pixels=400, max_request_pixels=600) as s:
        answer = post(s, b" " * (1 << 20) + json.dumps(one()).encode())
        assert answer.status_code == 413
        assert "1048576 bytes" in answer.json()["error"]["message"]
        row = one()["rollouts"][0]
        answer = post(s, {"reward": "moody", "rollouts": [row] * 5})
        assert (answer.status_code, answer.json()["error"]["field"]) == (413, "rollouts")
        answer = post(s, {"reward": "moody", "rollouts": [row] * 4})
        assert (answer.status_code, answer.json()["error"]["field"]) == (413, "rollouts[2].image")
        answer = post(s, one(image=png(noise_image(1, 21, 20))))
        assert (answer.status_code, answer.json()["error"]["field"]) == (413, "rollouts[0].image")
        with pytest.raises(RewardError, match=r"'run0/s0'.*5 rollouts is over its limit of 4"):
            remote(s.url, None)(noise_groups(num_groups=1, G=5))
        big = noise_groups(num_groups=1, G=4, caption="x" * (1 << 20))
        with pytest.raises(RewardError, match="bytes is over its limit of 1048576; lower `batch_s"):
            remote(s.url, None)(big)


# A server's /health, and what it refuses to serve


def test_health_tells_every_reward_with_range_and_needs(server):
    health = httpx2.get(f"{server.url}/health").json()
    assert health["status"] == "ok"
    assert set(health["rewards"]) == set(NODES)
    assert health["rewards"]["solved"] == {"range": ["-inf", "inf"], "needs": []}
    assert health["rewards"]["moody"] == {"range": [0.0, 1.0], "needs": ["caption", "image"]}
    assert health["limits"]["max_rollouts"] == 256
    assert health["version"] == "1.2.3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rewards: {a: {use: box_iou}}", "rewards.a: needs box.*microseconds"),
        ("rewards: {a: {use: 'helpers_served:Learner'}}", "learns with the policy"),
        ("rewards: {a: {use: brigtness}}", "rewards.a: unknown reward"),
        ("rewards: {}", "rewards: "),
        ("reward: {use: format}", "unknown key 'reward'; did you mean 'rewards'"),
        ("rewards: {a: {use: 'helpers_served:brevity'}}\nreferences: /no/such", "no folder"),
    ],
)
def test_configs_are_checked(tmp_path, capsys, text, message):
    config = tmp_path / "rewards.yaml"
    config.write_text(text)
    assert main(["serve-rewards", "--config", str(config), "--port", "0"]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_taken_port_is_named(tmp_path, capsys, server):
    config = tmp_path / "rewards.yaml"
    config.write_text("rewards: {a: {use: 'helpers_served:brevity'}}")
    port = server.url.rpartition(":")[2]
    assert main(["serve-rewards", "--config", str(config), "--port", port]) == 2
    assert f"port {port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", 65_536, "port 65536: ports go from 0 (a free one) to 65535"),
        ("127.0.0.1", -1, "port -1: ports go from 0"),
        ("bad..host", 0, "cannot listen on bad..host, port 0: no host name"),
        ("é..host", 0, "cannot listen on é..host, port 0: no host name"),
    ],
)
def test_an_address_that_is_none_is_named(host, port, reason):
    with pytest.raises(ConfigError, match=re.escape(reason)):
        listen(host, port)
