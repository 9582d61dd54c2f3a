"""Things made of boxes: their mesh, and an exact picture of them.

A thing is a few boxes with one label. The picture is computed from the boxes, by intersecting each
ray with each box, and not from the mesh: what a picture shows is known exactly, whatever a reader
makes of the files. This module knows no file format and nothing of `training.build`.

Units are metres; z is up. A camera pose is camera-to-world, 4x4, with the camera's axes right,
down, forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

#: RGB of each colour's name.
COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 150, 40),
    "blue": (30, 60, 200),
    "yellow": (230, 210, 30),
    "white": (238, 238, 238),
    "black": (20, 20, 20),
    "gray": (128, 128, 128),
    "brown": (120, 70, 30),
    "orange": (240, 130, 20),
    "pink": (245, 130, 180),
    "purple": (120, 40, 150),
}

#: Side of a square of the texture, metres, and how much darker every second square is.
SQUARE, DARKER = 0.05, 0.78


@dataclass(frozen=True)
class Box:
    """A box in the frame of its thing: centre and full sides along x, y, z, metres."""

    centre: tuple[float, float, float]
    sides: tuple[float, float, float]


@dataclass(frozen=True)
class Thing:
    """Boxes with one label, turned by `yaw` (radians, about z) and moved to `at`."""

    label: str | None
    colour: str
    parts: tuple[Box, ...]
    at: tuple[float, float, float]
    yaw: float = 0.0
    #: What it is, if the label does not say.
    truly: str = ""
    #: False for walls and floors, which no question is about.
    thing: bool = True

    @property
    def rotation(self) -> np.ndarray:
        """World from thing, 3x3."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner in the thing's own frame."""
        low = np.min([np.subtract(b.centre, np.divide(b.sides, 2)) for b in self.parts], axis=0)
        high = np.max([np.add(b.centre, np.divide(b.sides, 2)) for b in self.parts], axis=0)
        return low, high

    @property
    def centre(self) -> np.ndarray:
        """Centre of the upright box around it, world."""
        low, high = self.bounds
        return self.rotation @ ((low + high) / 2) + np.array(self.at)

    @property
    def size(self) -> tuple[float, float, float]:
        """Length, width (length >= width), height."""
        low, high = self.bounds
        x, y, z = high - low
        return max(x, y), min(x, y), z

    @property
    def bottom_top(self) -> tuple[float, float]:
        low, high = self.bounds
        return low[2] + self.at[2], high[2] + self.at[2]

    def corners(self) -> np.ndarray:
        """The eight corners of the upright box, world, (8, 3)."""
        low, high = self.bounds
        grid = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        return (low + grid * (high - low)) @ self.rotation.T + np.array(self.at)


@dataclass(frozen=True)
class Mesh:
    """Vertices (N, 3), faces (M, 3), colours (N, 3) uint8; `things` and `segments` per vertex."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    things: np.ndarray
    segments: np.ndarray


@dataclass(frozen=True)
class Picture:
    """What a camera sees: colour (H, W, 3) RGB, depth (H, W) metres along z, thing index or -1."""

    colour: np.ndarray
    depth: np.ndarray
    things: np.ndarray


def cuboid(label: str | None, colour: str, sides, at, yaw: float = 0.0, **more) -> Thing:
    """One box that stands on `at` (the centre of its foot)."""
    return Thing(label, colour, (Box((0, 0, sides[2] / 2), tuple(sides)),), tuple(at), yaw, **more)


def table(label: str, colour: str, sides, at, yaw: float = 0.0, **more) -> Thing:
    """A top on four legs."""
    x, y, z = sides
    leg, top = 0.06, 0.05
    legs = [
        Box((sx * (x - leg) / 2, sy * (y - leg) / 2, (z - top) / 2), (leg, leg, z - top))
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    parts = (Box((0, 0, z - top / 2), (x, y, top)), *legs)
    return Thing(label, colour, parts, tuple(at), yaw, **more)


def chair(label: str, colour: str, at, yaw: float = 0.0, seat=0.46, height=0.92, **more) -> Thing:
    """A seat on a pedestal as wide as it, with a back: its footprint is `seat` squared."""
    parts = (
        Box((0, 0, 0.22), (seat, seat, 0.44)),
        Box((0, -seat / 2 + 0.03, (0.44 + height) / 2), (seat, 0.06, height - 0.44)),
    )
    return Thing(label, colour, parts, tuple(at), yaw, **more)


def moved(thing: Thing, by) -> Thing:
    return replace(thing, at=tuple(np.add(thing.at, by)))


def _face(low, high, axis: int, side: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """A face of a box as a grid: vertices and triangles that wind outwards."""
    u, v = [other for other in range(3) if other != axis]
    counts = [max(1, int(np.ceil((high[k] - low[k]) / step))) for k in (u, v)]
    us, vs = (np.linspace(low[k], high[k], n + 1) for k, n in zip((u, v), counts, strict=True))
    points = np.zeros((len(us) * len(vs), 3))
    grid = np.stack(np.meshgrid(us, vs, indexing="ij"), axis=-1).reshape(-1, 2)
    points[:, u], points[:, v] = grid[:, 0], grid[:, 1]
    points[:, axis] = (low, high)[side][axis]
    i, j = np.meshgrid(np.arange(counts[0]), np.arange(counts[1]), indexing="ij")
    a = (i * len(vs) + j).ravel()
    b, c, d = a + len(vs), a + len(vs) + 1, a + 1
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    first = points[faces[0]]
    normal = np.cross(first[1] - first[0], first[2] - first[0])[axis]
    return points, faces if (normal > 0) == (side == 1) else faces[:, ::-1]


def mesh_of(things: list[Thing]) -> Mesh:
    """The surface of all things. Each face of each box is a segment of its own."""
    vertices, faces, colours, owners, segments = [], [], [], [], []
    count, segment = 0, 7
    for index, thing in enumerate(things):
        step = 0.12 if thing.thing else 0.5
        for box in thing.parts:
            half = np.divide(box.sides, 2)
            low, high = np.subtract(box.centre, half), np.add(box.centre, half)
            for axis in range(3):
                for side in (0, 1):
                    points, triangles = _face(low, high, axis, side, step)
                    vertices.append(points @ thing.rotation.T + np.array(thing.at))
                    faces.append(triangles + count)
                    colours.append(np.tile(COLOURS[thing.colour], (len(points), 1)))
                    owners.append(np.full(len(points), index))
                    segments.append(np.full(len(points), segment))
                    count, segment = count + len(points), segment + 3
    return Mesh(
        np.concatenate(vertices),
        np.concatenate(faces).astype(np.int32),
        np.concatenate(colours).astype(np.uint8),
        np.concatenate(owners),
        np.concatenate(segments),
    )


def pinhole_rays(width: int, height: int, matrix: np.ndarray) -> np.ndarray:
    """Directions with z = 1 through the centres of the pixels, (H, W, 3); K is 3x3."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    x = (u - matrix[0, 2]) / matrix[0, 0]
    y = (v - matrix[1, 2]) / matrix[1, 1]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def fisheye_rays(width: int, height: int, matrix: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The same for OpenCV's fisheye model (k1 to k4), by Newton's method. z is cos(theta)."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    x = (u - matrix[0, 2]) / matrix[0, 0]
    y = (v - matrix[1, 2]) / matrix[1, 1]
    radius = np.hypot(x, y)
    theta = radius.copy()
    powers = np.array([3, 5, 7, 9])
    for _ in range(20):
        t = theta[..., None]
        value = theta + (k * t**powers).sum(-1) - radius
        theta = theta - value / (1 + (k * powers * t ** (powers - 1)).sum(-1))
    scale = np.where(radius > 1e-9, np.sin(theta) / np.maximum(radius, 1e-9), 1.0)
    return np.stack([x * scale, y * scale, np.cos(theta)], axis=-1)


def _hit(box: Box, thing: Thing, origin, rays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ray parameter of the first hit (inf: none), hit point and axis in the thing's frame."""
    start = thing.rotation.T @ (origin - np.array(thing.at)) - np.array(box.centre)
    direction = rays @ thing.rotation
    direction = np.where(np.abs(direction) < 1e-12, 1e-12, direction)
    half = np.divide(box.sides, 2)
    near = (-np.sign(direction) * half - start) / direction
    far = (np.sign(direction) * half - start) / direction
    axis = near.argmax(-1)
    enter, leave = near.max(-1), far.min(-1)
    t = np.where((enter < leave) & (enter > 1e-6), enter, np.inf)
    point = start + np.where(np.isfinite(t), t, 0.0)[..., None] * direction + np.array(box.centre)
    return t, point, axis


def _texture(point: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """1 or DARKER: squares on the two coordinates of the face that was hit."""
    cells = np.floor(point / SQUARE + 0.013).astype(int)
    cells = np.where(np.arange(3) == axis[..., None], 0, cells)
    return np.where(cells.sum(-1) % 2 == 0, 1.0, DARKER)


def look(things: list[Thing], pose: np.ndarray, rays: np.ndarray) -> Picture:
    """The picture along `rays` (H, W, 3, camera frame) from `pose`."""
    world = rays @ pose[:3, :3].T
    best = np.full(rays.shape[:2], np.inf)
    colour = np.zeros(rays.shape)
    owner = np.full(rays.shape[:2], -1)
    for index, thing in enumerate(things):
        for box in thing.parts:
            t, point, axis = _hit(box, thing, pose[:3, 3], world)
            closer = t < best
            shade = _texture(point, axis)[..., None] * np.array(COLOURS[thing.colour])
            colour = np.where(closer[..., None], shade, colour)
            owner = np.where(closer, index, owner)
            best = np.where(closer, t, best)
    depth = np.where(np.isfinite(best), best, 0.0) * rays[..., 2]
    return Picture(colour.astype(np.uint8), depth, owner)


def camera_at(position, target, roll: float = 0.0) -> np.ndarray:
    """Camera-to-world pose at `position` that looks at `target`, upright but for `roll`."""
    forward = np.subtract(target, position).astype(float)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    pose = np.eye(4)
    cos, sin = np.cos(roll), np.sin(roll)
    turned = np.stack([cos * right + sin * down, cos * down - sin * right, forward], axis=1)
    pose[:3, :3], pose[:3, 3] = turned, position
    return pose
