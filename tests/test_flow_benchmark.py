"""The two sides of benchmarks/flow_step.py compute the same, or its times would mean nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]
from flow_step import OURS, STORED, check_equal, our_rows
from flow_vs_published import Case, checkpoint
from helpers_flow import TINY


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(
        tmp_path_factory.mktemp("flow"), TINY, num_prompts=2, group_size=3, micro_batch=3,
        num_steps=4, num_threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(case: Case) -> Path:
    return checkpoint(case)


def test_two_optimizer_steps_a_rollout_are_the_same_too(case: Case, model: Path) -> None:
    """Also where ratios compare with the log-probs that sampling kept, as the published loop's."""
    two = replace(case, num_prompts=4, num_minibatches=2)
    rows = our_rows(two)
    assert list(rows).index(STORED) == 2
    for name in list(rows)[:3]:
        found = check_equal(two, model, name, rows[name])
        assert len(found.losses) == 4
        assert max(found.losses) < 1e-5
        assert max(found.gradients) < 1e-3


@pytest.mark.parametrize("name", list(OURS)[:2])
def test_the_published_loop_and_the_trainer_have_the_same_losses_and_gradients(
    case: Case, model: Path, name: str
) -> None:
    found = check_equal(case, model, name, OURS[name])
    assert found.latents < 1e-5
    assert max(found.losses) < 1e-5
    assert max(found.gradients) < 1e-3
    # The second step differs from the first, so that agreement there is meaningful.
    assert found.moved > 10 * max(found.gradients)
