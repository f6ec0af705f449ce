"""Text to 3D: a caption in, an object in voxels out, in one stage or in two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from vlrl.data.collect import OneOrMore, Rows, Splits
from vlrl.errors import ConfigError, DataError
from vlrl.image.data.caption_options import CaptionTaskOptions
from vlrl.mesh.answer import VoxelStage
from vlrl.mesh.camera import around
from vlrl.mesh.colour_names import colours_in
from vlrl.mesh.data import ShapeRow, ShapeSource, read_shapes
from vlrl.mesh.decoders import ShapeDecoder, make_decoder, seed_of
from vlrl.mesh.files import save_codes, save_glb, save_obj, save_ply, save_voxel_points
from vlrl.mesh.mesh import ColouredMesh
from vlrl.mesh.parts import Part, parts_in
from vlrl.mesh.point_sets import surface_distances
from vlrl.mesh.render import render
from vlrl.mesh.report import turntables
from vlrl.mesh.sheet import contact_sheet, save_animation, turntable
from vlrl.mesh.spoilt import spoilt
from vlrl.mesh.store import load_shape
from vlrl.mesh.surface import surface_of
from vlrl.mesh.voxelise import Voxels
from vlrl.mesh.voxels import floater_share, iou
from vlrl.protocols import Drawing, KnownAnswers, Task
from vlrl.types import Message, Rollout, Sample, SizeSeen, TextPart

SHEET_COLUMNS = 3
TURNTABLE_PX = 160
NUM_FRAMES = 24
DEFAULT_PROMPT = "Please generate a 3D mesh based on the prompt I provided: {caption}"


@dataclass(frozen=True)
class ShapeTarget:
    """What the object should be."""

    caption: str
    reference: str | None = None
    """`file.npz#name` or a mesh file."""
    resolution: int | None = None
    parts: tuple[Part, ...] = ()
    """Counted parts that the caption names."""
    colours: tuple[str, ...] = ()
    """Colour words of the caption."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> Voxels | None:
        """The reference's voxels, read on first use; None without one. DataError."""
        return None if self.reference is None else load_shape(self.reference, self.resolution)


class ShapeAnswer:
    """An object; mesh, views and image are made on first use."""

    def __init__(self, stage: VoxelStage, sample: Sample, task: TextTo3D) -> None:
        self.words, self.codes = stage.words, stage.codes
        self.occupancy: np.ndarray = stage.occupancy
        """bool [R, R, R]"""
        self.well_formed = not stage.fault
        self.stages: tuple[ShapeAnswer, ...] = (self,)
        self._sample, self._task = sample, task

    @cached_property
    def mesh(self) -> ColouredMesh:
        """The coloured surface; the same codes and words always give the same one."""
        seed = seed_of(self._sample.id, self.codes)
        return self._task.decoder(self.occupancy, self.words, self._sample.target.caption, seed)

    @cached_property
    def views(self) -> np.ndarray:
        """Images around the object, the front first, uint8 [N, H, W, 3]."""
        return self._task.views_of(self.mesh)

    @cached_property
    def image(self) -> np.ndarray:
        """All views on one sheet, uint8 [H, W, 3], row by row."""
        return contact_sheet(self.views, SHEET_COLUMNS)


class TextTo3D(Task):
    """Captions, and metrics of the objects that answer them.

    Example: TextTo3D(TextTo3D.Options(data={"train": {"path": "train.jsonl"}})).
    """

    class Options(CaptionTaskOptions):
        """The `task:` part of a config; `data` maps split names to sources."""

        data: dict[str, OneOrMore[ShapeSource]]
        prompt_template: str = DEFAULT_PROMPT
        num_views: int = Field(6, ge=1, le=1000)
        """Views around the object, evenly spaced, the front first."""
        view_px: int = Field(128, ge=16, le=4096)
        """Side of a view."""
        elevation_deg: float = Field(20.0, gt=-90, lt=90)
        renderer: Literal["software", "egl", "auto"] = "software"
        decoder: str = "palette"
        """How voxels get a surface and colours: palette, or trellis."""
        decoder_model: str = "JeffreyXiang/TRELLIS-text-xlarge"
        """Weights of `decoder: trellis`."""

    options: Options
    name = "text_to_3d"
    names_splits = True
    metric_charts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Sampled answers": ("iou",),
        "": ("well_formed",),
    }
    drawing = Drawing("objects")
    provides: ClassVar[Mapping[str, str]] = {
        "shape": "parsed.occupancy, bool array [R, R, R]; target.shape, the reference's "
        "or None; target.parts and target.colours; parsed.mesh",
        "views": "parsed.views, uint8 array [N, H, W, 3]: images around the object",
        "image": "parsed.image, uint8 array [H, W, 3]: all views on one sheet",
        "caption": "target.caption, str: what the object should be",
        "format": "parsed.well_formed, bool: the answer is exactly in the requested format",
        "stages": "parsed.stages, the parsed value of every stage of the answer, the last one last",
    }

    def __init__(self, options: TextTo3D.Options) -> None:
        self.options = options
        self._splits = Splits(options.data, self._read, self.sample)
        self.skipped = self._splits.skipped
        self._resolution: int | None = None

    @cached_property
    def decoder(self) -> ShapeDecoder:
        """Made on first use."""
        return make_decoder(self.options.decoder, self.options.decoder_model)

    def views_of(self, mesh: ColouredMesh) -> np.ndarray:
        """The views of a mesh, uint8 [N, H, W, 3]."""
        options = self.options
        cameras = around(options.num_views, options.elevation_deg)
        return render(mesh, cameras, options.view_px, supersample=2, renderer=options.renderer)

    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split, in file order; raises ConfigError, DataError."""
        return self._splits.samples(split)

    def _read(self, source: ShapeSource) -> Rows[ShapeRow]:
        options = self.options
        return read_shapes(source, labels=options.labels, on_bad_row=options.on_bad_row)

    def sample(self, row: ShapeRow) -> Sample:
        """One checked row as a problem."""
        prompt = self.options.prompt(row.caption)
        target = ShapeTarget(
            row.caption,
            row.reference,
            self._resolution,
            parts_in(row.caption),
            tuple(colours_in(row.caption)),
            row.labels,
        )
        columns = {**row.fields, "caption": row.caption, "reference": row.reference}
        message = Message("user", (TextPart(prompt),))
        return Sample(row.id, self.name, (message,), target, columns)

    def parse(self, sample: Sample, output: object) -> ShapeAnswer | None:
        """The last stage's object, the others as its `stages`; None for anything else."""
        if not isinstance(output, tuple) or not output:
            return None
        if not all(isinstance(stage, VoxelStage) for stage in output):
            return None
        stages = tuple(ShapeAnswer(stage, sample, self) for stage in output)
        stages[-1].stages = stages
        return stages[-1]

    def metrics(self, rollouts: Sequence[Rollout]) -> Mapping[str, Sequence[float]]:
        """Occupancy IoU, F-score and Chamfer distance to the reference; own metrics.

        iou, f_score, chamfer; filled, floaters, well_formed. `f_score`: at 1.5 voxels, between
        the voxels' centres. `floaters`: share of the voxels
        outside the largest part. Answers that cannot be read count as empty objects.
        """
        names = ("iou", "f_score", "chamfer", "filled", "floaters", "well_formed")
        rows = [self._metrics(rollout) for rollout in rollouts]
        return {name: [row.get(name, math.nan) for row in rows] for name in names}

    def _metrics(self, rollout: Rollout) -> dict[str, float]:
        answer, reference = rollout.parsed, rollout.sample.target.shape
        if answer is None:
            nothing = {"iou": 0.0, "f_score": 0.0, "chamfer": 1.0}
            against = {} if reference is None else nothing
            return {"filled": 0.0, "floaters": 1.0, "well_formed": 0.0, **against}
        grid = answer.occupancy
        metrics = {
            "filled": float(grid.mean()),
            "floaters": floater_share(grid, 26),
            "well_formed": float(answer.well_formed),
        }
        if reference is not None:
            metrics["iou"] = iou(grid, reference.occupancy)
            distances = surface_distances(grid, reference.occupancy)
            metrics["f_score"], metrics["chamfer"] = distances.f_score(1.5), distances.chamfer
        return metrics

    def known_answers(self, sample: Sample) -> KnownAnswers | None:
        """The reference and what is wrong with its voxels; None without a stored reference."""
        if not self._stored(sample):
            return None
        true = sample.target.shape.occupancy
        wrong = {kind: self._whole(sample, grid) for kind, grid in spoilt(true).items()}
        return KnownAnswers(self._whole(sample, true), wrong)

    @staticmethod
    def _whole(sample: Sample, grid: np.ndarray) -> tuple[VoxelStage, VoxelStage]:
        """An answer in two equal stages, with the caption as its words."""
        stage = VoxelStage(sample.target.caption, (), grid)
        return (stage, stage)

    def strata(self, sample: Sample) -> Mapping[str, str]:
        """The fields named by `labels`, where the sample's row has them."""
        return dict(sample.target.labels)

    def check_policy(self, size_seen: SizeSeen, split: str) -> None:
        """References have to be as finely divided as what the policy makes; ConfigError.

        size_seen: voxels per side, twice.
        """
        sample = self.samples(split)[0]
        resolution = (size_seen(sample) or (0, 0))[0]
        shape = sample.target.shape if self._stored(sample) else None
        if shape is not None and shape.occupancy.shape[0] != resolution:
            raise ConfigError(
                f"sample {sample.id!r}: its reference has {shape.occupancy.shape[0]} voxels per "
                f"side, the policy makes {resolution}"
            )
        # Meshes are voxelised as finely as the policy's objects.
        self._resolution = resolution
        self._splits = Splits(self.options.data, self._read, self.sample)
        self.skipped = self._splits.skipped

    @staticmethod
    def _stored(sample: Sample) -> bool:
        return sample.target.reference is not None and "#" in sample.target.reference

    def save_files(self, rollout: Rollout, folder: Path) -> None:
        """GLB, PLY, OBJ, voxels and codes of an answer's last object, and a turntable."""
        answer = rollout.parsed
        if answer is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for number, stage in enumerate(answer.stages):
            path = folder / f"codes-{number}.json"
            save_codes(stage.codes, stage.occupancy.shape[0], stage.words, path)
        if answer.mesh.is_empty:
            return  # no program opens an empty mesh; its codes show what happened
        save_glb(answer.mesh, folder / "object.glb")
        save_ply(answer.mesh, folder / "object.ply")
        save_obj(answer.mesh, folder / "object.obj")
        save_voxel_points(answer.occupancy, folder / "voxels.ply")
        frames = turntable(answer.mesh, TURNTABLE_PX, NUM_FRAMES)
        save_animation(frames, folder / "turntable.webp")

    def answer_image(self, rollout: Rollout) -> np.ndarray | None:
        """The contact sheet of the views around the object."""
        return None if rollout.parsed is None else rollout.parsed.image

    @classmethod
    def report_sections(cls, run_folder: Path) -> Sequence[str]:
        """Turntables of the held-out objects, before and after."""
        section = turntables(run_folder)
        return (section,) if section else ()

    def draw(self, sample: Sample, rollouts: Sequence[Rollout]) -> Image.Image | None:
        """The reference's sheet and those of the answers, one below the other; None without any."""
        sheets = []
        try:
            reference = sample.target.shape
        except DataError:
            reference = None
        if reference is not None:
            sheets.append(contact_sheet(self.views_of(surface_of(reference)), SHEET_COLUMNS))
        for rollout in rollouts:
            if rollout.parsed is not None:
                for stage in rollout.parsed.stages:
                    sheets.append(stage.image)
        return Image.fromarray(np.concatenate(sheets)) if sheets else None
