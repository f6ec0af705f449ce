"""Our rewards in TRL's trainers: one call makes a reward function of a reward and a task.

trainer = GRPOTrainer(..., reward_funcs=as_trl_reward({"use": "gaussian_point"}, task=task))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward
from vlrl.reward.tree import build_reward, score
from vlrl.types import Finish, Rollout, Sample

TrlReward = Callable[..., list[float | None]]

NOT_DATA = ("trainer_state", "log_extra", "log_metric", "environments")
"""What TRL hands to rewards beside the columns of the dataset."""


def as_trl_reward(
    reward: Reward | Mapping[str, Any], *, task: Any, name: str | None = None
) -> TrlReward:
    """A reward function for TRL's GRPOTrainer; `reward` is a reward or its config node.

    The dataset's columns must hold what the task rebuilds a sample from (GUI grounding: `bbox`
    in pixels and `image_size`). Only for rewards of single samples: TRL scores what one rank
    holds, which need not be whole groups. Raises ConfigError if task and reward do not fit.
    """
    tree = build_reward(reward) if isinstance(reward, Mapping) else reward
    if not hasattr(task, "sample_from_columns"):
        raise ConfigError(
            f"{type(task).__name__} has no `sample_from_columns`, so a table's row cannot become "
            "one of its samples; add it to use this task's rewards in TRL"
        )
    missing = tree.needs - task.provides
    if missing:
        raise ConfigError(f"the reward needs {sorted(missing)}, which {type(task).__name__} lacks")

    def trl_reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """TRL's signature: one value a completion, None where the reward does not apply."""
        rollouts = []
        group, previous = -1, None
        for row, completion in enumerate(completions):
            own = _row(columns, row, len(completions))
            sample = task.sample_from_columns(own, f"TRL row {row}")
            key = (repr(prompts[row]), repr(sample.target))
            group += key != previous
            previous = key
            length = len(completion_ids[row]) if completion_ids is not None else 0
            rollouts.append(_rollout(task, sample, group, row, completion_text(completion), length))
        return [one.value for one in score(tree, rollouts)]

    # TRL logs a reward under its function's name.
    trl_reward.__name__ = str(name or getattr(tree, "name", type(tree).__name__.lower()))
    return trl_reward


def _row(columns: Mapping[str, Any], row: int, count: int) -> dict[str, Any]:
    own = {}
    for key, values in columns.items():
        if key in NOT_DATA:
            continue
        if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
            raise RewardError(f"TRL column {key!r} does not hold one value for each completion")
        own[key] = values[row]
    return own


def _rollout(task: Any, sample: Sample, group: int, index: int, text: str, length: int) -> Rollout:
    parsed = task.parse(sample, text)
    return Rollout(sample, group, index, text, Finish.STOP, length, 0, parsed=parsed)


def completion_text(completion: Any) -> str:
    """The text of a plain or conversational completion; raises RewardError on another kind."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Sequence) and completion and isinstance(completion[-1], Mapping):
        content = completion[-1].get("content")
        if isinstance(content, str):
            return content
        if content is None:  # a tool call without words
            return ""
        if isinstance(content, Sequence):
            return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
    if completion in ([], None):
        return ""
    raise RewardError(f"a TRL completion is a text or a list of messages, not {completion!r}")
