"""Rewards of reasoning, by hand; RewardMap's details; the embedded maps."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers_reasoning import BLUE, BOXES, GREEN, RED, problem, sample_of

from vlrl.errors import DataError
from vlrl.reasoning.routes import Segment, check_route, write_route
from vlrl.reasoning.truths import ChoiceTruth, RouteTruth
from vlrl.reward.tree import build_reward
from vlrl.reward.trl import as_trl_reward
from vlrl.tasks.visual_reasoning import VisualReasoning
from vlrl.types import Finish, Rollout, Sample

ROOT = Path(__file__).resolve().parent.parent
MAPS = ROOT / "assets/maps"
TASK = VisualReasoning(VisualReasoning.Options(data={}))
DIRECT = Segment("Blue Line", "Castle", "Fern")
LOST = Segment("Grey Line", "Alder", "Fern")


def rollout(sample: Sample, text: str, *, tags: bool = True) -> Rollout:
    text = f"<think>x</think><answer>{text}</answer>" if tags else text
    return Rollout(sample, 0, 0, text, Finish.STOP, 1, 0, parsed=TASK.parse(sample, text))


def values(node: dict[str, Any], rollouts: list[Rollout]) -> list[float | None]:
    return [one.value for one in build_reward(node)(rollouts)]


def routed(route: list[Segment], **asked: Any) -> Rollout:
    sample = sample_of(RouteTruth(problem(**asked)))
    return rollout(sample, write_route(route) if route else "on foot")


@pytest.mark.parametrize(
    ("route", "valid", "ends", "rides", "changes"),
    [
        ([RED, BLUE], 1, 1, 1, 1),
        ([RED], 0, 0.5, 0.5, 0),
        ([BLUE, RED], 0, 0, 1, 0),
        ([LOST], 0, 1, 0, 0),
        ([LOST, LOST], 0, 1, 0, 0),
        ([RED, BLUE, GREEN], 0, 0.5, 1, 1),
        ([RED, LOST, LOST, LOST], 0, 1, 0.25, 0),
        ([], 0, 0, 0, 0),
    ],
)
def test_parts_of_routes_by_hand(
    route: list[Segment], valid: float, ends: float, rides: float, changes: float
) -> None:
    names = ("route_valid", "route_ends", "route_rides", "route_changes")
    found = [values({"use": name}, [routed(route)])[0] for name in names]
    assert found == [valid, ends, rides, changes]


def test_a_direct_route_needs_no_change_and_gets_none() -> None:
    asked = {"start": "Castle", "transfers": 0}
    found = values({"use": "route_changes"}, [routed([DIRECT], **asked), routed([], **asked)])
    assert found == [None, None]


def test_a_detour_is_valid_unless_changes_are_limited() -> None:
    detour = [Segment("Red Line", "Alder", "Brook"), Segment("Red Line", "Brook", "Castle"), BLUE]
    two = [routed(detour), routed([RED, BLUE])]
    assert values({"use": "route_valid"}, two) == [1, 1]
    assert values({"use": "route_valid", "extra_transfers": 0}, two) == [0, 1]
    assert values({"use": "route_valid", "extra_transfers": 1}, two) == [1, 1]


def rewardmap() -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load((ROOT / "configs/rewards/rewardmap.yaml").read_text())
    return node["reward"]


@pytest.mark.parametrize(
    ("asked", "right"),
    [
        ({"start": "Castle", "transfers": 0}, [DIRECT]),
        ({"transfers": 1}, [RED, BLUE]),
        ({"end": "Garden", "transfers": 2}, [RED, BLUE, GREEN]),
    ],
)
def test_a_right_route_has_all_details_however_many_changes(
    asked: dict[str, Any], right: list[Segment]
) -> None:
    """The released detail term takes 5 off for the last ride of each of these."""
    wrong = [[], [LOST], right[:-1], [*right, LOST], right[::-1] if len(right) > 1 else [LOST]]
    found = values(rewardmap(), [routed(route, **asked) for route in (right, *wrong)])
    # (1.5 for a hard map + 0.5 for changes) x (right 1 + details 0.5 + format 1)
    assert found[0] == pytest.approx(2.0 * 2.5)
    assert all(
        value is not None and found[0] is not None and value < found[0] for value in found[1:]
    )


def test_answer_match_pays_for_one_right_answer_only() -> None:
    sample = sample_of(ChoiceTruth("B", ("red", "blue")))
    texts = ["B", "(b) blue", "A", "A or B", "B. red", ""]
    assert values({"use": "answer_match"}, [rollout(sample, text) for text in texts]) == [
        1, 1, 0, 0, 0, 0,
    ]  # fmt: skip
    bare = rollout(sample, "B", tags=False)
    assert values({"use": "answer_match"}, [bare]) == [1]
    assert values({"use": "answer_match", "well_formed": True}, [bare]) == [0]
    assert values({"use": "route_valid"}, [bare]) == [None]


def test_boxes_count_where_the_data_has_them_and_a_distractor_never_helps() -> None:
    """GRiP: evidence named in the thinking."""
    sample, plain = (sample_of(ChoiceTruth("B", ("x", "y")), boxes) for boxes in (BOXES, None))
    texts = ["<box>[0,0,20,20]</box>", "[0,0,20,20] [30,30,50,50]", "[0,0,20,20] [1,40,9,50]", ""]
    node = {"use": "salience_iou", "extra": 0.5}
    found = values(
        node,
        [rollout(sample, f"<think>{t}</think><answer>B</answer>", tags=False) for t in texts],
    )
    assert found == pytest.approx([0.5, 1.0, 0.25, 0.0])
    assert values(node, [rollout(plain, "B")]) == [None]


def test_a_row_of_another_trainer_is_enough() -> None:
    reward = as_trl_reward({"use": "answer_match"}, task=TASK)
    texts = ["<answer>7</answer>", "<think>7</think>8", "the answer is 7.0"]
    assert reward(prompts=["?"] * 3, completions=texts, solution=["$7$"] * 3) == [1.0, 0.0, 1.0]
    with pytest.raises(DataError, match="field 'answer' is missing"):
        reward(prompts=["?"], completions=["7"], other=["7"])


@pytest.fixture(scope="module")
def maps() -> dict[str, list[Sample]]:
    data = {name: {"path": str(MAPS / f"{name}.jsonl")} for name in ("train", "held_out")}
    task = VisualReasoning(VisualReasoning.Options.model_validate({"data": data}))
    return {name: list(task.samples(name)) for name in data}


def test_the_embedded_maps_have_answers_that_their_lines_give(
    maps: dict[str, list[Sample]],
) -> None:
    for name, samples in maps.items():
        rows = [json.loads(line) for line in (MAPS / f"{name}.jsonl").read_text().splitlines()]
        lines = {row["images"][0]: row["lines"] for row in rows if "lines" in row}
        assert {row["map"] for row in rows} == {"easy", "middle", "hard"}
        assert {row["type"] for row in rows} == {"yes_no", "counting", "planning"}
        for row, sample in zip(rows, samples, strict=True):
            network = lines[row["images"][0]]
            if sample.target.route is not None:
                assert fewest_changes(network, row["start"], row["end"]) == row["num_transfers"]
            elif " between " in row["question"]:
                a, rest = (
                    row["question"].removeprefix("How many stations are between ").split(" and ", 1)
                )
                b, rest = rest.split(" on the ", 1)
                stations = network[rest.split(",")[0]]
                assert row["answer"] == abs(stations.index(a) - stations.index(b)) - 1
            elif "stop at" in row["question"]:
                line, station = row["question"].removeprefix("Does the ").split(" stop at ")
                assert row["answer"] == ("yes" if station[:-1] in network[line] else "no")


def fewest_changes(lines: dict[str, list[str]], start: str, end: str) -> int:
    """By growing the set of lines that are reached."""
    reached = {name for name, stations in lines.items() if start in stations}
    for changes in range(len(lines)):
        stations = {one for name in reached for one in lines[name]}
        if end in stations:
            return changes
        reached |= {name for name, others in lines.items() if stations & set(others)}
    raise AssertionError(f"{end} cannot be reached")


def test_every_map_takes_its_best_route_for_right(maps: dict[str, list[Sample]]) -> None:
    planned = [s for samples in maps.values() for s in samples if s.target.route is not None]
    assert len(planned) == 36
    for sample in planned:
        asked = sample.target.route
        changes = [name for name, one in asked.lines.items() if asked.start in one]
        ride = Segment(changes[0], asked.start, asked.end)
        check = check_route(asked, [ride])
        assert check.is_valid == (asked.end in asked.lines[changes[0]])
        assert asked.num_transfers in (0, 1, 2)
        assert all(a != b for stations in asked.lines.values() for a, b in pairwise(stations))
