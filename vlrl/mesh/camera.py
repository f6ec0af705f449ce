"""The cameras that look at objects.

A camera is on a sphere around the origin and looks at it, z up. Azimuth 0 is in front of the
object, at -y, and sees x to the right; the angle grows counter-clockwise seen from above, so at 90
degrees the camera is at +x. Elevation 0 is level, 90 straight above. Radius 2 and a vertical field
of view of 40 degrees, as in TRELLIS and the references of 3DGen-R1's evaluation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """One view."""

    azimuth_deg: float
    elevation_deg: float = 20.0
    radius: float = 2.0
    fov_deg: float = 40.0
    """Vertical; images are square, so the horizontal one is the same."""

    @property
    def position(self) -> np.ndarray:
        """In the world, [3]."""
        a, e = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        return self.radius * np.array(
            [math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)]
        )

    @property
    def rotation(self) -> np.ndarray:
        """Rows: the camera's right, up and backwards in the world, [3, 3]."""
        back = self.position / self.radius
        a = math.radians(self.azimuth_deg)
        right = np.array([math.cos(a), math.sin(a), 0.0])
        return np.stack([right, np.cross(back, right), back])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points [N, 3] -> image coordinates [N, 2] and distances along the axis [N].

        Both coordinates run from -1 to 1 over the image, x to the right, y up.
        """
        seen = (points - self.position) @ self.rotation.T
        depth = -seen[:, 2]
        focal = 1 / math.tan(math.radians(self.fov_deg) / 2)
        return focal * seen[:, :2] / depth[:, None], depth


def around(num_views: int, elevation_deg: float = 20.0, first_deg: float = 0.0) -> list[Camera]:
    """Evenly spaced views, the front first."""
    step = 360.0 / num_views
    return [Camera(first_deg + step * view, elevation_deg) for view in range(num_views)]
