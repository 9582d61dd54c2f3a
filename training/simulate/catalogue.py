"""Household objects composed of geometric primitives, with their exact sizes.

Knows shapes and plausible dimensions. Does not know positions, cameras or questions.

The frame of an object has z up, its origin at the centre of the base of its bounding box, and its
axes along that box: sizes are exact by construction, without fitting.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

#: Diffuse colours, distinguishable under the lights of the simulation.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.08, 0.08),
    "orange": (0.95, 0.45, 0.05),
    "yellow": (0.92, 0.82, 0.08),
    "green": (0.10, 0.55, 0.15),
    "blue": (0.10, 0.22, 0.80),
    "purple": (0.45, 0.12, 0.60),
    "pink": (0.95, 0.50, 0.68),
    "brown": (0.38, 0.20, 0.08),
    "white": (0.93, 0.93, 0.93),
    "black": (0.06, 0.06, 0.06),
}


@dataclass(frozen=True, eq=False)
class Primitive:
    """One convex part: `kind` and `half` are MuJoCo's geom type and size; metres.

    half: box (x, y, z half extents), ellipsoid (semi-axes), sphere (r, -, -),
    cylinder and capsule (r, half length, -), along the part's own z.
    `tone` scales the object's colour (1 = unchanged). `mesh` names the mesh of the kind "mesh".
    """

    kind: str
    half: tuple[float, float, float]
    centre: tuple[float, float, float]
    rotation: Vector
    tone: float = 1.0
    mesh: str | None = None

    def half_extents(self) -> Vector:
        """Half sizes (3,) of the axis-aligned box of the part in the object's frame."""
        a, b, c = self.half
        if self.kind == "box":
            return np.abs(self.rotation) @ np.array([a, b, c])
        if self.kind == "ellipsoid":
            return np.sqrt((self.rotation**2) @ np.array([a * a, b * b, c * c]))
        if self.kind == "sphere":
            return np.full(3, a)
        along = np.abs(self.rotation[:, 2])
        if self.kind == "capsule":
            return b * along + a
        return b * along + a * np.sqrt(np.maximum(0.0, 1.0 - along**2))  # cylinder


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """One object: category, parts, and exact outer size (x, y, z) in metres; base centre at 0."""

    category: str
    parts: tuple[Primitive, ...]
    size: tuple[float, float, float]


def turn(axis: str, angle: float) -> Vector:
    """Rotation (3, 3) by `angle` radians about the axis x, y or z."""
    c, s = math.cos(angle), math.sin(angle)
    rows = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(rows[axis], dtype=np.float64)


_UPRIGHT = np.eye(3)


def _box(
    x: float, y: float, z: float, at: tuple[float, float, float], tone: float = 1.0
) -> Primitive:
    return Primitive("box", (x / 2, y / 2, z / 2), at, _UPRIGHT, tone)


def _cylinder(
    radius: float, height: float, at: tuple[float, float, float], tone: float = 1.0
) -> Primitive:
    return Primitive("cylinder", (radius, height / 2, 0.0), at, _UPRIGHT, tone)


def _ellipsoid(
    x: float, y: float, z: float, at: tuple[float, float, float], tone: float = 1.0
) -> Primitive:
    return Primitive("ellipsoid", (x / 2, y / 2, z / 2), at, _UPRIGHT, tone)


# Builders: outer length x, width y, height z (metres) and a generator -> parts, base at z = 0.
# Round objects use x as their diameter.


def _build_box(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    tape = _box(x * 1.001, y * 0.18, z * 1.001, (0, 0, z / 2), 0.75)
    return (
        [_box(x, y, z, (0, 0, z / 2)), tape]
        if rng.random() < 0.5
        else [_box(x, y, z, (0, 0, z / 2))]
    )


def _build_ball(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    return [Primitive("sphere", (x / 2, 0, 0), (0, 0, x / 2), _UPRIGHT)]


def _build_can(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    return [
        _cylinder(x / 2, z * 0.94, (0, 0, z / 2)),
        _cylinder(x * 0.44, z, (0, 0, z / 2), 0.6),
    ]


def _build_mug(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    body = x * 0.75
    thick = x * 0.07
    left = body / 2
    return [
        _cylinder(body / 2, z, (0, 0, z / 2)),
        _cylinder(body * 0.42, z * 0.02, (0, 0, z), 0.35),
        _box(x * 0.25, thick, thick, (left + x * 0.1, 0, z * 0.78)),
        _box(x * 0.25, thick, thick, (left + x * 0.1, 0, z * 0.24)),
        _box(thick, thick, z * 0.6, (left + x * 0.25 - thick / 2, 0, z * 0.51)),
    ]


def _build_bottle(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    return [
        _cylinder(x / 2, z * 0.6, (0, 0, z * 0.3)),
        _ellipsoid(x, x, z * 0.3, (0, 0, z * 0.6)),
        _cylinder(x * 0.18, z * 0.3, (0, 0, z * 0.8)),
        _cylinder(x * 0.22, z * 0.07, (0, 0, z * 0.965), 0.5),
    ]


def _build_bowl(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    rings = 5
    parts = [_cylinder(x * 0.25, z * 0.12, (0, 0, z * 0.06), 0.8)]
    for ring in range(rings):
        radius = x / 2 * math.sqrt((ring + 1.0) / rings)
        parts.append(
            _cylinder(radius, z * 0.88 / rings, (0, 0, z * (0.12 + 0.88 * (ring + 0.5) / rings)))
        )
    parts.append(_cylinder(x * 0.45, z * 0.02, (0, 0, z * 1.0), 0.45))
    return parts


def _build_plate(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    return [
        _cylinder(x * 0.32, z * 0.5, (0, 0, z * 0.25)),
        _cylinder(x / 2, z * 0.5, (0, 0, z * 0.75)),
        _cylinder(x * 0.33, z * 0.04, (0, 0, z), 0.8),
    ]


def _build_book(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    cover = z * 0.14
    pages = Primitive("box", (x * 0.485, y * 0.48, z * 0.36), (x * 0.01, 0, z / 2), _UPRIGHT, 1.9)
    return [
        _box(x, y, cover, (0, 0, cover / 2)),
        pages,
        _box(x, y, cover, (0, 0, z - cover / 2)),
    ]


def _build_lamp(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    shade = z * 0.32
    parts = [
        _cylinder(x * 0.32, z * 0.05, (0, 0, z * 0.025), 0.6),
        _cylinder(x * 0.05, z * 0.7, (0, 0, z * 0.36), 0.6),
    ]
    steps = 4
    for step in range(steps):
        radius = x / 2 * (1.0 - 0.12 * step)
        parts.append(
            _cylinder(radius, shade / steps, (0, 0, z - shade + shade * (step + 0.5) / steps))
        )
    return parts


def _build_stool(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    leg = x * 0.09
    reach = x / 2 * 0.62
    legs = [
        _cylinder(leg / 2, z * 0.92, (sx * reach, sy * reach, z * 0.46), 0.75)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    return [_cylinder(x / 2, z * 0.1, (0, 0, z * 0.95)), *legs]


def _four_legs(x: float, y: float, z: float, leg: float, tone: float) -> list[Primitive]:
    return [
        _box(leg, leg, z, (sx * (x - leg) / 2, sy * (y - leg) / 2, z / 2), tone)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]


def _build_table(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    top = max(0.02, z * 0.06)
    leg = min(x, y) * 0.09
    return [_box(x, y, top, (0, 0, z - top / 2)), *_four_legs(x, y, z - top, leg, 0.8)]


def _build_bench(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    top = z * 0.14
    slab = x * 0.06
    return [
        _box(x, y, top, (0, 0, z - top / 2)),
        _box(slab, y * 0.9, z - top, (-x * 0.4, 0, (z - top) / 2), 0.8),
        _box(slab, y * 0.9, z - top, (x * 0.4, 0, (z - top) / 2), 0.8),
    ]


def _build_shelf(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    board = max(0.015, z * 0.025)
    levels = int(rng.integers(3, 6))
    boards = [
        _box(x, y, board, (0, 0, board / 2 + (z - board) * level / (levels - 1)))
        for level in range(levels)
    ]
    sides = [_box(board, y, z, (s * (x - board) / 2, 0, z / 2), 0.85) for s in (-1, 1)]
    return [*boards, *sides]


def _build_chair(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    seat = z * 0.5
    leg = min(x, y) * 0.1
    return [
        _box(x, y, z * 0.06, (0, 0, seat - z * 0.03)),
        _box(x * 0.08, y, z * 0.5, (-x * 0.46, 0, z * 0.75)),
        *_four_legs(x, y, seat - z * 0.06, leg, 0.75),
    ]


def _build_bin(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    return [
        _cylinder(x * 0.42, z * 0.5, (0, 0, z * 0.25)),
        _cylinder(x * 0.46, z * 0.45, (0, 0, z * 0.7)),
        _cylinder(x / 2, z * 0.08, (0, 0, z * 0.96), 0.8),
        _cylinder(x * 0.44, z * 0.01, (0, 0, z), 0.3),
    ]


def _build_monitor(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    return [
        _box(x * 0.4, y, z * 0.04, (0, 0, z * 0.02), 0.7),
        _box(x * 0.07, y * 0.2, z * 0.3, (0, 0, z * 0.17), 0.7),
        _box(x, y * 0.22, z * 0.72, (0, 0, z * 0.64)),
        _box(x * 0.92, y * 0.23, z * 0.62, (0, 0, z * 0.65), 0.4),
    ]


def _build_vase(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    return [
        _cylinder(x * 0.28, z * 0.06, (0, 0, z * 0.03), 0.8),
        _ellipsoid(x, x, z * 0.7, (0, 0, z * 0.38)),
        _cylinder(x * 0.17, z * 0.32, (0, 0, z * 0.8)),
        _cylinder(x * 0.3, z * 0.06, (0, 0, z * 0.97), 0.9),
    ]


def _build_cone(x: float, y: float, z: float, rng: np.random.Generator) -> list[Primitive]:
    base = z * 0.07
    steps = 7
    parts = [_box(x, x, base, (0, 0, base / 2), 0.8)]
    for step in range(steps):
        radius = x * (0.40 - 0.33 * step / (steps - 1))
        tall = (z - base) / steps
        tone = 1.6 if step == 3 else 1.0
        parts.append(_cylinder(radius, tall, (0, 0, base + tall * (step + 0.5)), tone))
    return parts


@dataclass(frozen=True)
class _Category:
    """Range of the length (metres), and of width and height as fractions of it."""

    build: Callable[[float, float, float, np.random.Generator], list[Primitive]]
    length: tuple[float, float]
    width_ratio: tuple[float, float]
    height_ratio: tuple[float, float]


#: Objects on a table top.
SMALL: dict[str, _Category] = {
    "box": _Category(_build_box, (0.07, 0.32), (0.45, 1.0), (0.4, 1.6)),
    "ball": _Category(_build_ball, (0.05, 0.26), (1, 1), (1, 1)),
    "can": _Category(_build_can, (0.05, 0.14), (1, 1), (0.9, 2.2)),
    "mug": _Category(_build_mug, (0.08, 0.20), (1, 1), (0.6, 1.1)),
    "bottle": _Category(_build_bottle, (0.05, 0.14), (1, 1), (2.2, 3.8)),
    "bowl": _Category(_build_bowl, (0.10, 0.34), (1, 1), (0.3, 0.5)),
    "plate": _Category(_build_plate, (0.13, 0.36), (1, 1), (0.08, 0.14)),
    "book": _Category(_build_book, (0.14, 0.36), (0.6, 0.85), (0.08, 0.25)),
    "vase": _Category(_build_vase, (0.07, 0.22), (1, 1), (1.4, 2.6)),
    "lamp": _Category(_build_lamp, (0.14, 0.36), (1, 1), (1.2, 2.6)),
    "monitor": _Category(_build_monitor, (0.26, 0.62), (0.25, 0.4), (0.6, 0.85)),
}

#: Objects on a floor.
LARGE: dict[str, _Category] = {
    "box": _Category(_build_box, (0.25, 0.85), (0.45, 1.0), (0.4, 1.6)),
    "ball": _Category(_build_ball, (0.18, 0.60), (1, 1), (1, 1)),
    "stool": _Category(_build_stool, (0.25, 0.50), (1, 1), (1.1, 2.2)),
    "table": _Category(_build_table, (0.5, 1.6), (0.45, 1.0), (0.4, 0.9)),
    "bench": _Category(_build_bench, (0.6, 1.5), (0.25, 0.45), (0.3, 0.5)),
    "shelf": _Category(_build_shelf, (0.4, 1.1), (0.3, 0.5), (1.0, 2.0)),
    "chair": _Category(_build_chair, (0.35, 0.60), (0.85, 1.0), (1.5, 2.1)),
    "bin": _Category(_build_bin, (0.18, 0.50), (1, 1), (1.0, 1.9)),
    "lamp": _Category(_build_lamp, (0.20, 0.50), (1, 1), (2.2, 3.6)),
    "cone": _Category(_build_cone, (0.18, 0.46), (1, 1), (1.2, 2.0)),
    "vase": _Category(_build_vase, (0.15, 0.40), (1, 1), (1.5, 2.6)),
}

CATEGORIES: tuple[str, ...] = tuple(sorted(SMALL.keys() | LARGE.keys()))


def make_model(category: str, kinds: dict[str, _Category], rng: np.random.Generator) -> ObjectModel:
    """An object of random size (log-uniform in length), its parts centred on its bounding box."""
    spec = kinds[category]
    length = math.exp(rng.uniform(math.log(spec.length[0]), math.log(spec.length[1])))
    width = length * rng.uniform(*spec.width_ratio)
    height = length * rng.uniform(*spec.height_ratio)
    parts = spec.build(length, width, height, rng)
    centres = np.array([part.centre for part in parts], dtype=np.float64)
    halves = np.array([part.half_extents() for part in parts])
    low, high = (centres - halves).min(axis=0), (centres + halves).max(axis=0)
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    moved = tuple(
        replace(part, centre=tuple(centre - origin))
        for part, centre in zip(parts, centres, strict=True)
    )
    size = high - low
    return ObjectModel(category, moved, (float(size[0]), float(size[1]), float(size[2])))
