"""Whatever a chat-completions server answers is one reply: read, wrong_format, or a named fault."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
from test_eval_run import Server, items_of

from vlrl.cli.main import main
from vlrl.eval.gui.completion import read_completion
from vlrl.families.profiles import PROFILES, Profile, profile_named
from vlrl.geometry.boxes import Frame
from vlrl.gui.answers import parse_answer
from vlrl.gui.refusal import read_click
from vlrl.gui.syntax import SYNTAXES
from vlrl.gui.verdict import Refusal

BOX, TOOL = profile_named("gui_g2"), profile_named("qwen2_5_vl_tool")
FRAME = Frame(1000, 1000)
CALL = {
    "function": {"name": "computer_use", "arguments": '{"action": "click", "coordinate": [3, 4]}'}
}


def read(
    message: object, profile: Profile = BOX, **more: object
) -> tuple[str | None, int, str | None]:
    body = json.dumps({"choices": [{"message": message}], **more})
    return read_completion(httpx2.Response(200, content=body.encode()), profile)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[1,2,3,4]", "[1,2,3,4]"),
        (None, ""),
        ("", ""),
        ([{"type": "text", "text": "[1,2,"}, {"type": "text", "text": "3,4]"}], "[1,2,3,4]"),
        ([{"type": "image_url"}, "[1,2,", {"text": None}, 7, "3,4]"], "[1,2,3,4]"),
        ([], ""),
        (7, ""),
        ({"text": "a"}, ""),
        ("a \ud800 b", "a \ufffd b"),
    ],
)
def test_content_of_every_form_is_an_answer(content: object, text: str) -> None:
    assert read({"role": "assistant", "content": content}) == (text, 0, None)


def test_a_message_without_content_is_an_answer() -> None:
    assert read({"refusal": "no"}) == ("", 0, None)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_tool_call_is_read_where_the_family_can_write_one(name: str) -> None:
    profile = PROFILES[name]
    text, _, error = read({"content": None, "tool_calls": [CALL]}, profile)
    assert error is None
    places = parse_answer(text or "", profile, FRAME)
    assert bool(places) is SYNTAXES[profile.syntax].is_json


def test_a_tool_call_may_refuse_and_come_after_a_text() -> None:
    end = {"function": {"name": "computer_use", "arguments": {"action": "terminate"}}}
    text, _, _ = read({"content": "It is not there.", "tool_calls": [end]}, TOOL)
    assert isinstance(read_click(text or "", TOOL, FRAME)[0], Refusal)


@pytest.mark.parametrize(
    "calls", [7, {}, [None], [{"function": 7}], [{"function": {"arguments": "[" * 9000}}],
              [{"function": {"arguments": None}}], [{}]]
)  # fmt: skip
def test_malformed_tool_calls_are_answers_too(calls: object) -> None:
    text, _, error = read({"content": None, "tool_calls": calls}, TOOL)
    assert (parse_answer(text or "", TOOL, FRAME), error) == ([], None)


@pytest.mark.parametrize(
    ("usage", "number"),
    [
        (None, 0), ({"completion_tokens": None}, 0), ({"completion_tokens": 9}, 9), ("many", 0),
        ([], 0), ({"completion_tokens": "9"}, 0), ({"completion_tokens": -9}, 0),
        ({"completion_tokens": True}, 0), ({"completion_tokens": 1.5}, 0),
        ({"completion_tokens": 10**400}, 0), ({}, 0),
    ],
)  # fmt: skip
def test_usage_is_a_number_or_unknown(usage: object, number: int) -> None:
    assert read({"content": "x"}, usage=usage) == ("x", number, None)


@pytest.mark.parametrize(
    "body", ["", "[]", "3", "null", "{}", '{"choices": []}', '{"choices": [{}]}', "[" * 9000,
             '{"choices": [{"message": null}]}', '{"choices": [{"message": [1]}]}', "\x00",
             '{"choices": {"a": 1}}', '"choices"', "9" * 5000]
)  # fmt: skip
def test_what_is_no_completion_is_a_named_fault(body: str) -> None:
    text, _, error = read_completion(httpx2.Response(200, content=body.encode()), BOX)
    assert text is None
    assert "not a chat completion" in str(error)


@pytest.mark.parametrize("content", [None, [], 7, "\ud800"])
def test_an_evaluation_ends_and_asks_nothing_again(
    content: object, tmp_path: Path, screens: Path
) -> None:
    server = Server()
    message = {"choices": [{"message": {"content": content}}], "usage": {"completion_tokens": None}}
    num = len(items_of(screens))
    server.script = [(200, message)] * num
    command = ["eval", "--benchmark", "custom", "--data", str(screens), "--endpoint", server.url]
    command += ["--model", "m", "--profile", "gui_g2", "--out", str(tmp_path), "--quiet"]
    try:
        assert main(command) == 0
        assert main(command) == 0
    finally:
        server.http.shutdown()
        server.http.server_close()
    assert len(server.bodies) == num
    outcomes = json.loads((tmp_path / "summary.json").read_text())["outcomes"]
    assert (outcomes["wrong_format"], outcomes["failed"]) == (num, 0)
