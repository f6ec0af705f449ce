"""Rewards in TRL's form, both ways: TRL's functions in a tree, and a tree in TRL's trainers.

trainer = GRPOTrainer(..., reward_funcs=as_trl_reward({"use": "gaussian_point"}, task=task))
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward, Task
from vlrl.reward.functions import FunctionReward
from vlrl.reward.tree import build_reward, score
from vlrl.types import Finish, Rollout, Sample, TextPart, VideoPart

TrlReward = Callable[..., list[float | None]]

NOT_DATA = ("trainer_state", "log_extra", "log_metric", "environments")
"""What TRL passes to rewards besides the columns of the dataset."""


def as_trl_reward(
    reward: Reward | Mapping[str, Any], *, task: Task, name: str | None = None
) -> TrlReward:
    """A reward function for TRL's GRPOTrainer; `reward` is a reward or its config node.

    The dataset's columns must hold what the task rebuilds a sample from (GUI grounding: `bbox`
    in pixels and `image_size`). Only for rewards of single samples: TRL scores what one rank
    holds, which need not be whole groups. Raises ConfigError if task and reward do not fit.
    """
    tree = build_reward(reward) if isinstance(reward, Mapping) else reward
    if type(task).sample_from_columns is Task.sample_from_columns:
        task.sample_from_columns({}, "the dataset")  # says what is missing
    missing = tree.needs - set(task.provides)
    if missing:
        raise ConfigError(f"the reward needs {sorted(missing)}, which {type(task).__name__} lacks")

    def trl_reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """TRL's signature: one value per completion, None where the reward does not apply."""
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
    trl_reward.__name__ = name or tree.name
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


def _rollout(task: Task, sample: Sample, group: int, index: int, text: str, length: int) -> Rollout:
    parsed = task.parse(sample, text)
    return Rollout(sample, group, index, text, Finish.STOP, length, 0, parsed=parsed)


def completion_text(completion: object) -> str:
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
    raise RewardError(
        f"a TRL completion must be a string or a list of messages, not {completion!r}"
    )


class TrlStyleReward(FunctionReward):
    """A function in TRL's form, `f(prompts, completions, **columns) -> list[float | None]`."""

    def values(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One value per rollout, all in one call."""
        return call_trl(self.spec.function, rollouts, self.given_options)


def call_trl(
    function: Callable[..., Any], rollouts: Sequence[Rollout], options: Mapping[str, Any]
) -> list[float | None]:
    """Call a TRL-style reward `f(prompts, completions, **columns) -> list[float | None]`.

    TRL passes everything to everyone; here a function without `**kwargs` gets what it names.
    Raises RewardError when it names something that the data does not have.
    """
    given: dict[str, Any] = {
        key: [rollout.sample.columns.get(key) for rollout in rollouts]
        for key in sorted({key for rollout in rollouts for key in rollout.sample.columns})
    }
    given |= {
        "prompts": [as_chat(rollout) for rollout in rollouts],
        "completions": [[{"role": "assistant", "content": rollout.output}] for rollout in rollouts],
    }
    name = function.__name__ if inspect.isfunction(function) else repr(function)
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and parameter.name not in given:
            raise RewardError(
                f"{name} asks for {parameter.name!r}, which the samples do not have; "
                f"they have {sorted(given)}"
            )
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        names = {parameter.name for parameter in parameters}
        given = {key: value for key, value in given.items() if key in names}
    values = function(**{**given, **options})
    if inspect.iscoroutine(values):  # TRL takes `async def` rewards too
        values = asyncio.run(values)
    if len(values) != len(rollouts):
        raise RewardError(f"{name} gave {len(values)} values for {len(rollouts)} completions")
    return [None if value is None else float(value) for value in values]


def as_chat(rollout: Rollout) -> list[dict[str, Any]]:
    """The prompt as TRL hands it to rewards: a list of messages with typed content parts."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part.text}
                if isinstance(part, TextPart)
                else {"type": "video" if isinstance(part, VideoPart) else "image"}
                for part in message.parts
            ],
        }
        for message in rollout.sample.prompt
    ]
