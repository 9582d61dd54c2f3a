"""A simulated table with objects of exactly known sizes, seen by a camera from above.

For bring-up without hardware and for tests: `TABLE` is the ground truth. Intersects rays with a
plane, boxes and cylinders; no shadows. Does not know the scenes that nano was trained on, or ROS
(`sdvlm_ros.simulated_camera` publishes it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sdvlm_core.frame import CameraIntrinsics
from sdvlm_core.geometry.sensor_noise import SENSORS

Vector = npt.NDArray[np.float64]

INTRINSICS = CameraIntrinsics(600.0, 600.0, 319.5, 239.5, 640, 480)
#: Height of the camera above the table's surface (z = 0), metres.
CAMERA_HEIGHT_M = 0.55
#: Angle of the optical axis below the horizon, radians.
CAMERA_PITCH_RAD = math.radians(38)
#: The normal of the table's surface in the optical frame, a unit vector.
UP = (0.0, -math.cos(CAMERA_PITCH_RAD), -math.sin(CAMERA_PITCH_RAD))

_WALL_M = 4.0  # depth behind the far edge of the table
_TABLE_LENGTH_M, _TABLE_HALF_WIDTH_M = 1.6, 0.8
_WALL_GREY, _TABLE_RGB = 205.0, (150, 120, 95)
# Brightness of a top face, a side face, and the opening of a mug; its radius relative to the mug's.
_TOP_SHADE, _SIDE_SHADE, _OPENING_SHADE, _OPENING_RADIUS = 1.0, 0.8, 0.35, 0.84


@dataclass(frozen=True)
class TableObject:
    """An upright box, cylinder or mug (a cylinder with a dark opening at the top).

    Attributes:
        shape: `box`, `cylinder` or `mug`.
        size: length >= width, height; metres.
        base: x, y of the base's centre in the table frame, metres.
        yaw: radians.
    """

    name: str
    shape: str
    size: tuple[float, float, float]
    base: tuple[float, float]
    rgb: tuple[int, int, int]
    yaw: float = 0.0

    @property
    def centre(self) -> Vector:
        """In the table frame, metres: x right, y away from the camera, z up."""
        return np.array([*self.base, self.size[2] / 2])


TABLE = (
    TableObject("red mug", "mug", (0.09, 0.09, 0.11), (-0.12, 0.62), (204, 20, 20)),
    TableObject(
        "blue box", "box", (0.20, 0.12, 0.10), (0.13, 0.70), (26, 56, 204), math.radians(20)
    ),
    TableObject("green can", "cylinder", (0.066, 0.066, 0.13), (0.02, 0.92), (26, 140, 38)),
)


def render(
    rays: Vector | None = None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """The view of the camera.

    Args:
        rays: (H, W, 3) with Z = 1 in the optical frame, one per pixel; None = those of INTRINSICS.

    Returns:
        rgb (H, W, 3); exact depth (H, W), metres along Z; instances (H, W), 0 = none, i =
        TABLE[i - 1].
    """
    if rays is None:
        v, u = np.mgrid[: INTRINSICS.height, : INTRINSICS.width].astype(np.float64)
        rays = INTRINSICS.back_project(u, v, 1.0)
    height, width = rays.shape[:2]
    origin = np.array([0.0, 0.0, CAMERA_HEIGHT_M])
    # A ray has Z = 1 in the optical frame, so its parameter is the depth.
    rays = rays @ _camera_to_table().T
    depth = np.full((height, width), _WALL_M)
    rgb = np.full((height, width, 3), _WALL_GREY)
    instance = np.zeros((height, width), np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        table = -origin[2] / rays[..., 2]
        x, y = np.abs(table * rays[..., 0]), table * rays[..., 1]
        hit = (table > 0) & (y < _TABLE_LENGTH_M) & (x < _TABLE_HALF_WIDTH_M)
        depth[hit], rgb[hit] = table[hit], _TABLE_RGB
        for number, item in enumerate(TABLE, start=1):
            distance, shade = _intersect(item, origin, rays)
            hit = distance < depth
            depth[hit], instance[hit] = distance[hit], number
            rgb[hit] = (shade[..., None] * item.rgb)[hit]
    return rgb.astype(np.uint8), depth, instance


def boxes() -> dict[str, tuple[int, int, int, int]]:
    """Name -> (x1, y1, x2, y2) of the object's pixels, as from a perfect detector."""
    instance = render()[2]
    found = {}
    for number, item in enumerate(TABLE, start=1):
        rows, columns = np.nonzero(instance == number)
        x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        found[item.name] = int(x1), int(y1), int(x2), int(y2)
    return found


def to_camera(point: Vector) -> Vector:
    """A point in the table frame -> the colour optical frame, metres."""
    return (point - (0.0, 0.0, CAMERA_HEIGHT_M)) @ _camera_to_table()


def _camera_to_table() -> Vector:
    """Rotation (3, 3): columns are the camera's X right, Y down, Z forward in the table frame."""
    c, s = math.cos(CAMERA_PITCH_RAD), math.sin(CAMERA_PITCH_RAD)
    return np.array([[1.0, 0.0, 0.0], [0.0, -s, c], [0.0, -c, -s]])


def _intersect(item: TableObject, origin: Vector, rays: Vector) -> tuple[Vector, Vector]:
    """Parameter of each ray where it enters the object (H, W), inf = never; brightness (H, W)."""
    c, s = math.cos(item.yaw), math.sin(item.yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    start, along = (origin - item.centre) @ turn, rays @ turn
    half = np.array(item.size) / 2
    near, far = (-half - start) / along, (half - start) / along
    enter, leave = np.minimum(near, far), np.maximum(near, far)
    if item.shape != "box":
        # x and y together: |start + t along| = radius
        a = (along[..., :2] ** 2).sum(-1)
        b = (start[:2] * along[..., :2]).sum(-1)
        root = np.sqrt(b * b - a * ((start[:2] ** 2).sum() - half[0] ** 2))  # NaN = misses it
        enter = np.stack([(-b - root) / a, enter[..., 2]], axis=-1)
        leave = np.stack([(-b + root) / a, leave[..., 2]], axis=-1)
    distance = enter.max(-1)
    hit = (distance > 0) & (distance < leave.min(-1))
    top = enter.argmax(-1) == enter.shape[-1] - 1
    shade = np.where(top, _TOP_SHADE, _SIDE_SHADE)
    if item.shape == "mug":
        where = start + distance[..., None] * along
        opening = top & (np.hypot(where[..., 0], where[..., 1]) < _OPENING_RADIUS * half[0])
        shade = np.where(opening, _OPENING_SHADE, shade)
    return np.where(hit, distance, np.inf), shade


def sensor_depth_mm(metres: Vector, random: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Exact depth (H, W) metres -> millimetres with the noise of the sensor preset `simulated`."""
    sensor = SENSORS["simulated"]
    std_dev = sensor.floor_m + sensor.square_per_m * metres**2
    noisy = metres + std_dev * random.standard_normal(metres.shape)
    return np.rint(noisy * 1000).astype(np.uint16)
