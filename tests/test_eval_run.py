"""Querying, storing, resuming and combining answers, on real models and a real HTTP server."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlrl.build import read_parts
from vlrl.config.resolve import load_run_config
from vlrl.distributed.comm import World
from vlrl.errors import ConfigError, DataError
from vlrl.eval.command import main
from vlrl.eval.endpoint import Endpoint, EndpointOptions, data_url
from vlrl.eval.gui.asking import Ask, Reply
from vlrl.eval.gui.benchmarks import benchmark_named
from vlrl.eval.gui.compare import compare, markdown
from vlrl.eval.gui.gallery import write_gallery
from vlrl.eval.gui.items import Item, Source, load_items
from vlrl.eval.gui.local_model import LocalModel, loaded_here
from vlrl.eval.gui.passes import failure, load, to_row
from vlrl.eval.gui.runner import Job, ask_all, ask_batch
from vlrl.eval.gui.strategies import Pass, Reading, Single, Vote, Zoom, window
from vlrl.eval.recipe import Recipe, read_recipe
from vlrl.eval.store import Store
from vlrl.families.profiles import PROFILES, profile_named
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.gui.syntax import write_answer
from vlrl.gui.verdict import Refusal
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.protocols import PolicySetup
from vlrl.train.recipe import recipe_of, write_recipe

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "assets/models/tiny_qwen2_5_vl"
ALONE = World(0, 1, torch.device("cpu"))
G2 = profile_named("gui_g2")


def items_of(screens: Path) -> list[Item]:
    return load_items(benchmark_named("custom"), Source(screens))


# --- strategies ------------------------------------------------------------------------------


def passed(item: Item, output: str, resized: Frame | None = None, **ask: object) -> Pass:
    frame = resized or G2.resized(int(item.frame.width), int(item.frame.height))
    return Pass(Ask(item, **ask), Reply(output, frame))  # type: ignore[arg-type]


def blank(width: int = 1000, height: int = 600) -> Item:
    frame = Frame(width, height)
    return Item("a", "a.png", frame, "x", Box(1, 1, 2, 2, frame))


@given(
    st.integers(10, 5000), st.integers(10, 5000), st.floats(0.05, 0.95), st.floats(-0.5, 1.5),
    st.floats(-0.5, 1.5),
)  # fmt: skip
def test_a_window_lies_inside_and_keeps_its_size(
    width: int, height: int, share: float, x: float, y: float
) -> None:
    frame = Frame(width, height)
    left, top, right, bottom = window(Point(x * width, y * height, frame), frame, share)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert (right - left, bottom - top) == (
        max(1, round(width * share)),
        max(1, round(height * share)),
    )


@given(st.sampled_from(sorted(PROFILES)), st.floats(0.3, 0.7), st.floats(0.3, 0.7))
def test_a_click_in_a_window_comes_back_to_its_place(name: str, x: float, y: float) -> None:
    profile, item = profile_named(name), blank()
    crop = (250, 150, 750, 450)
    # The same place as the model would write it in the window enlarged to the image's size.
    true = Point(x * 1000, y * 600, item.frame)
    inner = Frame(1000, 600)
    place = Point((true.x - 250) * 2, (true.y - 150) * 2, inner)
    resized = profile.resized(1000, 600)
    text = write_answer(Box(place.x, place.y, place.x, place.y, inner), profile, resized)
    answer, _ = Reading(profile).click(passed(item, text, resized, crop=crop))
    assert isinstance(answer, Point)
    unit = max(inner.width / profile.frame(resized).width, 1.0)
    assert abs(answer.x - true.x) <= unit
    assert abs(answer.y - true.y) <= unit


def test_zoom_takes_the_second_look_and_says_when_it_cannot() -> None:
    item, reading, zoom = blank(), Reading(profile_named("qwen3_vl_point")), Zoom(0.5)
    assert zoom.asks(item, [], reading) == [Ask(item)]
    first = passed(item, '{"point_2d": [500, 500]}')
    (second_ask,) = zoom.asks(item, [first], reading)
    assert second_ask.crop == (250, 150, 750, 450)
    second = passed(item, '{"point_2d": [1000, 0]}', crop=second_ask.crop)
    assert zoom.final([first, second], reading).answer == Point(750, 150, item.frame)
    lost = zoom.final([first, passed(item, "?", crop=second_ask.crop)], reading)
    assert isinstance(lost.answer, Point)
    assert lost.answer == Point(500, 500, Frame(1000, 1000))  # as it was written
    assert "second look" in lost.note
    assert zoom.asks(item, [passed(item, "no idea")], reading) == []
    with pytest.raises(ConfigError, match="share"):
        Zoom(1.5)


def test_a_vote_takes_the_click_with_most_company() -> None:
    item, reading, vote = blank(), Reading(profile_named("ui_venus_1_5")), Vote(5, radius=0.007)
    asks = vote.asks(item, [], reading)
    assert len({ask.seed for ask in asks}) == 5
    assert not any(ask.greedy for ask in asks)

    def final(*texts: str) -> object:
        return vote.final([passed(item, text) for text in texts], reading)

    won = final("[100,100]", "[900,900]", "[905,900]", "nothing", "[910,900]")
    assert won.answer == Point(905, 900, Frame(1000, 1000))  # type: ignore[attr-defined]
    assert won.place == 2  # type: ignore[attr-defined]
    assert won.note == "3 of 5 votes"  # type: ignore[attr-defined]
    assert final("[1,1]", "[500,500]").answer == Point(1, 1, Frame(1000, 1000))  # type: ignore[attr-defined]
    assert isinstance(final("[-1,-1]", "[-1,-1]", "[5,5]").answer, Refusal)  # type: ignore[attr-defined]
    assert final("?", "?").answer is None  # type: ignore[attr-defined]


# --- runner and store ------------------------------------------------------------------------


class Counting:
    """A real local model that counts its queries, and can be interrupted."""

    def __init__(self, inner: LocalModel, stop_after: int | None = None) -> None:
        self.inner, self.stop_after, self.asked = inner, stop_after, Counter[str]()

    def answer(self, asks: Sequence[Ask]) -> list[Reply]:
        if self.stop_after is not None and sum(self.asked.values()) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.update(ask.item.id for ask in asks)
        return self.inner.answer(asks)


@pytest.fixture(scope="module")
def model() -> LocalModel:
    options = VisionLanguageConfig(model=str(TINY), max_new_tokens=20, sample_batch_size=8)
    cpu = torch.device("cpu")
    return LocalModel(loaded_here(options, dtype=torch.float32, device=cpu), "Click: {instruction}")


def test_a_killed_run_goes_on_without_repeating_an_item(
    tmp_path: Path, screens: Path, model: LocalModel
) -> None:
    job = Job(items_of(screens), Single(), Reading(G2), batch_size=4)
    whole = ask_all(job, model, Store(tmp_path / "whole"), {"a": 1}, ALONE)
    cut, rest = Counting(model, stop_after=8), Counting(model)
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        ask_all(job, cut, Store(folder), {"a": 1}, ALONE)
    shard = folder / "answers.rank0.jsonl"
    with shard.open("a", encoding="utf-8") as file:
        file.write('{"id": "s9", "passes": [{"outp')  # what a kill leaves of a line
    seen: list[tuple[int, int]] = []

    def start(total: int, done: int):
        seen.append((total, done))
        return lambda count, rate: None

    again = ask_all(job, rest, Store(folder), {"a": 1}, ALONE, start)
    assert seen == [(12, 8)]
    assert not (cut.asked & rest.asked)
    assert sum((cut.asked + rest.asked).values()) == 12
    assert {k: [p.reply.output for p in v] for k, v in again.items()} == {
        k: [p.reply.output for p in v] for k, v in whole.items()
    }
    nobody = Counting(model)
    ask_all(job, nobody, Store(folder), {"a": 1}, ALONE)
    assert not nobody.asked
    with pytest.raises(ConfigError, match="a = 1"):
        ask_all(job, model, Store(folder), {"a": 2}, ALONE)


def test_two_evaluations_do_not_mix_their_answers(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from vlrl.eval.store import Store\n"
        f"Store(Path({str(tmp_path)!r})).open({{}}); print('open', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        try:
            with pytest.raises(ConfigError, match=rf"in use by process {other.pid} on "):
                Store(tmp_path).open({})
        finally:
            other.kill()
    Store(tmp_path).open({})


def test_ranks_share_the_items_and_another_number_of_ranks_goes_on(
    tmp_path: Path, screens: Path, model: LocalModel
) -> None:
    items = items_of(screens)
    job = Job(items, Single(), Reading(G2), batch_size=3)
    store = Store(tmp_path, rank=1)
    store.open({"a": 1})
    # The answers of rank 1 of two; a single process takes over.
    asked = Counting(model)
    share = items[1::2]
    store.append(to_row(item, ask_batch([item], job, model)[item.id]) for item in share)
    found = ask_all(job, asked, Store(tmp_path), {"a": 1}, ALONE)
    assert set(asked.asked) == {item.id for item in items[0::2]}
    assert set(found) == {item.id for item in items}


def test_failures_of_all_ranks_are_seen_and_odd_line_ends_are_no_lines(
    tmp_path: Path, screens: Path
) -> None:
    items = {item.id: item for item in items_of(screens)[:3]}
    one, two, three = items.values()
    frame = Frame(28, 28)
    failed, fine = Reply(None, frame, "HTTP 500"), Reply("[1,2,3,4]\u2028\x85", frame)
    Store(tmp_path, rank=0).append([to_row(one, [Pass(Ask(one), fine)])])
    other = Store(tmp_path, rank=1)
    other.append([to_row(two, [Pass(Ask(two), failed)]), to_row(three, [Pass(Ask(three), failed)])])
    Store(tmp_path, rank=0).append([to_row(three, [Pass(Ask(three), fine)])])
    found = load(Store(tmp_path), items)
    assert {own: failure(passes) for own, passes in found.items()} == {
        one.id: None,
        two.id: "HTTP 500",
        three.id: None,
    }
    assert found[one.id][0].reply.output == fine.output


def test_zooming_shows_the_model_the_enlarged_window(
    tmp_path: Path, screens: Path, model: LocalModel
) -> None:
    item = items_of(screens)[0]
    width, height = int(item.frame.width), int(item.frame.height)
    (plain,) = model.answer([Ask(item)])
    (window_reply,) = model.answer([Ask(item, crop=(0, 0, width // 2, height // 2))])
    assert plain.resized == window_reply.resized
    (whole,) = model.answer([Ask(item, crop=(0, 0, width, height))])
    assert whole.output == plain.output


# --- endpoint --------------------------------------------------------------------------------


class Server:
    """A small OpenAI-like server on the loopback; `script` decides each reply."""

    def __init__(self) -> None:
        self.script: list[tuple[int, object]] = []
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = json.loads(self.rfile.read(length))
                with outer.lock:
                    outer.bodies.append(body)
                    outer.keys.append(self.headers.get("authorization"))
                    status, content = outer.script.pop(0) if outer.script else (200, "[1,2,3,4]")
                if isinstance(content, str) and status == 200:
                    content = {
                        "choices": [{"message": {"content": content}}],
                        "usage": {"completion_tokens": 7},
                    }
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def endpoint(url: str, waits: list[float] | None = None, **options: object) -> Endpoint:
    settings = EndpointOptions(url, "some-model", "Where: {instruction}", **options)  # type: ignore[arg-type]
    return Endpoint(settings, G2, sleep=(waits if waits is not None else []).append)


def test_an_endpoint_gets_the_resized_image_and_the_question(server: Server, screens: Path) -> None:
    item = items_of(screens)[0]
    with endpoint(server.url, api_key="secret") as asked:
        (reply,) = asked.answer([Ask(item)])
    assert (reply.output, reply.num_tokens, reply.error) == ("[1,2,3,4]", 7, None)
    (body,) = server.bodies
    assert server.keys == ["Bearer secret"]
    part, text = body["messages"][0]["content"]
    assert text["text"] == f"Where: {item.instruction}"
    assert (body["temperature"], body["model"]) == (0.0, "some-model")
    data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == reply.resized.extent


def test_a_window_is_cut_and_enlarged_before_it_is_sent(screens: Path) -> None:
    item = items_of(screens)[0]
    target = item.target
    assert isinstance(target, Box)
    crop = tuple(round(edge) for edge in target.xyxy)
    url = data_url(Ask(item, crop=crop), Frame(56, 56))  # type: ignore[arg-type]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        assert image.size == (56, 56)
        with Image.open(item.image) as source:
            inside = source.convert("RGB").getpixel((crop[0] + 5, crop[1] + 5))
        assert image.getpixel((28, 28)) == inside


def test_passing_faults_are_tried_again_and_others_are_not(server: Server, screens: Path) -> None:
    item = items_of(screens)[0]
    waits: list[float] = []
    server.script = [(503, {}), (429, {}), (200, "[5,6,7,8]")]
    with endpoint(server.url, waits) as asked:
        assert asked.answer([Ask(item)])[0].output == "[5,6,7,8]"
        assert waits == [1.0, 2.0]
        server.script = [(400, {"error": "too long"})]
        (refused,) = asked.answer([Ask(item)])
        assert refused.output is None
        assert "HTTP 400" in str(refused.error)
        assert "too long" in str(refused.error)
        server.script = [(200, {"no": "choices"})]
        assert "not a chat completion" in str(asked.answer([Ask(item)])[0].error)
        server.script = [(500, {})] * 4
        assert "after 4 tries" in str(asked.answer([Ask(item)])[0].error)
    with endpoint("http://127.0.0.1:9/v1", waits, max_tries=2) as nobody:
        assert "ConnectError" in str(nobody.answer([Ask(item)])[0].error)


def test_failed_calls_are_named_counted_and_asked_again(
    server: Server, screens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--benchmark", "custom", "--data", str(screens), "--endpoint", server.url]
    arguments += ["--model", "m", "--profile", "gui_g2", "--max-tries", "1", "--out", str(tmp_path)]
    arguments += ["--concurrency", "1", "--quiet"]
    server.script = [(500, {})] * 3
    assert main(arguments) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["outcomes"]["failed"] == 3
    assert "3 calls failed" in capsys.readouterr().out
    assert main(arguments) == 0
    assert len(server.bodies) == 12 + 3
    assert json.loads((tmp_path / "summary.json").read_text())["outcomes"]["failed"] == 0


# --- the command -----------------------------------------------------------------------------


def test_the_command_gives_the_trainers_figure(tmp_path: Path) -> None:
    from vlrl.stats import evenly
    from vlrl.tasks.gui_grounding import GuiGrounding
    from vlrl.train.evaluation import evaluate

    out = tmp_path / "eval"
    arguments = ["--benchmark", "held_out", "--data", str(ROOT / "assets/screens")]
    arguments += ["--model", str(TINY), "--limit", "24", "--batch-size", "8", "--out", str(out)]
    assert main([*arguments, "--quiet"]) == 0
    task = GuiGrounding(
        GuiGrounding.Options(
            data={"held_out": {"path": str(ROOT / "assets/screens/held_out.jsonl")}},
            prompt="Click: {instruction}",
        )
    )
    options = VisionLanguageConfig(model=str(TINY), max_new_tokens=20)
    from vlrl.policy.vision_language.policy import VisionLanguagePolicy

    policy = VisionLanguagePolicy(
        options, PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096)
    )
    rows, _ = evaluate(policy, task, evenly(task.samples("held_out"), 24), ALONE, 8, {})
    theirs = {row["id"]: (row["output"], row["metrics"]["hit"]) for row in rows}
    lines = (out / "predictions.jsonl").read_text().splitlines()
    mine = {
        row["id"]: (row["output"], float(row["verdict"] == "correct"))
        for row in map(json.loads, lines)
    }
    assert mine == theirs


def test_an_exported_model_says_how_it_is_asked(tmp_path: Path) -> None:
    parts = read_parts(load_run_config([ROOT / "configs/gui_grounding/tiny.yaml"]))
    config, task = parts.config, parts.task_class(parts.task_options)
    written = recipe_of(task, parts.policy_options, config.dist.precision)
    assert written is not None
    write_recipe(tmp_path, written)
    recipe = read_recipe(str(tmp_path))
    assert (recipe.profile, recipe.prompt) == ("gui_g2", "Click: {instruction}")
    assert (recipe.max_new_tokens, recipe.precision) == (20, config.dist.precision)
    assert read_recipe("some/hub-name") == Recipe()
    (tmp_path / "vlrl.json").write_text('{"profil": "gui_g2"}')
    with pytest.raises(ConfigError, match=r"vlrl.json: unknown key 'profil'; did you mean"):
        read_recipe(str(tmp_path))


def test_given_answers_need_no_model_and_no_image(tmp_path: Path) -> None:
    rows = [
        {"img_filename": "no.png", "bbox": [10, 10, 20, 20], "instruction": "x", "id": f"i{n}",
         "application": "a", "platform": "p", "img_size": [1000, 500], "ui_type": "icon",
         "group": "OS"} for n in range(4)
    ]  # fmt: skip
    data = tmp_path / "a.json"
    data.write_text(json.dumps(rows))
    given_file = tmp_path / "answers.jsonl"
    answers = ["(15, 30)", "(500, 500)", "what?"]
    text = "\n".join(json.dumps({"id": f"i{n}", "raw": a}) for n, a in enumerate(answers))
    given_file.write_text(text)
    base = ["--benchmark", "screenspot_pro", "--data", str(data), "--profile", "uground_v1"]
    base += ["--predictions", str(given_file), "--answer-field", "raw"]
    assert main([*base, "--out", str(tmp_path / "o")]) == 2, "an answer is missing"
    assert main([*base, "--out", str(tmp_path / "o"), "--allow-missing"]) == 1
    summary = json.loads((tmp_path / "o/summary.json").read_text())
    assert summary["outcomes"] == {"correct": 1, "wrong": 1, "wrong_format": 1, "failed": 1}
    assert summary["num_published"] == 1581
    markdown_text = (tmp_path / "o/summary.md").read_text()
    assert "not the whole set" in markdown_text
    with pytest.raises(SystemExit):
        main(["--model", "x"])


@pytest.mark.slow
def test_votes_and_zoom_through_the_command(tmp_path: Path, screens: Path) -> None:
    base = ["--benchmark", "custom", "--data", str(screens), "--model", str(TINY), "--quiet"]
    for name, options, calls in (("v", ["--votes", "3"], 36), ("z", ["--zoom", "0.5"], 24)):
        out = tmp_path / name
        assert main([*base, *options, "--out", str(out)]) == 0
        summary = json.loads((out / "summary.json").read_text())
        assert summary["cost"]["num_calls"] <= calls
        assert summary["cost"]["num_calls"] > 12
        rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
        assert all(row["output"] in row.get("outputs", [row["output"]]) for row in rows)
    votes = [json.loads(x) for x in (tmp_path / "v/predictions.jsonl").read_text().splitlines()]
    assert any(len(set(row["outputs"])) > 1 for row in votes), "samples differ by their seed"


def test_mistakes_in_the_command_are_one_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = (
        (["--benchmark", "screenspot"], "--model and --predictions"),
        (["--benchmark", "screenspott", "--model", "m"], "screenspot"),
        (["--benchmark", "screenspot", "--model", "m"], "--profile"),
        (["--benchmark", "screenspot", "--model", "m", "--profile", "gta1"], "--data"),
        (
            ["--benchmark", "held_out", "--model", str(TINY), "--zoom", ".5", "--votes", "3"],
            "do not go together",
        ),
        (["--benchmark", "held_out", "--model", str(TINY), "--prompt", "x"], "{instruction}"),
    )
    for arguments, message in cases:
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_compare_pairs_and_draws(tmp_path: Path, screens: Path) -> None:
    items = items_of(screens)
    for name, right in (("a", {0, 1, 2}), ("b", {2, 3})):
        answers = []
        for n, item in enumerate(items):
            target = item.target
            assert isinstance(target, Box)
            x1, y1, x2, y2 = (round(edge) for edge in target.xyxy)
            answers.append(
                {"id": item.id, "output": f"[{x1},{y1},{x2},{y2}]" if n in right else "[0,0,2,2]"}
            )
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, answers)))
        command = ["--benchmark", "custom", "--data", str(screens), "--profile", "gui_g2"]
        command += ["--predictions", str(path), "--out", str(tmp_path / name)]
        assert main(command) == 0
    result = compare(tmp_path / "a", tmp_path / "b")
    assert result.rates == (3 / 12, 2 / 12)
    assert result.change == pytest.approx(-1 / 12)
    assert [first["id"] for first, _ in result.lost] == [items[0].id, items[1].id]
    assert result.p_value == 1.0
    assert "1 gained, 2 lost" in markdown(result)
    write_gallery(result, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert page.count("data:image/webp;base64,") == 3
    assert 'src="http' not in page
    lines = (tmp_path / "b/predictions.jsonl").read_text().splitlines()
    (tmp_path / "b/predictions.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="different items"):
        compare(tmp_path / "a", tmp_path / "b")


def test_two_ranks_share_a_benchmark(tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "deepspeed"), "--num_gpus", "2",
        "--master_port", "29617", str(ROOT / "scripts/evaluate.py"), "--benchmark", "held_out",
        "--data", str(ROOT / "assets/screens"), "--model", str(TINY), "--limit", "10",
        "--batch-size", "4", "--quiet", "--out", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    shards = {path.name: path.read_text().count("\n") for path in tmp_path.glob("answers.*")}
    assert shards == {"answers.rank0.jsonl": 5, "answers.rank1.jsonl": 5}
    assert json.loads((tmp_path / "summary.json").read_text())["num_items"] == 10
