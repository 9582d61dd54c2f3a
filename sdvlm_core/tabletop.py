"""A table top of exactly known things, seen by a camera that looks down on it.

For bring-up without hardware, for the demo and for tests: `TABLE` is the truth. Intersects rays
with a plane, boxes and cylinders; casts no shadows. Does not know the scenes that nano was trained
on, nor ROS (`sdvlm_ros.simulated_camera` publishes it).
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
#: The camera's pose: metres above the table's z = 0, and how far it looks down, radians.
HEIGHT, PITCH = 0.55, math.radians(38)
#: Away from the table's surface, in the optical frame.
UP = (0.0, -math.cos(PITCH), -math.sin(PITCH))


@dataclass(frozen=True)
class Thing:
    """An upright box or cylinder: length >= width, height, metres; where its base stands; yaw.

    A mug is a cylinder with a dark mouth: without one it is a can to whoever looks at it.
    """

    name: str
    shape: str
    size: tuple[float, float, float]
    base: tuple[float, float]
    rgb: tuple[int, int, int]
    yaw: float = 0.0

    @property
    def centre(self) -> Vector:
        """In the table's frame: x right, y away from the camera, z up."""
        return np.array([*self.base, self.size[2] / 2])


TABLE = (
    Thing("red mug", "mug", (0.09, 0.09, 0.11), (-0.12, 0.62), (204, 20, 20)),
    Thing("blue box", "box", (0.20, 0.12, 0.10), (0.13, 0.70), (26, 56, 204), math.radians(20)),
    Thing("green can", "cylinder", (0.066, 0.066, 0.13), (0.02, 0.92), (26, 140, 38)),
)


def render() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """rgb (H, W, 3); exact depth (H, W), metres along Z; (H, W) 0 = table, i = TABLE[i - 1]."""
    height, width = INTRINSICS.height, INTRINSICS.width
    v, u = np.mgrid[:height, :width].astype(np.float64)
    origin = np.array([0.0, 0.0, HEIGHT])
    # Z is 1 in the camera, so what is travelled along a ray is the depth.
    rays = INTRINSICS.back_project(u, v, 1.0) @ _camera_to_table().T
    depth = np.full((height, width), 4.0)  # a wall, behind the table's far edge
    rgb = np.full((height, width, 3), 205.0)
    instance = np.zeros((height, width), np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        table = -origin[2] / rays[..., 2]
        hit = (table > 0) & (table * rays[..., 1] < 1.6) & (np.abs(table * rays[..., 0]) < 0.8)
        depth[hit], rgb[hit] = table[hit], (150, 120, 95)
        for number, thing in enumerate(TABLE, start=1):
            entered, shade = _entered(thing, origin, rays)
            hit = entered < depth
            depth[hit], instance[hit] = entered[hit], number
            rgb[hit] = (shade[..., None] * thing.rgb)[hit]
    return rgb.astype(np.uint8), depth, instance


def boxes() -> dict[str, tuple[int, int, int, int]]:
    """Name -> (x1, y1, x2, y2) of the pixels that show it: what a perfect detector would say."""
    instance = render()[2]
    found = {}
    for number, thing in enumerate(TABLE, start=1):
        rows, columns = np.nonzero(instance == number)
        x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        found[thing.name] = int(x1), int(y1), int(x2), int(y2)
    return found


def in_camera(point: Vector) -> Vector:
    """A point of the table's frame -> the colour optical frame, metres."""
    return (point - (0.0, 0.0, HEIGHT)) @ _camera_to_table()


def _camera_to_table() -> Vector:
    """Rotation (3, 3): columns are the camera's X right, Y down, Z forward in the table's frame."""
    c, s = math.cos(PITCH), math.sin(PITCH)
    return np.array([[1.0, 0.0, 0.0], [0.0, -s, c], [0.0, -c, -s]])


def _entered(thing: Thing, origin: Vector, rays: Vector) -> tuple[Vector, Vector]:
    """(H, W) how far along each ray it enters a thing (inf = never), and how light it is there."""
    c, s = math.cos(thing.yaw), math.sin(thing.yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    start, along = (origin - thing.centre) @ turn, rays @ turn
    half = np.array(thing.size) / 2
    near, far = (-half - start) / along, (half - start) / along
    enter, leave = np.minimum(near, far), np.maximum(near, far)
    if thing.shape != "box":
        # x and y together: |start + t along| = radius
        a = (along[..., :2] ** 2).sum(-1)
        b = (start[:2] * along[..., :2]).sum(-1)
        root = np.sqrt(b * b - a * ((start[:2] ** 2).sum() - half[0] ** 2))  # NaN = passes by
        enter = np.stack([(-b - root) / a, enter[..., 2]], axis=-1)
        leave = np.stack([(-b + root) / a, leave[..., 2]], axis=-1)
    entered = enter.max(-1)
    hit = (entered > 0) & (entered < leave.min(-1))
    top = enter.argmax(-1) == enter.shape[-1] - 1
    shade = np.where(top, 1.0, 0.8)
    if thing.shape == "mug":
        where = start + entered[..., None] * along
        mouth = top & (np.hypot(where[..., 0], where[..., 1]) < 0.84 * half[0])
        shade = np.where(mouth, 0.35, shade)
    return np.where(hit, entered, np.inf), shade


def read_depth(metres: Vector, random: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Exact depth (H, W) -> millimetres with the noise of the sensor preset `simulated`."""
    sensor = SENSORS["simulated"]
    spread = sensor.floor_m + sensor.square_per_m * metres**2
    noisy = metres + spread * random.standard_normal(metres.shape)
    return np.rint(noisy * 1000).astype(np.uint16)
