"""Generators: steps, advantages, discriminator, image and shape rewards as released."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers_released import compare
from released.flow_grpo import image_of, weight_after
from released.resizing import SIDE_PX, places
from released.set_distances import features_of

from vlrl.algo.advantages import advantages
from vlrl.algo.flow import Step, dance_sde, flow_sde, log_density
from vlrl.algo.nft import nft_loss, optimality
from vlrl.distributed.ema import WeightAverage
from vlrl.image.adversarial_losses import LOSSES
from vlrl.image.geneval import Found, judge, scene_of
from vlrl.image.networks.backbone import squeezed
from vlrl.image.networks.clip import fitted
from vlrl.image.written import written_score
from vlrl.mesh.point_sets import surface_distances
from vlrl.reward.tree import build_reward
from vlrl.set_distances import frechet_distance, kernel_distance

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_flow_grpos_advantages() -> None:
    def ours(row: Any) -> Any:
        rewards, groups, shared = row
        found = advantages(
            torch.tensor(rewards, dtype=torch.float64),
            torch.tensor(groups),
            "global_std" if shared else "group_zscore",
            batch_std=float(np.std(rewards)),
            population=True,
        )
        return found.tolist()

    # Groups of equal rewards: a rounding error of theirs over 1e-4 stands against our 0.
    compare("flow_grpo_advantages", ours, 2e-6)


def test_flow_grpos_running_average() -> None:
    def ours(row: Any) -> Any:
        decay, every, num_micro, num_steps, slope = row
        weight = torch.nn.Parameter(torch.zeros(1))
        average = WeightAverage([weight], decay, every, num_micro)
        for step in range(1, num_steps + 1):
            weight.data.fill_(weight_after(step, slope))
            average.update()
        return average.shadow[0].item()

    compare("flow_grpo_average", ours, 1e-6)


def _mean_and_logp(step: Step, latents: list[list[float]]) -> tuple[torch.Tensor, float]:
    x, v, after = (torch.tensor([values]) for values in latents)
    mean = step.mean(x, v)
    return mean, float(log_density(after, mean, torch.tensor([step.std]))) / x.shape[1]


def test_flow_grpos_step() -> None:
    def ours(row: Any) -> Any:
        sigma, following, second, noise, *latents = row
        mean, logp = _mean_and_logp(flow_sde(sigma, following, noise, second), latents)
        return [*mean[0].tolist(), logp]

    compare("flow_grpo_sde_step", ours, 1e-5)


def test_dances_step_but_for_its_constant() -> None:
    """A sign that stands alone keeps the release's constants out of its density."""

    def ours(row: Any) -> Any:
        sigma, following, noise, *latents = row
        step = dance_sde(sigma, following, noise, following)
        _, logp = _mean_and_logp(step, latents)
        return logp + math.log(step.std) + 0.5 * math.log(2 * math.pi)

    compare("diffusion_nft_dance_step", ours, 1e-5)


def test_diffusion_nfts_loss() -> None:
    """Of each image, and the gradient of their mean."""

    def ours(row: Any) -> Any:
        beta, scale, sigmas, advantages, *latents = row
        v, v_old, x, clean = (torch.tensor(values) for values in latents)
        v.requires_grad_()
        r = optimality(torch.tensor(advantages), scale)
        sigma = torch.tensor(sigmas)
        each = nft_loss(v, v_old, x, clean, sigma, r, beta=beta, scale=scale)
        (gradient,) = torch.autograd.grad(each.mean(), v)
        return [*each.tolist(), *gradient.flatten().tolist()]

    compare("diffusion_nft_loss", ours, 1e-5)


@pytest.mark.parametrize(
    ("name", "distance"),
    [("set_distances_fid", frechet_distance), ("set_distances_kid", kernel_distance)],
)
def test_distances_of_sets(name: str, distance: Callable[[np.ndarray, np.ndarray], float]) -> None:
    compare(name, lambda row: distance(*features_of(row)), 1e-8)


def test_hps_v2s_resizing() -> None:
    # Which the network would then refuse.
    differs = {
        "the release pads no image whose longer side has the size": lambda row: (
            max(row[1:3]) == SIDE_PX != min(row[1:3])
        )
    }
    compare("hps_v2_resizing", lambda row: places(fitted(image_of(row), SIDE_PX)), 1e-5, differs)


def test_adv_grpos_resizing() -> None:
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))

    def ours(row: Any) -> Any:
        image = torch.from_numpy(image_of(row)).permute(2, 0, 1)[None] / 255
        small = squeezed(image, SIDE_PX, antialias=False)[0]
        return places((small - mean) / std)

    compare("adv_grpo_resizing", ours, 1e-5)


def test_adv_grpos_loss() -> None:
    def ours(row: Any) -> Any:
        real, fake, real_patch, fake_patch = (torch.tensor(values) for values in row)
        hinge, num = LOSSES["hinge"], float(len(real))
        loss = hinge(real, fake, num, num)
        loss = loss + 0.3 * hinge(real_patch[:, None], fake_patch[:, None], num, num)
        right = ((real > 0).float().mean() + (fake < 0).float().mean()) / 2
        return [float(loss), float(right)]

    compare("adv_grpo_loss", ours, 1e-6)


def test_flow_grpos_ocr() -> None:
    compare("flow_grpo_ocr", lambda row: written_score("".join(row[0]), row[1]), 1e-9)


def test_flow_grpos_jpeg() -> None:
    reward: Any = build_reward({"use": "jpeg_compressibility"})

    def ours(row: Any) -> Any:
        return reward.values([image_of(row)], [])[0]

    compare("flow_grpo_jpeg", ours, 1e-9)


def test_genevals_verdict() -> None:
    def ours(row: Any) -> Any:
        include, exclude, objects = row
        found = {
            name: [Found(tuple(one[:4]), one[4], one[5]) for one in several]
            for name, several in objects.items()
        }
        scene = scene_of({"include": include, "exclude": exclude}, "row")
        return judge(scene, found).correct

    compare("geneval_verdict", ours)


def test_nearest_points_by_open3d() -> None:
    def ours(row: Any) -> Any:
        grids = []
        for voxels in row:
            grid = np.zeros(8**3, bool)
            grid[voxels] = True
            grids.append(grid.reshape(8, 8, 8))
        found = surface_distances(*grids)
        there, back = found.to_reference, found.to_object
        shares = [float((there <= 1.5).mean()), float((back <= 1.5).mean())]
        assert found.chamfer == pytest.approx(min((there.mean() + back.mean()) / 2 / 8, 1))
        return [float(there.mean()), float(back.mean()), *shares]

    compare("open3d_chamfer", ours, 1e-7)
