"""The voxel VQ-VAE: an occupancy grid as a row of codes, and back.

One config from 16 to 64 voxels per side. Modules are named as in ShapeLLM-Omni (arXiv 2506.01853),
whose `3DVQVAE.bin` loads with unchanged keys: `Encoder.*`, `Decoder.*`, `vq.embeddings.weight`.
The architecture is TRELLIS' sparse-structure autoencoder with a codebook between its halves.

Token order: latent cells in C order, `group` neighbours along the last axis (z, upwards) per code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlrl.policy.voxel_tokens.options import VoxelCodecConfig


@dataclass
class Coded:
    """The results of a forward pass that training needs."""

    logits: Tensor
    """[B, 1, R, R, R]; occupied where above 0."""
    codes: Tensor
    """[B, T]"""
    commitment: Tensor
    """Mean squared distance of latents to their codes, gradient to the encoder."""
    codebook: Tensor
    """The same, gradient to the codes."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, ...], in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return super().forward(x.movedim(1, -1).float()).type(x.dtype).movedim(-1, 1).contiguous()


class ResBlock(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, D, H, W], same shape."""
        h = self.conv1(functional.silu(self.norm1(x)))
        return x + self.conv2(functional.silu(self.norm2(h)))


class Down(nn.Module):
    """Halves the grid and changes the channels."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, D, H, W] -> [B, C', D/2, H/2, W/2]."""
        return self.conv(x)


class Up(nn.Module):
    """Doubles the grid: eight times the channels, rearranged in space."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, D, H, W] -> [B, C', 2D, 2H, 2W]."""
        h = self.conv(x)
        B, C, D, H, W = h.shape
        h = h.view(B, C // 8, 2, 2, 2, D, H, W).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return h.reshape(B, C // 8, 2 * D, 2 * H, 2 * W)


def _middle(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[ResBlock(channels) for _ in range(count)])


def _out(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        ChannelNorm(channels), nn.SiLU(), nn.Conv3d(channels, out_channels, 3, padding=1)
    )


class Encoder(nn.Module):
    """Occupancy to latents."""

    def __init__(self, shape: VoxelCodecConfig) -> None:
        super().__init__()
        channels = shape.channels
        self.input_layer = nn.Conv3d(1, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for level, width in enumerate(channels):
            self.blocks.extend(ResBlock(width) for _ in range(shape.num_blocks[level]))
            if level + 1 < len(channels):
                self.blocks.append(Down(width, channels[level + 1]))
        self.middle_block = _middle(channels[-1], shape.num_middle_blocks)
        # Twice the latents: the second half is TRELLIS' log-variance, which a codebook ignores.
        self.out_layer = _out(channels[-1], 2 * shape.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, R, R, R] -> [B, C, r, r, r]."""
        h = self.input_layer(x)
        for block in self.blocks:
            h = block(h)
        return self.out_layer(self.middle_block(h)).chunk(2, dim=1)[0]


class Decoder(nn.Module):
    """Latents to occupancy."""

    def __init__(self, shape: VoxelCodecConfig) -> None:
        super().__init__()
        channels = shape.channels[::-1]
        self.input_layer = nn.Conv3d(shape.latent_channels, channels[0], 3, padding=1)
        self.middle_block = _middle(channels[0], shape.num_middle_blocks)
        self.blocks = nn.ModuleList()
        for level, width in enumerate(channels):
            self.blocks.extend(ResBlock(width) for _ in range(shape.num_blocks[-1 - level]))
            if level + 1 < len(channels):
                self.blocks.append(Up(width, channels[level + 1]))
        self.out_layer = _out(channels[-1], 1)

    def forward(self, z: Tensor) -> Tensor:
        """[B, C, r, r, r] -> logits [B, 1, R, R, R]."""
        h = self.middle_block(self.input_layer(z))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h)


class Codebook(nn.Module):
    """The nearest code by Euclidean distance."""

    def __init__(self, num_codes: int, width: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(num_codes, width)
        self.embeddings.weight.data.uniform_(-1 / num_codes, 1 / num_codes)

    def forward(self, z: Tensor) -> Tensor:
        """Vectors [N, W] -> codes [N]."""
        return torch.cdist(z, self.embeddings.weight).argmin(1)


class VoxelCodec(nn.Module):
    """The whole VQ-VAE."""

    def __init__(self, shape: VoxelCodecConfig) -> None:
        super().__init__()
        self.shape = shape
        self.Encoder = Encoder(shape)
        self.Decoder = Decoder(shape)
        self.vq = Codebook(shape.num_codes, shape.code_width)

    def latents(self, occupancy: Tensor) -> Tensor:
        """Occupancy [B, R, R, R] (0 and 1) -> vectors in token order, [B, T, W]."""
        z = self.Encoder(occupancy[:, None].to(self.vq.embeddings.weight.dtype))
        return z.permute(0, 2, 3, 4, 1).reshape(len(z), self.shape.num_tokens, -1)

    def logits(self, vectors: Tensor) -> Tensor:
        """Vectors [B, T, W] -> logits [B, 1, R, R, R]."""
        r = self.shape.latent_side
        z = vectors.reshape(len(vectors), r, r, r, self.shape.latent_channels)
        return self.Decoder(z.permute(0, 4, 1, 2, 3).contiguous())

    def forward(self, occupancy: Tensor) -> Coded:
        """Encode and decode, with the straight-through gradient of the codebook."""
        z = self.latents(occupancy)
        codes = self.vq(z.flatten(0, 1).detach()).view(z.shape[:2])
        chosen = self.vq.embeddings(codes)
        logits = self.logits(z + (chosen - z).detach())
        return Coded(
            logits,
            codes,
            functional.mse_loss(z, chosen.detach()),
            functional.mse_loss(chosen, z.detach()),
        )

    @torch.no_grad()
    def encode(self, occupancy: Tensor) -> Tensor:
        """Occupancy [B, R, R, R] -> codes [B, T]."""
        z = self.latents(occupancy)
        return self.vq(z.flatten(0, 1)).view(z.shape[:2])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, T] -> occupancy, bool [B, R, R, R]: where the logit is above 0."""
        return self.logits(self.vq.embeddings(codes))[:, 0] > 0
