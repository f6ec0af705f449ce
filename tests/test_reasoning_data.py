"""The layouts of published files, a row of each with the published keys, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlrl.errors import ConfigError, DataError
from vlrl.reasoning.data.options import ReasoningSource
from vlrl.reasoning.data.read import read_questions
from vlrl.reasoning.data.row import ReasoningRow
from vlrl.reasoning.quantities import Quantity
from vlrl.reasoning.routes import RouteProblem
from vlrl.reasoning.truths import (
    ChoiceTruth,
    ExpressionTruth,
    ListTruth,
    NumberTruth,
    RouteTruth,
    TextTruth,
    Truth,
    YesNoTruth,
)
from vlrl.tasks.visual_reasoning import VisualReasoning
from vlrl.types import ImagePart, TextPart

LINES = {"Azul": ["Parque", "Avenida"], "Amarela": ["Rato", "Parque"]}
MAP = {
    "country": "portugal", "city": "lisboa", "figure": "a.png", "station_1": "Rato",
    "station_2": "Avenida", "difficulty_city": "easy", "city_line_count": 2,
    "city_transfer_count": 1, "question_transfer_count": 1,
}  # fmt: skip
PLUS = {**MAP, "question": "Which?", "question_transfer_count": 0}
CASES: dict[str, tuple[str, dict[str, Any], Truth]] = {
    "EasyR1": (
        "easy_r1",
        {"images": ["a.png", "b.png"], "problem": "<image>Is<image>it?", "answer": "\\frac{1}{2}"},
        ExpressionTruth("\\frac{1}{2}"),
    ),
    "ms-swift": (
        "messages",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "<image>How many?"},
            ],
            "images": ["a.png"],
            "solution": "<think>count</think><answer>7</answer>",
        },
        NumberTruth(Quantity(7.0)),
    ),
    "ms-swift, supervised": (
        "messages",
        {
            "messages": [
                {"role": "user", "content": "<image>Where?"},
                {"role": "assistant", "content": "<think>a</think><answer>Rome</answer>"},
            ],
            "images": ["a.png"],
        },
        TextTruth("Rome"),
    ),
    "LLaVA": (
        "messages",
        {
            "id": "000000033471",
            "image": "a.png",
            "conversations": [
                {"from": "human", "value": "<image>\nIs it a bus?"},
                {"from": "gpt", "value": "Yes"},
            ],
        },
        YesNoTruth(True),
    ),
    "TRL": (
        "trl",
        {
            "prompt": [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": "How much?"}],
                }
            ],
            "images": ["a.png"],
            "solution": "$12.5$",
        },
        NumberTruth(Quantity(12.5)),
    ),
    # A row of HuggingFaceH4/rlaif-v_formatted, as TRL's pages show it, with an answer.
    "TRL, from a table": (
        "trl",
        {
            "prompt": [
                {
                    "role": "user",
                    "content": [
                        {"text": None, "type": "image"},
                        {"text": "What should this catcher be using?", "type": "text"},
                    ],
                }
            ],
            "images": ["a.png"],
            "answer": "glove",
        },
        TextTruth("glove"),
    ),
    # lmms-lab/multimodal-open-r1-8k-verified, which TRL's grpo_vlm.py trains on.
    "open-r1-multimodal": (
        "easy_r1",
        {
            "image": "a.png", "problem": "Which?\nA. 1\nB. 2\nC. 3", "original_question": "Which?",
            "solution": "<think>So it is 3.</think>\n\n<answer>C</answer>",
            "original_answer": "Answer: C",
        },
        ChoiceTruth("C"),
    ),
    "ms-swift, images in their turns": (
        "messages",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": "a.png"},
                        {"type": "image_url", "image_url": {"url": "b.png"}},
                        {"type": "text", "text": "How many?"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "7"}]},
            ],
        },
        NumberTruth(Quantity(7.0)),
    ),
    # The form of liuhaotian/LLaVA-Instruct-150K: the last answer counts.
    "LLaVA, several questions": (
        "messages",
        {
            "id": "000000033471",
            "image": "a.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat are the colors of the bus in the image?"},
                {"from": "gpt", "value": "The bus in the image is white and red."},
                {"from": "human", "value": "Is the bus driving or parked?"},
                {"from": "gpt", "value": "parked"},
            ],
        },
        TextTruth("parked"),
    ),
    # The columns of HaochenWang/TreeVGR-RL-37K.
    "TreeVGR's training set": (
        "treebench",
        {
            "images": ["a.png"], "problem": "<image>\nWhat is it?\n(A) a cup\n(B) a can",
            "answer": "(A)", "target_instances": [{"name": "cup", "bbox": [1, 2, 30, 40]}, None],
        },
        ChoiceTruth("A"),
    ),
    "Geometry3K, as EasyR1 has it": (
        "geometry3k",
        {
            "images": ["a.png"], "problem": "<image>Find x.", "answer": "\\sqrt{3}", "id": 2401,
            "choices": ["1", "2", "\\sqrt{3}", "3"], "ground_truth": "C",
        },
        ExpressionTruth("\\sqrt{3}"),
    ),
    "V*, questions": (
        "vstar",
        {
            "image": "a.png", "category": "direct_attributes", "label": "A", "question_id": "0",
            "text": "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n"
            "(D) leather\nAnswer with the option's letter from the given choices directly.",
        },
        ChoiceTruth("A"),
    ),
    "ReasonMap": (
        "reasonmap",
        {**MAP, "question_long": "How?", "question_short": "?", "json": json.dumps(LINES)},
        RouteTruth(RouteProblem({k: tuple(v) for k, v in LINES.items()}, "Rato", "Avenida", 1)),
    ),
    "ReasonMap-Plus, TorF1": (
        "reasonmap", {**PLUS, "type": "TorF1", "answer": 0}, YesNoTruth(False),
    ),
    "ReasonMap-Plus, Counting1": (
        "reasonmap", {**PLUS, "type": "Counting1", "answer": 2}, ChoiceTruth("C"),
    ),
    "ReasonMap-Plus, Counting2": (
        "reasonmap", {**PLUS, "type": "Counting2", "answer": 12}, NumberTruth(Quantity(12.0)),
    ),
    "ours": (
        "rows",
        {
            "image": "a.png", "question": "Which?", "answer": ["b", "a"], "kind": "list",
            "ordered": True, "boxes": [[0, 0, 9, 9]], "salience": [2],
        },
        ListTruth(("b", "a"), True),
    ),
    "ours, with a tolerance": (
        "rows",
        {"image": "a.png", "question": "How far?", "answer": "1,200 m", "tolerance": 5,
         "relative_tolerance": 0.01},
        NumberTruth(Quantity(1200.0, "m"), 5.0, 0.01),
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images, and a cache of its own."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in "ab":
        Image.new("RGB", (56, 56), "white").save(tmp_path / f"{name}.png")
    return tmp_path


def read(folder: Path, rows: list[dict[str, Any]], **options: Any) -> list[ReasoningRow]:
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_questions(ReasoningSource(path=str(file), **options)).good


@pytest.mark.parametrize("name", CASES)
def test_a_published_row_is_read_as_it_comes(folder: Path, name: str) -> None:
    form, row, truth = CASES[name]
    (found,) = read(folder, [row], format=form)
    assert found.truth == truth
    assert [Path(one.path).name for one in found.images] == ["a.png", "b.png"][: len(found.images)]
    sample = VisualReasoning(VisualReasoning.Options(data={})).sample(found)
    parts = [part for message in sample.prompt for part in message.parts]
    assert sum(isinstance(part, ImagePart) for part in parts) == len(found.images)
    assert not any(isinstance(part, TextPart) and "<image>" in part.text for part in parts)


@pytest.mark.parametrize(
    ("question", "choices", "shown"),
    [
        ("Find x on 1234.", ["1", "2"], "Find x on 1234.\n(A) 1\n(B) 2"),
        ("Which?", ["A. red", "B. blue"], "Which?\n(A) red\n(B) blue"),
        ("Which?\nA. red\nB. blue", ["red", "blue"], "Which?\nA. red\nB. blue"),
        ("Which?", ["A. red", "blue"], "Which?\n(A) A. red\n(B) blue"),
    ],
)
def test_options_are_shown_once(
    folder: Path, question: str, choices: list[str], shown: str
) -> None:
    row = {"image": "a.png", "question": question, "choices": choices, "answer": "B"}
    (found,) = read(folder, [row])
    task = VisualReasoning(VisualReasoning.Options(data={}, prompt="{question}"))
    assert task.sample(found).texts == [shown]


def test_a_policy_that_resizes_boxes_otherwise_is_refused(folder: Path) -> None:
    row = {"image": "a.png", "question": "Which?", "answer": "yes", "boxes": [[0, 0, 9, 9]]}
    read(folder, [row, {**row, "boxes": None}])
    data = {"train": {"path": str(folder / "data.jsonl")}}
    task = VisualReasoning(VisualReasoning.Options.model_validate({"data": data}))
    task.check_policy(lambda sample: (56, 56), "train")
    with pytest.raises(ConfigError, match="resizes its image to"):
        task.check_policy(lambda sample: (84, 84), "train")


def test_images_stand_where_the_text_says(folder: Path) -> None:
    (found,) = read(folder, [CASES["EasyR1"][1]], format="easy_r1")
    task = VisualReasoning(VisualReasoning.Options(data={}, prompt="{question}"))
    parts = task.sample(found).prompt[0].parts
    assert [p.text if isinstance(p, TextPart) else Path(p.path).name for p in parts] == [
        "a.png", "Is", "b.png", "it?",
    ]  # fmt: skip


def test_weights_by_difficulty_find_their_columns(folder: Path) -> None:
    rows = [CASES["ReasonMap"][1], {**PLUS, "type": "TorF1", "answer": 1}]
    found = read(folder, rows, format="reasonmap")
    assert [(one.fields["map"], one.fields["transfers"]) for one in found] == [
        ("easy", 1), ("easy", 0),
    ]  # fmt: skip


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (30, 40), "red").save(file, "PNG")
    return file.getvalue()


def test_objects_with_a_box_give_their_boxes(folder: Path) -> None:
    form, row, _ = CASES["TreeVGR's training set"]
    (found,) = read(folder, [row], format=form)
    assert found.boxes is not None
    assert [(box.x1, box.y1, box.x2, box.y2) for box in found.boxes] == [(1, 2, 30, 40)]


def test_treebench_has_its_images_in_a_table_of_text(folder: Path) -> None:
    columns = (
        "image",
        "question",
        "multi-choice options",
        "answer",
        "category",
        "target_instances",
    )
    values = (base64.b64encode(png() + b" " * 900).decode(), "Which colour?", '"A. red\nB. blue"',
              "B", "Perception/Attributes", '"[[1, 2, 20, 30]]"')  # fmt: skip
    file = folder / "TreeBench.tsv"
    file.write_text("\t".join(columns) + "\n" + "\t".join(values) + "\n", encoding="utf-8")
    (found,) = read_questions(ReasoningSource(path=str(file), format="treebench")).good
    assert (found.images[0].width_px, found.images[0].height_px) == (30, 40)
    assert found.turns == (("user", "Which colour? Options:\nA. red\nB. blue"),)
    assert found.truth == ChoiceTruth("B")
    assert found.boxes is not None
    assert found.boxes[0].xyxy == (1, 2, 20, 30)


def test_a_table_with_image_bytes(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"images": [{"bytes": png(), "path": None}] * 2, "problem": "Why?", "answer": "3"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "train.parquet")
    source = ReasoningSource(path=str(folder / "train.parquet"), format="easy_r1")
    (found,) = read_questions(source).good
    assert [(one.width_px, one.height_px) for one in found.images] == [(30, 40)] * 2
    assert found.truth == NumberTruth(Quantity(3.0))


def test_sets_with_a_file_for_each_question(folder: Path) -> None:
    geometry, stars = folder / "geometry", folder / "stars" / "direct_attributes"
    (geometry / "7").mkdir(parents=True)
    stars.mkdir(parents=True)
    Image.new("RGB", (30, 30)).save(geometry / "7" / "img_diagram.png")
    data = {"problem_text": "Find x.", "choices": ["1", "2", "3", "4"], "answer": "C", "id": 7}
    (geometry / "7" / "data.json").write_text(json.dumps(data), encoding="utf-8")
    Image.new("RGB", (60, 40)).save(stars / "sa_1.jpg")
    options = ["It is red.", "It is blue.", "It is grey."]
    data = {"target_object": ["car"], "bbox": [[5, 6, 20, 10]], "question": "Colour?",
            "options": options}  # fmt: skip
    (stars / "sa_1.json").write_text(json.dumps(data), encoding="utf-8")

    (one,) = read_questions(ReasoningSource(path=str(geometry), format="geometry3k")).good
    assert one.truth == ChoiceTruth("C", ("1", "2", "3", "4"))
    (star,) = read_questions(ReasoningSource(path=str(folder / "stars"), format="vstar")).good
    assert star.id == "direct_attributes/sa_1"
    assert isinstance(star.truth, ChoiceTruth)
    assert sorted(star.choices) == sorted(options)
    assert star.choices["ABC".index(star.truth.letter)] == "It is red."
    assert star.boxes is not None
    assert star.boxes[0].xyxy == (5, 6, 25, 16)
    prompt = VisualReasoning(VisualReasoning.Options(data={})).sample(star).texts[0]
    assert f"\n({star.truth.letter}) It is red." in prompt


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("rows", {"image": "c.png"}, r"row 1: field 'images': there is no image .*c\.png"),
        ("rows", {"image": 3}, r"row 1: field 'images' must hold paths, bytes or base64 text"),
        ("rows", {"image": "data:image/png;base64,%%"}, "row 1: field 'images' holds no base64"),
        ("rows", {"image": []}, "row 1: field 'images' is empty"),
        ("rows", {"question": "<image> or <image>?"}, "2 marks <image> and the row 1 images"),
        ("rows", {"question": " "}, "row 1: field 'question' must be a non-empty text"),
        ("rows", {"answer": None}, r"row 1: field 'answer' is missing; the row has \["),
        ("rows", {"answer": ""}, "row 1: field 'answer' is empty"),
        ("rows", {"kind": "numbr"}, "field 'kind': unknown kind 'numbr'; did you mean 'number'"),
        ("rows", {"kind": "number", "answer": "many"}, "'answer' must be one number, not 'many'"),
        ("rows", {"kind": "yes_no", "answer": "3"}, "'answer' must be yes or no, not '3'"),
        ("rows", {"choices": ["x", "y"], "answer": "C"}, "a choice, one of AB or its text"),
        ("rows", {"choices": "AB"}, "field 'choices' must be a list of 2 to 26 texts"),
        ("rows", {"tolerance": -1}, "field 'tolerance' must be 0 or more, not -1"),
        ("rows", {"kind": "boxes"}, "field 'boxes' is missing, which is the answer here"),
        ("rows", {"boxes": [[0, 0, 5, 5], [9, 9, 1, 1]]}, "field 'boxes', place 1: must be"),
        ("rows", {"salience": [1]}, "field 'salience' must hold a weight of 0 or more for"),
        ("rows", {"lines": {"A": "x"}}, "field 'lines' must map each line to a list"),
        ("rows", {"lines": {"Line 1": ["x"], "1": ["y"]}}, "field 'lines' names a line twice"),
        ("rows", {"lines": LINES, "start": "Nowhere"}, "'start' must be a station of 'lines'"),
        ("easy_r1", {}, r"row 1: field 'problem' is missing; the row has \["),
        ("messages", {}, "row 1: field 'conversations' is missing"),
        ("messages", {"messages": [{"role": "tool", "content": ""}]}, "turn 1: its role must be"),
        ("messages", {"messages": [{"role": "system", "content": ""}]}, "must end with a question"),
        ("messages", {"messages": "]["}, "field 'messages' must be JSON of turns"),
        ("trl", {"prompt": [{"role": "user", "content": [{"type": "video"}]}]}, "a part must be"),
        ("vstar", {"options": ["x"]}, "field 'options' must list two or more"),
        ("treebench", {"target_instances": "[[1,"}, "'target_instances' must be a list of boxes"),
        ("reasonmap", {**PLUS, "type": "TorF1", "answer": "y"}, "'answer' must be a whole number"),
        ("reasonmap", {**PLUS, "type": "Other", "answer": 1}, "field 'type' must be planning"),
        ("reasonmap", {**MAP, "question_long": "?", "json": "{"}, "'json' must be JSON of lines"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_with_its_field(
    folder: Path, form: str, change: dict[str, Any], message: str
) -> None:
    row = {"image": "a.png", "question": "Which?", "answer": "7", **change}
    with pytest.raises(DataError, match=message):
        read(folder, [row], format=form)


def test_bad_rows_are_skipped_and_listed_where_asked_for(folder: Path) -> None:
    good = {"image": "a.png", "question": "Which?", "answer": "7"}
    read(folder, [good])
    file = folder / "data.jsonl"
    file.write_text(json.dumps({**good, "answer": ""}) + "\n" + json.dumps(good) + "\n")
    rows = read_questions(ReasoningSource(path=str(file)), on_bad_row="skip")
    assert len(rows.good) == 1
    assert "row 1: field 'answer' is empty" in rows.skipped[0]


def test_other_names_of_columns_and_what_a_source_says_of_all_rows(folder: Path) -> None:
    row = {"picture": "a.png", "ask": "How many?", "gold": "7"}
    columns = {"image": "picture", "question": "ask", "answer": "gold"}
    (found,) = read(folder, [row], columns=columns, kind="text")
    assert found.truth == TextTruth("7")
    (found,) = read(folder, [row], columns=columns, absolute_tolerance=0.5)
    assert found.truth == NumberTruth(Quantity(7.0), 0.5)
    with pytest.raises(DataError, match="field 'asked' is missing"):
        read(folder, [row], columns={"question": "asked"})
    with pytest.raises(ConfigError, match="set `hub: true`"):
        read(folder, [row], subset="x")
    with pytest.raises(DataError, match="questions are read from"):
        read_questions(ReasoningSource(path=str(folder / "a.png")))
