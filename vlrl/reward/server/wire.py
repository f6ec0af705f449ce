"""Rollouts and scores as JSON: what travels between `use: remote` and `vlrl serve-rewards`.

Reading what was not sent is an error on the other side, never a default. Nothing is pickled, and
images are sent losslessly (see wire_images.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from vlrl.errors import ConfigError, RewardError, did_you_mean
from vlrl.reward.server.wire_images import PixelBudget, WireError, file_of, image_of, png_of
from vlrl.types import Finish, ImagePart, Message, Rollout, Sample, Score, TextPart

WIRE_VERSION = 1
"""Client and server of another version refuse each other."""
SERVABLE = frozenset({"image", "caption", "references", "written", "scene"})
"""The needs (vlrl.protocols.NEEDS) that can travel."""
TARGET_FIELDS = ("caption", "written", "scene")

Number = float | Literal["nan", "inf", "-inf"]
"""JSON has no infinity; it travels as a word."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class WireMessage(_Strict):
    """One turn of the prompt; None stands for an image, which stays with the trainer."""

    role: str
    content: list[str | None]


class WireTarget(_Strict):
    """The parts of the target that the reward needs; the others are left out."""

    caption: str | None = None
    written: str | None = None
    scene: dict[str, Any] | None = None


class WireRollout(_Strict):
    """One rollout; only `id` and `group` must be there for every reward."""

    id: str
    group: int
    index: int = 0
    task: str = ""
    output: str | None = None
    parsed: bool | None = None
    """Whether the task could read the output; if left out, whether there is an image."""
    image: str | None = None
    """Base64 of an 8-bit RGB PNG."""
    target: WireTarget = WireTarget()
    references: list[str] | None = None
    """`sha256:<hex>` of one of the request's `files`, or `path:<path on the server>`."""
    columns: dict[str, Any] = {}
    prompt: list[WireMessage] = []
    finish: Literal["stop", "length", "error"] = "stop"
    num_actions: int = 0
    policy_version: int = 0


class ScoreRequest(_Strict):
    """POST /score. A group is never split over two requests."""

    reward: str
    rollouts: list[WireRollout]
    files: dict[str, str] = {}
    """SHA-256 in hex -> base64 of a PNG, JPEG or WebP file, as it lies on the client's disk."""


class WireScore(_Strict):
    """A score; `value` is null where the reward does not apply."""

    value: FiniteFloat | None
    parts: dict[str, Number] = {}


class ScoreResponse(_Strict):
    """The answer to POST /score, in the order of the request."""

    scores: list[WireScore]
    range: Annotated[list[Number], Field(min_length=2, max_length=2)]


class WireLimits(_Strict):
    """What one request may hold; a server says so in /health."""

    max_body_bytes: int
    max_rollouts: int
    max_pixels: int
    max_request_pixels: int


class WireReward(_Strict):
    """A served reward, as /health shows it."""

    range: Annotated[list[Number], Field(min_length=2, max_length=2)]
    needs: list[str]


class Health(_Strict):
    """The answer to GET /health."""

    status: Literal["ok"]
    version: str
    wire: int
    rewards: dict[str, WireReward]
    limits: WireLimits


Data = TypeVar("Data", bound=BaseModel)


class Sent:
    """An answer or a target of which only some fields were sent; the others raise RewardError."""

    def __init__(self, what: str, fields: Mapping[str, Any]) -> None:
        self._what, self._fields = what, dict(fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._fields:
            return self._fields[name]
        raise RewardError(
            f"the reward reads {self._what}.{name}, which was not sent; a reward that names it in "
            "its `needs` gets it, if it is one of "
            f"{', '.join(sorted(SERVABLE))}; otherwise it runs inside the training"
        )

    def __repr__(self) -> str:
        return f"Sent({self._what}: {', '.join(sorted(self._fields))})"


def check_servable(needs: Iterable[str], where: str) -> None:
    """Raises ConfigError for a reward that needs what does not travel, e.g. boxes."""
    stay = sorted(set(needs) - SERVABLE)
    if stay:
        raise ConfigError(
            f"{where}: needs {', '.join(stay)}, which a reward server is not sent (only "
            f"{', '.join(sorted(SERVABLE))}). Rewards on boxes, points and formats take "
            "microseconds: put them into the run's own `reward:` tree"
        )


def to_wire(number: float) -> Number:
    """A number for JSON."""
    number = float(number)
    if math.isfinite(number):
        return number
    return "nan" if math.isnan(number) else ("inf" if number > 0 else "-inf")


def encode_request(
    reward: str,
    rollouts: Sequence[Rollout],
    needs: frozenset[str],
    columns: Sequence[str] = (),
    references: Literal["send", "path"] = "send",
) -> bytes:
    """The body of POST /score; raises RewardError that names the sample of what cannot travel."""
    files: dict[str, str] = {}
    known: dict[str, str] = {}  # a group shares its references: each file is read once

    def name_of(path: str, where: str) -> str:
        if references == "path":
            return f"path:{path}"
        if path not in known:
            digest, text = file_of(path, where)
            known[path], files[digest] = f"sha256:{digest}", text
        return known[path]

    rows = [_encode_rollout(one, needs, columns, name_of) for one in rollouts]
    body = {"reward": reward, "rollouts": rows, "files": files}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _encode_rollout(
    rollout: Rollout,
    needs: frozenset[str],
    columns: Sequence[str],
    name_of: Callable[[str, str], str],
) -> dict[str, Any]:
    sample = rollout.sample
    where = f"sample {sample.id!r}"
    row: dict[str, Any] = {
        "id": sample.id,
        "group": rollout.group,
        "index": rollout.index,
        "task": sample.task,
        "output": rollout.output if isinstance(rollout.output, str) else None,
        "parsed": rollout.parsed is not None,
        "prompt": [_encode_message(message) for message in sample.prompt],
        "finish": rollout.finish.value,
        "num_actions": rollout.num_actions,
        "policy_version": rollout.policy_version,
    }
    if "image" in needs and rollout.parsed is not None:
        row["image"] = png_of(rollout.parsed.image, where)
    row["target"] = {
        name: plain_json(getattr(sample.target, name), f"{where}, target.{name}")
        for name in TARGET_FIELDS
        if name in needs
    }
    if "references" in needs:
        row["references"] = [name_of(path, where) for path in sample.target.references]
    for name in columns:
        if name not in sample.columns:
            hint = did_you_mean(name, sample.columns)
            raise RewardError(f"{where} has no column {name!r}, which `columns:` names; {hint}")
    row["columns"] = {
        name: plain_json(sample.columns[name], f"{where}, column {name!r}") for name in columns
    }
    return row


def _encode_message(message: Message) -> dict[str, Any]:
    content = [part.text if isinstance(part, TextPart) else None for part in message.parts]
    return {"role": message.role, "content": content}


def plain_json(value: object, where: str) -> Any:
    """`value` if JSON keeps it as it is, tuples as lists; raises RewardError otherwise."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain_json(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(inner, f"{where}[{i}]") for i, inner in enumerate(value)]
    raise RewardError(
        f"{where}: {value!r} ({type(value).__name__}) does not travel as JSON; only texts, finite "
        "numbers, lists and mappings with text keys do"
    )


def read(model: type[Data], body: bytes) -> Data:
    """JSON as a record; raises WireError (status 400) that names the field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem["loc"])
        raise WireError(problem["msg"], field.lstrip(".")) from None


def decode_rollouts(
    request: ScoreRequest,
    needs: frozenset[str],
    limits: WireLimits,
    path_of: Callable[[str, str], str],
) -> list[Rollout]:
    """The request's rollouts; `path_of(reference, field)` puts an image onto this disk.

    Raises WireError for a field that the reward needs and that is missing or malformed.
    """
    if len(request.rollouts) > limits.max_rollouts:
        raise WireError(
            f"{len(request.rollouts)} rollouts; at most {limits.max_rollouts} per request",
            "rollouts",
            413,
        )
    budget = PixelBudget(limits.max_pixels, limits.max_request_pixels)
    return [
        _decode_rollout(row, f"rollouts[{i}]", needs, budget, path_of)
        for i, row in enumerate(request.rollouts)
    ]


def _decode_rollout(
    row: WireRollout,
    where: str,
    needs: frozenset[str],
    budget: PixelBudget,
    path_of: Callable[[str, str], str],
) -> Rollout:
    answer: dict[str, Any] = {}
    parsed = row.image is not None if row.parsed is None else row.parsed
    if "image" in needs and parsed:
        if row.image is None:
            raise WireError("the reward needs an image, and `parsed` is true", f"{where}.image")
        answer["image"] = image_of(row.image, f"{where}.image", budget)
    target: dict[str, Any] = {}
    sent = dict(row.target)
    for name in TARGET_FIELDS:
        if name in needs:
            if name not in row.target.model_fields_set:
                raise WireError("the reward needs it", f"{where}.target.{name}")
            target[name] = sent[name]
    if "caption" in needs and target["caption"] is None:
        raise WireError("the reward needs a text, not null", f"{where}.target.caption")
    if "references" in needs:
        if row.references is None:
            raise WireError("the reward needs it", f"{where}.references")
        places = [f"{where}.references[{i}]" for i in range(len(row.references))]
        target["references"] = tuple(map(path_of, row.references, places))
    sample = Sample(
        row.id,
        row.task,
        tuple(_decode_message(message) for message in row.prompt),
        Sent("target", target),
        row.columns,
    )
    return Rollout(
        sample,
        row.group,
        row.index,
        row.output,
        Finish(row.finish),
        row.num_actions,
        row.policy_version,
        parsed=Sent("parsed", answer) if parsed else None,
    )


def _decode_message(message: WireMessage) -> Message:
    # The path shows in the error of a reward that tries to open the image.
    absent = ImagePart("an image of the prompt, which stays with the trainer", 0, 0)
    return Message(
        message.role, tuple(absent if text is None else TextPart(text) for text in message.content)
    )


def encode_scores(
    scores: Sequence[Score], rollouts: Sequence[Rollout], interval: tuple[float, float]
) -> bytes:
    """The answer to POST /score; raises RewardError for a score that is not finite."""
    rows = []
    for score, rollout in zip(scores, rollouts, strict=True):
        if score.value is not None and not math.isfinite(score.value):
            raise RewardError(f"the reward gave {score.value} for sample {rollout.sample.id!r}")
        value = None if score.value is None else float(score.value)
        parts = {name: to_wire(part) for name, part in score.parts.items()}
        rows.append({"value": value, "parts": parts})
    body = {"scores": rows, "range": [to_wire(end) for end in interval]}
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def decode_scores(
    body: bytes, rollouts: Sequence[Rollout], interval: tuple[float, float]
) -> list[Score]:
    """One score per rollout, in order; raises WireError where the answer is something else."""
    response = read(ScoreResponse, body)
    if len(response.scores) != len(rollouts):
        raise WireError(f"{len(response.scores)} scores for {len(rollouts)} rollouts", "scores")
    low, high = (float(end) for end in response.range)
    if (low, high) != interval:
        raise WireError(
            f"[{low:g}, {high:g}], but [{interval[0]:g}, {interval[1]:g}] was agreed", "range"
        )
    scores = []
    for row, rollout in zip(response.scores, rollouts, strict=True):
        # A sum of many terms may miss the end of its range by rounding.
        slack = 1e-6 * max(1.0, abs(row.value or 0.0))
        if row.value is not None and not low - slack <= row.value <= high + slack:
            raise WireError(
                f"{row.value} for sample {rollout.sample.id!r} lies outside [{low:g}, {high:g}]",
                "scores",
            )
        scores.append(Score(row.value, {name: float(part) for name, part in row.parts.items()}))
    return scores
