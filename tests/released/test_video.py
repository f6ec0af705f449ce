"""Written answers about videos: rewards and evaluations against released code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers_released import compare
from helpers_released_video import answered, scored
from released.open_o3_video import OBJECTS, SIDE_PX
from released.videochat_r1 import VALID, tracking_case

from vlrl.eval.video.scoring import Found, metrics_of
from vlrl.geometry.boxes import Box, Frame
from vlrl.video.spans import span_iou
from vlrl.video.tubes import Track, Tube
from vlrl.video.video_answers import TimedBoxes

EXACT = 1e-12
UNIT = Frame(1, 1)

# ---------------------------------------------------------------- spans of seconds


def temporal(row: Any) -> Any:
    return answered(row[0], "temporal", spans=[(row[1], row[2])])


def span_reward(row: Any) -> float:
    return scored({"use": "temporal_iou"}, temporal(row))


def span_evaluation(row: Any) -> list[float]:
    rollout = temporal(row)
    spans = None if rollout.parsed is None else rollout.parsed.spans
    (metrics,) = metrics_of(Found(rollout.sample, None, Track({}, UNIT), spans)).values()
    return list(metrics.values())


def is_lenient(row: Any) -> bool:
    """Other spacing or kind than `a to b`, no closed answer, or text after a cut-off one."""
    text = row[0]
    closed = re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return not closed or not re.search(r"[0-9.] (to|and) [0-9]", closed[-1], re.IGNORECASE)


def has_no_length(row: Any) -> bool:
    said = re.findall(r"<answer>(\S+) to (\S+)</answer>", row[0])
    return row[1] == row[2] and bool(said) and said[-1][0] == said[-1][1]


def ends_late(row: Any) -> bool:
    return bool(re.search(r"[0-9]{4,}</answer>", row[0]))


LENIENT = "other spacing, a dash or a pair, and an answer that is cut off are read"
CLIPPED = "ends beyond the video are clipped, for truth and answers alike"


def test_time_r1_reward():
    compare(
        "time_r1_reward", span_reward, EXACT,
        {
            LENIENT: is_lenient,
            CLIPPED: ends_late,
            "it crashes at two equal instants, in a batch it repeats the reward before": (
                lambda row: has_no_length(row)
            ),
        },
    )  # fmt: skip


def test_videochat_r1_spans():
    compare("videochat_r1_spans", span_reward, EXACT, {LENIENT: is_lenient, CLIPPED: ends_late})


def in_thinking(row: Any) -> bool:
    """The last `a to b` of the whole text is not what the answer says."""
    text = row[0]
    after = text.rpartition("</think>")[2] if "</think>" in text else text.partition("<think>")[0]
    closed = re.findall(r"<answer>(.*?)</answer>", after, re.DOTALL)
    last = re.findall(r"(\d+\.?\d*) (?:to|and) (\d+\.?\d*)", text)[-1:]
    return last != re.findall(r"(\d+\.?\d*) (?:to|and) (\d+\.?\d*)", (closed or [after])[-1])[-1:]


EVALUATION = {
    "the answer counts, not the last span of the text, which may be in the thinking": in_thinking,
    "equal instants: the released evaluation divides by 0 and leaves the item out": has_no_length,
    "`12 TO 15` and other kinds are read as in training": is_lenient,
    "`12 TO 15` too": lambda row: " TO " in row[0],
    CLIPPED: ends_late,
}


def test_time_r1_evaluation():
    compare("time_r1_evaluation", span_evaluation, EXACT, EVALUATION)


def test_videochat_r1_spans_evaluation():
    compare("videochat_r1_spans_evaluation", span_evaluation, EXACT, EVALUATION)


SPAN_ALONE = re.compile(
    r"<think>[^<]*</think>\s*<answer>\s*([0-9]+(?:\.[0-9]+)?)\s*(?:to|and)"
    r"\s*([0-9]+(?:\.[0-9]+)?)\s*</answer>"
)


def is_reversed(row: Any) -> bool:
    said = SPAN_ALONE.fullmatch(row[0].strip())
    return said is not None and float(said[1]) > float(said[2])


def test_time_r1_format():
    compare(
        "time_r1_format",
        lambda row: scored({"use": "track_format"}, temporal(row)),
        0.0,
        {
            "the answer must be a span and nothing else, after one thought": (
                lambda row: SPAN_ALONE.fullmatch(row[0].strip()) is None
            ),
            "a reversed span is unreadable": is_reversed,
        },
    )


def test_vstar_spans():
    compare(
        "vstar_spans",
        lambda row: span_iou([(row[2], row[3])], [(row[0], row[1])], closed=False),
        EXACT,
        {"an instant matches an equal one": lambda row: row[0] == row[1] == row[2] == row[3]},
    )


# ---------------------------------------------------------------- lists of intervals


def intervals(row: Any) -> Any:
    return answered(row[0], "intervals", spans=[tuple(one) for one in row[1]])


def interval_reward(row: Any) -> float:
    return scored({"use": "temporal_iou"}, intervals(row))


def is_lenient_list(row: Any) -> bool:
    found = re.search(r"<glue>(.*?)</glue>", row[0], re.DOTALL)
    return found is None or VALID.fullmatch(found[1]) is None


def has_instants(row: Any) -> bool:
    """Spans without length on both sides, or none on one."""
    return all(a == b for a, b in [*said_intervals(row), *row[1]])


def said_intervals(row: Any) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in re.findall(r"\(([0-9.]+), ?([0-9.]+)\)", row[0])]


LISTS = {
    "other brackets and spacing of the list are read, also one that is cut off": is_lenient_list,
    "instants match equal instants only; released code gives 1 to any two": has_instants,
}


def test_videochat_r1_intervals():
    compare("videochat_r1_intervals", interval_reward, EXACT, LISTS)


def test_videochat_r1_intervals_evaluation():
    unreadable = "a list that cannot be read: its evaluation repeats the item before, or stops"
    compare(
        "videochat_r1_intervals_evaluation", interval_reward, EXACT,
        {**LISTS, unreadable: lambda row: any(a > b for a, b in said_intervals(row))},
    )  # fmt: skip


def test_videochat_r1_intervals_format():
    def ours(row: Any) -> float:
        parsed = intervals(row).parsed
        return float(parsed is not None and parsed.well_formed)

    compare("videochat_r1_intervals_format", ours, 0.0, {"spaces around the list": is_lenient_list})


# ---------------------------------------------------------------- tracked boxes


def tracked(row: Any) -> Any:
    text, true = tracking_case(row)
    return answered(text, "box_list", track=Tube(0, np.array(true), UNIT), frame=UNIT)


@pytest.mark.parametrize("name", ["videochat_r1_tracking", "videochat_r1_tracking_evaluation"])
def test_videochat_r1_tracking(name: str):
    compare(
        name,
        lambda row: scored({"use": "track_mean_iou"}, tracked(row)),
        EXACT,
        {"an answer that is cut off, or has words around its list, is read": (
            lambda row: row[3] in (5, 7, 8, 10)
        )},
    )  # fmt: skip


def test_videochat_r1_tracking_format():
    def ours(row: Any) -> float:
        parsed = tracked(row).parsed
        return float(parsed is not None and parsed.well_formed)

    compare(
        "videochat_r1_tracking_format", ours, 0.0,
        {
            "any number of boxes is well-formed; `exact_count` asks for as many as frames": (
                lambda row: row[2] != 8
            ),
            "a second answer is not well-formed, a box of other than four numbers neither": (
                lambda row: row[3] in (1, 6)
            ),
            "a minus sign is not well-formed": lambda row: "-" in tracking_case(row)[0],
        },
    )  # fmt: skip


# ---------------------------------------------------------------- Open-o3 Video


def claimed(row: Any) -> Any:
    frame = Frame(SIDE_PX, SIDE_PX)
    timed = [
        TimedBoxes(moment, tuple(Box(*(SIDE_PX * edge for edge in box), frame) for box in boxes))
        for moment, boxes in OBJECTS.items()
    ]
    return answered(row[0], "open_o3", timed=timed, frame=frame)


def test_open_o3_times():
    def ours(row: Any) -> float:
        rollout = claimed(row)
        rollout.policy_version = round(100 * row[1])
        return scored({"use": "time_proximity", "num_steps": 100}, rollout)

    compare("open_o3_times", ours, EXACT, {SPACED: is_spaced})


def test_open_o3_boxes():
    compare(
        "open_o3_boxes",
        lambda row: scored({"use": "timed_boxes", "published": True}, claimed(row)),
        EXACT,
        {SPACED: is_spaced},
    )


SPACED = "spaces between marks, and around a time, are read over"


def is_spaced(row: Any) -> bool:
    return "> <box>" in row[0] or "<t> " in row[0]


def test_open_o3_span():
    compare(
        "open_o3_span",
        lambda row: span_reward_of(answered(row[0], "open_o3", spans=[(row[1], row[2])])),
        EXACT,
        {
            SPACED: is_spaced,
            "an answer that is cut off, or is a span without tags alone, is read": (
                lambda row: (
                    not row[0].endswith("</answer>")
                    or bool(re.search(r"<answer>[0-9.]+ to [0-9.]+</answer>", row[0]))
                )
            ),
            "an instant matches an equal one": lambda row: row[1] == row[2],
        },
    )


def span_reward_of(rollout: Any) -> float:
    return scored({"use": "temporal_iou"}, rollout)
