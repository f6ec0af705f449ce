"""Voxels, meshes, images and files of shapes; the 3D edge cases."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from helpers_voxels import SHAPE, boxes
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.assets.shapes.describe import describe
from vlrl.errors import ConfigError, DataError
from vlrl.mesh import files, voxels
from vlrl.mesh.camera import Camera, around
from vlrl.mesh.colour_names import COLOURS, colours_in, nearest_colour
from vlrl.mesh.decoders import PaletteDecoder, make_decoder, seed_of
from vlrl.mesh.mesh import GREY, empty_mesh
from vlrl.mesh.parts import Part, parts_in
from vlrl.mesh.point_sets import surface_distances
from vlrl.mesh.render import render
from vlrl.mesh.sheet import contact_sheet, save_animation, turntable
from vlrl.mesh.store import load_shape, save_shapes
from vlrl.mesh.surface import surface
from vlrl.mesh.voxelise import Voxels, normalised, voxelise, y_up, z_up
from vlrl.policy.voxel_tokens.codec import VoxelCodec
from vlrl.policy.voxel_tokens.codec_files import load_codec, save_codec
from vlrl.policy.voxel_tokens.options import VoxelCodecConfig

grids = st.integers(0, 2**32 - 1).map(
    lambda seed: (lambda r: r.random((6, 6, 6)) < r.random())(np.random.default_rng(seed))
)


def block(*box: int, side: int = 16) -> np.ndarray:
    """A filled box, x0, x1, y0, y1, z0, z1."""
    grid = np.zeros((side,) * 3, bool)
    x0, x1, y0, y1, z0, z1 = box
    grid[x0:x1, y0:y1, z0:z1] = True
    return grid


# Voxelising


def test_a_mesh_is_a_shell_in_the_middle_of_the_cube() -> None:
    box = trimesh.creation.box((2.0, 1.0, 0.5))
    box.apply_translation((5, -3, 9))
    shape = voxelise(box.vertices, box.faces, 16)
    cells = np.argwhere(shape.occupancy)
    assert cells.min(0).tolist() == [0, 4, 6]
    assert cells.max(0).tolist() == [15, 12, 10]
    assert not shape.occupancy[8, 8, 8], "nothing inside"
    assert shape.occupancy[8, 8, 6]
    sphere = trimesh.creation.icosphere(3)
    shell = voxelise(sphere.vertices, sphere.faces, 32).occupancy
    assert voxels.component_sizes(shell, 26)[0] == shell.sum()
    assert len(voxels.component_sizes(~shell, 6)) == 2, "a closed shell keeps inside from outside"


def test_normalisation_is_stated_and_refuses_what_has_no_size() -> None:
    points = np.array([[0.0, 0, 0], [4, 2, 1]])
    found = normalised(points)
    assert found.min(0).tolist() == [-0.5, -0.25, -0.125]
    assert found.max(0).tolist() == [0.5, 0.25, 0.125]
    for bad in (np.zeros((0, 3)), np.ones((3, 3)), np.array([[0, 0, np.nan], [1, 1, 1]])):
        with pytest.raises(DataError):
            normalised(bad)
    with pytest.raises(DataError, match="no faces"):
        voxelise(points, np.zeros((0, 3), int), 8)


def test_up_and_front() -> None:
    up, front = np.array([[0.0, 1, 0]]), np.array([[0.0, 0, 1]])
    assert z_up(up).tolist() == [[0, 0, 1]]
    assert z_up(front).tolist() == [[0, -1, 0]]
    random = np.random.default_rng(0).normal(size=(5, 3))
    assert np.array_equal(y_up(z_up(random)), random)


def test_colours_go_along() -> None:
    box = trimesh.creation.box()
    centre = box.vertices[box.faces].mean(1)
    colour = np.where(centre[:, :1] > 0.4, [[200, 40, 40]], [[40, 40, 200]]).astype(np.uint8)
    shape = voxelise(box.vertices, box.faces, 8, colour)
    assert shape.colours[7, 4, 4].tolist() == [200, 40, 40]
    assert shape.colours[0, 4, 4].tolist() == [40, 40, 200]


# Surfaces


@settings(max_examples=60, deadline=None)
@given(grids)
def test_surfaces_are_closed_and_look_outwards(grid: np.ndarray) -> None:
    mesh = surface(grid)
    if not grid.any():
        assert mesh.is_empty
        return
    assert len(mesh.vertices) >= voxels.num_exposed_faces(grid)
    assert mesh.volume > 0
    assert np.abs(mesh.vertices).max() <= 0.5 + 1e-9
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert (count % 2 == 0).all(), "no open border"


def test_full_and_empty_grids_have_sound_surfaces() -> None:
    full = np.ones((8, 8, 8), bool)
    mesh = surface(full)
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces)
    assert whole.is_watertight
    assert whole.volume > 0
    touching = block(0, 16, 0, 16, 0, 3)
    flat = surface(touching)
    assert trimesh.Trimesh(flat.vertices, flat.faces).is_watertight
    nothing = surface(np.zeros((8, 8, 8), bool))
    assert nothing.is_empty
    assert nothing.volume == 0
    white = render(nothing, around(6), 32)
    assert (white == 255).all()
    for save in (files.save_glb, files.save_ply, files.save_obj):
        with pytest.raises(DataError, match="empty"):
            save(nothing, Path("never"))


def test_skimage_would_have_turned_the_faces() -> None:
    """Why `ascent` is needed."""
    from skimage.measure import marching_cubes

    padded = np.pad(boxes(), 1).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(padded, 0.5)
    assert trimesh.Trimesh(vertices, faces, process=False).volume < 0


def test_a_torus_has_a_vertex_for_every_exposed_face() -> None:
    x, y, z = (np.indices((64, 64, 64)) + 0.5) / 64 - 0.5
    solid = (np.hypot(x, y) - 0.33) ** 2 + z**2 < 0.13**2
    assert len(surface(solid).vertices) == voxels.num_exposed_faces(solid)


def test_vertex_colours_are_those_of_the_voxels_they_skin() -> None:
    grid = block(2, 14, 2, 14, 2, 14)
    colours = np.zeros((16, 16, 16, 3), np.uint8)
    colours[:8] = (200, 30, 30)
    colours[8:] = (30, 30, 200)
    colours[~grid] = (0, 255, 0)
    mesh = surface(grid, colours)
    assert not (mesh.colours == (0, 255, 0)).all(1).any()
    left = mesh.vertices[:, 0] < -0.05
    assert (mesh.colours[left] == (200, 30, 30)).all()


# Parts


def test_connectivity_is_what_it_says() -> None:
    edge = np.zeros((4, 4, 4), bool)
    edge[1, 1, 1] = edge[2, 2, 1] = True
    assert [voxels.num_parts(edge, c, 1) for c in (6, 18, 26)] == [2, 1, 1]
    corner = np.zeros((4, 4, 4), bool)
    corner[1, 1, 1] = corner[2, 2, 2] = True
    assert [voxels.num_parts(corner, c, 1) for c in (6, 18, 26)] == [2, 2, 1]
    mesh = surface(edge)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).body_count == 1, "marching cubes joins too"


def test_floaters_and_smallest_parts() -> None:
    grid = boxes()
    assert voxels.floater_share(grid, 26) == 0
    grid[0, 0, 15] = True
    assert voxels.num_parts(grid, 26, 1) == 2
    assert voxels.num_parts(grid, 26, 2) == 1
    assert voxels.floater_share(grid, 26) == pytest.approx(1 / grid.sum())
    assert voxels.floater_share(np.zeros((4, 4, 4), bool), 26) == 1
    assert voxels.num_parts(voxels.slab(boxes(), "bottom", 0.12), 26, 2) == 4
    assert voxels.num_parts(voxels.slab(boxes(), "top", 0.12), 26, 2) == 1


def test_counted_parts_of_captions() -> None:
    assert parts_in("a tall chair with four legs") == (Part("leg", 4, "bottom"),)
    assert parts_in("A car with 4 wheels and two horns") == (
        Part("wheel", 4, "bottom"), Part("horn", 2, "top")
    )  # fmt: skip
    for nothing in ("a chair", "with legs", "zero legs", "three windows", "", "fourlegs"):
        assert parts_in(nothing) == ()


@settings(max_examples=50, deadline=None)
@given(grids, grids)
def test_grid_metrics_are_what_they_say(a: np.ndarray, b: np.ndarray) -> None:
    assert voxels.iou(a, b) == voxels.iou(b, a)
    assert 0 <= voxels.iou(a, b) <= 1
    assert all(0 <= v <= 1 for v in voxels.silhouette_iou(a, b))
    if a.any():
        assert voxels.iou(a, a) == 1
        assert voxels.silhouette_iou(a, a) == [1, 1, 1]
        both = a | a[::-1]
        assert voxels.mirror_iou(both, 0) == 1
        same = surface_distances(a, a)
        assert (same.chamfer, same.f_score(1.5)) == (0, 1)
    if a.any() and b.any():
        pa, pb = np.argwhere(a), np.argwhere(b)
        table = np.sqrt(((pa[:, None] - pb[None]) ** 2).sum(-1))
        found = surface_distances(a, b)
        expected = (table.min(1).mean() + table.min(0).mean()) / 2 / 6
        assert found.chamfer == pytest.approx(min(expected, 1.0))
        precision, recall = (table.min(1) <= 1.5).mean(), (table.min(0) <= 1.5).mean()
        f = 2 * precision * recall / (precision + recall) if precision + recall else 0
        assert found.f_score(1.5) == pytest.approx(f)
    else:
        assert surface_distances(a, b).f_score(1.5) == 0
        assert surface_distances(a, b).chamfer == 1


# Cameras and images


def asymmetric() -> tuple[np.ndarray, np.ndarray]:
    """Red at the right (+x), green in front (-y), blue on top (+z)."""
    grid = block(3, 13, 3, 13, 3, 13)
    colours = np.full((16, 16, 16, 3), 120, np.uint8)
    grid[13:16, 7:9, 7:9] = True
    colours[13:16] = (220, 0, 0)
    grid[7:9, 0:3, 7:9] = True
    colours[:, 0:3] = (0, 200, 0)
    grid[7:9, 7:9, 13:16] = True
    colours[:, :, 13:16] = (0, 0, 230)
    return grid, colours


def where(view: np.ndarray, channel: int) -> tuple[float, float] | None:
    """Mean column and row of the pixels in which one channel rules."""
    other = [c for c in range(3) if c != channel]
    mine = view[..., channel].astype(int) - view[..., other].max(-1) > 60
    if not mine.any():
        return None
    rows, columns = mine.nonzero()
    return float(columns.mean()), float(rows.mean())


def test_views_are_the_ones_their_names_say() -> None:
    mesh = surface(*asymmetric())
    front, right, back, left = render(mesh, around(4, elevation_deg=0.0), 96)
    red, green, blue = (where(front, c) for c in range(3))
    assert red[0] > 60, "+x is at the right of the front view"
    assert blue[1] < 36, "+z is up"
    assert abs(green[0] - 47.5) < 2, "-y looks at the viewer"
    assert where(back, 1) is None
    assert where(back, 0)[0] < 36
    assert abs(where(right, 0)[0] - 47.5) < 2, "at azimuth 90 the camera stands at +x"
    assert where(right, 1)[0] < 36, "from there the front is at the left"
    assert where(left, 0) is None
    assert where(left, 1)[0] > 60
    (above,) = render(mesh, [Camera(0.0, 89.0)], 96)
    assert abs(where(above, 2)[0] - 47.5) < 2
    assert where(above, 1)[1] > 60, "from above the front is below"


def test_a_camera_is_a_rotation_at_its_distance() -> None:
    for camera in [*around(7, 33.0), Camera(10.0, -60.0, 3.0)]:
        assert np.allclose(camera.rotation @ camera.rotation.T, np.eye(3))
        assert np.linalg.det(camera.rotation) == pytest.approx(1)
        flat, depth = camera.project(np.zeros((1, 3)))
        assert np.allclose(flat, 0)
        assert depth[0] == pytest.approx(camera.radius)
    edge, _ = Camera(0.0, 0.0).project(np.array([[0, 0, 2 * math.tan(math.radians(20))]]))
    assert edge[0].tolist() == pytest.approx([0, 1]), "20 degrees up is the image's upper edge"


def test_images_do_not_depend_on_the_order_of_faces() -> None:
    mesh = surface(*asymmetric())
    one = render(mesh, around(3), 64)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(mesh.faces))
    shuffled = type(mesh)(mesh.vertices, mesh.faces[order], mesh.colours)
    two = render(shuffled, around(3), 64)
    assert (one != two).any(-1).mean() < 0.002, "edges shared by two faces alone"
    assert np.array_equal(one, render(mesh, around(3), 64))


def test_nearer_things_hide_what_lies_behind() -> None:
    grid = block(4, 12, 2, 4, 4, 12) | block(4, 12, 12, 14, 4, 12)
    colours = np.zeros((16, 16, 16, 3), np.uint8)
    colours[:, :8], colours[:, 8:] = (220, 0, 0), (0, 0, 220)
    front, back = render(surface(grid, colours), around(2, 0.0), 64)
    assert where(front, 0) is not None
    assert where(front, 2) is None
    assert where(back, 2) is not None
    assert where(back, 0) is None


def test_a_silhouette_has_the_size_that_perspective_gives() -> None:
    mesh = surface(np.ones((16, 16, 16), bool))
    (view,) = render(mesh, [Camera(0.0, 0.0)], 200)
    width = (view != 255).any(-1).any(0).sum()
    # The near edges are bevelled by half a voxel, so the widest is 1.5 + 1/32 from the camera.
    expected = 200 * 0.5 / ((1.5 + 1 / 32) * math.tan(math.radians(20)))
    assert abs(width - expected) <= 1


def test_sheets_and_turntables(tmp_path: Path) -> None:
    views = np.stack([np.full((4, 5, 3), i, np.uint8) for i in range(5)])
    sheet = contact_sheet(views, 3)
    assert sheet.shape == (8, 15, 3)
    assert sheet[0, 5].tolist() == [1, 1, 1]
    assert sheet[4, 0].tolist() == [3, 3, 3]
    assert sheet[4, 14].tolist() == [255, 255, 255]
    frames = turntable(surface(boxes()), 32, num_frames=4)
    save_animation(frames, tmp_path / "turn.gif")
    from PIL import Image

    with Image.open(tmp_path / "turn.gif") as image:
        assert image.n_frames == 4


# Files


def test_files_are_read_back_right_way_up_and_coloured(tmp_path: Path) -> None:
    mesh = surface(*asymmetric())
    files.save_glb(mesh, tmp_path / "a.glb")
    files.save_ply(mesh, tmp_path / "a.ply")
    files.save_obj(mesh, tmp_path / "a.obj")
    glb = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    assert glb.is_watertight
    assert glb.volume > 0
    back = z_up(glb.vertices)
    colours = np.asarray(glb.visual.vertex_colors)[:, :3].astype(int)
    blue = (colours[:, 2] > 150) & (colours[:, 0] < 50)
    assert blue.any()
    assert back[blue][:, 2].min() > 0.25, "what is on top is on top in a y-up viewer"
    assert glb.vertices[blue][:, 1].min() > 0.25
    for name in ("a.ply", "a.obj"):
        again = trimesh.load(tmp_path / name, force="mesh", process=False)
        assert np.allclose(np.sort(again.vertices, 0), np.sort(mesh.vertices, 0), atol=1e-5)
        shades = {tuple(c) for c in np.asarray(again.visual.vertex_colors)[:, :3].tolist()}
        assert (220, 0, 0) in shades
    files.save_codes([1, 2, 3], 16, "a plan", tmp_path / "codes.json")
    record = json.loads((tmp_path / "codes.json").read_text())
    assert record["text"] == "<mesh-start><mesh1><mesh2><mesh3><mesh-end>"
    files.save_voxel_points(boxes(), tmp_path / "v.ply")
    assert len(trimesh.load(tmp_path / "v.ply").vertices) == boxes().sum()


def test_shapes_are_stored_by_name(tmp_path: Path) -> None:
    grid, colours = asymmetric()
    save_shapes(tmp_path / "s.npz", {"one": Voxels(grid, colours)})
    back = load_shape(f"{tmp_path}/s.npz#one", 16)
    assert np.array_equal(back.occupancy, grid)
    words = nearest_colour(colours[grid])
    assert np.array_equal(nearest_colour(back.colours[grid]), words)
    with pytest.raises(DataError, match="did you mean 'one'"):
        load_shape(f"{tmp_path}/s.npz#on")
    with pytest.raises(DataError, match="16 voxels per side, not 32"):
        load_shape(f"{tmp_path}/s.npz#one", 32)
    with pytest.raises(DataError, match="cannot be read"):
        load_shape(f"{tmp_path}/nothing.npz#one")
    (tmp_path / "bad.obj").write_text("not a mesh", encoding="utf-8")
    with pytest.raises(DataError):
        load_shape(f"{tmp_path}/bad.obj", 16)
    with pytest.raises(DataError, match="needs a resolution"):
        load_shape(f"{tmp_path}/bad.obj")


def test_a_mesh_file_is_a_reference_too(tmp_path: Path) -> None:
    mesh = surface(*asymmetric())
    files.save_glb(mesh, tmp_path / "a.glb")
    shape = load_shape(str(tmp_path / "a.glb"), 16)
    top = shape.colours[:, :, 15][shape.occupancy[:, :, 15]]
    assert len(top) < 20, "the blue knob is on top"
    assert top[:, 2].min() > 150


# Colours, descriptions, decoders


def test_colour_words_name_their_own_colour() -> None:
    names = list(COLOURS)
    assert [names[i] for i in nearest_colour(np.array(list(COLOURS.values())))] == names
    assert colours_in("A gray chair, Black and grey.") == ["grey", "black"]
    assert colours_in("blackboard reddish") == []


def test_a_shape_is_described_by_what_it_is() -> None:
    grid = boxes()
    colours = np.zeros((16, 16, 16, 3), np.uint8)
    colours[:] = COLOURS["brown"]
    about = describe(Voxels(grid, colours))
    assert about.num_feet == 4
    assert about.colour == "brown"
    assert about.caption("table", True) == "a brown table with four legs"
    tall = describe(Voxels(block(7, 9, 7, 9, 1, 15), colours))
    assert (tall.proportion, tall.num_feet) == ("tall", 0)
    assert tall.extent == (1, 1, 8)
    assert tall.caption("lamp", True) == "a tall brown lamp"


def test_the_palette_decoder_paints_what_the_words_say() -> None:
    decode = make_decoder("palette", "")
    mesh = decode(boxes(), "blue no red", "a green chair", 0)
    assert set(map(tuple, mesh.colours.tolist())) == {COLOURS["red"]}
    grey = decode(boxes(), "no colour", "a green chair", 0)
    assert set(map(tuple, grey.colours.tolist())) == {GREY}
    assert decode(np.zeros((8, 8, 8), bool), "red", "", 0).is_empty
    with pytest.raises(ConfigError, match="did you mean 'trellis'"):
        make_decoder("trelis", "")


def test_trellis_does_the_same_job_behind_the_same_interface(monkeypatch) -> None:
    """The adapter against a pipeline of this project that decodes on the CPU, call for call."""
    from types import ModuleType, SimpleNamespace

    seen: dict = {}

    class Pipeline:
        """Decodes given voxels by marching cubes, with the seed's noise."""

        @classmethod
        def from_pretrained(cls, model: str) -> Pipeline:
            seen["model"] = model
            return cls()

        def cuda(self) -> None:
            pass

        def get_cond(self, prompts: list[str]) -> dict:
            return {"cond": prompts}

        def sample_slat(self, cond: dict, coords: torch.Tensor) -> SimpleNamespace:
            seen["coords"] = coords
            return SimpleNamespace(coords=coords, noise=torch.rand(3), cond=cond)

        def decode_slat(self, slat: SimpleNamespace, formats: list[str]) -> dict:
            grid = np.zeros((64, 64, 64), bool)
            grid[tuple(slat.coords[:, 1:].numpy().T)] = True
            mesh = PaletteDecoder()(grid, slat.cond["cond"][0], "", 0)
            shade = torch.from_numpy(mesh.colours / 255.0) * slat.noise
            attrs = torch.cat([shade, torch.zeros(len(shade), 3)], 1)
            return {"mesh": [SimpleNamespace(
                vertices=torch.from_numpy(mesh.vertices), faces=torch.from_numpy(mesh.faces),
                vertex_attrs=attrs)]}  # fmt: skip

    pipelines = ModuleType("trellis.pipelines")
    pipelines.TrellisTextTo3DPipeline = Pipeline
    monkeypatch.setitem(sys.modules, "trellis", ModuleType("trellis"))
    monkeypatch.setitem(sys.modules, "trellis.pipelines", pipelines)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    decode = make_decoder("trellis", "some/model")
    grid = boxes(64)
    one = decode(grid, "", "a red chair", 5)
    assert seen["model"] == "some/model"
    assert seen["coords"].shape == (grid.sum(), 4)
    assert not seen["coords"][:, 0].any()
    plain = PaletteDecoder()(grid, "red", "", 0)
    assert np.allclose(one.vertices, plain.vertices)
    assert np.array_equal(one.faces, plain.faces)
    assert np.array_equal(one.colours, decode(grid, "", "a red chair", 5).colours)
    assert not np.array_equal(one.colours, decode(grid, "", "a red chair", 6).colours)
    assert decode(np.zeros((64, 64, 64), bool), "", "x", 0).is_empty
    with pytest.raises(ConfigError, match="64 voxels per side"):
        decode(boxes(16), "", "x", 0)


def test_without_trellis_the_error_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "trellis", None)
    with pytest.raises(ConfigError, match="installed from its own"):
        make_decoder("trellis", "x")


def test_seeds_depend_on_sample_and_codes_alone() -> None:
    assert seed_of("a", [1, 2]) == seed_of("a", [1, 2])
    assert len({seed_of("a", [1, 2]), seed_of("b", [1, 2]), seed_of("a", [2, 1])}) == 3
    assert empty_mesh().is_empty


# The VQ-VAE


def test_the_published_codec_has_its_names_and_size() -> None:
    with torch.device("meta"):
        codec = VoxelCodec(VoxelCodecConfig())
    count = {
        name: sum(p.numel() for p in part.parameters()) for name, part in codec.named_children()
    }
    assert {name: round(n / 1e6, 2) for name, n in count.items()} == {
        "Encoder": 59.3, "Decoder": 73.67, "vq": 0.26
    }  # fmt: skip
    shapes = {name: tuple(x.shape) for name, x in codec.state_dict().items()}
    assert shapes["vq.embeddings.weight"] == (8192, 32)
    assert shapes["Encoder.input_layer.weight"] == (32, 1, 3, 3, 3)
    assert shapes["Encoder.blocks.2.conv.weight"] == (128, 32, 2, 2, 2)
    assert shapes["Encoder.middle_block.1.norm2.weight"] == (512,)
    assert shapes["Encoder.out_layer.2.weight"] == (16, 512, 3, 3, 3)
    assert shapes["Decoder.input_layer.weight"] == (512, 8, 3, 3, 3)
    assert shapes["Decoder.blocks.2.conv.weight"] == (1024, 512, 3, 3, 3)
    assert shapes["Decoder.blocks.7.conv2.bias"] == (32,)
    assert shapes["Decoder.out_layer.0.bias"] == (32,)
    assert codec.shape.num_tokens == 1024


@pytest.mark.parametrize(
    "shape", [SHAPE, SHAPE.model_copy(update={"resolution": 32, "group": 4}),
              SHAPE.model_copy(update={"resolution": 24, "group": 3})],
)  # fmt: skip
def test_tokens_stand_for_columns(shape: VoxelCodecConfig) -> None:
    """Token j covers latent cells j*group .. along z, in C order: as the published reshape does."""
    codec = VoxelCodec(shape).eval()
    r, g = shape.latent_side, shape.group
    x = (torch.rand(2, *(shape.resolution,) * 3) < 0.1).float()
    z = codec.Encoder(x[:, None])
    tokens = codec.latents(x)
    for j in (0, 1, shape.num_tokens - 1):
        cells = [np.unravel_index(j * g + i, (r, r, r)) for i in range(g)]
        expected = torch.cat([z[:, :, a, b, c] for a, b, c in cells], 1)
        assert torch.allclose(tokens[:, j], expected)
    back = codec.logits(tokens)
    assert torch.allclose(back, codec.Decoder(z), atol=1e-5)
    codes = codec.encode(x)
    assert codes.shape == (2, shape.num_tokens)
    assert codec.decode(codes).shape == x.shape
    assert torch.equal(codec(x).codes, codes)


def test_gradients_pass_the_codebook_straight() -> None:
    codec = VoxelCodec(SHAPE)
    x = (torch.rand(2, 16, 16, 16) < 0.2).float()
    found = codec(x)
    (found.logits.square().mean() + found.commitment + found.codebook).backward()
    assert codec.Encoder.input_layer.weight.grad.abs().sum() > 0
    assert codec.vq.embeddings.weight.grad.abs().sum() > 0


def test_codecs_are_saved_and_read_without_running_anything(tmp_path: Path) -> None:
    codec = VoxelCodec(SHAPE)
    save_codec(codec, tmp_path / "c")
    again = load_codec(str(tmp_path / "c"))
    codes = torch.randint(0, 32, (2, 8))
    assert torch.equal(codec.decode(codes), again.decode(codes))
    torch.save(codec.state_dict(), tmp_path / "3DVQVAE.bin")
    plain = load_codec(str(tmp_path / "3DVQVAE.bin"), SHAPE)
    assert torch.equal(plain.decode(codes), codec.decode(codes))
    with pytest.raises(ConfigError, match="do not fit the shape"):
        load_codec(str(tmp_path / "3DVQVAE.bin"), SHAPE.model_copy(update={"num_codes": 64}))

    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"a": Harm()}, tmp_path / "evil.bin")
    with pytest.raises(ConfigError, match="holds no weights"):
        load_codec(str(tmp_path / "evil.bin"), SHAPE)
    assert not (tmp_path / "harm").exists()
    with pytest.raises(ConfigError, match=r"3DVQVAE\.bin"):
        load_codec(str(tmp_path / "none.bin"))


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be halved"):
        VoxelCodecConfig(resolution=18)
    with pytest.raises(ValueError, match="does not divide"):
        VoxelCodecConfig(resolution=16, group=5)
    with pytest.raises(ValueError, match="same number of levels"):
        VoxelCodecConfig(num_blocks=(1, 1))


# OpenGL


def test_both_renderers_draw_the_same() -> None:
    """At most one pixel in a thousand differs by more than 8 of 255; needs moderngl and EGL."""
    pytest.importorskip("moderngl")
    from vlrl.mesh import gl

    if not gl.works():
        pytest.skip("no EGL device")
    mesh = surface(*asymmetric())
    cameras = [*around(5), Camera(20.0, -50.0)]
    one = render(mesh, cameras, 96)
    two = render(mesh, cameras, 96, renderer="egl")
    assert (np.abs(one.astype(int) - two).max(-1) > 8).mean() < 1e-3
    assert (render(empty_mesh(), cameras, 32, renderer="egl") == 255).all()


def test_without_moderngl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlrl.mesh import gl

    monkeypatch.setitem(sys.modules, "moderngl", None)
    gl._context.cache_clear()
    with pytest.raises(ConfigError, match="pip install moderngl"):
        render(surface(boxes()), around(1), 32, renderer="egl")
    assert not gl.works()
    gl._context.cache_clear()
    software = render(surface(boxes()), around(1), 32)
    assert np.array_equal(render(surface(boxes()), around(1), 32, renderer="auto"), software)
