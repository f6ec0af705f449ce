"""Requests and answers of vLLM's server for rollouts, as plain JSON.

    POST /v1/chat/completions/render   messages with pictures -> token ids and their features
    POST /inference/v1/generate        those, and how to draw -> n answers with log-probs
    POST /collective_rpc               {"method": "reload_weights", "kwargs": {"weights_path": ...}}
    POST /abort_requests               {} -> all requests end with what they have, "abort"
    GET  /server_info                  how it was started
    POST /reset_prefix_cache, /reset_mm_cache, /reset_encoder_cache

The first two need `--enable-scale-out`, the others VLLM_SERVER_DEV_MODE=1 (scripts/setup_vllm.sh
writes a command that has both). Read on vLLM 0.32.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vlrl.errors import EngineError
from vlrl.families.reading import Reader
from vlrl.types import Sample, TextPart, VideoPart

RENDER, GENERATE = "/v1/chat/completions/render", "/inference/v1/generate"
ABORT = "/abort_requests"
"""Without ids: all that are under way come back with what they have."""
INFO = "/server_info?config_format=json"
CACHES = ("/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache")
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


def chat(
    reader: Reader, sample: Sample, sizes_px: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """A sample's messages with its pictures as PNG, resized as the policy sees them.

    sizes_px: of all pictures after resizing; empty where the server's processor does it.
    """
    messages = []
    sizes = iter(sizes_px)
    for message in sample.prompt:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": reader.text(part)})
            elif isinstance(part, VideoPart):
                raise EngineError(
                    f"sample {sample.id!r}: videos cannot be sent to the engine; leave "
                    "policy.engine out for this task"
                )
            else:
                image = reader.opens(part)
                size = next(sizes, image.size)
                if size != image.size:
                    image = image.resize(size, Image.Resampling.BICUBIC)
                content.append({"type": "image_url", "image_url": {"url": data_url(image)}})
        messages.append({"role": message.role, "content": content})
    return messages


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
    """How to draw a group; `extra` is passed on as it is."""
    return {
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
        **extra,
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
        logp = [float(one["logprob"]) for one in listed]
        versions = [version or 0] * len(tokens)
        made.append(Drawn(list(tokens), logp, reason == "length", versions, reason == "abort"))
    return made


def first_difference(mine: Sequence[int], theirs: Sequence[int]) -> str:
    """Where two prompts differ, with the tokens around it."""
    same = min(len(mine), len(theirs))
    place = next((i for i in range(same) if mine[i] != theirs[i]), same)
    near = slice(max(0, place - 4), place + 5)
    return (
        f"they differ at token {place}: the policy's {list(mine[near])} (of {len(mine)}), the "
        f"server's {list(theirs[near])} (of {len(theirs)})"
    )
