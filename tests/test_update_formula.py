"""The loss of one update, its minibatches and its metrics, each against a formula written out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vlrl.algo.objectives import Objective
from vlrl.config.schema import AlgoConfig
from vlrl.distributed.comm import World
from vlrl.log.metrics import Meter
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.protocols import Evaluation
from vlrl.train.passes import Pass
from vlrl.train.update import Batch, _chunk_loss, _minibatches, _record, update

WORLD = World(0, 1, torch.device("cpu"))
LENGTHS = (3, 1, 2, 4)
OnePass = Pass[TokenTrajectory]
BETA, COEF, LOW, HIGH = 0.3, 0.07, 0.1, 0.4


class Table:
    """A policy that is its log-probs; a row's first token says which row it is."""

    device = torch.device("cpu")

    def __init__(self, num_rows: int, width: int, *, weighs: bool = False) -> None:
        make = torch.Generator().manual_seed(0)
        self.logp, self.kl, self.entropy, weight = (
            torch.rand(num_rows, width, generator=make) for _ in range(4)
        )
        self.leaves = [x.requires_grad_() for x in (self.logp, self.kl, self.entropy)]
        self.weight = weight + 0.5 if weighs else None
        self.asked: list[bool] = []

    def evaluate(self, part: TokenTrajectory, *, with_entropy_grad: bool = False) -> Evaluation:
        self.asked.append(with_entropy_grad)
        rows = part.tokens[:, 0]
        weight = None if self.weight is None else self.weight[rows]
        return Evaluation(self.logp[rows], self.kl[rows], self.entropy[rows], weight)

    def plan(self, trajectory: TokenTrajectory, rows: Sequence[int]) -> list[list[int]]:
        return [list(rows)]


class Shifting:
    """An engine whose every step adds 0.1 to all log-probs."""

    lr = 1e-3

    def __init__(self, policy: Table) -> None:
        self.policy = policy
        self.num_backward = 0

    def backward(self, loss: Tensor) -> None:
        self.num_backward += 1

    def step(self, names: Sequence[str]) -> float:
        with torch.no_grad():
            self.policy.logp += 0.1
        return 1.0


def trajectory_of(lengths: Sequence[int], group: Sequence[int], logp: Tensor) -> TokenTrajectory:
    rows = torch.arange(len(lengths))
    mask = torch.arange(logp.shape[1]) < torch.tensor(lengths)[:, None]
    return TokenTrajectory(rows[:, None].expand_as(mask), mask, logp, torch.tensor(group), ())


def batch_of(
    lengths: Sequence[int], group: Sequence[int], logp: Tensor, kept: Sequence[bool] | None = None
) -> Batch:
    num = len(lengths)
    return Batch(
        trajectory=trajectory_of(lengths, group, logp),
        advantage=torch.tensor([1.5, -0.5, -2.0, 0.8])[torch.arange(num) % 4],
        row_weight=torch.tensor([0.5, 3.0, 2.0, 1.25])[torch.arange(num) % 4],
        kept=torch.ones(num, dtype=torch.bool) if kept is None else torch.tensor(kept),
        sample_ids=[f"s{i}" for i in range(num)],
    )


def algo(**over: object) -> AlgoConfig:
    given = {"kl_beta": BETA, "entropy_coef": COEF, "clip": {"low": LOW, "high": HIGH}, **over}
    return AlgoConfig.model_validate(given)


def over(
    batch: Batch[TokenTrajectory], chunk: list[int], old: Tensor | None
) -> Pass[TokenTrajectory]:
    """A pass over some rows."""
    kept = None if old is None else old[chunk]
    values = (batch.advantage[chunk], batch.row_weight[chunk], kept)
    return Pass(batch.trajectory.select(chunk), values, chunk, is_real=True)


@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("aggregate", ["sequence", "token", "constant"])
def test_the_loss_of_a_chunk_and_its_gradient_are_the_formula(aggregate: str, weighs: bool) -> None:
    """Term by term: weight sum (-own min(r A, clip(r) A) + beta kl - c entropy) / denominator.

    Chunk [2, 0] of four rows; the others, and the slots after an answer's end, do not count.
    """
    policy = Table(4, 4, weighs=weighs)
    # Ratios on both sides of the bounds 0.9 and 1.4.
    gap = torch.tensor(
        [[0.5, -0.3, 0.0, 9.0], [0.0] * 4, [-0.6, 0.6, 9.0, 9.0], [0.0] * 4], dtype=torch.float32
    )
    old = policy.logp.detach() - gap
    batch = batch_of(LENGTHS, [0, 0, 1, 1], torch.zeros(4, 4))
    settings = algo(aggregate=aggregate, constant_length=16)
    chunk, total = [2, 0], 7.0
    totals = torch.tensor([total], dtype=torch.float64)
    loss = _chunk_loss(policy, over(batch, chunk, old), settings, totals, None)
    found = torch.autograd.grad(loss, policy.leaves)

    value = 0.0
    wanted = [torch.zeros(4, 4) for _ in range(3)]
    num_clipped = 0
    for b in chunk:
        A = float(batch.advantage[b])
        length = {"sequence": LENGTHS[b], "token": 1, "constant": 16}[aggregate]
        for t in range(LENGTHS[b]):
            scale = float(batch.row_weight[b]) / length / total
            # The policy's own weight is the objective's alone, as in flow_grpo's GRPO-Guard.
            own = scale if policy.weight is None else scale * float(policy.weight[b, t])
            r = math.exp(float(gap[b, t]))
            is_clipped = r > 1 + HIGH if A > 0 else r < 1 - LOW
            bound = 1 + HIGH if A > 0 else 1 - LOW
            value -= own * A * (bound if is_clipped else r)
            value += scale * BETA * float(policy.kl[b, t].detach())
            value -= scale * COEF * float(policy.entropy[b, t].detach())
            wanted[0][b, t] = 0.0 if is_clipped else -own * A * r
            wanted[1][b, t] = scale * BETA
            wanted[2][b, t] = -scale * COEF
            num_clipped += is_clipped
    assert num_clipped == 2
    assert policy.asked == [True]
    assert float(loss.detach()) == pytest.approx(value, rel=1e-5)
    for ours, plain in zip(found, wanted, strict=True):
        assert torch.allclose(ours, plain, rtol=1e-4, atol=1e-7)


def test_no_entropy_gradient_is_asked_for_without_its_coefficient() -> None:
    policy = Table(4, 4)
    batch = batch_of(LENGTHS, [0, 0, 1, 1], torch.zeros(4, 4))
    totals = torch.ones(1, dtype=torch.float64)
    settings = algo(entropy_coef=0.0, kl_beta=0.5)
    loss = _chunk_loss(policy, over(batch, [1], None), settings, totals, None)
    assert policy.asked == [False]
    kl = float(policy.kl[1, 0].detach())
    # One action, ratio 1: weight 3, advantage -0.5.
    assert float(loss.detach()) == pytest.approx(3 * (0.5 + 0.5 * kl))
    assert torch.autograd.grad(loss, policy.leaves, allow_unused=True)[2] is None


GROUP = [3, 0, 0, 4, 0, 1, 1, 2, 2, 2, 2, 3, 4]
"""Five groups of 3, 2, 4, 2 and 2 rows, not in order."""


@pytest.mark.parametrize(
    ("count", "groups"),
    [
        (1, [{0, 1, 2, 3, 4}]),
        (2, [{0, 1, 2}, {3, 4}]),
        (3, [{0, 1}, {2, 3}, {4}]),
        (5, [{0}, {1}, {2}, {3}, {4}]),
        (6, [{0}, {1}, {2}, {3}, {4}, set()]),
    ],
)
def test_minibatches_are_whole_groups(count: int, groups: list[set[int]]) -> None:
    batch = batch_of([1] * 13, GROUP, torch.zeros(13, 1))
    parts = _minibatches(batch, count)
    assert [{GROUP[row] for row in part} for part in parts] == groups
    assert sorted(row for part in parts for row in part) == list(range(13))


def test_rows_that_filters_took_out_are_in_no_minibatch() -> None:
    """Group 3 lost a row and group 4 all of them: the number of parts stays, one is empty."""
    kept = [True] * 13
    for row in (0, 3, 12):
        kept[row] = False
    batch = batch_of([1] * 13, GROUP, torch.zeros(13, 1), kept)
    assert _minibatches(batch, 2) == [[1, 2, 4, 5, 6, 7, 8, 9, 10], [11]]
    assert _minibatches(batch, 5) == [[1, 2, 4], [5, 6], [7, 8, 9, 10], [11], []]


@pytest.mark.parametrize(("source", "ratio"), [("rollout", math.exp(0.2)), ("recompute", 1.0)])
def test_the_ratio_compares_with_what_the_config_names(source: str, ratio: float) -> None:
    policy = Table(4, 4)
    engine = Shifting(policy)
    batch = batch_of(LENGTHS, [0, 0, 1, 1], policy.logp.detach() - 0.2)
    meter = Meter()
    assert update(policy, engine, batch, algo(old_logp=source), WORLD, meter) == 1
    metrics = meter.reduce(WORLD)
    assert engine.num_backward == 1
    assert metrics["update/ratio"] == pytest.approx(ratio, rel=1e-5)
    assert metrics["update/ratio_max"] == pytest.approx(ratio, rel=1e-5)
    assert metrics["update/sampling_gap"] == pytest.approx(0.2, rel=1e-4)


@pytest.mark.parametrize(("source", "start"), [("rollout", 0.2), ("recompute", 0.0)])
def test_later_steps_compare_with_the_policy_before_the_first(source: str, start: float) -> None:
    """Two epochs of two steps, each of which adds 0.1: four actions, then six, and again."""
    policy = Table(4, 4)
    batch = batch_of(LENGTHS, [0, 0, 1, 1], policy.logp.detach() - 0.2)
    meter = Meter()
    settings = algo(old_logp=source, num_minibatches=2, num_epochs=2)
    assert update(policy, Shifting(policy), batch, settings, WORLD, meter) == 4
    steps = [math.exp(start + 0.1 * n) for n in range(4)]
    mean = (4 * steps[0] + 6 * steps[1] + 4 * steps[2] + 6 * steps[3]) / 20
    metrics = meter.reduce(WORLD)
    assert metrics["update/ratio"] == pytest.approx(mean, rel=1e-5)
    assert metrics["update/ratio_max"] == pytest.approx(steps[3], rel=1e-5)


def test_metrics_are_means_over_actions_alone() -> None:
    """Hand-worked, over two chunks of three and one actions; 99 marks empty slots."""
    x = 99.0
    meter = Meter()

    def record(lengths: list[int], **rows: list[list[float]]) -> None:
        values = {name: torch.tensor(value) for name, value in rows.items()}
        part = trajectory_of(lengths, [0] * len(lengths), values["noted"])
        objective = Objective(
            torch.zeros_like(values["ratio"]), values["ratio"], values["clipped"].bool()
        )
        now = Evaluation(values["logp"], values["kl"], values["entropy"])
        _record(meter, now, objective, part, part.mask)

    record(
        [2, 1],
        ratio=[[1.0, 2.0], [0.6, x]],
        clipped=[[0.0, 1.0], [0.0, 1.0]],
        entropy=[[0.5, 1.0], [1.5, x]],
        kl=[[0.1, 0.2], [0.3, x]],
        logp=[[-1.0, -2.0], [-3.0, x]],
        noted=[[-1.5, -1.0], [-3.0, 0.0]],
    )
    record(
        [1, 0],
        ratio=[[0.4, x], [x, x]],
        clipped=[[1.0, 1.0], [1.0, 1.0]],
        entropy=[[3.0, x], [x, x]],
        kl=[[1.4, x], [x, x]],
        logp=[[-1.0, x], [x, x]],
        noted=[[-1.5, 0.0], [0.0, 0.0]],
    )
    metrics = meter.reduce(WORLD)
    assert metrics == pytest.approx(
        {
            "update/ratio": 4.0 / 4,
            "update/ratio_max": 2.0,
            "update/clip_fraction": 2 / 4,
            "update/entropy": 6.0 / 4,
            "update/kl": 2.0 / 4,
            "update/sampling_gap": 2.0 / 4,
        }
    )
