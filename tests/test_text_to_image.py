"""The text-to-image task: readers of prompts, metrics of images."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydantic import ValidationError

from vlrl.build import provided
from vlrl.config.resolve import check
from vlrl.errors import ConfigError, DataError
from vlrl.image.data.captions import CaptionSource, read_captions
from vlrl.image.statistics import brightness, contrast, saturation
from vlrl.media.images import side_by_side
from vlrl.protocols import Task
from vlrl.registry import resolve
from vlrl.tasks.text_to_image import ImageAnswer, TextToImage
from vlrl.types import Finish, Message, Rollout, TextPart

# In the published format of GenEval and Flow-GRPO.
GENEVAL = {
    "tag": "position",
    "include": [
        {"class": "horse", "count": 1},
        {"class": "vase", "count": 1, "position": ["right of", 0]},
    ],
    "exclude": [{"class": "vase", "count": 2}],
    "prompt": "a photo of a vase right of a horse",
}
ROW = {"id": "a", "caption": " a red apple ", "references": ["pics/a.webp"], "colour": "blue"}


def write(folder: Path, content, name: str) -> Path:
    """A data file next to a folder with two reference images."""
    (folder / "pics").mkdir(exist_ok=True)
    for number, letter in enumerate("ab"):
        Image.new("RGB", (64, 48), (200, 40 * number, 0)).save(
            folder / "pics" / f"{letter}.webp", lossless=True
        )
    path = folder / name
    if path.suffix == ".jsonl":
        content = "\n".join(json.dumps(row) for row in content)
    elif path.suffix == ".json":
        content = json.dumps(content)
    path.write_text(content, encoding="utf-8")
    return path


def read(path: Path, **options):
    """The prompts of a file."""
    how = {
        key: options.pop(key) for key in ("labels", "quoted_text", "on_bad_row") if key in options
    }
    return read_captions(CaptionSource(path=str(path), **options), **how)


def task_on(path: Path, **options) -> TextToImage:
    """A task over one file, with images of 64 x 48 px."""
    given_options = {"width_px": 64, "height_px": 48, **options}
    return TextToImage(TextToImage.Options(data={"train": {"path": str(path)}}, **given_options))


def answered(task, sample, output) -> Rollout:
    """A rollout with this image, read."""
    return Rollout(sample, 0, 0, output, Finish.STOP, 1, 0, parsed=task.parse(sample, output))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_caption_row_is_read_with_references_and_labels(tmp_path, name):
    other = {"prompt": "a pear", "written": "hi", "colour": 3}
    first, second = read(write(tmp_path, [ROW, other], name), labels=["colour"]).good
    assert (first.id, first.caption) == ("a", "a red apple")
    assert first.references == (str(tmp_path / "pics" / "a.webp"),)
    assert (first.written, first.scene, first.labels) == (None, None, {"colour": "blue"})
    assert first.fields["colour"] == "blue"
    assert (second.id, second.caption, second.references) == ("rows/2", "a pear", ())
    assert (second.written, second.labels) == ("hi", {"colour": "3"})


def test_columns_and_references_root(tmp_path):
    rows = [{"text": "a pear", "files": ["a.webp", "b.webp"], "key": 7}]
    path = write(tmp_path, rows, "rows.jsonl")
    columns = {"caption": "text", "references": "files", "id": "key"}
    root = str(tmp_path / "pics")
    (row,) = read(path, columns=columns, references_root=root).good
    assert (row.id, row.caption) == ("7", "a pear")
    assert [Path(file).name for file in row.references] == ["a.webp", "b.webp"]
    with pytest.raises(ConfigError, match="did you mean 'caption'"):
        read(path, columns={"captoin": "text"})
    with pytest.raises(DataError, match=r"rows\.jsonl, row 1: field 'txt' is missing"):
        read(path, columns={"caption": "txt"})


def test_a_text_file_is_a_caption_per_line(tmp_path):
    path = write(tmp_path, "a cat\n a dog\u2028asleep\r\n\n\n", "prompts.txt")
    assert [(row.id, row.caption) for row in read(path).good] == [
        ("prompts/1", "a cat"),
        ("prompts/2", "a dog\u2028asleep"),
    ]
    with pytest.raises(DataError, match=r"gap\.txt, line 2: field 'caption'"):
        read(write(tmp_path, "a cat\n \na dog\n", "gap.txt"))
    with pytest.raises(ConfigError, match="`columns` does not apply"):
        read(path, columns={"caption": "text"})


def test_prompts_with_their_files(tmp_path):
    content = {"a cat": ["pics/a.webp", "pics/b.webp"], "a dog": []}
    first, second = read(write(tmp_path, content, "references.json")).good
    assert (first.caption, len(first.references), second.references) == ("a cat", 2, ())
    (tmp_path / "twice.json").write_text('{"a cat": [], "a dog": [], "a cat": []}')
    with pytest.raises(DataError, match=r"twice\.json: not valid JSON: 'a cat' appears twice"):
        read(tmp_path / "twice.json")
    with pytest.raises(DataError, match=r"entry 1: field 'references': there is no image"):
        read(write(tmp_path, {"a cat": ["none.png"]}, "references.json"))
    with pytest.raises(DataError, match=r"entry 1: field 'references' is a list"):
        read(write(tmp_path, {"a cat": "pics/a.webp"}, "references.json"))
    with pytest.raises(ConfigError, match="`columns` does not apply"):
        read(write(tmp_path, content, "references.json"), columns={"caption": "text"})


def test_one_folder_of_references_for_every_prompt(tmp_path):
    """A target style: sorted by name, whatever rows list themselves."""
    rows = [{**ROW, "references": ["pics/none.webp"]}, {"caption": "a pear"}]
    path = write(tmp_path, rows, "rows.jsonl")
    style = tmp_path / "style"
    (style / "below.d").mkdir(parents=True)
    for name in ("b.PNG", "a.webp", "c.jpg"):
        Image.new("RGB", (8, 8)).save(style / name)
    (style / "README.md").write_text("where they are from", encoding="utf-8")
    source = {"path": str(path), "references": str(style)}
    task = TextToImage(TextToImage.Options(data={"train": source}, width_px=64, height_px=48))
    for sample in task.samples("train"):
        names = [Path(file).name for file in sample.target.references]
        assert names == ["a.webp", "b.PNG", "c.jpg"]
        assert sample.columns["references"] == list(sample.target.references)
    lines = write(tmp_path, "a cat\na dog\n", "lines.txt")
    assert all(len(row.references) == 3 for row in read(lines, references=str(style)).good)


def test_a_folder_of_references_that_cannot_be_used(tmp_path):
    path = write(tmp_path, "a cat\n", "lines.txt")
    with pytest.raises(DataError, match=r"lines\.txt: `references`: there is no folder .*nowhere"):
        read(path, references=str(tmp_path / "nowhere"))
    style = tmp_path / "style"
    (style / "below").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(style / "below" / "a.png")
    (style / "notes.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(DataError, match=r"`references`: no image in .*style; put some there"):
        read(path, references=str(style))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in ("b.png", "c.jpg"):
        Image.fromarray(noise).save(style / name)
        whole = (style / name).read_bytes()
        for broken in (b"no image", whole[: len(whole) // 2]):
            (style / name).write_bytes(broken)
            with pytest.raises(DataError, match=rf"the image .*{name} cannot be read: .*; repl"):
                read(path, references=str(style), on_bad_row="skip")
        (style / name).write_bytes(whole)
    rows = write(tmp_path, [ROW], "rows.jsonl")
    for more in ({"references_root": str(tmp_path)}, {"columns": {"references": "files"}}):
        with pytest.raises(ConfigError, match="those of single rows; remove one or the other"):
            read(rows, references=str(style), **more)


def test_genevals_metadata_are_read_as_scenes(tmp_path):
    lean = {key: value for key, value in GENEVAL.items() if key != "exclude"}
    rows = read(write(tmp_path, [GENEVAL, lean], "test_metadata.jsonl"), labels=["tag"]).good
    assert rows[0].caption == GENEVAL["prompt"]
    assert rows[0].scene == {key: GENEVAL[key] for key in ("tag", "include", "exclude")}
    assert rows[1].scene["exclude"] == []
    assert rows[0].labels == {"tag": "position"}
    named = {"caption": "a", "scene": {"tag": "counting", "include": GENEVAL["include"][:1]}}
    assert read(write(tmp_path, [named], "own.jsonl")).good[0].scene["tag"] == "counting"


HORSE = {"class": "horse", "count": 1}
BAD_SCENES = [
    ({"include": "horse"}, "'include' is a list"),
    ({"include": ["horse"]}, "'include' is a list of objects"),
    ({"include": []}, "lists no object"),
    ({"include": [{"count": 1}]}, "class"),
    ({"include": [{**HORSE, "count": 0}]}, "count"),
    ({"include": [{**HORSE, "count": True}]}, "count"),
    ({"include": [{**HORSE, "color": "crimson"}]}, "color"),
    ({"include": [{**HORSE, "position": 3}]}, r"'include\.position' is \[relation"),
    ({"include": [HORSE, {**HORSE, "position": ["right of", 1]}]}, "not before"),
    ({"exclude": [3]}, "'exclude' is a list of objects"),
    ({"tag": None}, "'tag' must be a non-empty text"),
]


@pytest.mark.parametrize(("change", "message"), BAD_SCENES)
def test_a_bad_scene_is_named_with_its_row(tmp_path, change, message):
    path = write(tmp_path, [GENEVAL, {**GENEVAL, **change}], "metadata.jsonl")
    with pytest.raises(DataError, match=rf"metadata\.jsonl, row 2.*{message}"):
        read(path)


def test_quoted_text_is_what_should_be_written(tmp_path):
    path = write(tmp_path, 'A sign that says "Old Mill" and "no"\n', "ocr.txt")
    assert read(path, quoted_text=True).good[0].written == "Old Mill"
    assert read(path).good[0].written is None
    for caption in ("a sign", 'a sign "open', 'a sign "" here'):
        with pytest.raises(DataError, match=r"ocr\.txt, line 2: `quoted_text` needs a text"):
            read(write(tmp_path, f'"a"\n{caption}\n', "ocr.txt"), quoted_text=True)
    path = write(tmp_path, [{"caption": 'the word "cat"', "written": "dog"}], "rows.jsonl")
    with pytest.raises(DataError, match="row 1: field 'written' is 'dog', but the caption quotes"):
        read(path, quoted_text=True)


BAD_ROWS = [
    ({"caption": "  "}, "'caption' must be a non-empty text"),
    ({"caption": 3}, "'caption' must be a non-empty text"),
    ({"caption": None}, "'caption' must be a non-empty text"),
    ({"written": ""}, "'written' must be a non-empty text"),
    ({"written": ["a"]}, "'written' must be a non-empty text"),
    ({"id": True}, "'id' must be a non-empty text"),
    ({"id": ""}, "'id' must be a non-empty text"),
    ({"references": "pics/a.webp"}, "'references' is a list"),
    ({"references": [3]}, "'references' is a list"),
    ({"references": ["pics/c.webp"]}, r"'references': there is no image .*c\.webp"),
    ({"references": ["pics"]}, "'references': there is no image"),
    ({"scene": 3}, "'scene' is an object"),
    ({"colour": ["blue"]}, "'colour' is a label"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ROWS)
def test_bad_rows_name_file_row_and_field(tmp_path, change, message):
    path = write(tmp_path, [ROW, {**ROW, "id": "b", **change}], "rows.jsonl")
    with pytest.raises(DataError, match=rf"rows\.jsonl, row 2: field {message}"):
        read(path, labels=["colour"])
    rows = read(path, labels=["colour"], on_bad_row="skip")
    assert [row.id for row in rows.good] == ["a"]
    assert len(rows.skipped) == 1
    assert "row 2" in rows.skipped[0]


def test_rows_that_are_none(tmp_path):
    for rows, message in (
        ([ROW, ROW], r"row 2: id 'a' is also that of .*rows\.jsonl, row 1"),
        ([{"id": "b"}], r"row 1: field 'caption' is missing; the row has \['id'\]"),
        ([[1]], "row 1: a row is a JSON object, not list"),
        ([3], "row 1: a row is a JSON object, not int"),
        ([], "no usable row"),
    ):
        with pytest.raises(DataError, match=message):
            read(write(tmp_path, rows, "rows.jsonl"))
    with pytest.raises(DataError, match="no data file"):
        read(tmp_path / "none.txt")
    with pytest.raises(DataError, match="holds a int"):
        read(write(tmp_path, 3, "number.json"))
    with pytest.raises(ConfigError, match=r"read from \.jsonl"):
        read(write(tmp_path, "a", "rows.csv"))
    (tmp_path / "bad.jsonl").write_text('{"caption": "a"}\n{"caption": NaN}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: not valid JSON"):
        read(tmp_path / "bad.jsonl")


def test_limit_counts_good_rows(tmp_path):
    rows = [{"caption": text} for text in ("a", "", "b", "c")]
    path = write(tmp_path, rows, "rows.jsonl")
    found = read(path, limit=2, on_bad_row="skip")
    assert [row.caption for row in found.good] == ["a", "b"]
    with pytest.raises(ValidationError, match="greater than 0"):
        read(path, limit=0)


def test_a_caption_becomes_a_sample(tmp_path):
    path = write(tmp_path, [ROW, {**ROW, "id": "b", "caption": ""}], "rows.jsonl")
    task = task_on(path, prompt_template="{caption}, {flat}", labels=["colour"], on_bad_row="skip")
    assert isinstance(task, Task)
    assert resolve("task", "text_to_image") is TextToImage
    assert set(task.provides) <= set(provided())
    (sample,) = task.samples("train")
    assert task.samples("train") is task.samples("train")
    assert "row 2" in task.skipped["train"][0]
    assert sample.prompt == (Message("user", (TextPart("a red apple, {flat}"),)),)
    assert sample.target.caption == "a red apple"
    assert task.strata(sample) == {"colour": "blue"}
    assert math.isnan(task.difficulty(sample))
    assert sample.columns["colour"] == "blue"
    assert sample.columns["references"] == list(sample.target.references)


def test_several_sources_of_one_split(tmp_path):
    """Rows follow each other, whatever file or form they come from; ids stay unique."""
    first = {"path": str(write(tmp_path, [ROW, {**ROW, "id": "b", "caption": ""}], "rows.jsonl"))}
    second = {"path": str(write(tmp_path, "a cat\na dog\na cup\n", "lines.txt")), "limit": 2}
    options = {"width_px": 64, "height_px": 48, "on_bad_row": "skip"}

    def task(*sources) -> TextToImage:
        return TextToImage(
            check(TextToImage.Options, {**options, "data": {"train": list(sources)}})
        )

    mixed = task(first, second)
    assert [one.target.caption for one in mixed.samples("train")] == [
        "a red apple",
        "a cat",
        "a dog",
    ]
    assert len(mixed.skipped["train"]) == 1
    again = check(TextToImage.Options, mixed.options.model_dump(mode="json"))
    assert again == mixed.options
    with pytest.raises(
        DataError, match=r"task\.data\.train: id 'a' is in source 0 and in source 1"
    ):
        task(first, first).samples("train")
    with pytest.raises(ConfigError, match=r"train is an empty list"):
        task().samples("train")
    with pytest.raises(
        ConfigError, match=r"unknown key 'data\.train\.1\.pth'; did you mean 'path'"
    ):
        task(first, {**second, "pth": "x"})
    with pytest.raises(ConfigError, match=r"unknown key 'data\.train\.pth'; did you mean 'path'"):
        check(TextToImage.Options, {**options, "data": {"train": {**first, "pth": "x"}}})


def test_a_label_that_no_row_has_is_told(tmp_path, caplog):
    task = task_on(write(tmp_path, [ROW], "rows.jsonl"), labels=["color"])
    task.samples("train")
    assert "no row has the field 'color'" in caplog.text


def test_mistakes_in_options_are_named(tmp_path):
    path = write(tmp_path, [ROW], "rows.jsonl")
    with pytest.raises(ValidationError, match=r"needs \{caption\}"):
        task_on(path, prompt_template="an image")
    with pytest.raises(ValidationError, match="Extra inputs"):
        task_on(path, label=["colour"])
    with pytest.raises(ValidationError, match="width_px"):
        TextToImage.Options(data={}, height_px=64)
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        task_on(path).samples("trian")


def test_the_policy_has_to_make_images_of_the_same_size(tmp_path):
    task = task_on(write(tmp_path, [ROW], "rows.jsonl"))
    task.check_policy(lambda sample: (64, 48), "train")
    with pytest.raises(ConfigError, match=r"sample 'a': .* 48 x 64 px, .* say 64 x 48"):
        task.check_policy(lambda sample: (48, 64), "train")


@pytest.mark.parametrize(
    "output",
    [
        None,
        "an image",
        [[[0, 0, 0]]],
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_only_images_are_read(tmp_path, output):
    task = task_on(write(tmp_path, [ROW], "rows.jsonl"))
    (sample,) = task.samples("train")
    assert task.parse(sample, output) is None
    metrics = task.metrics([answered(task, sample, output)])
    assert set(metrics) == {"brightness", "contrast", "saturation"}
    assert all(math.isnan(values[0]) for values in metrics.values())


def test_metrics_by_hand(tmp_path):
    task = task_on(write(tmp_path, [ROW], "rows.jsonl"))
    (sample,) = task.samples("train")
    halves = np.zeros((2, 4, 3), np.uint8)
    halves[:, 2:] = 255
    red = np.zeros((2, 4, 3), np.uint8)
    red[..., 0] = 255
    answer = task.parse(sample, red)
    assert isinstance(answer, ImageAnswer)
    assert answer.image is red
    metrics = task.metrics([answered(task, sample, image) for image in (halves, red)])
    assert metrics["brightness"] == pytest.approx([0.5, 0.2126])
    assert metrics["contrast"] == pytest.approx([0.5, 0.0])
    assert metrics["saturation"] == pytest.approx([0.0, 1.0])


SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))
IMAGES = arrays(np.uint8, SIDES)


@settings(deadline=None)
@given(image=IMAGES, grey=st.integers(0, 255))
def test_properties_of_the_metrics(image, grey):
    ranges = {brightness: 1.0, contrast: 0.5, saturation: 1.0}
    for figure, high in ranges.items():
        value = figure(image)
        assert 0.0 <= value <= high
        # Neither the position of a pixel nor the size of the image matters.
        assert figure(image[::-1, ::-1]) == pytest.approx(value, abs=1e-9)
        assert figure(image.repeat(2, axis=0).repeat(3, axis=1)) == pytest.approx(value, abs=1e-9)
    assert brightness(255 - image) == pytest.approx(1 - brightness(image), abs=1e-9)
    assert contrast(255 - image) == pytest.approx(contrast(image), abs=1e-9)
    assert saturation(image[..., [2, 0, 1]]) == pytest.approx(saturation(image), abs=1e-12)
    plain = np.full_like(image, grey)
    assert brightness(plain) == pytest.approx(grey / 255)
    assert (contrast(plain), saturation(plain)) == (pytest.approx(0, abs=1e-9), 0)


@settings(deadline=None)
@given(images=st.lists(IMAGES, min_size=1, max_size=4), gap=st.integers(0, 5))
def test_images_side_by_side(images, gap):
    row = side_by_side(images, least_height_px=20, gap_px=gap)
    factors = [math.ceil(20 / image.shape[0]) for image in images]
    heights = [image.shape[0] * k for image, k in zip(images, factors, strict=True)]
    widths = [image.shape[1] * k for image, k in zip(images, factors, strict=True)]
    assert min(heights) >= 20
    assert row.shape == (max(heights), sum(widths) + gap * (len(images) - 1), 3)
    left = sum(widths[:-1]) + gap * (len(images) - 1)
    last = row[: heights[-1], left:]
    assert (last[:: factors[-1], :: factors[-1]] == images[-1]).all()


def test_no_images_have_no_row():
    with pytest.raises(ValueError, match="at least one"):
        side_by_side([])


def test_references_and_answers_are_drawn_side_by_side(tmp_path):
    row = {**ROW, "references": ["pics/a.webp", "pics/b.webp", "pics/a.webp"]}
    task = task_on(write(tmp_path, [row, {"caption": "a pear"}], "rows.jsonl"))
    first, second = task.samples("train")
    black = np.zeros((48, 64, 3), np.uint8)
    shown = task.draw(first, [answered(task, first, black), answered(task, first, None)])
    # Two references of three and one image, 64 x 48 three times as large, 4 px between them.
    assert shown.size == (3 * 192 + 2 * 4, 144)
    assert [shown.getpixel((x, 0)) for x in (0, 196, 392)] == [(200, 0, 0), (200, 40, 0), (0, 0, 0)]
    assert task.draw(second, []) is None
    assert task.draw(second, [answered(task, second, black)]).size == (192, 144)
    (tmp_path / "pics" / "a.webp").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"sample 'a': reference .*a\.webp cannot be opened"):
        task.draw(first, [])
