"""Requests and answers of vLLM's server for rollouts, as plain JSON.

    POST /v1/chat/completions/render   messages with pictures -> token ids and their features
    POST /inference/v1/generate        those, and how to draw -> n answers with log-probs
    POST /collective_rpc               {"method": "reload_weights", "kwargs": {"weights_path": ...}}
    POST /abort_requests               {} -> all requests end with what they have, "abort"
    GET  /version, /server_info        how it was started
    POST /reset_prefix_cache, /reset_mm_cache, /reset_encoder_cache

The first two need `--enable-scale-out`, the others VLLM_SERVER_DEV_MODE=1 (`vlrl serve-vllm`
has both). Read on vLLM 0.32.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vlrl.errors import EngineError
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.reading import Reader, visual
from vlrl.types import Sample, TextPart, VideoPart

RENDER, GENERATE = "/v1/chat/completions/render", "/inference/v1/generate"
ABORT = "/abort_requests"
"""Without ids: all that are under way come back with what they have."""
VERSION = "/version"
OLDEST = (0, 30)
"""vLLM's first release that was tried with these pins."""
INFO = "/server_info?config_format=json"
CACHES = ("/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache")
LOGPROBS = "processed_logprobs"
"""`logprobs_mode`: after temperature, filters and bias."""
FORBIDDEN_BIAS = -100.0
"""Of tokens that are never sampled; the largest that the server takes."""
FINAL_ONLY = 2
"""`output_kind`: one message with all answers, no stream."""


@dataclass(frozen=True)
class Drawn:
    """One answer of the server."""

    tokens: list[int]
    logp: list[float]
    """Of each token under the distribution that it was drawn from, nats."""
    is_cut: bool
    """It ended at the limit of tokens."""
    versions: list[int]
    """Of the weights that drew each token (`Policy.version`)."""
    is_interrupted: bool = False
    """New weights came: the answer goes on after its tokens."""

    def joined(self, more: Drawn) -> Drawn:
        """This answer, gone on with."""
        return replace(
            more,
            tokens=self.tokens + more.tokens,
            logp=self.logp + more.logp,
            versions=self.versions + more.versions,
        )


def refuse_old(version: object, where: str) -> None:
    """Raise EngineError for a vLLM without what is asked of it; builds of no release are taken."""
    numbers = re.match(r"(\d+)\.(\d+)\.", str(version))
    if numbers and (0, 1) < (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise EngineError(
            f"{where}: vLLM {version} is too old: {'.'.join(map(str, OLDEST))} and later give "
            "prompts as token ids and read weights again (docs/engines.md)"
        )


def chat(
    reader: Reader, sample: Sample, sizes_px: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """A sample's messages with its pictures as PNG, resized as the policy sees them.

    sizes_px: of all pictures after resizing; empty where the server's processor does it.
    """
    images = iter(pictures(reader, sample, sizes_px))
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": reader.text(part)}
                if isinstance(part, TextPart)
                else {"type": "image_url", "image_url": {"url": data_url(next(images))}}
                for part in message.parts
            ],
        }
        for message in sample.prompt
    ]


def pictures(
    reader: Reader, sample: Sample, sizes_px: Sequence[tuple[int, int]]
) -> list[Image.Image]:
    """A sample's pictures in order, resized as `chat` has them; raises EngineError for videos."""
    found = []
    sizes = iter(sizes_px)
    for part in visual(sample.prompt):
        if isinstance(part, VideoPart):
            raise EngineError(
                f"sample {sample.id!r}: videos cannot be sent to the engine; leave "
                "policy.engine out for this task"
            )
        image = reader.opens(part)
        size = next(sizes, image.size)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        found.append(image)
    return found


def data_url(image: Image.Image) -> str:
    """A picture inside a request, without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def sampling_params(
    *,
    num_each: int,
    seed: int,
    greedy: bool,
    temperature: float,
    top_p: float,
    top_k: int,
    max_tokens: int,
    stop: Sequence[str],
    stop_tokens: Sequence[int],
    forbidden: Sequence[int],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """How to draw a group; `extra` is passed on as it is where it says something else."""
    return {
        **extra,
        "n": num_each,
        "seed": seed % (1 << 31),
        "temperature": 0.0 if greedy else temperature,
        "top_p": 1.0 if greedy else top_p,
        "top_k": 0 if greedy else top_k,
        "max_tokens": max_tokens,
        "logprobs": 0,
        "output_kind": FINAL_ONLY,
        "stop": list(stop),
        "include_stop_str_in_output": True,
        "stop_token_ids": list(stop_tokens),
        "logit_bias": {str(token): FORBIDDEN_BIAS for token in forbidden},
    }


def rendered_ids(answer: Mapping[str, Any], where: str) -> list[int]:
    """The token ids of a rendered prompt; raises EngineError where there are none."""
    ids = answer.get("token_ids") or answer.get("prompt_token_ids")
    if not isinstance(ids, list) or not all(isinstance(i, int) for i in ids):
        raise EngineError(f"{where}: {RENDER} returned no token ids; is it started as docs say?")
    return ids


def drawn(answer: Mapping[str, Any], num_each: int, where: str, version: int | None) -> list[Drawn]:
    """The answers of a group by the weights of a version.

    Raises EngineError where tokens or their log-probs are missing.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != num_each:
        found = len(choices) if isinstance(choices, list) else "no"
        raise EngineError(f"{where}: {found} answers came back for n = {num_each}")
    made = []
    for choice in sorted(choices, key=lambda one: int(one.get("index", 0))):
        tokens, scores = choice.get("token_ids"), choice.get("logprobs")
        listed = scores.get("content") if isinstance(scores, Mapping) else None
        reason = choice.get("finish_reason")
        if reason == "abort" and not tokens:
            made.append(Drawn([], [], False, [], is_interrupted=True))
            continue
        if not tokens or listed is None or len(listed) != len(tokens):
            raise EngineError(
                f"{where}: an answer came without a log-prob of each token; start the server with "
                "--logprobs-mode processed_logprobs (docs/engines.md)"
            )
        logp = finite([one["logprob"] for one in listed], where)
        versions = [version or 0] * len(tokens)
        made.append(Drawn(list(tokens), logp, reason == "length", versions, reason == "abort"))
    return made


def finite(scores: Sequence[Any], where: str) -> list[float]:
    """Log-probs as numbers, nats; raises EngineError for one that is not finite."""
    found = [float(score) for score in scores]
    if not all(map(math.isfinite, found)):
        raise EngineError(f"{where}: a token's log-prob is not finite")
    return found


def refuse_other_prompt(reader: Reader, prompt: EncodedPrompt, ids: list[int], where: str) -> None:
    """Raise EngineError where the engine has read another prompt than the policy's."""
    own = prompt.input_ids.tolist()
    if ids != own:
        raise EngineError(
            f"{where}: its prompt is another one than the policy's, {first_difference(own, ids)}; "
            "the server has another model, chat template or bounds of pixels (here "
            f"{reader.min_pixels} to {reader.max_pixels}: --mm-processor-kwargs)"
        )


def refuse_visual_tokens(made: Sequence[Drawn], forbidden: Sequence[int], where: str) -> None:
    """Raise EngineError where an answer holds a token that no answer may hold."""
    never = set(forbidden)
    if any(never.intersection(one.tokens) for one in made):
        raise EngineError(f"{where}: it sampled a token of images, which has none behind it")


def first_difference(mine: Sequence[int], theirs: Sequence[int]) -> str:
    """Where two prompts differ, with the tokens around it."""
    same = min(len(mine), len(theirs))
    place = next((i for i in range(same) if mine[i] != theirs[i]), same)
    near = slice(max(0, place - 4), place + 5)
    return (
        f"they differ at token {place}: the policy's {list(mine[near])} (of {len(mine)}), the "
        f"server's {list(theirs[near])} (of {len(theirs)})"
    )
