"""Cameras with lens distortion that look at the simulated table.

The lens functions are written here from their published formulas, in numpy, and not taken from
the code under test or from OpenCV. Each pixel of a raw image looks along its exact ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from sdvlm_core import tabletop
from sdvlm_core.frame import CameraIntrinsics


@dataclass(frozen=True)
class Camera:
    """A camera as its camera_info describes it."""

    k: CameraIntrinsics
    model: str
    d: tuple[float, ...]

    @property
    def slopes(self) -> np.ndarray:
        """(H, W, 2) X/Z and Y/Z of the ray that each raw pixel shows; by Newton's method."""
        v, u = np.mgrid[: self.k.height, : self.k.width].astype(float)
        seen = np.stack([(u - self.k.cx) / self.k.fx, (v - self.k.cy) / self.k.fy], axis=-1)
        return invert(self.model, self.d, seen)

    @property
    def rays(self) -> np.ndarray:
        """(H, W, 3) with Z = 1."""
        slopes = self.slopes
        return np.concatenate([slopes, np.ones((*slopes.shape[:2], 1))], axis=-1)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3), metres -> raw pixels (..., 2)."""
        seen = forward(self.model, self.d, points[..., :2] / points[..., 2:])
        return seen * (self.k.fx, self.k.fy) + (self.k.cx, self.k.cy)


def _intrinsics(focal: float) -> CameraIntrinsics:
    return CameraIntrinsics(focal, focal * 1.002, 316.3, 244.1, 640, 480)


_AZURE_KINECT = (0.5285, -2.6227, 0.00077, -0.00026, 1.5226, 0.4076, -2.4436, 1.4469)
CAMERAS = {
    "plumb_bob 4": Camera(_intrinsics(480), "plumb_bob", (-0.30, 0.10, 0.001, -0.0005)),
    "plumb_bob 5": Camera(_intrinsics(520), "plumb_bob", (0.2624, -0.9531, -0.0054, 0.0026, 1.163)),
    "rational_polynomial 8": Camera(_intrinsics(480), "rational_polynomial", _AZURE_KINECT),
    "rational_polynomial 12": Camera(
        _intrinsics(480),
        "rational_polynomial",
        (-0.25, 0.06, 0.001, -0.001, 0.002, 0.01, 0.0, 0.0, 0.003, -0.001, -0.002, 0.001),
    ),
    "plumb_bob 14": Camera(
        _intrinsics(480),
        "plumb_bob",
        (-0.2, 0.05, 0.001, -0.001, 0.01, 0.01, 0, 0, 0.001, 0.0, -0.001, 0.0, 0.02, -0.015),
    ),
    "equidistant 4": Camera(_intrinsics(420), "equidistant", (-0.02, 0.03, -0.015, 0.002)),
}


def forward(model: str, d: tuple[float, ...], slopes: np.ndarray) -> np.ndarray:
    """Slopes of rays (..., 2) -> slopes at which the raw image shows them."""
    x, y = slopes[..., 0], slopes[..., 1]
    square = x * x + y * y
    if model in ("equidistant", "fisheye"):
        # Kannala and Brandt 2006: theta_d = theta (1 + k1 theta^2 + ... + k4 theta^8)
        radius = np.maximum(np.sqrt(square), 1e-12)
        angle = np.arctan(radius)
        bent = angle * (1 + sum(k * angle ** (2 * n) for n, k in enumerate(d, start=1)))
        return slopes * (bent / radius)[..., None]
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tx, ty = (*d, *[0.0] * (14 - len(d)))
    radial = (1 + k1 * square + k2 * square**2 + k3 * square**3) / (
        1 + k4 * square + k5 * square**2 + k6 * square**3
    )
    bent_x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x) + s1 * square + s2 * square**2
    bent_y = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y + s3 * square + s4 * square**2
    if not (tx or ty):
        return np.stack([bent_x, bent_y], axis=-1)
    # A sensor tilted about x by tx, then about y by ty (Louhichi et al. 2007).
    about_x = np.array([[1, 0, 0], [0, np.cos(tx), np.sin(tx)], [0, -np.sin(tx), np.cos(tx)]])
    about_y = np.array([[np.cos(ty), 0, -np.sin(ty)], [0, 1, 0], [np.sin(ty), 0, np.cos(ty)]])
    turn = about_y @ about_x
    onto = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
    tilted = np.stack([bent_x, bent_y, np.ones_like(bent_x)], axis=-1) @ (onto @ turn).T
    return tilted[..., :2] / tilted[..., 2:]


def invert(model: str, d: tuple[float, ...], seen: np.ndarray) -> np.ndarray:
    """The inverse of `forward`."""
    rays = seen.copy()
    right, down = np.array((1e-6, 0.0)), np.array((0.0, 1e-6))
    for _ in range(50):
        off = forward(model, d, rays) - seen
        if np.abs(off).max() < 1e-12:
            break
        a, c = np.moveaxis(forward(model, d, rays + right) - forward(model, d, rays - right), -1, 0)
        b, e = np.moveaxis(forward(model, d, rays + down) - forward(model, d, rays - down), -1, 0)
        step = np.stack([e * off[..., 0] - b * off[..., 1], a * off[..., 1] - c * off[..., 0]], -1)
        rays = rays - step * 2e-6 / (a * e - b * c)[..., None]
    assert np.abs(off).max() < 1e-9
    return rays


@cache
def table(camera: Camera) -> tuple[np.ndarray, np.ndarray, dict[str, tuple[int, int, int, int]]]:
    """The simulated table through a lens: rgb, exact depth in metres, boxes in raw pixels."""
    rgb, depth, instance = tabletop.render(camera.rays)
    boxes = {}
    for number, item in enumerate(tabletop.TABLE, start=1):
        rows, columns = np.nonzero(instance == number)
        x1, y1 = int(columns.min()), int(rows.min())
        boxes[item.name] = (x1, y1, int(columns.max()) + 1, int(rows.max()) + 1)
    return rgb, depth, boxes


def pinhole(k: CameraIntrinsics) -> Camera:
    """The same camera without distortion."""
    return Camera(k, "plumb_bob", (0.0,) * 5)
