"""Rollouts on an SGLang server, by its native interface.

    GET  /model_info, /server_info     what it serves and how it was started
    POST /generate                     a text with pictures, and how to draw -> n answers
    POST /update_weights_from_disk     {"model_path": ..., "flush_cache": true, ...}

Its log-probs are those before top-p and top-k, so that both must be off. It was read in SGLang's
source of 2026 and served by our own loop in tests; no SGLang has run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlrl.errors import ConfigError, EngineError
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.reading import as_chat
from vlrl.policy.vision_language.samplers import wire
from vlrl.policy.vision_language.samplers.server import ServerSampler
from vlrl.types import Sample

MODEL, INFO, GENERATE = "/model_info", "/server_info", "/generate"
UPDATE, ABORT = "/update_weights_from_disk", "/abort_request"


class SglangSampler(ServerSampler):
    """One SGLang server as the sampler of one rank's policy."""

    how_to_start = "`python -m sglang.launch_server --model-path MODEL`, 0.5.13 or later"
    context_flag = "--context-length"

    def _check_server(self) -> str:
        if self.sampling.top_p < 1 or self.sampling.top_k:
            raise ConfigError(
                "policy.top_p and top_k must be off for policy.engine.use: sglang, whose log-probs "
                "are those before these filters; use vllm, or own"
            )
        if self.options.swap == "middle":
            raise ConfigError("policy.engine.swap: middle needs use: vllm; sglang has between")
        model, info = self._call("GET", MODEL), self._call("GET", INFO)
        if model.get("is_generation") is False or model.get("has_image_understanding") is False:
            raise EngineError(f"{self.url}: its model {model.get('model_path')} reads no images")
        if model.get("preferred_sampling_params"):
            raise EngineError(
                f"{self.url}: it has sampling parameters of its own, which would change the "
                "distribution; start it without --preferred-sampling-params"
            )
        if info.get("enable_deterministic_inference"):
            raise EngineError(
                f"{self.url}: --enable-deterministic-inference would give all answers of a group "
                "the same random numbers; start it without"
            )
        self._refuse_other_parallel(info.get("tp_size"), "--tp-size")
        room = info.get("context_length") or info.get("max_req_input_len")
        self._take_context(room)
        self.names = [str(model.get("model_path"))]
        return self.names[0]

    def _needs_head(self) -> bool:
        return False

    def _read_weights(self, folder: str) -> None:
        body = {
            "model_path": folder,
            "flush_cache": True,
            "weight_version": str(self.num_published),
        }
        answer = self._call("POST", UPDATE, body)
        if answer.get("success") is not True:
            raise EngineError(f"{self.url}{UPDATE}: {answer.get('message', answer)}")
        version = self._call("GET", MODEL).get("weight_version")
        if version != body["weight_version"]:
            raise EngineError(
                f"{self.url}: its weights are version {version!r} after {body['weight_version']!r} "
                "was handed over; does someone else update this server?"
            )

    def _abort(self) -> None:
        self._call("POST", ABORT, {"abort_all": True})

    def _group(
        self,
        prompt: EncodedPrompt,
        sample: Sample,
        num_each: int,
        seed: int,
        greedy: bool,
        most_tokens: int,
    ) -> list[wire.Drawn]:
        where = f"rollout server {self.url}, sample {sample.id!r}"
        text = self.reader.processor.apply_chat_template(
            as_chat(self.reader, sample.prompt), tokenize=False, add_generation_prompt=True
        )
        images = wire.pictures(self.reader, sample, prompt.image_sizes_px)
        body = {
            "text": text,
            "image_data": [wire.data_url(image) for image in images] or None,
            "sampling_params": self._params(num_each, seed, greedy, most_tokens),
            "return_logprob": True,
            "logprob_start_len": -1,
            "return_prompt_token_ids": True,
        }
        with self.gate.request():
            version = self.version
            answer = self._call("POST", GENERATE, body)
        listed = answer.get("value", [answer])
        with self._call.reading(GENERATE):
            made = drawn(listed, num_each, where, version)
        wire.refuse_other_prompt(self.reader, prompt, prompt_ids(listed[0], where), where)
        wire.refuse_visual_tokens(made, self.forbidden, where)
        return made

    def _params(self, num: int, seed: int, greedy: bool, most_tokens: int) -> dict[str, Any]:
        """How to draw a group; SGLang has no seed for each of several answers."""
        return {
            **self.options.sampling_params,
            "n": num,
            "temperature": 0.0 if greedy else self.sampling.temperature,
            "max_new_tokens": most_tokens,
            "stop": list(self.stop),
            "stop_token_ids": list(self.stop_tokens),
            "no_stop_trim": True,
            "skip_special_tokens": False,
            "logit_bias": {str(token): wire.FORBIDDEN_BIAS for token in self.forbidden},
        }


def prompt_ids(one: Mapping[str, Any], where: str) -> list[int]:
    """The prompt as the server read it; raises EngineError where it does not say so."""
    ids = one.get("prompt_token_ids")
    if not isinstance(ids, list) or not all(isinstance(i, int) for i in ids):
        raise EngineError(
            f"{where}: {GENERATE} returned no prompt_token_ids, which tell whether it has the "
            "policy's prompt; this SGLang is too old: 0.5.13 has them"
        )
    return ids


def drawn(listed: object, num_each: int, where: str, version: int | None) -> list[wire.Drawn]:
    """The answers of a group; raises EngineError where tokens or their log-probs are missing."""
    if not isinstance(listed, Sequence) or len(listed) != num_each:
        found = len(listed) if isinstance(listed, Sequence) else "no"
        raise EngineError(f"{where}: {found} answers came back for n = {num_each}")
    made = []
    for one in listed:
        meta = one.get("meta_info") if isinstance(one, Mapping) else None
        scores = meta.get("output_token_logprobs") if isinstance(meta, Mapping) else None
        if not isinstance(meta, Mapping) or not scores:
            raise EngineError(f"{where}: an answer came without a log-prob of each token")
        ended = meta.get("finish_reason")
        kind = ended.get("type") if isinstance(ended, Mapping) else ended
        if kind not in ("stop", "length"):
            raise EngineError(f"{where}: an answer ended by {ended!r}")
        tokens = [int(score[1]) for score in scores]
        if "output_ids" in one and list(one["output_ids"]) != tokens:
            raise EngineError(f"{where}: log-probs came for other tokens than the answer's")
        logp = wire.finite([score[0] for score in scores], where)
        made.append(wire.Drawn(tokens, logp, kind == "length", [version or 0] * len(tokens)))
    return made
