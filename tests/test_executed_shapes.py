"""The shapes that the pure functions declare are checked whenever tests call them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from vlrl.algo.advantages import advantages
from vlrl.algo.flow import log_density
from vlrl.algo.kl import k3
from vlrl.algo.objectives import OBJECTIVES, ClipRange
from vlrl.algo.stages import to_actions
from vlrl.geometry.boxes import iou

ROOT = Path(__file__).resolve().parent.parent
LOGP = torch.zeros(2, 3)
MASK = torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_refuses_an_advantage_of_another_batch(name: str) -> None:
    with pytest.raises(TypeCheckError):
        OBJECTIVES[name](LOGP, LOGP, torch.zeros(5), MASK, ClipRange())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_refuses_a_mask_of_numbers(name: str) -> None:
    with pytest.raises(TypeCheckError):
        OBJECTIVES[name](LOGP, LOGP, torch.zeros(2), MASK.float(), ClipRange())


def test_wrong_shapes_of_rewards_steps_stages_and_boxes_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        advantages(torch.zeros(4), torch.zeros(3, dtype=torch.long), "group_zscore")
    with pytest.raises(TypeCheckError):
        log_density(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.ones(2))
    with pytest.raises(TypeCheckError):
        k3(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(TypeCheckError):
        to_actions(torch.zeros(2, 2), torch.zeros(3, 4, dtype=torch.long))
    with pytest.raises(TypeCheckError):
        iou(np.zeros((2, 4)), np.zeros((3, 4)))


def test_outside_tests_nothing_is_checked_and_geometry_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from vlrl.geometry.boxes import contains\n"
        "assert contains(np.zeros((1, 4)), np.zeros((5, 2))).shape == (5,)\n"
        "assert 'torch' not in sys.modules and 'beartype' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
