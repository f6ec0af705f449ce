"""Rollouts on a vLLM server: whole groups in one request, weights through a folder on disk.

Every rank talks to its own server. After each publication the first answers are scored by the
trainer too (`VisionLanguagePolicy`): a gap that jumps stops the run before it learns from them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vlrl.errors import ConfigError, EngineError
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.reading import Reader
from vlrl.policy.distribution import Sampling
from vlrl.policy.vision_language.decode import Decoded
from vlrl.policy.vision_language.options import EngineOptions
from vlrl.policy.vision_language.samplers import wire
from vlrl.policy.vision_language.samplers.calls import Calls
from vlrl.policy.vision_language.samplers.gate import Gate
from vlrl.policy.vision_language.samplers.handover import handover
from vlrl.policy.vision_language.samplers.sampler import Export, refuse_long
from vlrl.policy.vision_language.samplers.servable import add_head
from vlrl.seeds import row_seed
from vlrl.types import Finish, Sample

MODELS = "/v1/models"
MAX_REQUESTS = 32
"""Groups that are asked for at once; the server queues what it cannot batch."""
MAX_PIXELS = 1 << 26
"""Of the groups that are asked for at once: each holds its pictures as text, 32 bytes a pixel."""


class ServerSampler:
    """One vLLM server as the sampler of one rank's policy."""

    is_beside = True
    how_to_start = "`vlrl serve-vllm MODEL PORT`"
    context_flag = "--max-model-len"

    def __init__(
        self,
        options: EngineOptions,
        url: str,
        reader: Reader,
        sampling: Sampling,
        *,
        max_tokens: int,
        stop: Sequence[str],
        stop_tokens: Sequence[int],
        forbidden: Sequence[int],
    ) -> None:
        """Raises EngineError for a server that is not there or cannot hold the answers."""
        self.options, self.url, self.reader, self.sampling = options, url, reader, sampling
        self.max_tokens, self.stop = max_tokens, stop
        self.stop_tokens, self.forbidden = list(stop_tokens), list(forbidden)
        self._call = Calls(options, url, self.how_to_start)
        self.version: int | None = -1
        self.gate = Gate()
        self._seconds = {"engine/sync_s": 0.0, "engine/generate_s": 0.0}
        self.num_published = 0
        self.context_tokens: int | None = None
        self.model = self._check_server()
        self.needs_head = self._needs_head()

    @cached_property
    def folder(self) -> Path:
        """Where weights are handed over."""
        return handover(self.options.sync_folder)

    def _check_server(self) -> str:
        """The name of the server's model."""
        answer = self._call("GET", MODELS)
        listed = answer.get("data")
        if not isinstance(listed, list) or not listed:
            raise EngineError(f"{self.url}: {MODELS} lists no model")
        with self._call.reading(MODELS):
            self._take_context(listed[0].get("max_model_len"))
            self.names = [str(one.get(key)) for one in listed for key in ("id", "root")]
            return str(listed[0].get("id"))

    def _take_context(self, room: object) -> None:
        if isinstance(room, int) and room <= self.max_tokens:
            raise EngineError(
                f"{self.url}: its context holds {room} tokens and policy.max_new_tokens alone is "
                f"{self.max_tokens}; start it with a larger {self.context_flag}"
            )
        self.context_tokens = room if isinstance(room, int) else None

    def check_room(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """Raise DataError where the context holds no whole answer: it would end early."""
        hint = f"start the server with a larger {self.context_flag}"
        refuse_long(prompt, sample, self.max_tokens, self.context_tokens, hint)

    def refuse_other_model(self, model: str) -> None:
        """Raise ConfigError where the server was started with another checkpoint."""
        if {model, str(Path(model).resolve())}.isdisjoint(self.names):
            raise ConfigError(
                f"{self.url} serves {', '.join(dict.fromkeys(self.names))}, not {model}: start it "
                f"by {self.how_to_start}, or name another server"
            )

    def _needs_head(self) -> bool:
        """Whether it was started with the head of tied embeddings as a tensor of its own.

        Raises EngineError where it was started otherwise than rollouts need it.
        """
        wire.refuse_old(self._call("GET", wire.VERSION).get("version"), self.url)
        config = self._call("GET", wire.INFO).get("vllm_config")
        model = config.get("model_config") if isinstance(config, Mapping) else None
        if not isinstance(config, Mapping) or not isinstance(model, Mapping):
            raise EngineError(
                f"rollout server {self.url}: {wire.INFO} says nothing of its model; start it by "
                f"{self.how_to_start}"
            )
        mode = model.get("logprobs_mode")
        if mode != wire.LOGPROBS:
            raise EngineError(
                f"{self.url}: its log-probs are {mode}, not those of the distribution that it "
                f"draws from; start it with --logprobs-mode {wire.LOGPROBS}"
            )
        parallel = config.get("parallel_config")
        num = parallel.get("tensor_parallel_size") if isinstance(parallel, Mapping) else None
        self._refuse_other_parallel(num, "--tensor-parallel-size")
        laid = model.get("hf_overrides")
        return isinstance(laid, Mapping) and laid.get("tie_word_embeddings") is False

    def _refuse_other_parallel(self, num: object, flag: str) -> None:
        asked = self.options.tensor_parallel
        if num not in (None, asked):
            raise EngineError(
                f"{self.url}: it was started on {num} GPUs and policy.engine.tensor_parallel is "
                f"{asked}; start it with {flag} {asked}, or set tensor_parallel: {num}"
            )

    def publish(self, export: Export, version: int) -> None:
        """Write the weights, have the server read them, and empty every cache of the old ones.

        Answers under way are waited for, or go on with the new weights (`engine.swap`).
        """
        start = time.perf_counter()
        self.num_published += 1
        # Not by the version: averaged weights have that of the others.
        folder = self.folder / str(self.num_published)
        export(str(folder))
        if self.needs_head:
            add_head(folder)
        with self._quiet():
            self._read_weights(str(folder.resolve()))
            self.version = version
        for old in self.folder.iterdir():
            if old != folder:
                shutil.rmtree(old)
        self._seconds["engine/sync_s"] += time.perf_counter() - start

    def _read_weights(self, folder: str) -> None:
        path = {"weights_path": folder}
        self._call("POST", "/collective_rpc", {"method": "reload_weights", "kwargs": path})
        for cache in wire.CACHES:
            self._call("POST", cache)

    def _quiet(self) -> AbstractContextManager[None]:
        """Inside, the server draws nothing."""
        if self.options.swap == "middle":
            return self.gate.between_requests(self._abort)
        return self.gate.after_drawings()

    def abandon(self) -> None:
        """The server ends the requests under way, and their threads end with them."""
        self.gate.end(self._abort)

    def _abort(self) -> None:
        self._call("POST", wire.ABORT, {})

    def sample(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        num_each: int,
        seeds: Sequence[int],
        *,
        greedy: bool,
        most_tokens: int | None = None,
    ) -> Decoded:
        """`num_each` answers to each prompt; a group is drawn with the seed of its first row."""
        for prompt, sample in zip(prompts, samples, strict=True):
            self.check_room(prompt, sample)
        start = time.perf_counter()
        most = min(most_tokens or self.max_tokens, self.max_tokens)
        with ThreadPoolExecutor(num_at_once(prompts)) as pool:
            groups = list(
                pool.map(
                    lambda place: self._group(
                        prompts[place],
                        samples[place],
                        num_each,
                        seeds[place * num_each],
                        greedy,
                        most,
                    ),
                    range(len(prompts)),
                )
            )
        self._seconds["engine/generate_s"] += time.perf_counter() - start
        return decoded([one for group in groups for one in group], self.reader, len(prompts))

    def begin(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        num_each: int,
        seeds: Sequence[int],
    ) -> Callable[[], Decoded]:
        """A drawing that publications wait for, or interrupt."""
        for prompt, sample in zip(prompts, samples, strict=True):
            self.check_room(prompt, sample)
        is_over = self.gate.announce()

        def draw() -> Decoded:
            try:
                return self.sample(prompts, samples, num_each, seeds, greedy=False)
            finally:
                is_over()

        return draw

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
        messages: dict[str, Any] = {
            "model": self.model,
            "messages": wire.chat(self.reader, sample, prompt.image_sizes_px),
            "max_tokens": 1,
        }
        rendered = self._call("POST", wire.RENDER, messages)
        ids = wire.rendered_ids(rendered, where)
        wire.refuse_other_prompt(self.reader, prompt, ids, where)
        features = rendered.get("features")

        def request(tokens: list[int], num: int, some_seed: int) -> list[wire.Drawn]:
            body = {
                "request_id": f"{sample.seed_name}-{some_seed}-{time.time_ns()}",
                "model": self.model,
                "token_ids": ids + tokens,
                "features": features,
                "sampling_params": self._params(num, some_seed, greedy, most_tokens - len(tokens)),
            }
            with self.gate.request():
                version = self.version
                answer = self._call("POST", wire.GENERATE, body)
            with self._call.reading(wire.GENERATE):
                return wire.drawn(answer, num, where, version)

        made = whole(request, num_each, seed)
        wire.refuse_visual_tokens(made, self.forbidden, where)
        return made

    def _params(self, num: int, seed: int, greedy: bool, most_tokens: int) -> dict[str, Any]:
        return wire.sampling_params(
            num_each=num,
            seed=seed,
            greedy=greedy,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            top_k=self.sampling.top_k,
            max_tokens=most_tokens,
            stop=self.stop,
            stop_tokens=self.stop_tokens,
            forbidden=self.forbidden,
            extra=self.options.sampling_params,
        )

    def facts(self) -> Mapping[str, float]:
        """Seconds of publications and of requests since the last call."""
        found = dict(self._seconds)
        self._seconds = dict.fromkeys(found, 0.0)
        return found


def num_at_once(prompts: Sequence[EncodedPrompt]) -> int:
    """How many of these groups are asked for at once; at least one."""
    sizes = [sum(width * height for width, height in p.image_sizes_px) for p in prompts]
    return max(1, min(MAX_REQUESTS, len(prompts), MAX_PIXELS // max([1, *sizes])))


Request = Callable[[list[int], int, int], list[wire.Drawn]]
"""Tokens that an answer begins with, a number of answers, a seed -> these answers."""


def whole(request: Request, num_each: int, seed: int) -> list[wire.Drawn]:
    """A group's answers, each gone on with where new weights have interrupted it."""
    made = request([], num_each, seed)
    while not any(one.tokens for one in made):  # it had not begun: once more, as a group
        made = request([], num_each, seed)

    def finished(index: int) -> wire.Drawn:
        one = made[index]
        while one.is_interrupted:
            place = row_seed(seed, str(index), len(one.tokens))
            one = one.joined(request(one.tokens, 1, place)[0])
        return one

    if not any(one.is_interrupted for one in made):
        return made
    with ThreadPoolExecutor(num_each) as pool:
        return list(pool.map(finished, range(num_each)))


def decoded(answers: Sequence[wire.Drawn], reader: Reader, num_prompts: int) -> Decoded:
    """Answers as rows, padded on the right."""
    width = max(len(one.tokens) for one in answers)
    pad = reader.processor.tokenizer.pad_token_id
    tokens = torch.full((len(answers), width), pad)
    mask = torch.zeros(len(answers), width, dtype=torch.bool)
    logp = torch.zeros(len(answers), width)
    version = torch.zeros(len(answers), width, dtype=torch.long)
    for row, one in enumerate(answers):
        length = len(one.tokens)
        tokens[row, :length] = torch.tensor(one.tokens)
        mask[row, :length] = True
        logp[row, :length] = torch.tensor(one.logp)
        version[row, :length] = torch.tensor(one.versions)
    finish = [Finish.LENGTH if one.is_cut else Finish.STOP for one in answers]
    return Decoded(tokens, mask, logp, finish, [None] * num_prompts, version)
