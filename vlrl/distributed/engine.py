"""A DeepSpeed engine that takes an optimizer step exactly when `step` is called.

The sharding comes from a JSON file; batch sizes, learning rate, precision and clipping belong
to the run's config, and a JSON file that sets them is refused: two sources could disagree.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import deepspeed
import torch
from torch import nn

from vlrl.config.schema import DistConfig, OptimConfig
from vlrl.config.sharding import read_sharding
from vlrl.distributed.comm import World, all_sum, sum_in_place, wait_for_device
from vlrl.distributed.ema import WeightAverage, full_shape, some_values
from vlrl.distributed.gathering import gathered_to_disk
from vlrl.distributed.plain_paths import plain_path
from vlrl.distributed.safe_load import Files, SafeCheckpointEngine, safe_loading
from vlrl.distributed.schedule import lr_factor
from vlrl.distributed.waiting import waiting
from vlrl.errors import ConfigError, NonFiniteError

FROZEN = "values:"
"""Begins a fingerprint of frozen weights; others are of a version that made it in another way."""


class EngineConfig(Protocol):
    """The parts of a run's config that an engine reads."""

    @property
    def optim(self) -> OptimConfig: ...

    @property
    def dist(self) -> DistConfig: ...

    @property
    def num_steps_total(self) -> int: ...


def deepspeed_config(config: EngineConfig) -> dict[str, Any]:
    """The sharding file merged with what the run config owns; ConfigError on a conflict."""
    sharding = read_sharding(config.dist.deepspeed)
    return {
        **sharding,
        "train_micro_batch_size_per_gpu": 1,
        # step() is the boundary: any number of backward passes may come before it.
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.optim.grad_clip_norm,
        "bf16": {"enabled": config.dist.precision == "bf16"},
        **_accumulation(sharding, config.dist.precision),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
    }


def zero_stage(settings: dict[str, Any]) -> int:
    """The ZeRO stage; 0 = nothing is sharded."""
    return int(settings.get("zero_optimization", {}).get("stage", 0))


def _accumulation(sharding: dict[str, Any], precision: str) -> dict[str, Any]:
    """Accumulate gradients in float32, so that the sum does not depend on the number of chunks.

    Below stage 2 DeepSpeed cannot do so (stage 0) or switches to another optimizer (stage 1).
    """
    if precision != "bf16" or zero_stage(sharding) < 2:
        return {}
    return {"data_types": {"grad_accum_dtype": "fp32", **sharding.get("data_types", {})}}


class Engine:
    """A DeepSpeed engine with its optimizer, schedule and guard against non-finite gradients."""

    def __init__(self, module: nn.Module, config: EngineConfig, world: World) -> None:
        trainable = [p for p in module.parameters() if p.requires_grad]
        if not trainable:
            raise ConfigError("policy: no parameter is trainable")
        settings = deepspeed_config(config)
        self.stage = zero_stage(settings)
        optimizer = _adamw(trainable, config.optim, world)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: lr_factor(step, config.optim, config.num_steps_total)
        )
        self.num_steps_total = config.num_steps_total
        self.world = world
        self.suspects: list[str] = []
        self.engine, *_ = deepspeed.initialize(
            model=module,
            model_parameters=trainable,
            optimizer=optimizer,
            lr_scheduler=self.schedule,
            config=settings,
        )
        self.files = SafeCheckpointEngine()
        self.engine.checkpoint_engine = self.files
        self.options, self.precision = config.optim, config.dist.precision
        optimizer.register_step_pre_hook(self._guard)
        o = config.optim
        self.average = (
            WeightAverage(trainable, o.ema_decay, o.ema_every, o.ema_repeats)
            if o.ema_decay
            else None
        )

    @waiting("saving a checkpoint")
    def save(self, folder: str, tag: str) -> None:
        """Write weights, optimizer and schedule below a folder; all ranks call this.

        Frozen weights are those that the run starts from anyway.
        """
        self.engine.save_checkpoint(
            folder, tag=tag, save_latest=False, exclude_frozen_parameters=True
        )

    def copy_for_saving(self, folder: str, tag: str) -> Files:
        """As `save`, but into the host's memory: calling each of these writes it."""
        with self.files.later() as files:
            self.save(folder, tag)
        return files

    def state_bytes(self) -> int:
        """About what this rank writes into a checkpoint, without learning rewards."""
        trained = [p for p in self.engine.module.parameters() if p.requires_grad]
        num = sum(math.prod(full_shape(p)) for p in trained)
        weights = sum(math.prod(full_shape(p)) * p.element_size() for p in trained)
        is_sharded = self.stage > 0 or self.precision == "bf16"
        # Float32 weights and Adam's two averages; unsharded, the weights are the model's own.
        own = 12 * num // self.world.size if is_sharded else 0
        average = 4 * num if self.average is not None else 0
        if self.stage == 3:
            return own + average // self.world.size
        if self.world.is_main:
            own += weights + average + (0 if is_sharded else 8 * num)
        return own

    @waiting("loading a checkpoint")
    def load(self, folder: str, tag: str, *, universal: bool = False) -> bool:
        """Restore weights, optimizer and schedule; False where there is nothing to load.

        What `optim` says now is in force afterwards, whatever it was when the state was saved.
        universal: the folder is one that `vlrl/distributed/universal.py` has written.
        """
        with plain_path(folder) as place, safe_loading() if universal else nullcontext():
            self.engine._config.load_universal_checkpoint = universal
            try:
                loaded, _ = self.engine.load_checkpoint(
                    str(place), tag=tag, load_module_strict=False
                )
            finally:
                self.engine._config.load_universal_checkpoint = False
        if loaded is None:
            return False
        if universal:
            self._own_step_counts()
        o = self.options
        self.schedule.base_lrs = [o.lr] * len(self.schedule.base_lrs)
        lr = o.lr * lr_factor(self.schedule.last_epoch, o, self.num_steps_total)
        for group in self.schedule.optimizer.param_groups:
            group |= {
                "lr": lr,
                "initial_lr": o.lr,
                "betas": tuple(o.betas),
                "eps": o.eps,
                "weight_decay": o.weight_decay,
            }
        self.schedule._last_lr = [lr] * len(self.schedule.base_lrs)
        if self.stage:  # the optimizers of stages 1 and 2 take it from the checkpoint
            self.engine.optimizer.clip_grad = o.grad_clip_norm
        return True

    def _own_step_counts(self) -> None:
        """Give each flat weight its own count of Adam's steps, where Adam looks for it.

        DeepSpeed loads one tensor for all of them, which every one of them would then advance.
        """
        optimizer = self.schedule.optimizer
        on_device = any(group.get("fused") for group in optimizer.param_groups)
        for parameter, state in optimizer.state.items():
            if isinstance(state.get("step"), torch.Tensor):
                device = parameter.device if on_device else torch.device("cpu")
                state["step"] = state["step"].detach().to(device, copy=True)

    def fingerprint(self) -> str:
        """Names and shapes of what is trained; a checkpoint fits only where it is the same."""
        rows = [
            f"{name}:{list(full_shape(p))}"
            for name, p in self.engine.module.named_parameters()
            if p.requires_grad
        ]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]

    def frozen_fingerprint(self) -> str:
        """Names and some values of what is not trained; a checkpoint holds none of it.

        The same on all ranks, which call this together, and for any number of them.
        """
        named = self.engine.module.named_parameters()
        frozen = [(name, p) for name, p in named if not p.requires_grad]
        rows = [some_values(p, self.world.rank, 64) for _, p in frozen]
        # Each value is held by one rank, and 0 on the others.
        values = all_sum([value for row in rows for value in row], self.world)
        digest = hashlib.sha256("\n".join(name for name, _ in frozen).encode())
        digest.update(torch.tensor(values, dtype=torch.float64).numpy().tobytes())
        return FROZEN + digest.hexdigest()[:16]

    @waiting("a forward pass")
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.engine(*args, **kwargs)

    @waiting("a backward pass")
    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`; DeepSpeed averages over ranks, the caller wants the sum."""
        self.engine.backward(loss * self.world.size, scale_wrt_gas=False)

    @waiting("the optimizer step")
    def step(self, suspects: list[str]) -> float:
        """Clip and update; returns the gradient norm before clipping.

        Raises NonFiniteError, before any weight changes, naming the `suspects` (sample ids).
        """
        self.suspects = suspects
        num_skipped = self.engine.skipped_steps
        self.engine.step()
        if self.engine.skipped_steps > num_skipped:
            # With ZeRO or bf16 DeepSpeed checks first, and would skip the step silently.
            raise self._non_finite()
        if self.average is not None:
            self.average.update()
        norm = self.engine.get_global_grad_norm()
        return float("nan") if norm is None else float(norm)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def _guard(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Runs inside DeepSpeed's step, for the case that it does not check: fp32 without ZeRO."""
        bad = torch.zeros(1, device=self.world.device)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    # A norm neither copies nor synchronises; a flat gradient can be gigabytes.
                    grad = parameter.grad.detach()
                    wide = torch.promote_types(grad.dtype, torch.float32)
                    bad += ~torch.isfinite(torch.linalg.vector_norm(grad, dtype=wide))
        sum_in_place(bad, self.world)
        if bad.item():
            raise self._non_finite()

    def _non_finite(self) -> NonFiniteError:
        return NonFiniteError(
            "a gradient is nan or inf; the optimizer step was not taken. "
            f"Samples of this step: {', '.join(self.suspects)}"
        )

    @contextmanager
    def serving(self) -> Iterator[None]:
        """For sampling: under ZeRO-3 gather all weights once and take its hooks off.

        With the hooks on, every token of every answer would gather every layer again, and all
        ranks would have to write the same number of tokens.
        """
        if self.stage < 3:
            yield
            return
        gathered = deepspeed.zero.GatheredParameters(list(self.engine.module.parameters()))
        with ExitStack() as stack:
            with waiting("gathering the weights"):
                stack.enter_context(gathered)
                wait_for_device(self.world.device)
            _remove_hooks(self.engine)
            try:
                yield
            finally:
                _restore_hooks(self.engine)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the weights are their running average, if there is one."""
        with self.average.swapped() if self.average is not None else nullcontext():
            yield

    @contextmanager
    def weights(self, folder: Path) -> Iterator[dict[str, torch.Tensor]]:
        """The full weights, on CPU, on the main rank alone; all ranks enter and leave.

        Under ZeRO-3 they are gathered piece by piece into files in `folder` and read from there as
        they are needed, so that neither a GPU nor a host's memory has to hold the whole model.
        """
        named = dict(self.engine.module.named_parameters())
        if self.stage < 3:
            yield {name: p.detach().cpu() for name, p in named.items() if self.world.is_main}
            return
        with gathered_to_disk(named, folder, self.world) as found:
            yield found


def _adamw(
    parameters: list[nn.Parameter], options: OptimConfig, world: World
) -> torch.optim.Optimizer:
    """torch's AdamW: needs no compilation, and a resumed run equals an uninterrupted one."""
    return torch.optim.AdamW(
        parameters,
        lr=options.lr,
        betas=options.betas,
        eps=options.eps,
        weight_decay=options.weight_decay,
        fused=world.device.type == "cuda",
    )


def frozen_engine(module: nn.Module, stage: int, config: EngineConfig, world: World) -> Any:
    """A frozen model for inference: sharded like the policy under ZeRO-3, else whole."""
    if stage < 3:
        return module.to(world.device)
    settings = deepspeed_config(config)
    settings.pop("gradient_clipping")
    settings.pop("managed_gradient_accumulation")
    engine, *_ = deepspeed.initialize(model=module, config=settings)
    engine.eval()
    return engine


def _remove_hooks(engine: deepspeed.DeepSpeedEngine) -> None:
    """Take ZeRO-3's gathering hooks off every submodule."""
    offload = engine.optimizer.parameter_offload
    for parameter in engine.module.parameters():
        parameter.ds_active_sub_modules.clear()
    for hook in (*offload.forward_hooks, *offload.backward_hooks):
        hook.remove()
    offload.forward_hooks, offload.backward_hooks = [], []


def _restore_hooks(engine: deepspeed.DeepSpeedEngine) -> None:
    """Put them back, with the order of modules that the prefetcher has recorded.

    DeepSpeed would forget it, and number the modules anew: without it every pass of the next
    update gathers each weight by itself, the head once per chunk. The order still holds, since
    modules are the same; where a pass takes another one, DeepSpeed notices and records it.
    """
    offload = engine.optimizer.parameter_offload
    coordinator = offload.get_param_coordinator()
    coordinator._invalidate_trace = lambda: None
    try:
        offload._register_deepspeed_module(offload.module, count=[0])
    finally:
        del coordinator._invalidate_trace
