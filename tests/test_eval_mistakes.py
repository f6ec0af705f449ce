"""`vlrl eval` and related commands: one message per mistake, and no answer is lost or mixed up."""

from __future__ import annotations

import json
import runpy
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vlrl.cli.main import main
from vlrl.errors import ConfigError, is_missing_path
from vlrl.eval import command as eval_command
from vlrl.eval.endpoint import Endpoint, EndpointOptions, host_of
from vlrl.eval.gui import command as gui_command
from vlrl.eval.gui.asking import Ask
from vlrl.eval.gui.compare import compare
from vlrl.eval.gui.items import Item
from vlrl.families.profiles import profile_named
from vlrl.geometry.boxes import Box, Frame

ROOT = Path(__file__).resolve().parent.parent
TINY = str(ROOT / "assets/models/tiny_qwen2_5_vl")
# fmt: off
ROW = {"img_filename": "no.png", "bbox": [10, 10, 20, 20], "instruction": "x", "application": "a",
       "negative_instruction": "fly", "platform": "p", "img_size": [1000, 500], "ui_type": "icon",
       "group": "OS"}
# fmt: on


def given(folder: Path, outputs: list[str], rows: list[dict] | None = None) -> list[str]:
    """Arguments of an evaluation of precomputed answers; its results go to `folder`/out."""
    rows = rows or [{**ROW, "id": f"i{n}"} for n in range(len(outputs))]
    (folder / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    lines = [json.dumps({"id": f"i{n}", "output": text}) for n, text in enumerate(outputs)]
    (folder / "answers.jsonl").write_text("\n".join(lines), encoding="utf-8")
    words = ["eval", "--benchmark", "screenspot_pro", "--data", str(folder / "a.json")]
    words += ["--predictions", str(folder / "answers.jsonl"), "--profile", "gui_g2"]
    return [*words, "--out", str(folder / "out")]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "out/predictions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


# Answers


def test_boxes_about_targets_that_are_none_have_no_metrics(tmp_path: Path) -> None:
    words = given(tmp_path, ["[1,2,3,4]", "[-1,-1,-1,-1]"])
    assert main([*words, "--negatives"]) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["boxes"] is None
    assert summary["outcomes"] == {"correct": 1, "wrong": 1, "wrong_format": 0, "failed": 0}


def test_boxes_about_polygons_have_no_metrics(tmp_path: Path) -> None:
    row = {"id": "i0", "image_path": "x.png", "image_size": [100, 100], "instruction": "open",
           "GUI_types": ["Label"], "box_type": "polygon",
           "box_coordinates": [0, 0, 9, 0, 9, 9, 0, 9]}  # fmt: skip
    words = given(tmp_path, ["[1,2,3,4]"], [row])
    words[words.index("screenspot_pro")] = "osworld_g"
    assert main(words) == 0
    assert json.loads((tmp_path / "out/summary.json").read_text())["boxes"] is None
    (line,) = lines_of(tmp_path)
    assert line["box_px"] is not None


def test_answers_are_on_disk_before_the_tables_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("no table")

    monkeypatch.setattr(gui_command, "summarise", broken)
    with pytest.raises(RuntimeError, match="no table"):
        main(given(tmp_path, ["[1,2,3,4]"]))
    assert [line["output"] for line in lines_of(tmp_path)] == ["[1,2,3,4]"]


@pytest.mark.parametrize("profile", ["gui_g2", "qwen2_vl", "uground_v1", "gpt"])
@pytest.mark.parametrize("size", [101, 200, 308, 309, 400])
def test_a_number_of_hundreds_of_digits_is_no_place(
    tmp_path: Path, profile: str, size: int
) -> None:
    huge = "9" * size
    outputs = [f"[{huge},{huge},{huge},{huge}]", f"[-{huge},-{huge}]", f"({huge}, 1)"]
    words = [*given(tmp_path, outputs), "--profile", profile]
    assert main(words) == 0
    assert [line["verdict"] for line in lines_of(tmp_path)] == ["wrong_format"] * 3
    assert compare(tmp_path / "out", tmp_path / "out").num_items == 3


def test_resumed_answers_belong_to_the_same_images_and_columns(
    tmp_path: Path, server: str, screens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, images = tmp_path / "t.jsonl", screens.parent
    rows = [json.loads(line) for line in screens.read_text(encoding="utf-8").splitlines()][:2]
    table.write_text("\n".join(json.dumps({**row, "other": "another"}) for row in rows))
    base = ["eval", "--benchmark", "custom", "--data", str(table), "--endpoint", server]
    base += ["--model", "m", "--profile", "gui_g2", "--quiet", "--max-tries", "1"]
    base += ["--format", "rows", "--box", "xyxy_px", "--out", str(tmp_path / "out")]
    asked = [*base, "--images", str(images), "--columns", "image=image"]
    assert main(asked) == 0
    assert main(asked) == 0
    capsys.readouterr()
    assert main([*asked, "instruction=other"]) == 2
    assert "columns = {'image': 'image'}" in capsys.readouterr().err
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(images)
    assert main([*asked, "--images", str(elsewhere)]) == 2
    assert f"images = '{images}'" in capsys.readouterr().err


def test_resumed_answers_of_a_checkpoint_belong_to_one_attention(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["eval", "--benchmark", "held_out", "--data", str(ROOT / "assets/screens")]
    base += ["--model", TINY, "--limit", "2", "--quiet", "--out", str(tmp_path)]
    assert main(base) == 0
    capsys.readouterr()
    assert main([*base, "--attn", "eager"]) == 2
    assert "attn = 'sdpa'" in capsys.readouterr().err


# Files and overrides


def test_a_file_and_overrides_say_what_options_say(tmp_path: Path) -> None:
    words = given(tmp_path, ["[1,2,3,4]", "[10,10,20,20]"])
    assert main([*words, "--negatives"]) == 0
    expected = json.loads((tmp_path / "out/summary.json").read_text())
    own = {"benchmark": words[2], "data": words[4], "predictions": words[6], "profile": words[8]}
    file = tmp_path / "eval.yaml"
    file.write_text(json.dumps({**own, "out": str(tmp_path / "again")}))
    assert main(["eval", "--config", str(file), "negatives=true"]) == 0
    assert json.loads((tmp_path / "again/summary.json").read_text()) == expected


def test_a_file_with_what_the_benchmark_does_not_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text("benchmark: held_out\nmodel: m\nfps: 2.0\n")
    assert "--fps: read on video benchmarks only" in message(
        capsys, ["eval", "--config", str(file)]
    )
    file.write_text("benchmark: held_out\nmodel: m\nbatch_sise: 2\n")
    said = message(capsys, ["eval", "--config", str(file)])
    assert "unknown key 'batch_sise'; did you mean 'batch_size'?" in said


# The endpoint


@pytest.fixture
def server() -> Iterator[str]:
    """The address of an endpoint that always gives the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            data = json.dumps({"choices": [{"message": {"content": "[1,2,3,4]"}}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}/v1"
    http.shutdown()
    http.server_close()


def test_a_proxy_is_not_asked_for_this_machines_own_address(
    server: str, screens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    image = next(screens.parent.rglob("*.png"))
    frame = Frame(100, 100)
    item = Item("a", str(image), frame, "x", Box(1, 1, 2, 2, frame))

    def ask(url: str) -> tuple[str | None, str | None]:
        options = EndpointOptions(url, "m", "{instruction}", max_tries=1)
        with Endpoint(options, profile_named("gui_g2")) as asked:
            (reply,) = asked.answer([Ask(item)])
        return reply.output, reply.error

    assert ask(server) == ("[1,2,3,4]", None)
    output, error = ask("http://192.0.2.1/v1")  # an unused address: through the proxy
    assert output is None
    assert "ConnectError" in str(error)


@pytest.mark.parametrize(
    "url",
    ["nourl", "", "http:///v1", "ftp://h/v1", "http://bad..host:99999/v1", "http://h:99999/v1",
     "http://h:0/v1", "http://bad..host/v1", f"http://{'a' * 64}/v1", "http://h:x/v1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="--endpoint"):
        host_of(url)
    with pytest.raises(ConfigError, match="--endpoint"):
        Endpoint(EndpointOptions(url, "m", "{instruction}"), profile_named("gui_g2"))


def test_addresses_that_are_some() -> None:
    assert host_of("http://[::1]:8000/v1") == "::1"
    assert host_of("https://api.example.org/v1") == "api.example.org"


# Mistakes


def message(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """What a command with a mistake prints; its status is 2 and nothing is raised."""
    capsys.readouterr()
    try:
        status: object = main(words)
    except SystemExit as end:
        status = end.code
    assert status == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


HELD_OUT = ["eval", "--benchmark", "held_out", "--data", str(ROOT / "assets/screens")]
ASKED = [*HELD_OUT, "--model", TINY, "--limit", "2", "--quiet"]
CLIPS = ["eval", "--benchmark", "clips", "--data", str(ROOT / "assets/clips"), "--limit", "1"]
AT_AN_ENDPOINT = [*HELD_OUT, "--model", "m", "--profile", "gui_g2"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([*ASKED, "--batch-size", "0"], "argument --batch-size: a whole number of at least 1"),
        ([*ASKED, "--batch-size", "many"], "argument --batch-size: a whole number of at least 1"),
        ([*ASKED, "--max-new-tokens", "-4"], "argument --max-new-tokens: a whole number of at"),
        ([*ASKED, "--concurrency", "0"], "argument --concurrency: "),
        ([*ASKED, "--max-tries", "0"], "argument --max-tries: "),
        ([*ASKED, "--timeout-s", "0"], "argument --timeout-s: a number above 0, not '0'"),
        ([*ASKED, "--timeout-s", "nan"], "argument --timeout-s: "),
        ([*ASKED, "--temperature", "-1"], "argument --temperature: a number of at least 0"),
        ([*ASKED, "--temperature", "inf"], "argument --temperature: "),
        ([*ASKED, "--vote-radius", "-1"], "argument --vote-radius: "),
        ([*ASKED, "--limit", "-1"], "argument --limit: a whole number of at least 0, not '-1'"),
        ([*ASKED, "--min-pixels", "0"], "argument --min-pixels: "),
        ([*ASKED, "--votes", "2", "--temperature", "0"], "--temperature is above 0"),
        ([*ASKED, "--attn", "nope"], "'nope'"),
        ([*ASKED, "--temperature", "0.7"], "--temperature is for sampled answers"),
        (
            [*ASKED, "--fps", "1", "--interpolate"],
            "--fps, --interpolate: read on video benchmarks only (hcstvg_v1, ",
        ),
        (
            [*CLIPS, "--model", "m", "--min-pixels", "9", "--negatives"],
            "--min-pixels, --negatives: read on GUI benchmarks only (",
        ),
        (
            [*CLIPS, "--model", "./m", "--profile", "qwen2_5_vl"],
            "policy.model './m': there is no file or folder './m'",
        ),
        ([*HELD_OUT, "--model", "./m"], "--model './m' is not a folder that could state it"),
        ([*HELD_OUT, "--model", "./m", "--profile", "gui_g2"], "policy.model './m': there is no"),
        (
            [*HELD_OUT, "--model", str(ROOT / "docs"), "--profile", "gui_g2"],
            "`model_type` key in its config.json. (a run's model is in runs/<name>/model)",
        ),
        ([*ASKED, "--files", "/tmp/*.json"], "--files takes patterns below"),
        ([*ASKED, "--files", ""], "--files takes patterns below"),
        ([*ASKED, "--min-pixels", "9000", "--max-pixels", "4000"], "min_pixels 9,000 is above"),
        ([*AT_AN_ENDPOINT, "--endpoint", "http://bad..host:99999/v1"], "--endpoint"),
        (
            [*AT_AN_ENDPOINT, "--endpoint", "http://127.0.0.1:9", "--max-pixels", "400"],
            "min_pixels 3,136 (the profile's own) is above max_pixels 400 in profile 'gui_g2'",
        ),
        (["eval", "--benchmark", "vidstgg", "--model", "m"], "did you mean 'vidstg'?"),
        (["eval", "--benchmark", "screenspott", "--model", "m"], "did you mean 'screenspot'?"),
        (["judge-bench", "--data", "d", "--model", "m", "--endpoint", "nourl"], "not 'nourl'"),
        (["judge-bench", "--data", "d", "--model", "m", "--reasoning", "-3"], "--reasoning"),
        (["judge-bench", "--data", "d", "--model", "m", "--limit", "-1"], "--limit"),
        (["serve-rewards", "--config", "c", "--port", "99999"], "a whole number from 0 to 65535"),
        (["serve-rewards", "--config", "c", "--port", "-1"], "a whole number from 0 to 65535"),
        (["serve-judge", "--model", "m", "--port", "65536"], "a whole number from 0 to 65535"),
    ],
)
def test_a_mistake_is_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in message(capsys, words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["scripts/assets/shapes/make_shapes.py", "--package", "p", "--out", "o"],
            "no usable model in p/usr",
        ),
        (
            ["scripts/assets/images/make_judge_pairs.py", "--assets", "n", "--out", "o"],
            "n/train.jsonl: No such",
        ),
        (
            ["scripts/assets/clips/make_real_clips.py", "--video", "n.avi", "--out", "o"],
            "no video file",
        ),
        (["benchmarks/score_answers.py", "nope"], "nope"),
    ],
)
def test_a_mistake_in_a_program_is_one_message_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    script = ROOT / words[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(script), run_name="__main__")
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_path_is_told_from_a_name_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs/a/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for missing in ("runs/b", "runs/a/models", "no/such/model", "./a", "/no", "~/no/such"):
        assert is_missing_path(missing)
    for other in ("runs/a/model", "a", "owner/name", "local-dir:a/b/c", "ViT-B-32 a/b/c.pt"):
        assert not is_missing_path(other)


def test_a_greedy_answer_has_no_use_for_a_temperature(tmp_path: Path) -> None:
    assert main([*ASKED, "--temperature", "0", "--out", str(tmp_path)]) == 0


def test_given_answers_have_pixel_limits_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(tmp_path, ["[1,2,3,4]"])
    said = message(capsys, [*words, "--min-pixels", "9000", "--max-pixels", "4000"])
    assert "min_pixels 9,000 is above max_pixels 4,000" in said
    assert not (tmp_path / "out").exists()
    profile = profile_named("gui_g2")
    assert profile.resized(100, 100, 4000, 4000).width > 0
    with pytest.raises(ConfigError, match="set both"):
        profile.resized(100, 100, 4001, 4000)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_takes_no_file_is_refused_before_anybody_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    out = ["--out", str(tmp_path / place)]
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"id": "p", "caption": "c", "chosen": "a", "rejected": "b"}))
    for name in "ab":
        (tmp_path / name).write_bytes(b"")
    judged = tmp_path / "judged.jsonl"
    judged.write_text(json.dumps({"id": "p", "p": 0.5}))
    for words in (
        [*ASKED, *out],
        [*given(tmp_path, ["[1,2,3,4]"]), *out],
        ["judge-bench", "--data", str(data), "--judgements", str(judged), *out],
        ["eval", "--benchmark", "clips", "--data", str(ROOT / "assets/clips"), "--limit", "1",
         "--model", str(ROOT / "assets/models/tiny_video"), "--profile", "qwen2_5_vl", *out],
    ):  # fmt: skip
        assert f"--out {out[1]!r}: cannot write there" in message(capsys, words)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_the_system_refuses_is_told_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(tmp_path, ["[1,2,3,4]"])
    (tmp_path / "out/summary.json").mkdir(parents=True)
    said = message(capsys, words)
    assert said == f"IsADirectoryError: {tmp_path}/out/summary.json: Is a directory\n"
    assert eval_command.main(words[1:]) == 2
    assert capsys.readouterr().err == said
    assert len(lines_of(tmp_path)) == 1
