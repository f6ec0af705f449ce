"""Views of an image: crops, flips, colours, blur, noise; on batches, without a data loader."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur


def crops(images: Tensor, size_px: int, low: float, high: float) -> Tensor:
    """A random square window of each image, its area a share in [low, high], resized.

    images: [N, 3, H, W] -> [N, 3, size_px, size_px].
    """
    N = len(images)
    side = torch.empty(N).uniform_(low, high).sqrt()
    centre = (torch.rand(N, 2) * 2 - 1) * (1 - side)[:, None]
    theta = torch.zeros(N, 2, 3)
    theta[:, 0, 0] = side * torch.where(torch.rand(N) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = side
    theta[:, :, 2] = centre
    grid = functional.affine_grid(theta, [N, 3, size_px, size_px], align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def colours(images: Tensor, strength: float) -> Tensor:
    """Brightness, contrast and saturation, a factor in 1 +- strength each; images in [0, 1]."""
    N = len(images)

    def factor() -> Tensor:
        return torch.empty(N, 1, 1, 1).uniform_(1 - strength, 1 + strength)

    images = images * factor()
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor()
    grey = images.mean(1, keepdim=True)
    return (grey + (images - grey) * factor()).clamp(0, 1)


def soften(images: Tensor, share: float) -> Tensor:
    """Blur some of them and add noise to all, as a decoder does."""
    blurred = gaussian_blur(images, [3, 3], [float(torch.empty(()).uniform_(0.3, 1.0))])
    chosen = (torch.rand(len(images), 1, 1, 1) < share).float()
    images = chosen * blurred + (1 - chosen) * images
    noise = 0.03 * torch.rand(len(images), 1, 1, 1) * torch.randn_like(images)
    return (images + noise).clamp(0, 1)
