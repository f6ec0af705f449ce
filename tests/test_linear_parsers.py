"""Every reader of a model's text takes time in proportion to it, whatever the text repeats."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from helpers_reasoning import QUESTIONS, sample_of

from vlrl.families.end_tokens import strip_ends
from vlrl.families.profiles import PROFILES, profile_named
from vlrl.families.thinking import first_thought, strip_thinking
from vlrl.geometry.boxes import Frame
from vlrl.gui.actions import action_of, own_brackets
from vlrl.gui.answers import read_places
from vlrl.gui.capture.names import clean_name, refuse_name
from vlrl.gui.refusal import read_click
from vlrl.gui.syntax import SYNTAXES, is_well_formed
from vlrl.judge.reasoned_answer import parse_judge_answer, swapped
from vlrl.log.report.page import BETWEEN_TAGS
from vlrl.mesh.parts import parts_in
from vlrl.reasoning.truths import ExpressionTruth, ListTruth, TextTruth, YesNoTruth
from vlrl.tasks.visual_reasoning import VisualReasoning
from vlrl.video.track_answers import FORMATS, part_starts, read_track

FRAME = Frame(1000, 1000)


def all_profiles(text: str) -> None:
    for profile in PROFILES.values():
        is_well_formed(text, profile)


def all_tracks(text: str) -> None:
    for name in FORMATS:
        read_track(text, name)
    part_starts(text, 4)


TASK = VisualReasoning(VisualReasoning.Options(data={}))
MORE = (ListTruth(("1",)), ExpressionTruth("1"), TextTruth("1"), YesNoTruth(True))
REASONED = (*(sample for sample, _ in QUESTIONS), *map(sample_of, MORE))
ENDLESS = (
    "1 1/",
    "x=",
    "\\text{",
    "(A) ",
    "answer is ",
    "1,111",
    "sqrt(",
    "2^",
    "Line: a\n",
    "yes ",
    "no x ",
    "is ",
    "not ",
    "a, ",
    "St. ",
    "a and ",
    "twenty ",
    "3 million ",
    "2\\frac{1}{2}",
    "<box>1,",
    "- ",
    "\0",
    "\t",
)
"""What answers may repeat; they are read up to 10,000 characters."""


READERS: dict[str, Callable[[str], object]] = {
    "places": read_places,
    "action": lambda text: [own_brackets(action_of(text, name), name) for name in SYNTAXES],
    "click": lambda text: read_click(text, profile_named("gui_g2"), FRAME, ("cannot find",)),
    "well formed": all_profiles,
    "thinking": strip_thinking,
    "first thought": first_thought,
    "ends": strip_ends,
    "judge's answer": parse_judge_answer,
    "swapped": swapped,
    "tracks": all_tracks,
    "parts": parts_in,
    "page": lambda text: BETWEEN_TAGS.sub("><", f"<p>{text}</p>"),
    "reasoning": lambda text: TASK.parse(REASONED[1], text),
    "name": lambda text: refuse_name(clean_name(text)),
}
RUNS = [
    " ", "\n", "\t", " \n", "\u00a0", "a", "a ", "Z", "1", "1 ", "1.", "1,", "1, ", "1;", "1 to ",
    "-", "- ", ".", ",", ":", ": ", ";", "*", "* ", "**:", "[", "]", "(", ")", "([", "[1,",
    "[1,1],",
    "[1,1] ", "(1,1)to", "{", '"', "'", "/", "<", ">", "> ", ">\n", "</", "é", "٣", "\u4e00",
    "\U0001f600",
    "<think>", "</think>", "<answer>", "</answer>", "</think> ", "<answer> ", "<answer></answer>",
    "<think></think>", "< / THINK", "<TINK", "Action:", "point='", 'point="', "pyautogui.", "x=1,",
    "pyautogui.a(", "pyautogui.a('", "x=1,a=", "x=1,a='", "y=.5,x=", "(' ", "=\"\\\\", "('',",
    "point:", "\tpoint:", "\taction:", "<tool_call>", "</tool_call>",
    "<box>", "<box>1 ", "<point>", "<|box_start|>", "<t>", "<time>",
    "<time>1 - ",
    "<think_bbox>", "<pred_bbox>1. ", "<pred bbox>", "<glue>", "<glue>[(1,", "<|im_end|>", "</s>",
    "</s> ",
    "Image 1 ", "Image 1 (", "Image 1 (1/10)", "Image 1 (1", "picture 2", "x=1,", "x = ", '"x":1,',
    '"x" ', '"bbox_2d":', '"bbox_2d":[[', '"bbox_2d":[1,1],', '"bbox" : [1,1] to ', '"action" ',
    "1. [", "1. [1,1,1,1], ", "1: [1", "0.5 , ", "1 and ", "two red ", "F1 ", "(Ctrl", "Ctrl+",
    "a[",
]  # fmt: skip
BEFORE = [
    "",
    "1",
    "<think>",
    "<think>1. x: Image 1 (8/10) Image 2 (7/10)",
    "<answer>",
    '{"bbox_2d": ',
]


def seconds(reader: Callable[[str], object], text: str) -> float:
    best = 9.0
    for _ in range(3):
        start = time.process_time()
        reader(text)
        best = min(best, time.process_time() - start)
        if best < 0.01:
            break
    return best


@pytest.mark.parametrize("name", READERS)
def test_twice_the_text_is_twice_the_work(name: str) -> None:
    """10 KB and 20 KB of each run, and where that is slow at all 80 KB: 8 times, not 64."""
    slow = []
    for before in BEFORE:
        for run in RUNS:
            text = before + run * (10_000 // len(run))
            twice = seconds(READERS[name], before + run * (20_000 // len(run)))
            if twice < 0.01:
                continue
            once = seconds(READERS[name], text)
            if twice > 3.2 * once:
                more = seconds(READERS[name], before + run * (80_000 // len(run)))
                if more > 10 * twice:
                    slow.append((before, run, once, twice, more))
    assert not slow


def test_two_hundred_spaces_in_a_judges_answer() -> None:
    """The text that made the pattern try every way to share out the spaces."""
    line = f"1.{' ' * 200}Image 1 (8/10) Image 2 (7/10){' ' * 200}"
    answer = parse_judge_answer(f"<think>{line * 50}</think><answer>Image 1 is better</answer>")
    assert answer.verdict == 1


@pytest.mark.parametrize("run", ENDLESS)
def test_no_final_answer_is_slow_to_read(run: str) -> None:
    """Milliseconds each; a second would be a pattern that tries every way."""
    for sample in REASONED:
        assert (
            seconds(lambda text, one=sample: TASK.parse(one, text), f"<answer>a{run * 1500}b") < 1.0
        )
