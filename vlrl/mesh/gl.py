"""The same images by OpenGL without a screen: EGL through moderngl, on a GPU or Mesa on a CPU.

    pip install moderngl==5.13.0

It is not among this project's requirements. Same camera, same flat shading per triangle, so images
differ from the software renderer's only along edges: benchmarks/render_views.py measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from vlrl.errors import ConfigError
from vlrl.mesh.camera import Camera
from vlrl.mesh.mesh import ColouredMesh

VERTEX = """
#version 330
uniform mat4 camera;
in vec3 point;
in vec3 shade;
flat out vec3 colour;
void main() {
    gl_Position = camera * vec4(point, 1.0);
    colour = shade;
}
"""
FRAGMENT = """
#version 330
flat in vec3 colour;
out vec4 pixel;
void main() { pixel = vec4(colour, 1.0); }
"""
NEAR, FAR = 0.05, 100.0


def works() -> bool:
    """Whether moderngl is installed and finds an EGL device."""
    try:
        _context()
    except ConfigError:
        return False
    return True


@lru_cache(maxsize=1)
def _context() -> Any:
    try:
        import moderngl
    except ImportError as error:
        raise ConfigError(
            "renderer egl needs the package moderngl (pip install moderngl==5.13.0); "
            "renderer software needs no package"
        ) from error
    try:
        # Without `backend` it tries an X display first and fails.
        return moderngl.create_context(standalone=True, backend="egl")
    except Exception as error:
        raise ConfigError(f"renderer egl: no EGL device: {error}") from error


@lru_cache(maxsize=1)
def _program() -> Any:
    return _context().program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)


@lru_cache(maxsize=4)
def _target(side: int) -> Any:
    context = _context()
    return context.framebuffer(
        [context.renderbuffer((side, side), 3)], context.depth_renderbuffer((side, side))
    )


def render(mesh: ColouredMesh, cameras: Sequence[Camera], side: int) -> np.ndarray:
    """Views, uint8 [N, side, side, 3]; raises ConfigError where there is no EGL."""
    from vlrl.mesh.shading import BACKGROUND, shades

    context, program, target = _context(), _program(), _target(side)
    views = np.full((len(cameras), side, side, 3), BACKGROUND, np.uint8)
    if mesh.is_empty:
        return views
    corners = mesh.vertices[mesh.faces].reshape(-1, 3).astype("f4")
    target.use()
    context.enable(context.DEPTH_TEST)
    for number, camera in enumerate(cameras):
        shade = np.repeat(np.clip(shades(mesh, camera) / 255, 0, 1), 3, axis=0).astype("f4")
        buffer = context.buffer(np.concatenate([corners, shade], 1).astype("f4").tobytes())
        array = context.vertex_array(program, [(buffer, "3f 3f", "point", "shade")])
        program["camera"].write(_matrix(camera).T.astype("f4").tobytes())
        target.clear(*[BACKGROUND / 255] * 3, 1.0, depth=1.0)
        array.render(context.TRIANGLES)
        pixels = np.frombuffer(target.read(components=3, alignment=1), np.uint8)
        views[number] = pixels.reshape(side, side, 3)[::-1]  # OpenGL counts rows from below
        array.release()
        buffer.release()
    return views


def _matrix(camera: Camera) -> np.ndarray:
    """World to clip coordinates, [4, 4]."""
    focal = 1 / np.tan(np.radians(camera.fov_deg) / 2)
    view = np.eye(4)
    view[:3, :3] = camera.rotation
    view[:3, 3] = -camera.rotation @ camera.position
    lens = np.zeros((4, 4))
    lens[0, 0] = lens[1, 1] = focal
    lens[2, 2], lens[2, 3] = (FAR + NEAR) / (NEAR - FAR), 2 * FAR * NEAR / (NEAR - FAR)
    lens[3, 2] = -1
    return lens @ view
