"""Rollouts by vLLM in the trainer's own process, on its device; weights through files in memory.

With `sleep`, the engine frees its memory after each drawing. Level 2 frees its weights too, which
are then handed over before the next drawing even where they have not changed: reloading what it was
started with would undo the training (trl#5312). Sleeping was read in vLLM 0.32 and not run here.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlrl.distributed.comm import before_leaving
from vlrl.errors import ConfigError, EngineError, first_line
from vlrl.families.encoded import EncodedPrompt
from vlrl.families.reading import Reader, as_chat
from vlrl.policy.distribution import Sampling
from vlrl.policy.vision_language.decode import Decoded
from vlrl.policy.vision_language.options import EngineOptions
from vlrl.policy.vision_language.samplers import wire
from vlrl.policy.vision_language.samplers.exported import tensors
from vlrl.policy.vision_language.samplers.handover import handover
from vlrl.policy.vision_language.samplers.sampler import Export, refuse_long
from vlrl.policy.vision_language.samplers.servable import (
    add_head,
    environment,
    is_cpu_build,
    served_as,
)
from vlrl.policy.vision_language.samplers.server import decoded
from vlrl.types import Sample

SHARED_MEMORY = Path("/dev/shm")
ASLEEP = ("weights", "kv_cache")
"""vLLM's names of what sleeps."""
CPU_CONTEXT_TOKENS = 2048
BATCHED_TOKENS = 16_384
"""No batch may cut a prompt on a CPU; on a GPU the default makes it reserve too much."""


class ColocatedSampler:
    """One vLLM engine inside each rank."""

    is_beside = False

    def __init__(
        self,
        options: EngineOptions,
        model: str,
        reader: Reader,
        sampling: Sampling,
        *,
        rank: int,
        max_tokens: int,
        stop: Sequence[str],
        stop_tokens: Sequence[int],
        forbidden: Sequence[int],
    ) -> None:
        """Raises ConfigError where there is no vLLM, or no memory for it."""
        self.options, self.reader, self.sampling = options, reader, sampling
        self.max_tokens, self.stop = max_tokens, stop
        self.stop_tokens, self.forbidden = list(stop_tokens), list(forbidden)
        self.version: int | None = -1
        self.num_published = 0
        self._asleep: set[str] = set()
        self._seconds = {"engine/sync_s": 0.0, "engine/generate_s": 0.0}
        vllm = _vllm()
        is_cpu = bool(vllm.platforms.current_platform.is_cpu())
        if is_cpu and options.sleep:
            raise ConfigError("policy.engine.sleep needs a GPU: leave it at 0")
        try:
            served, laid = served_as(model, untie=is_cpu)
        except ValueError as error:
            raise ConfigError(f"{model}: {error}") from error
        self.needs_head = laid.get("tie_word_embeddings") is False
        own: dict[str, Any] = {"gpu_memory_utilization": options.memory_share}
        if is_cpu:
            own = {"enforce_eager": True, "max_model_len": CPU_CONTEXT_TOKENS, "dtype": "float32"}
        _name_ranks()
        try:
            self.llm = vllm.LLM(
                model=served,
                hf_overrides=laid,
                distributed_executor_backend="external_launcher",
                seed=rank,
                logprobs_mode="processed_logprobs",
                enable_prefix_caching=True,
                enable_sleep_mode=options.sleep > 0,
                max_num_batched_tokens=BATCHED_TOKENS,
                **own,
            )
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"policy.engine.mode: colocate: vLLM does not start ({first_line(error)}). Where "
                f"its memory does not suffice: policy.engine.memory_share ({options.memory_share:g}"
                "), sleep: 2, fewer or shorter answers, or mode: server on other GPUs"
            ) from error
        # At the interpreter's end its groups would be gone before it.
        before_leaving(self.llm.llm_engine.engine_core.shutdown)
        self._params = vllm.SamplingParams
        self.context_tokens = int(self.llm.llm_engine.model_config.max_model_len)
        base = options.sync_folder or (str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None)
        self.folder = handover(base)

    def publish(self, export: Export, version: int) -> None:
        """Write the weights, have the engine read them, and empty every cache of the old ones."""
        start = time.perf_counter()
        self.num_published += 1
        folder = self.folder / str(self.num_published)
        export(str(folder))
        if self.needs_head:
            add_head(folder)
        self._wake("weights")
        try:
            # Not by the folder's name, at which this process would then look for the processor too.
            weights = {"weights_iterator": tensors(folder)}
            self.llm.collective_rpc("reload_weights", kwargs=weights)
        finally:
            shutil.rmtree(folder)
        self.llm.reset_prefix_cache()
        self.llm.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()
        self.version = version
        self._seconds["engine/sync_s"] += time.perf_counter() - start

    def check_room(self, prompt: EncodedPrompt, sample: Sample) -> None:
        """Raise DataError where the context holds no whole answer: it would end early."""
        hint = "shorten the prompt, or use mode: server with a larger --max-model-len"
        refuse_long(prompt, sample, self.max_tokens, self.context_tokens, hint)

    def _wake(self, *tags: str) -> None:
        """Bring back what is asleep of these."""
        some = [tag for tag in tags if tag in self._asleep]
        if some:
            self.llm.wake_up(tags=some)
            self._asleep.difference_update(some)

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
        self._wake(*ASLEEP)
        asked = [self._prompt(*pair) for pair in zip(samples, prompts, strict=True)]
        params = [
            self._params(**self._how(num_each, seeds[place * num_each], greedy, most))
            for place in range(len(prompts))
        ]
        found = self.llm.generate(asked, params, use_tqdm=False)
        made: list[wire.Drawn] = []
        for answer, sample, prompt in zip(found, samples, prompts, strict=True):
            made += self._drawn(answer, sample, prompt, num_each)
        if self.options.sleep:
            self.llm.sleep(level=self.options.sleep)
            self._asleep = set(ASLEEP)
            if self.options.sleep == 2:
                self.version = -1  # so that the weights are handed over before the next drawing
        self._seconds["engine/generate_s"] += time.perf_counter() - start
        return decoded(made, self.reader, len(prompts))

    def _prompt(self, sample: Sample, prompt: EncodedPrompt) -> dict[str, Any]:
        text = self.reader.processor.apply_chat_template(
            as_chat(self.reader, sample.prompt), tokenize=False, add_generation_prompt=True
        )
        images = wire.pictures(self.reader, sample, prompt.image_sizes_px)
        return {"prompt": text, "multi_modal_data": {"image": images} if images else None}

    def _how(self, num_each: int, seed: int, greedy: bool, most_tokens: int) -> dict[str, Any]:
        how = wire.sampling_params(
            num_each=num_each,
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
        del how["output_kind"]  # the engine's own here
        how["logit_bias"] = {int(token): bias for token, bias in how["logit_bias"].items()}
        return how

    def _drawn(
        self, answer: Any, sample: Sample, prompt: EncodedPrompt, num_each: int
    ) -> list[wire.Drawn]:
        where = f"vLLM in this process, sample {sample.id!r}"
        wire.refuse_other_prompt(self.reader, prompt, list(answer.prompt_token_ids), where)
        if len(answer.outputs) != num_each:
            raise EngineError(f"{where}: {len(answer.outputs)} answers came for n = {num_each}")
        made = []
        for one in sorted(answer.outputs, key=lambda one: one.index):
            tokens = list(one.token_ids)
            scores = list(one.logprobs or ())
            if not tokens or len(scores) != len(tokens):
                raise EngineError(f"{where}: an answer came without a log-prob of each token")
            found = [at[token].logprob for at, token in zip(scores, tokens, strict=True)]
            logp = wire.finite(found, where)
            versions = [self.version or 0] * len(tokens)
            made.append(wire.Drawn(tokens, logp, one.finish_reason == "length", versions))
        wire.refuse_visual_tokens(made, self.forbidden, where)
        return made

    def begin(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: Sequence[Sample],
        num_each: int,
        seeds: Sequence[int],
    ) -> Callable[[], Decoded]:
        """All is drawn before this returns: trainer and engine share their device."""
        made = self.sample(prompts, samples, num_each, seeds, greedy=False)
        return lambda: made

    def abandon(self) -> None:
        """Nothing is under way between calls."""

    def facts(self) -> Mapping[str, float]:
        """Seconds of publications and of drawings since the last call."""
        found = dict(self._seconds)
        self._seconds = dict.fromkeys(found, 0.0)
        return found


def _vllm() -> Any:
    """vLLM of this environment; raises ConfigError."""
    own = environment({}, is_cpu=is_cpu_build()) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    for name, value in own.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        import vllm.platforms
    except ImportError as error:
        raise ConfigError(
            "policy.engine.mode: colocate needs vLLM in the trainer's environment "
            f"(pip install 'vlrl[vllm]'; {first_line(error)}); mode: server needs it in another"
        ) from error
    wire.refuse_old(vllm.__version__, "policy.engine.mode: colocate")
    return vllm


def _name_ranks() -> None:
    """What vLLM's launcher reads where the trainer was started without one."""
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in alone.items():
        os.environ.setdefault(name, value)
    if "MASTER_PORT" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            os.environ["MASTER_PORT"] = str(probe.getsockname()[1])
