"""Judges: metrics of benchmarks and readers of verdicts against released code."""

from __future__ import annotations

import re
from typing import Any

from helpers_released import compare

from vlrl.eval.judge.agreement import reward_bench_metrics
from vlrl.judge.agreement import Judgement, one_against_many
from vlrl.judge.reasoned_answer import parse_judge_answer
from vlrl.judge.reward_bench import section_scores
from vlrl.judge.verdicts import p_of_scores
from vlrl.reward.tree import build_reward
from vlrl.tasks.preference_judgement import VerdictTarget
from vlrl.types import Finish, Rollout, Sample

EXACT = 1e-11


def against(
    right: float, wrong: list[float], group: str = "g#0", kind: str = "Math"
) -> list[Judgement]:
    return [
        Judgement(
            f"{group}-{k}", 1.0, p_of_scores(right, score), labels={"kind": kind}, group=group,
            scores=(right, score),
        )
        for k, score in enumerate(wrong)
    ]  # fmt: skip


def test_reward_bench_best_of():
    def ours(row: Any) -> float:
        metrics = reward_bench_metrics(against(row[0], row[1:]))
        return metrics["one_against_many"]["accuracy"]["mean"]

    compare("reward_bench_best_of", ours, EXACT)


def test_reward_bench_ties():
    def ours(row: Any) -> float:
        found: list[Judgement] = []
        for number, (right, wrong, ref, ref_wrong) in enumerate(row):
            for place, score in enumerate(right):
                found += against(score, wrong, f"tied:{number}#{place}", "Ties")
            found += against(ref, ref_wrong, f"ref:{number}#0", "Ties")
        metrics = reward_bench_metrics(found)
        assert "one_against_many" not in metrics
        return metrics["ties_subset"]["score"]

    compare("reward_bench_ties", ours, EXACT)


def test_reward_bench_sections():
    compare("reward_bench_sections", rounded_sections)


def rounded_sections(row: Any) -> dict[str, float]:
    return {name: round(value, 12) for name, value in section_scores(row).items()}


def test_reward_math():
    def ours(row: Any) -> list[float]:
        metrics = one_against_many(against(row[0], row[1:]), num_bootstrap=10)
        return [metrics["accuracy"]["mean"], metrics["mrr"]["mean"]]

    compare("reward_math", ours, EXACT)


def judged(row: Any) -> Rollout:
    answer = parse_judge_answer(row[0])
    sample = Sample("s", "preference_judgement", (), VerdictTarget(row[1]))
    parsed = answer if answer.verdict is not None else None
    return Rollout(sample, 0, 0, row[0], Finish.STOP, 0, 0, parsed=parsed)


def scored(name: str, row: Any) -> float:
    (score,) = build_reward({"use": name})([judged(row)])
    assert score.value is not None
    return score.value


BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def test_unified_reward_accuracy():
    compare(
        "unified_reward_accuracy",
        lambda row: scored("verdict_match", row),
        0.0,
        {
            "the last answer block counts, there the first": (
                lambda row: len(set(BLOCK.findall(row[0]))) > 1
            ),
            "without an answer block there is no verdict, there the whole text is one": (
                lambda row: not BLOCK.search(row[0])
            ),
            "any noun, either case and a full stop are read": (
                lambda row: not re.search(r"Image [12] is better\s*</", row[0])
            ),
        },
    )


def test_unified_reward_format():
    compare(
        "unified_reward_format",
        lambda row: scored("format", row),
        0.0,
        {
            "space before the thinking is well-formed": lambda row: row[0].startswith(" "),
            "text after the answer and a second answer are not": (
                lambda row: (
                    not row[0].rstrip().endswith("</answer>") or len(BLOCK.findall(row[0])) > 1
                )
            ),
            "an answer block without a verdict is not": (
                lambda row: parse_judge_answer(row[0]).verdict is None
            ),
        },
    )
