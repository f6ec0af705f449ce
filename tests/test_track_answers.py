"""Answers with spans and numbered boxes: what can be read, and what is well-formed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrl.errors import ConfigError
from vlrl.video.track_answers import FORMATS, read_track, write_track

PAPER = (
    "<time> 5 - 7 </time> <think_bbox> 5. [271, 30, 395, 212], 6. [270, 31, 400, 210], "
    "7. [1, 2, 3, 4] </think_bbox> <pred_bbox> 5. [271, 30, 395, 212], 6. [2, 3, 4, 5], "
    "7. [3, 4, 5, 6] </pred_bbox>"
)


def test_the_papers_own_sample():
    track = read_track(PAPER, "stvg_o1")
    assert track.well_formed
    assert track.spans == ((5.0, 7.0),)
    assert track.think[0] == (5.0, (271.0, 30.0, 395.0, 212.0))
    assert [n for n, _ in track.final] == [5.0, 6.0, 7.0]
    assert not read_track(PAPER, "stvg").well_formed


box = st.tuples(*[st.integers(0, 999)] * 4)


@given(st.integers(0, 50), st.lists(st.tuples(box, box), min_size=1, max_size=9), st.booleans())
def test_what_is_written_is_read(first, pairs, compact):
    think, final = [a for a, _ in pairs], [b for _, b in pairs]
    last = first + len(pairs) - 1
    text = write_track(first, last, think, final, compact=compact)
    track = read_track(text + "<|im_end|>\n", "stvg_o1")
    assert track.well_formed
    assert track.spans == ((first, last),)
    assert [b for _, b in track.think] == [tuple(map(float, b)) for b in think]
    assert [b for _, b in track.final] == [tuple(map(float, b)) for b in final]
    alone = write_track(first, last, None, final, compact=compact)
    assert read_track(alone, "stvg").well_formed
    assert read_track(alone, "stvg").think is None


@pytest.mark.parametrize(
    ("text", "span", "num_think", "num_final"),
    [
        (PAPER[:-13], (5, 7), 3, 3),  # the last mark is cut off
        (PAPER[: PAPER.rindex("7. [3") + 8], (5, 7), 3, 2),  # truncated in the last box
        (PAPER[: PAPER.index("<pred")], (5, 7), 3, None),  # truncated before the prediction
        ("Sure! " + PAPER, (5, 7), 3, 3),
        (PAPER + " " + PAPER, (5, 7), 3, 3),  # twice: the first counts
        (PAPER.replace("</think_bbox>", ""), (5, 7), 3, 3),  # the thinking never ends
        (PAPER.replace("5 - 7", "5 to 7"), (5, 7), 3, 3),
        (PAPER.replace("5 - 7", "7 - 5"), (7, 5), 3, 3),
        (PAPER.replace("7. [1", "7: [1"), (5, 7), 3, 3),
        (PAPER.replace("[2, 3, 4, 5]", "[2, 3, 4]"), (5, 7), 3, 2),
        (PAPER.replace("[2, 3, 4, 5]", "[nan, 3, 4, 5]"), (5, 7), 3, 2),
        (PAPER.replace("[2, 3, 4, 5]", "[-2, 3.5, 4, 5]"), (5, 7), 3, 3),
    ],
)
def test_lenient_reading_of_what_is_not_well_formed(text, span, num_think, num_final):
    track = read_track(text, "stvg_o1")
    assert track.spans == (span,)
    assert len(track.think) == num_think
    assert (None if track.final is None else len(track.final)) == num_final
    reversed_only = "7 - 5" in text  # the form is right, the meaning is not: R_c's business
    assert track.well_formed is reversed_only


@pytest.mark.parametrize(
    ("name", "text", "spans", "numbers", "good"),
    [
        (
            "temporal",
            "<think>hm</think><answer>12.54 to 17.83</answer>",
            [(12.54, 17.83)],
            None,
            True,
        ),
        ("temporal", "<think>a</think><answer>1 to 2, no: 3 and 4</answer>", [(3, 4)], None, False),
        ("temporal", "<answer>3 to 4</answer>", [(3, 4)], None, False),
        ("temporal", "nothing", [], None, False),
        (
            "intervals",
            "<think>a</think><answer>B</answer><glue>[(1.0, 2.5), (4, 6)]</glue>",
            [(1, 2.5), (4, 6)],
            None,
            True,
        ),
        ("intervals", "<think>a</think><answer>B</answer><glue>[]</glue>", [], None, True),
        (
            "box_list",
            "<think>a</think><answer>[[0.1,0.2,0.3,0.4], [0.2,0.2,0.3,0.4]]</answer>",
            [(0, 1)],
            [0, 1],
            True,
        ),
        (
            "open_o3",
            "<think>the <obj>dog</obj><box>[1, 2, 3, 4]</box>at<t>2.5</t>s runs</think>"
            "<answer>1.0 to 3.0</answer>",
            [(1, 3)],
            [2.5],
            True,
        ),
        (
            "seconds_csv",
            "timestamp,x1,y1,x2,y2\n3,0.1,0.2,0.3,0.4\n4,0.1,0.2,0.3,0.4",
            [(3, 4)],
            [3, 4],
            True,
        ),
        ("seconds_csv", "Here:\n3, 0.1, 0.2, 0.3, 0.4\nDone", [(3, 3)], [3], False),
    ],
)
def test_answers_of_other_models_are_read(name, text, spans, numbers, good):
    track = read_track(text, name)
    assert list(track.spans) == spans
    assert (None if track.final is None else [n for n, _ in track.final]) == numbers
    assert track.well_formed is good


THOUGHT = "<think>t</think><answer>{}</answer>"


@pytest.mark.parametrize(
    ("answer", "span"),
    [
        ("3.0000000000000004 to 9", (3.0000000000000004, 9)),
        ("12345678901234 to 7", (12345678901234, 7)),
        ("12.5 to 17.8 (5-6 seconds long)", (12.5, 17.8)),
        ("12.5 TO 17.8", (12.5, 17.8)),
        ("5. to 7.", (5, 7)),
        (".5 to 2", (5, 2)),  # as in Time-R1, as the next one
        ("1e1 to 20", (1, 20)),
        ("12 - 19", (12, 19)),
        ("[12.5, 17.8]", (12.5, 17.8)),
        ("[10, 20, 30, 40]", None),  # a box
        ("[10, 20, 30, 40], 12 to 19", (12, 19)),
        ("9, 7 and 5, 3", (7, 5)),
        ("1, 2, 3", None),
    ],
)
def test_spans_of_seconds(answer, span):
    found = read_track(THOUGHT.format(answer), "temporal").spans
    assert found == (() if span is None else (span,))


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("<answer>1 to 2</answer><answer>3 to 4</answer>", (3, 4)),
        ("<answer>1 to 2</answer> <answer>3 to", (1, 2)),  # the repeat is cut off
        ("<think>5 to 6</think><answer>3 to 4", (3, 4)),
        ("<think>5 to 6</think><answer>no</answer>", None),
        ("<think>5 to 6", None),  # thinking is no answer
        ("<think>5 to 6</think> 3 to 4", (3, 4)),
        ("<THINK>It is 5 to 6", None),  # whatever the marks' case
        ("<Think>5 to 6</THINK> 3 to 4", (3, 4)),
        ("<think>5 to 6</think> 3 to 4 <think>7 to 8", (3, 4)),
        ("3 to 4", (3, 4)),
    ],
)
def test_the_answer_counts_and_not_the_thinking(text, span):
    found = read_track(text, "temporal").spans
    assert found == (() if span is None else (span,))


BOX, OTHER = (10.0, 20.0, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("think", "claims", "times"),
    [
        ("<obj>a</obj><box>[10, 20, 30, 40]</box>at<t>2.0</t>s", [(2, (BOX,))], [2]),
        (
            "<obj>a</obj><box>[10,20,30,40]</box><box>[1,2,3,4]</box>at<t>2.0</t>s",
            [(2, (BOX, OTHER))],
            [2],
        ),
        ("it runs until <t>4.5</t>s", [], [4.5]),
        ("<box>[10, 20, 30, 40]</box>at<t>2.0</t>s", [], [2]),  # of nothing
        ("<obj>a</obj><box>[1, 2, 3]</box>at<t>2</t>s", [(2, ())], [2]),  # no box, but claimed
        ("<obj>a</obj><box>[x]</box>at<t>2</t>s", [], [2]),
        ("<obj>a</obj><box>[10, 20, 30, 40]</box> then at<t>2</t>s", [], [2]),
        ("<obj>a</obj><box>[10,20,30,40]</box>at<t>" + "9" * 400 + "</t>s", [], []),
    ],
)
def test_claims_of_open_o3(think, claims, times):
    for mark in ("think", "THINK", "Think"):
        answer = "<answer>From <t>42.1</t>s to <t>43.4</t>s</answer>"
        track = read_track(f"<{mark}>{think}</{mark}>{answer}", "open_o3")
        assert track.spans == ((42.1, 43.4),)
        assert list(track.claims) == claims
        assert list(track.times) == times
    # Neither in the answer nor in thinking that never ends.
    for lost in (f"<think>t</think><answer>{think}</answer>", f"<think>{think}"):
        track = read_track(lost, "open_o3")
        assert (track.claims, track.times, track.spans) == ((), (), ())


@pytest.mark.parametrize(
    ("listed", "spans", "says_none", "good"),
    [
        ("[(1, 2), (4, 6)]", [(1, 2), (4, 6)], False, True),
        ("[(1, 2),]", [(1, 2)], False, True),
        ("[]", [], True, True),
        ("", [], False, False),
        ("[(1, 2), (9, 7)]", [], False, False),  # a reversed one voids the list
        ("[(-1, 2)]", [], False, False),
    ],
)
def test_lists_of_intervals(listed, spans, says_none, good):
    text = f"<think>t</think><answer>A</answer><glue>{listed}</glue>"
    track = read_track(text, "intervals")
    assert (list(track.spans), track.says_none, track.well_formed) == (spans, says_none, good)
    cut_off = read_track(text.removesuffix("</glue>"), "intervals")
    assert (list(cut_off.spans), cut_off.says_none) == (spans, False)


def test_a_list_with_an_entry_that_is_no_box_says_nothing():
    answer = "<think>t</think><answer>[[1,2,3,4],[5,6,7],[1,2,3,4]]</answer>"
    assert read_track(answer, "box_list").final is None
    assert len(read_track(answer.replace("7]", "7,8]"), "box_list").final) == 3


@pytest.mark.parametrize("name", FORMATS)
@given(text=st.text(alphabet="<>/[](),.- 0123456789timehnkpredbox_answergluso\n", max_size=300))
def test_no_text_raises(name, text):
    track = read_track(text, name)
    assert isinstance(track.well_formed, bool)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "<pred_bbox>5. [1, 2, 3, ",
        "[[1,2,3,4],",
        "5.[",
        "1,2,3,4,5\n",
        "<box>[1,2,3,4]</box>at<t>",
        "<obj>a</obj><box>[1,2,3,4]</box>",
        "<obj></think><answer>",
        "<t>1</t>s to ",
        "12 to ",
        "9",
        "<glue>[(1,2),",
    ],
)
def test_reading_is_linear(name, piece):
    def seconds(repeats: int) -> float:
        text = "<time>1-2</time><think>" + piece * repeats
        best = 9.0
        for _ in range(3):
            begun = time.process_time()
            read_track(text, name)
            best = min(best, time.process_time() - begun)
        return best

    # Quadratic reading of the longer text would take 64 times as long.
    assert seconds(8_000) < 20 * seconds(1_000) + 0.05


def test_an_empty_list_is_not_a_missing_one():
    track = read_track(
        "<time>1-2</time><think bbox></think bbox><pred_bbox></pred_bbox>", "stvg_o1"
    )
    assert track.think == track.final == ()
    assert read_track("<time>1-2</time>", "stvg_o1").final is None


def test_an_unknown_format_names_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'stvg_o1'"):
        read_track("", "stvgo1")
