"""What a judge's server may not say: numbers that are no log-probs are errors, never paid."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers_judge import group

from vlrl.errors import DataError, RewardError
from vlrl.eval.judge.agreement import read_judgements
from vlrl.judge.data.preference import Preference
from vlrl.judge.endpoint import EndpointJudge, EndpointJudgeOptions
from vlrl.judge.question import JudgeTemplate, Questions
from vlrl.judge.verdicts import judged, judged_by_scores
from vlrl.judge.yes_token import Reading, problem_of
from vlrl.rewards.judge.yes_token import YesToken


class Liar:
    """A chat-completions server that always gives the same body."""

    def __init__(self) -> None:
        self.body = ""
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                data = liar.body.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def list(self, *pairs: tuple[str, str]) -> None:
        """The tokens and log-probs, as JSON writes them, of the first place."""
        top = ", ".join(f'{{"token": {json.dumps(t)}, "logprob": {v}}}' for t, v in pairs)
        place = f'{{"token": "yes", "logprob": -0.1, "top_logprobs": [{top}]}}'
        self.body = f'{{"choices": [{{"logprobs": {{"content": [{place}]}}}}]}}'


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = Liar()
    yield made
    made.http.shutdown()
    made.http.server_close()


def reward_at(url: str, **options: object) -> YesToken:
    asked = {"url": url, "model": "m", "max_tries": 1, "backoff_s": 0.0}
    return YesToken(YesToken.Options.model_validate({"endpoint": asked, **options}))


LIES = [
    [("yes", "0.7"), ("no", "-3.0")],
    [("yes", "true"), ("no", "-3.0")],
    [("yes", "Infinity"), ("no", "-3.0")],
    [("yes", "-Infinity"), ("no", "-3.0")],
    [("yes", "NaN"), ("no", "-3.0")],
    [("yes", "-0.1"), ("no", "NaN")],
    [("yes", '"-0.1"'), ("no", "-3.0")],
    [("yes", "null"), ("no", "-3.0")],
    [("yes", "1" + "0" * 400), ("no", "-3.0")],
    [("yes", "-0.1"), ("no", "-0.1")],
    [("yes", "-0.1"), ("no", "-3.0"), ("maybe", "-0.1")],
    [(form, "-0.0") for form in ("yes", "Yes", "YES", " yes", "no")],
]


@pytest.mark.parametrize("lie", LIES, ids=[str(lie)[:40] for lie in LIES])
@pytest.mark.parametrize("value", ["probability", "odds", "logit_difference"])
def test_a_lie_is_an_error_that_names_judge_and_sample(
    liar: Liar, lie: list[tuple[str, str]], value: str
) -> None:
    liar.list(*lie)
    with pytest.raises(RewardError, match=r"judge http://127.*sample 's0'") as error:
        reward_at(liar.url, value=value)(group("a cat", (1,)))
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    "body",
    ["[]", "null", "3", '"text"', "{}", "[" * 5000, '{"choices": [{"logprobs": null}]}',
     '{"choices": {"0": 1}}', '{"choices": [{"logprobs": {"content": [{"token": "a"}]}}]}',
     '{"choices": [{"logprobs": {"content": [{"token": "a", "top_logprobs": [3]}]}}]}',
     '{"choices": [{"logprobs": {"content": [{"token": "a", "top_logprobs": {"yes": -1}}]}}]}',
     '{"choices": [{"logprobs": {"content": []}}]}', "\x00\x01", ""],
)  # fmt: skip
def test_an_answer_of_another_form_is_an_error(liar: Liar, body: str) -> None:
    liar.body = body
    with pytest.raises(RewardError, match=r"judge http://127.*sample 's0'"):
        reward_at(liar.url)(group("a cat", (1,)))


def test_rounding_is_no_lie(liar: Liar) -> None:
    liar.list(("yes", "0.00000012"), ("no", "-17.5"))
    score = reward_at(liar.url)(group("a cat", (1,)))[0]
    assert score.value == 1.0
    liar.list(("yes", "-0.7"), ("no", "-0.69"))
    score = reward_at(liar.url)(group("a cat", (1,)))[0]
    assert score.value == pytest.approx(math.exp(-0.7))
    liar.list(("yes", "-0.1"), ("no", "-9998"), (" no", "-4"))
    assert reward_at(liar.url)(group("a cat", (1,)))[0].value is not None


def test_the_bench_refuses_the_same(liar: Liar) -> None:
    pair = Preference("row 1", "pair 7", "a cat", "one", "two", 1)
    made = EndpointJudgeOptions(url=liar.url, model="m", max_tries=1, backoff_s=0.0)
    judge = EndpointJudge(made, JudgeTemplate())
    liar.list(("yes", "1.5"), ("no", "-3.0"))
    with pytest.raises(RewardError, match=r"sample 'pair 7'.*above 0"):
        judged(judge, Questions(JudgeTemplate()), [pair])
    with pytest.raises(RewardError, match="pair 7"):
        judged_by_scores([pair], [(math.nan, 1.0)])


@pytest.mark.parametrize(
    "text",
    ['"p": 1.2', '"p": true', '"p": -0.1', '"p": NaN', '"p": 1e999', '"scores": [1e999, 0]',
     '"scores": [true, 0]', '"verdict": true', '"p": 0.5, "p_swapped": 1.5'],
)  # fmt: skip
def test_judgements_made_elsewhere_are_checked(tmp_path: Path, text: str) -> None:
    path = tmp_path / "judgements.jsonl"
    path.write_text(f'{{"id": "1", {text}}}\n')
    with pytest.raises(DataError, match="line 1"):
        read_judgements(path, [Preference("row 1", "1", "a cat", "one", "two", 1)])


@pytest.mark.parametrize(
    ("yes", "no", "good"),
    [(-0.1, -3.0, True), (0.0005, -9.0, True), (0.2, -3.0, False), (-0.1, -0.1, False),
     (math.nan, -1.0, False), (-math.inf, -1.0, False)],
)  # fmt: skip
def test_readings_of_any_judge_are_checked(yes: float, no: float, good: bool) -> None:
    assert (problem_of(Reading(yes, no)) is None) is good
