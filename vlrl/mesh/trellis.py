"""TRELLIS as the textured decoder (arXiv 2412.01506): its second half, on existing voxels.

Its own first half, which would make the voxels, is skipped, as ShapeLLM-Omni and 3DGen-R1 do.
CUDA only (spconv, nvdiffrast, diff-gaussian-rasterization): install it from its repository so that
`import trellis` works. Not tested with TRELLIS itself: the calls follow its released code, and the
interface is tested with a stand-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vlrl.errors import ConfigError
from vlrl.mesh.mesh import GREY, ColouredMesh, empty_mesh

if TYPE_CHECKING:
    from torch import Tensor

RESOLUTION = 64


class TrellisMesh(Protocol):
    """TRELLIS' mesh result."""

    vertices: Tensor
    """[V, 3]"""
    faces: Tensor
    """[F, 3]"""
    vertex_attrs: Tensor | None
    """Colours first, in 0..1, [V, ...]."""


class TrellisDecoder:
    """Structured latents for the voxels, decoded to a coloured mesh."""

    def __init__(self, model: str = "JeffreyXiang/TRELLIS-text-xlarge") -> None:
        try:
            from trellis.pipelines import TrellisTextTo3DPipeline
        except ImportError as error:
            raise ConfigError(
                "task.decoder: trellis needs the package `trellis`, installed from its own "
                "repository with its CUDA extensions; `decoder: palette` needs no package"
            ) from error
        self.pipeline: Any = TrellisTextTo3DPipeline.from_pretrained(model)
        self.pipeline.cuda()

    def __call__(self, occupancy: np.ndarray, words: str, caption: str, seed: int) -> ColouredMesh:
        """The mesh; its noise comes from `seed`. Raises ConfigError for another resolution."""
        import torch

        if occupancy.shape[0] != RESOLUTION:
            raise ConfigError(
                f"task.decoder: trellis decodes {RESOLUTION} voxels per side, not "
                f"{occupancy.shape[0]}; use `decoder: palette`"
            )
        cells = np.argwhere(occupancy)
        if not len(cells):
            return empty_mesh()
        coords = torch.from_numpy(np.pad(cells, ((0, 0), (1, 0)))).int().cuda()
        torch.manual_seed(seed)
        with torch.no_grad():
            condition = self.pipeline.get_cond([caption])
            latent = self.pipeline.sample_slat(condition, coords)
            mesh = self.pipeline.decode_slat(latent, ["mesh"])["mesh"][0]
        return as_mesh(mesh)


def as_mesh(found: TrellisMesh) -> ColouredMesh:
    """The mesh with its vertex colours; grey if it has none."""
    vertices = found.vertices.detach().float().cpu().numpy().astype(np.float64)
    faces = found.faces.detach().cpu().numpy().astype(np.int64)
    attributes = found.vertex_attrs
    if attributes is None:
        return ColouredMesh(vertices, faces, np.tile(np.array(GREY, np.uint8), (len(vertices), 1)))
    shade = attributes[:, :3].detach().float().cpu().numpy().clip(0, 1)
    return ColouredMesh(vertices, faces, np.round(255 * shade).astype(np.uint8))
