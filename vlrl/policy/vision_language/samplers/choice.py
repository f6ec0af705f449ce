"""The sampler that a policy's options ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlrl.errors import ConfigError
from vlrl.policy.vision_language.samplers.checked import CheckedSampler
from vlrl.policy.vision_language.samplers.colocated import ColocatedSampler
from vlrl.policy.vision_language.samplers.exported import WholeModel
from vlrl.policy.vision_language.samplers.own import OwnSampler
from vlrl.policy.vision_language.samplers.sampler import Sampler
from vlrl.policy.vision_language.samplers.server import ServerSampler
from vlrl.policy.vision_language.samplers.sglang import SglangSampler
from vlrl.policy.vision_language.samplers.stale import Suspects, files_of
from vlrl.policy.vision_language.samplers.transfer import TransferSampler
from vlrl.protocols import PolicySetup

if TYPE_CHECKING:
    from vlrl.policy.vision_language.policy import VisionLanguagePolicy


def sampler_of(policy: VisionLanguagePolicy, setup: PolicySetup) -> Sampler:
    """The policy's own loop, its rank's server, or an engine inside its process.

    Raises ConfigError and EngineError.
    """
    options = policy.options.engine
    if options.use == "own":
        return OwnSampler(policy)
    if setup.sequence is not None:
        raise ConfigError(
            "policy.engine and dist.sequence_parallel cannot be used together yet: leave one out"
        )
    model = policy.options
    inner = _colocated(policy, setup) if options.mode == "colocate" else _server(policy, setup)
    return CheckedSampler(
        inner,
        lambda: policy.version,
        WholeModel(policy.module.model),
        Suspects(
            policy.encoder.encode,
            policy.score,
            policy.module,
            options.max_gap,
            # Under ZeRO-3 no other head can be laid over a rank's part.
            lambda: files_of(model.model, model.revision) if setup.zero_stage < 3 else None,
        ),
        max_gap=options.max_gap,
        num_rows=options.num_canary_rows,
    )


def _server(policy: VisionLanguagePolicy, setup: PolicySetup) -> ServerSampler:
    options = policy.options.engine
    if len(options.urls) < setup.num_ranks:
        raise ConfigError(
            f"policy.engine.urls has {len(options.urls)} servers for {setup.num_ranks} ranks; each "
            "rank talks to its own: start more, or use fewer ranks"
        )
    if options.swap == "middle" and policy.options.stop:
        raise ConfigError(
            "policy.engine.swap: middle, and policy.stop: a stop string that new weights cut in "
            "two would not be seen; use swap: between, or stop tokens alone"
        )
    kind = SglangSampler if options.use == "sglang" else ServerSampler
    if options.sync == "nccl":
        kind = TransferSampler
    made = kind(
        options,
        options.urls[setup.rank],
        policy.encoder,
        policy.module.sampling,
        max_tokens=policy.options.max_new_tokens,
        stop=policy.options.stop,
        stop_tokens=policy.stop_tokens.tolist(),
        forbidden=policy.module.forbidden.tolist(),
    )
    made.refuse_other_model(policy.options.model)
    return made


def _colocated(policy: VisionLanguagePolicy, setup: PolicySetup) -> ColocatedSampler:
    return ColocatedSampler(
        policy.options.engine,
        policy.options.model,
        policy.encoder,
        policy.module.sampling,
        rank=setup.rank,
        max_tokens=policy.options.max_new_tokens,
        stop=policy.options.stop,
        stop_tokens=policy.stop_tokens.tolist(),
        forbidden=policy.module.forbidden.tolist(),
    )
