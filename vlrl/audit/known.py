"""Answers whose worth is known, made from a task's data, and how a reward ranks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlrl.audit.one_right import Row
from vlrl.protocols import Reward, Task, TrainableReward
from vlrl.reward.parts import walk
from vlrl.reward.tree import min_stages, score
from vlrl.types import Finish, Rollout, Sample

RIGHT = "right"
ELSEWHERE = "right elsewhere"


@dataclass(frozen=True)
class KnownGroup:
    """One sample's right answer and wrong ones, parsed."""

    sample: Sample
    rollouts: Mapping[str, Rollout]
    """By kind, the right one under `right`."""
    accepted: tuple[str, ...] = ()
    """Kinds of wrong answers that the task takes for right: its verifier is too lenient."""


def known_groups(
    task: Task, samples: Sequence[Sample], rollouts: Sequence[Rollout]
) -> list[KnownGroup]:
    """A group for each sample of which the task knows a right answer.

    To the task's own wrong answers come some of any task: nothing, the question itself, the right
    answer to another prompt, and the longest and the most frequent of the answers that were given.
    Wrong answers that the task takes for right stay in and are counted: a reward that asks the
    same verifier pays them, too. Only the right answer to another prompt, which may be right here,
    is left out then; an answer that was given is in only where the task can tell that it is wrong.
    """
    known = {sample.id: task.known_answers(sample) for sample in samples}
    rights = {sample.id: one.right for sample in samples if (one := known[sample.id]) is not None}
    given = _given(rollouts)
    found: list[KnownGroup] = []
    for sample in samples:
        own = known[sample.id]
        if own is None:
            continue
        candidates = dict(own.wrong)
        if isinstance(own.right, str):
            candidates |= {"nothing": "", "the question": "\n".join(sample.texts)}
        another = _another(sample.id, own.right, rights)
        if another is not None:
            candidates[ELSEWHERE] = another
        rows = {RIGHT: _rollout(task, sample, len(found), 0, own.right)}
        accepted = []
        for kind, output in candidates.items():
            if _same(output, own.right):
                continue
            rollout = _rollout(task, sample, len(found), len(rows), output)
            if task.is_right(rollout) is True:
                if kind == ELSEWHERE:
                    continue
                accepted.append(kind)
            rows[kind] = rollout
        for kind, output in given.items():
            rollout = _rollout(task, sample, len(found), len(rows), output)
            if task.is_right(rollout) is False:
                rows[kind] = rollout
        found.append(KnownGroup(sample, rows, tuple(accepted)))
    return found


def _rollout(task: Task, sample: Sample, group: int, index: int, output: Any) -> Rollout:
    parsed = task.parse(sample, output)
    return Rollout(sample, group, index, output, Finish.STOP, 0, 0, parsed=parsed)


def _given(rollouts: Sequence[Rollout]) -> dict[str, str]:
    """The longest and the most frequent answer, where answers are texts."""
    texts = [one.output for one in rollouts if isinstance(one.output, str)]
    if not texts:
        return {}
    frequent, _ = Counter(texts).most_common(1)[0]
    return {"the longest": max(texts, key=len), "the most frequent": frequent}


def _another(sample: str, right: Any, rights: Mapping[str, Any]) -> Any:
    """The next sample's right answer that is another one; None where there is none.

    Only of texts and images, which can be told apart.
    """
    if not isinstance(right, str | np.ndarray):
        return None
    names = list(rights)
    start = names.index(sample) + 1
    others = (rights[name] for name in (*names[start:], *names[: start - 1]))
    return next((one for one in others if not _same(one, right)), None)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, str) and isinstance(other, str):
        return one.strip() == other.strip()
    return one is other


def why_not_ranked(
    reward: Reward, groups: Sequence[KnownGroup], recorded: Sequence[str] = ()
) -> str:
    """Why a reward cannot rank known answers; empty where it can.

    recorded: its leaves that were read from columns, which known answers have none of.
    """
    if not groups:
        return "the task makes no known answers from this data"
    if any(isinstance(one, TrainableReward) and not one.children for one in walk(reward)):
        return "it learns along with a training, and would have to be asked again"
    if recorded:
        names = ", ".join(recorded)
        return f"{names} would have to be asked again; give --load-models for that"
    right = groups[0].rollouts[RIGHT]
    num = len(right.output) if isinstance(right.output, tuple) else 1
    if min_stages(reward) > num and not isinstance(right.output, str):
        return f"it pays {min_stages(reward)} stages of an answer, and known answers have {num}"
    return ""


def ranked(reward: Reward, groups: Sequence[KnownGroup]) -> list[Row]:
    """The rewards of all known answers, one row per sample whose right answer has one."""
    flat = [rollout for group in groups for rollout in group.rollouts.values()]
    scores: Iterator[float | None] = iter([one.value for one in score(reward, flat)])
    rows = []
    for group in groups:
        values = {kind: next(scores) for kind in group.rollouts}
        right = values.pop(RIGHT)
        if right is not None:
            wrong = {kind: value for kind, value in values.items() if value is not None}
            rows.append(Row(group.sample.id, right, wrong))
    return rows
