"""A judge of any family, beside a plain forward of its whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families.tiny import make
from families.trained import TRAINED
from PIL import Image

from vlrl.errors import ConfigError, RewardError
from vlrl.judge.general import GeneralJudge
from vlrl.judge.local import LocalJudge
from vlrl.judge.question import Ask, ImageBook, JudgeTemplate, ReasoningOptions
from vlrl.judge.server import JudgeApp
from vlrl.judge.train.build import new_module
from vlrl.judge.train.config import JudgeTrainConfig

TEMPLATE = JudgeTemplate(yes=("a",), no=("b",))
KINDS = ("internvl", "gemma3")


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(request.param, TRAINED[request.param], tmp_path_factory.mktemp("judge"))


@pytest.fixture
def asked() -> tuple[ImageBook, list[Ask]]:
    book = ImageBook()
    red, blue = (
        book.add(Image.new("RGB", size, colour))
        for size, colour in (((40, 60), "red"), ((90, 50), "blue"))
    )
    return (
        book,
        [
            Ask(("Is ", red, " red?")),
            Ask((red, " and ", blue, " are alike?")),
            Ask(("Is two more than one?",)),
        ],
    )


def test_readings_are_those_of_a_plain_forward(
    model: Path, asked: tuple[ImageBook, list[Ask]]
) -> None:
    judge = LocalJudge.load(str(model), TEMPLATE, device="cpu", precision="fp32")
    assert isinstance(judge, GeneralJudge)
    book, asks = asked
    readings = judge.ask(book, asks)
    core = judge.module.core
    for ask, reading in zip(asks, readings, strict=True):
        content = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", "image": book.images[part]}
            for part in ask.parts
        ]
        inputs = judge.processor.apply_chat_template(  # type: ignore[call-arg]
            [{"role": "user", "content": content}],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            logp = core(**inputs).logits[0, -1].float().log_softmax(-1)  # type: ignore[operator]
        assert reading.yes == pytest.approx(float(logp[judge.yes].logsumexp(-1)), abs=2e-5)
        assert reading.no == pytest.approx(float(logp[judge.no].logsumexp(-1)), abs=2e-5)


def test_it_reasons_and_serves(model: Path, asked: tuple[ImageBook, list[Ask]]) -> None:
    judge = LocalJudge.load(
        str(model),
        TEMPLATE,
        device="cpu",
        precision="fp32",
        reasoning=ReasoningOptions(max_tokens=4),
    )
    book, asks = asked
    readings = judge.ask(book, asks)
    assert all(reading.cut for reading in readings), "a random model never writes the cue"
    tokens, rows = judge.greedy(asks[0], book, 3, 512)
    assert len(tokens) == len(rows) <= 3
    assert tokens[0] == int(rows[0].argmax())
    with pytest.raises(RewardError, match="at most 8 together"):
        judge.greedy(asks[0], book, 3, 8)
    assert JudgeApp(judge, name="tiny").max_tokens > 0


def test_training_it_is_refused(model: Path, tmp_path: Path) -> None:
    config = JudgeTrainConfig.model_construct(
        model=str(model), train_vision=True, lora=None, kind="yes_token",
        dist=JudgeTrainConfig.model_fields["dist"].get_default(call_default_factory=True),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="train-judge trains Qwen's families"):
        new_module(config)
