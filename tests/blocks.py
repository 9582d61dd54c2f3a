"""A room of upright blocks on a floor, known exactly, and what a camera sees of it.

Colour and depth come from intersecting rays with boxes, by a formula, and not with the code under
test. `tests/training/scans.py` writes the same room in the file formats of ScanNet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdvlm_core.frame import CameraIntrinsics, RgbdFrame

FLOOR = (150, 150, 150)


@dataclass(frozen=True)
class Block:
    """An upright box: label, colour (R, G, B), centre of its base, (x, y, z) sides, yaw; metres."""

    label: str
    rgb: tuple[int, int, int]
    base: tuple[float, float, float]
    sides: tuple[float, float, float]
    yaw: float = 0.0

    @property
    def centre(self) -> np.ndarray:
        return np.add(self.base, (0, 0, self.sides[2] / 2))

    @property
    def turn(self) -> np.ndarray:
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


#: What the camera of `POSES[0]` sees, and what is planted to be left out there.
TABLE = Block("coffee table", (120, 80, 40), (0.0, 3.0, 0.0), (1.2, 0.6, 0.45), np.radians(30))
LAMP = Block("lamp", (240, 240, 60), (0.1, 3.0, 0.45), (0.2, 0.2, 0.35), np.radians(10))
RED = Block("chair", (200, 30, 30), (-1.2, 3.2, 0.0), (0.5, 0.45, 0.9), np.radians(-20))
BLUE = Block("chair", (30, 60, 200), (1.2, 3.4, 0.0), (0.52, 0.48, 0.8), np.radians(45))
HIDDEN = Block("suitcase", (20, 120, 40), (0.0, 3.75, 0.0), (0.5, 0.2, 0.4))
TINY = Block("cup", (250, 250, 250), (1.05, 4.6, 0.0), (0.03, 0.03, 0.04))
CUT = Block("sofa", (160, 60, 160), (-2.6, 3.2, 0.0), (1.8, 0.8, 0.8))
WALL = Block("wall", (220, 220, 200), (0.0, 5.2, 0.0), (7.0, 0.1, 1.5))
WORLD = (TABLE, LAMP, RED, BLUE, HIDDEN, TINY, CUT, WALL)
ASKED = {"coffee table": TABLE, "lamp": LAMP, "red chair": RED, "blue chair": BLUE}


def looking(position: tuple[float, float, float], at: tuple[float, float, float]) -> np.ndarray:
    """camera_to_world (4, 4) of an upright camera: X right, Y down, Z forward."""
    forward = np.subtract(at, position) / np.linalg.norm(np.subtract(at, position))
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = position
    return pose


POSES = (
    looking((0.0, 0.0, 1.3), (0.0, 3.2, 0.4)),
    looking((0.02, 0.0, 1.3), (0.0, 3.2, 0.4)),  # hardly moved: not wanted
    looking((0.9, 0.3, 1.5), (0.0, 3.2, 0.4)),
)


def picture(pose: np.ndarray, rays: np.ndarray, world=WORLD) -> tuple[np.ndarray, np.ndarray]:
    """(rgb uint8, depth metres) along rays (H, W, 3) with Z = 1 in camera axes."""
    origin, directions = pose[:3, 3], rays @ pose[:3, :3].T
    depth = np.full(rays.shape[:2], np.inf)
    rgb = np.zeros((*rays.shape[:2], 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        down = -origin[2] / directions[..., 2]
        hit = (down > 0) & (down < 30)
        depth[hit] = down[hit]
        ground = origin + down[..., None] * directions
        tiles = (np.floor(ground[..., 0] * 4) + np.floor(ground[..., 1] * 4)) % 2
        rgb[hit] = (np.array(FLOOR) - 40 * tiles[..., None])[hit]
        for block in world:
            o = (origin - block.centre) @ block.turn
            d = directions @ block.turn
            half = np.array(block.sides) / 2
            t1, t2 = (-half - o) / d, (half - o) / d
            near, far = np.minimum(t1, t2), np.maximum(t1, t2)
            enter, leave = near.max(-1), far.min(-1)
            hit = (enter < leave) & (enter > 0.01) & (enter < depth)
            depth[hit] = enter[hit]
            shade = 0.8 + 0.1 * near.argmax(-1)[..., None]
            rgb[hit] = (np.array(block.rgb) * shade)[hit]
    return np.clip(rgb, 0, 255).astype(np.uint8), np.where(np.isfinite(depth), depth, 0)


def pinhole_rays(k: np.ndarray, width: int, height: int) -> np.ndarray:
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones(u.shape)], -1)


#: A small depth camera at `POSES[0]`: width and height, pixels; focal length, pixels.
SIZE, FOCAL = (320, 240), 290.0
INTRINSICS = CameraIntrinsics(FOCAL, FOCAL, SIZE[0] / 2, SIZE[1] / 2, *SIZE)


def room_frame() -> RgbdFrame:
    """The room from `POSES[0]`, with exact depth in metres."""
    k = np.array([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]])
    rgb, depth = picture(POSES[0], pinhole_rays(k, *SIZE))
    return RgbdFrame(rgb, np.where(depth > 0, depth, np.nan).astype(np.float32), INTRINSICS)


def box_around(block: Block) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) in pixels around a block as `room_frame` shows it, three pixels loose."""
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T * block.sides
    pose = POSES[0]
    camera = (corners @ block.turn.T + block.centre - pose[:3, 3]) @ pose[:3, :3]
    uv = camera[:, :2] / camera[:, 2:] * FOCAL + (SIZE[0] / 2, SIZE[1] / 2)
    (x1, y1), (x2, y2) = uv.min(0) - 3, uv.max(0) + 3
    return float(x1), float(y1), float(x2), float(y2)


def middle_of(block: Block) -> tuple[float, float]:
    """The middle of `box_around`, pixels."""
    x1, y1, x2, y2 = box_around(block)
    return (x1 + x2) / 2, (y1 + y2) / 2
