"""Three boxes on a floor with exact truth, and the messages of a camera that looks at them.

`good_shot` makes the messages of a correct RGB-D camera; a situation changes them. Every pixel is
the intersection of its own ray (`tests.blocks.picture`), also for a lens with distortion, so that
nothing is resampled. Does not know what the program should say about a situation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import cv2
import numpy as np

from tests import bags, blocks
from tests.blocks import Block

#: The objects: sides are (x, y, z) metres. Two are near the image's edges, where a lens distorts.
RED = Block("red box", (204, 20, 20), (-0.27, 0.64, 0.0), (0.16, 0.12, 0.15), np.radians(15))
BLUE = Block("blue box", (26, 56, 204), (0.27, 0.76, 0.0), (0.24, 0.16, 0.14), np.radians(25))
GREEN = Block("green box", (26, 140, 38), (-0.03, 1.02, 0.0), (0.18, 0.14, 0.20), np.radians(-20))
BOXES = (RED, BLUE, GREEN)
_SHADES = (0.8, 0.9, 1.0)  # of a block's faces in `tests.blocks.picture`

#: A shelf's box before a wall: no floor in view, so nothing but gravity tells what is up.
WALL = Block("wall", (220, 220, 200), (0.0, 1.45, 0.0), (4.0, 0.1, 3.0))
PARCEL = Block("parcel", (204, 20, 20), (0.15, 1.3, 1.0), (0.14, 0.20, 0.36))
_PITCH_RAD = np.radians(38)


@dataclass(frozen=True)
class Scene:
    """What is in front of the camera: objects that are asked about, and the upright camera."""

    objects: tuple[Block, ...]
    others: tuple[Block, ...]
    pose: Any


SCENES = {
    "table": Scene(
        BOXES, (), blocks.looking((0, 0, 0.55), (0, np.cos(_PITCH_RAD), 0.55 - np.sin(_PITCH_RAD)))
    ),
    "wall": Scene((PARCEL,), (WALL,), blocks.looking((0, 0, 1.3), (0, 1, 1.3))),
    "from above": Scene(BOXES, (), blocks.looking((0, 0.78, 1.2), (0, 0.7801, 0))),
}
WIDTH, HEIGHT, FOCAL = 640, 480, 600.0
#: A wide lens sees the floor up to the horizon; the depth sensor does not.
FAR_M = 5.0
FRAME_ID = "camera_color_optical_frame"

Array = np.ndarray


@dataclass(frozen=True)
class Camera:
    """A projection: pinhole or with a lens.

    Attributes:
        focal: pixels.
        model: distortion model of sensor_msgs/CameraInfo.
        d: its coefficients; empty = no distortion.
        roll_degrees: the camera turned clockwise about its optical axis.
        moved_m: the camera's translation along its own X, metres.
        scene: name of one of `SCENES`.
    """

    focal: float = FOCAL
    model: str = "plumb_bob"
    d: tuple[float, ...] = ()
    roll_degrees: float = 0.0
    moved_m: float = 0.0
    scene: str = "table"

    @property
    def k(self) -> Array:
        cx, cy = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
        return np.array([[self.focal, 0, cx], [0, self.focal, cy], [0, 0, 1.0]])

    @property
    def pose(self) -> Array:
        """camera_to_world (4, 4)."""
        pose = SCENES[self.scene].pose.copy()
        c, s = np.cos(np.radians(self.roll_degrees)), np.sin(np.radians(self.roll_degrees))
        pose[:3, :3] = pose[:3, :3] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        pose[:3, 3] += self.moved_m * pose[:3, 0]
        return pose

    @property
    def up(self) -> tuple[float, float, float]:
        """The world's up in the optical frame."""
        x, y, z = self.pose[:3, :3].T @ (0, 0, 1.0)
        return float(x), float(y), float(z)

    def rays(self) -> Array:
        """(H, W, 3): the ray of each pixel, Z = 1."""
        if not self.d:
            return blocks.pinhole_rays(self.k, WIDTH, HEIGHT)
        pixels = np.mgrid[:HEIGHT, :WIDTH][::-1].reshape(2, -1).T.astype(np.float64)
        target = (pixels - self.k[:2, 2]) / self.focal
        slopes = target.copy()
        for _ in range(200):
            missed = self._distorted(slopes) - target
            if np.abs(missed).max() * self.focal < 1e-3:  # pixels
                rays = np.concatenate([slopes, np.ones((len(slopes), 1))], 1)
                return rays.reshape(HEIGHT, WIDTH, 3)
            # A pixel of an equidistant lens moves by 1 / (1 + r^2) of the ray's slope.
            gain = 1 + (slopes**2).sum(1, keepdims=True) if self.model == "equidistant" else 1.0
            slopes -= 0.7 * gain * missed
        raise AssertionError(f"the rays of {self} do not converge")

    def _distorted(self, slopes: Array) -> Array:
        """OpenCV's forward model: ray slopes (N, 2) -> slopes (N, 2) of the pixel."""
        d = np.array(self.d)
        if self.model == "equidistant":
            return cv2.fisheye.distortPoints(slopes[:, None], np.eye(3), d)[:, 0]
        rays = np.concatenate([slopes, np.ones((len(slopes), 1))], 1)
        return cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), d)[0][:, 0]


@cache
def view(camera: Camera) -> tuple[Array, Array]:
    """rgb (H, W, 3) uint8 and exact depth (H, W) metres, 0 = nothing within the sensor's range."""
    scene = SCENES[camera.scene]
    rgb, metres = blocks.picture(camera.pose, camera.rays(), (*scene.objects, *scene.others))
    return rgb, np.where(metres < FAR_M, metres, 0.0)


def boxes_in(rgb: Array, objects: tuple[Block, ...]) -> dict[str, tuple[int, ...]]:
    """Label -> (x1, y1, x2, y2) of the object's pixels, two pixels loose."""
    found = {}
    for block in objects:
        colours = np.array([np.array(block.rgb) * shade for shade in _SHADES]).astype(np.uint8)
        shown = (rgb[:, :, None] == colours).all(-1).any(-1)
        rows, columns = np.nonzero(shown)
        x1, y1 = max(0, columns.min() - 2), max(0, rows.min() - 2)
        found[block.label] = (int(x1), int(y1), int(columns.max() + 3), int(rows.max() + 3))
    return found


@dataclass
class Shot:
    """The messages of one instant, before they are serialized; a situation changes them.

    Attributes:
        color, depth, info: messages of `rosbags`; None = not sent.
        topics: topic of each of them.
        regions: label -> (x1, y1, x2, y2), pixels of the colour image that is sent.
        truth: label -> (length, width, height), metres, length >= width.
        before, after: further records of the bag, sent before or after the three messages.
    """

    stamp_ns: int
    camera: Camera
    rgb: Array
    metres: Array
    color: Any
    depth: Any
    info: Any
    regions: dict[str, tuple[int, ...]]
    truth: dict[str, tuple[float, float, float]]
    topics: dict[str, str] = field(default_factory=lambda: dict(RECTIFIED_TOPICS))
    before: list[bags.Record] = field(default_factory=list)
    after: list[bags.Record] = field(default_factory=list)

    def records(self) -> list[bags.Record]:
        """All messages in the order in which they are sent."""
        sent = [
            bags.record(self.topics[name], kind_of(message), message, self.stamp_ns + 5_000_000)
            for name, message in (("info", self.info), ("depth", self.depth), ("rgb", self.color))
            if message is not None
        ]
        return [*self.before, *sent, *self.after]


CAMERA = Camera()
RECTIFIED_TOPICS = {"rgb": bags.RGB, "depth": bags.DEPTH, "info": bags.INFO}
RAW_TOPICS = {
    "rgb": "/camera/color/image_raw",
    "depth": "/camera/aligned_depth_to_color/image_raw",
    "info": "/camera/color/camera_info",
}


def kind_of(message: Any) -> str:
    """sensor_msgs/msg/Image etc. of a message of `rosbags`."""
    return str(message.__msgtype__)


def good_shot(stamp_ns: int, camera: Camera = CAMERA, scale: float = 1.0) -> Shot:
    """The messages of a correct camera: rgb8, 16UC1 millimetres, K, D and P of the lens.

    Args:
        scale: all lengths of the scene multiplied by it; the colour image does not change.
    """
    objects = SCENES[camera.scene].objects
    rgb, metres = view(camera)
    metres = metres * scale
    millimetres = np.rint(metres * 1000).astype(np.uint16)
    shot = Shot(
        stamp_ns=stamp_ns,
        camera=camera,
        rgb=rgb,
        metres=metres,
        color=bags.image(rgb, "rgb8", stamp_ns),
        depth=bags.image(millimetres, "16UC1", stamp_ns),
        info=info_message(camera, stamp_ns),
        regions=boxes_in(rgb, objects),
        truth={
            block.label: (
                scale * max(block.sides[:2]),
                scale * min(block.sides[:2]),
                scale * block.sides[2],
            )
            for block in objects
        },
    )
    for message in (shot.color, shot.depth, shot.info):
        message.header.frame_id = FRAME_ID
    return shot


def info_message(camera: Camera, stamp_ns: int) -> Any:
    """The camera_info of a camera that is not stereo: P = K."""
    info = bags.camera_info(stamp_ns, WIDTH, HEIGHT)
    info.header.frame_id = FRAME_ID
    info.distortion_model = camera.model
    info.d = np.array(camera.d or (0.0,) * 5)
    info.k = camera.k.reshape(9)
    info.p = np.hstack([camera.k, np.zeros((3, 1))]).reshape(12)
    return info


def send_depth(shot: Shot, depth: Array, encoding: str) -> None:
    """Replace the depth image's pixels and encoding."""
    header = shot.depth.header
    shot.depth = bags.image(depth, encoding, shot.stamp_ns)
    shot.depth.header = header


def send_color(shot: Shot, message: Any) -> None:
    """Replace the colour message; a compressed one goes to image_transport's topic."""
    message.header.frame_id = shot.color.header.frame_id
    shot.color = message
    if kind_of(message) == bags.COMPRESSED:
        shot.topics["rgb"] += "/compressed"


def with_stamp(message: Any, stamp_ns: int) -> Any:
    """The same message with another header stamp."""
    header = bags.header(stamp_ns)
    header.frame_id = message.header.frame_id
    return replace(message, header=header)
