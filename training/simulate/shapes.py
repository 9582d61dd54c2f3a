"""Shapes for measuring: hollow, composite, thin and flat things of exact convex parts.

`catalogue` has household objects whose boxes suffice. These shapes have what a measurement must
cope with: handles, rims, cavities, rods, cables. Does not know positions, colours or cameras.

The frame of a shape has z up; its origin is below the middle of its box, at the lowest point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from training.simulate.catalogue import Primitive, turn
from training.simulate.meshes import package_meshes

Vector = npt.NDArray[np.float64]
Point = tuple[float, float, float]

#: Flat panels of a round wall.
_PANELS = 20


@dataclass(frozen=True, eq=False)
class Shape:
    """One thing: its convex parts, and half the sides of a flat top that can carry another.

    carries: (x, y) metres about the origin, at the top; None = nothing can stand on it.
    """

    category: str
    parts: tuple[Primitive, ...]
    carries: tuple[float, float] | None = None


_UPRIGHT = np.eye(3)


def _box(x: float, y: float, z: float, at: Point, tone: float = 1.0) -> Primitive:
    return Primitive("box", (x / 2, y / 2, z / 2), at, _UPRIGHT, tone)


def _disc(radius: float, z: float, at: Point, tone: float = 1.0) -> Primitive:
    return Primitive("cylinder", (radius, z / 2, 0.0), at, _UPRIGHT, tone)


def _bar(radius: float, start: Point, end: Point, kind: str = "capsule") -> Primitive:
    """A capsule (round ends beyond both points) or a cylinder between two points."""
    a, b = np.array(start, np.float64), np.array(end, np.float64)
    along = b - a
    length = float(np.linalg.norm(along))
    z = along / length
    aside = np.array([1.0, 0, 0]) if abs(z[0]) < 0.9 else np.array([0, 1.0, 0])
    x = np.cross(aside, z)
    x /= np.linalg.norm(x)
    middle = (a + b) / 2
    return Primitive(
        kind,
        (radius, length / 2, 0.0),
        (float(middle[0]), float(middle[1]), float(middle[2])),
        np.stack([x, np.cross(z, x), z], axis=1),
    )


def _wall(bottom: float, top: float, low: float, high: float, thick: float) -> list[Primitive]:
    """A hollow round wall of flat panels: outer radius at the bottom and the top, heights."""
    tilt = math.atan2(top - bottom, high - low)
    slant = math.hypot(top - bottom, high - low)
    middle = (bottom + top) / 2 - thick / 2
    width = 2 * max(bottom, top) * math.tan(math.pi / _PANELS)
    panels = []
    for number in range(_PANELS):
        angle = 2 * math.pi * number / _PANELS
        at = (middle * math.cos(angle), middle * math.sin(angle), (low + high) / 2)
        rotation = turn("z", angle) @ turn("y", tilt)
        panels.append(Primitive("box", (thick / 2, width / 2, slant / 2), at, rotation))
    return panels


def grounded(
    category: str, parts: list[Primitive], carries: tuple[float, float] | None = None
) -> Shape:
    """A shape of parts, moved so that the middle of its box is above the origin, the foot at 0."""
    centres = np.array([part.centre for part in parts], dtype=np.float64)
    halves = np.array([part.half_extents() for part in parts])
    low, high = (centres - halves).min(axis=0), (centres + halves).max(axis=0)
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    moved = (
        replace(part, centre=(float(at[0]), float(at[1]), float(at[2])))
        for part, at in zip(parts, centres - origin, strict=True)
    )
    return Shape(category, tuple(moved), carries)


def cuboid(x: float, y: float, z: float, category: str = "box") -> Shape:
    """A box of the given sides, metres."""
    return Shape(category, (_box(x, y, z, (0, 0, z / 2)),), (x / 2, y / 2))


def round_tin(radius: float, z: float, category: str = "tin") -> Shape:
    """An upright cylinder with a lid of another tone."""
    lid = min(0.004, z * 0.1)
    parts = (
        _disc(radius, z - lid, (0, 0, (z - lid) / 2)),
        _disc(radius, lid, (0, 0, z - lid / 2), 0.7),
    )
    return Shape(category, parts, (0.7 * radius, 0.7 * radius))


# Builders: longest side (metres) and a generator -> shape.


def _any_box(longest: float, rng: np.random.Generator) -> Shape:
    sides = [longest, longest * rng.uniform(0.35, 1.0), longest * rng.uniform(0.2, 0.9)]
    x, y, z = rng.permutation(sides)
    return cuboid(float(x), float(y), float(z))


def _tin(longest: float, rng: np.random.Generator) -> Shape:
    ratio = rng.uniform(0.5, 2.0)  # height over diameter
    return round_tin(longest / 2 / max(1.0, ratio), longest * min(1.0, ratio))


def _tube(longest: float, rng: np.random.Generator) -> Shape:
    return round_tin(longest * rng.uniform(0.10, 0.18), longest, "tube")


def _bottle(longest: float, rng: np.random.Generator) -> Shape:
    radius = longest * rng.uniform(0.12, 0.18)
    shoulder, neck = rng.uniform(0.5, 0.65) * longest, rng.uniform(0.75, 0.82) * longest
    thin = radius * rng.uniform(0.3, 0.45)
    parts = [_disc(radius, shoulder, (0, 0, shoulder / 2))]
    steps = 6
    for step in range(steps):
        share = (step + 0.5) / steps
        wide = thin + (radius - thin) * math.cos(share * math.pi / 2)
        tall = (neck - shoulder) / steps
        parts.append(_disc(wide, tall, (0, 0, shoulder + tall * (step + 0.5))))
    parts.append(_disc(thin, longest - neck, (0, 0, (longest + neck) / 2)))
    parts.append(_disc(thin * 1.15, longest * 0.06, (0, 0, longest * 0.97), 0.5))
    return Shape("bottle", tuple(parts))


def _bowl(longest: float, rng: np.random.Generator) -> Shape:
    z, thick = longest * rng.uniform(0.28, 0.5), max(0.002, longest * 0.02)
    foot, rim = longest * rng.uniform(0.2, 0.3), longest / 2
    middle = foot + 0.7 * (rim - foot)
    parts = [_disc(foot, thick, (0, 0, thick / 2))]
    parts += _wall(foot, middle, 0.0, 0.5 * z, thick) + _wall(middle, rim, 0.5 * z, z, thick)
    return grounded("bowl", parts)


def _mug(longest: float, rng: np.random.Generator) -> Shape:
    ratio = rng.uniform(0.9, 1.3)  # height over diameter
    reach = rng.uniform(0.3, 0.45)  # of the handle, in diameters
    diameter = longest / max(ratio, 1 + reach)
    radius, z, thick = diameter / 2, diameter * ratio, max(0.003, diameter * 0.04)
    rod = max(0.004, 0.055 * diameter)
    parts = [_disc(radius * 0.97, thick, (0, 0, thick / 2), 0.8)]
    parts += _wall(radius, radius, 0.0, z, thick)
    angles = np.linspace(-math.pi / 2, math.pi / 2, 7)
    arc = [
        (
            radius + rod / 2 + (reach * diameter - rod) * math.cos(a),
            0.0,
            z / 2 + 0.32 * z * math.sin(a),
        )
        for a in angles
    ]
    parts += [_bar(rod, one, other) for one, other in pairwise(arc)]
    return grounded("mug", parts)


def _drill(longest: float, rng: np.random.Generator) -> Shape:
    barrel, chuck = longest * 0.13, longest * 0.06
    z = longest * rng.uniform(0.75, 0.95)
    axis = z - barrel
    base = z * 0.18
    parts = [
        _box(longest * 0.42, longest * 0.3, base, (0, 0, base / 2), 0.6),
        _box(longest * 0.16, longest * 0.13, axis - base, (0, 0, (axis + base) / 2)),
        _bar(barrel, (-longest * 0.25, 0, axis), (longest * 0.4, 0, axis), "cylinder"),
        _bar(chuck, (longest * 0.4, 0, axis), (longest * 0.75, 0, axis), "cylinder"),
    ]
    return grounded("drill", parts)


def _bracket(longest: float, rng: np.random.Generator) -> Shape:
    thick, z = longest * rng.uniform(0.18, 0.35), longest * rng.uniform(0.5, 1.0)
    y = longest * rng.uniform(0.3, 0.6)
    parts = [
        _box(longest, y, thick, (0, 0, thick / 2)),
        _box(thick, y, z - thick, ((thick - longest) / 2, 0, (z + thick) / 2), 0.9),
    ]
    return Shape("bracket", tuple(parts))


def _ball(longest: float, rng: np.random.Generator) -> Shape:
    half = longest / 2
    return Shape("ball", (Primitive("sphere", (half, 0, 0), (0, 0, half), _UPRIGHT),))


def _pen(longest: float, rng: np.random.Generator) -> Shape:
    radius = min(max(longest * rng.uniform(0.025, 0.05), 0.0035), 0.011)
    half = longest / 2
    tip = longest * 0.25
    parts = [
        _bar(radius, (-half, 0, radius), (half - tip, 0, radius), "cylinder"),
        _bar(radius * 0.85, (half - tip, 0, radius), (half, 0, radius), "cylinder"),
    ]
    return Shape("pen", tuple(parts))


def _scissors(longest: float, rng: np.random.Generator) -> Shape:
    thick, wide = rng.uniform(0.003, 0.005), longest * rng.uniform(0.05, 0.08)
    opening = rng.uniform(0.08, 0.35)
    parts = []
    for side in (-1.0, 1.0):
        rotation = turn("z", side * opening / 2)
        at = rotation @ np.array([longest * 0.1, 0, thick * (1.0 + 0.5 * side)])
        half = (longest * 0.4, wide / 2, thick / 2)
        parts.append(Primitive("box", half, (at[0], at[1], at[2]), rotation, 1.2))
        ring, middle = longest * 0.09, rotation @ np.array([-longest * 0.33, 0, 0])
        corners = [
            (
                middle[0] + ring * math.cos(a),
                middle[1] + side * ring * 0.5 + ring * 0.8 * math.sin(a),
                thick,
            )
            for a in np.linspace(0, 2 * math.pi, 9)
        ]
        parts += [_bar(thick, a, b) for a, b in pairwise(corners)]
    return grounded("scissors", parts)


def _cable(longest: float, rng: np.random.Generator) -> Shape:
    radius = rng.uniform(0.002, 0.0045)
    along = np.linspace(-0.5, 0.5, 13) * longest
    swing = longest * rng.uniform(0.05, 0.2)
    waves = rng.uniform(0.7, 2.0)
    points: list[Point] = [
        (float(x), float(swing * math.sin(2 * math.pi * waves * x / longest)), radius)
        for x in along
    ]
    parts = [_bar(radius, a, b) for a, b in pairwise(points)]
    return grounded("cable", parts)


def _card(longest: float, rng: np.random.Generator) -> Shape:
    return cuboid(longest, longest * rng.uniform(0.55, 0.75), rng.uniform(0.002, 0.004), "card")


def _phone(longest: float, rng: np.random.Generator) -> Shape:
    return cuboid(longest, longest * rng.uniform(0.45, 0.55), rng.uniform(0.006, 0.009), "phone")


def _booklet(longest: float, rng: np.random.Generator) -> Shape:
    return cuboid(longest, longest * rng.uniform(0.65, 0.8), rng.uniform(0.003, 0.008), "booklet")


def _plate(longest: float, rng: np.random.Generator) -> Shape:
    z = max(0.006, longest * rng.uniform(0.04, 0.09))
    foot, thick = longest * 0.32, max(0.003, longest * 0.015)
    parts = [_disc(foot, thick, (0, 0, thick / 2)), *_wall(foot, longest / 2, 0.0, z, thick)]
    return grounded("plate", parts)


def _stool(longest: float, rng: np.random.Generator) -> Shape:
    x = longest * rng.uniform(0.55, 0.85)
    leg, seat = x * 0.09, longest * 0.08
    reach = x / 2 - leg
    corners = [(sx * reach, sy * reach) for sx in (-1, 1) for sy in (-1, 1)]
    legs = [
        _box(leg, leg, longest - seat, (cx, cy, (longest - seat) / 2), 0.8) for cx, cy in corners
    ]
    seat_at = (0.0, 0.0, longest - seat / 2)
    if rng.random() < 0.5:
        return Shape("stool", (_box(x, x, seat, seat_at), *legs), (x / 2, x / 2))
    round_seat = _disc(x / 2 * 1.25, seat, seat_at)
    return Shape("stool", (round_seat, *legs), (0.4 * x, 0.4 * x))


def open_box(x: float, y: float, z: float, thick: float, category: str = "bin") -> Shape:
    """A box without a lid: outer sides and thickness of the walls, metres."""
    inner = z - thick
    return Shape(
        category,
        (
            _box(x, y, thick, (0, 0, thick / 2), 0.9),
            _box(thick, y, inner, ((thick - x) / 2, 0, (z + thick) / 2)),
            _box(thick, y, inner, ((x - thick) / 2, 0, (z + thick) / 2)),
            _box(x - 2 * thick, thick, inner, (0, (thick - y) / 2, (z + thick) / 2)),
            _box(x - 2 * thick, thick, inner, (0, (y - thick) / 2, (z + thick) / 2)),
        ),
    )


def _crate(longest: float, rng: np.random.Generator) -> Shape:
    thick = max(0.004, longest * 0.02)
    sides = (longest, longest * rng.uniform(0.6, 1.0), longest * rng.uniform(0.3, 0.7))
    return open_box(*sides, thick, "crate")


def mesh_shapes() -> list[Shape]:
    """The things of the installed mesh package, of their real sizes; empty without it."""
    return [
        Shape(name, (Primitive("mesh", (0, 0, 0), (0, 0, 0), _UPRIGHT, mesh=name),))
        for name in package_meshes().meshes
    ]


Builder = Callable[[float, np.random.Generator], Shape]

#: Solid and hollow things, with the range of their longest side in metres.
THINGS: dict[str, tuple[Builder, float, float]] = {
    "box": (_any_box, 0.04, 0.35),
    "tin": (_tin, 0.05, 0.20),
    "tube": (_tube, 0.10, 0.35),
    "bottle": (_bottle, 0.12, 0.34),
    "bowl": (_bowl, 0.10, 0.28),
    "mug": (_mug, 0.07, 0.15),
    "drill": (_drill, 0.14, 0.30),
    "bracket": (_bracket, 0.05, 0.25),
    "ball": (_ball, 0.03, 0.25),
}
THIN: dict[str, tuple[Builder, float, float]] = {
    "pen": (_pen, 0.10, 0.35),
    "scissors": (_scissors, 0.12, 0.24),
    "cable": (_cable, 0.15, 0.50),
}
FLAT: dict[str, tuple[Builder, float, float]] = {
    "card": (_card, 0.08, 0.15),
    "phone": (_phone, 0.12, 0.17),
    "booklet": (_booklet, 0.14, 0.30),
    "plate": (_plate, 0.14, 0.28),
}
FURNITURE: dict[str, tuple[Builder, float, float]] = {
    "stool": (_stool, 0.30, 0.60),
    "crate": (_crate, 0.25, 0.60),
    "box": (_any_box, 0.20, 0.60),
    "ball": (_ball, 0.18, 0.40),
    "tin": (_tin, 0.20, 0.45),
}


def draw_shape(
    kinds: dict[str, tuple[Builder, float, float]],
    rng: np.random.Generator,
    category: str | None = None,
    largest: float = math.inf,
) -> Shape:
    """A shape of random proportions, log-uniform in its longest side, at most `largest` metres.

    A category whose smallest size is over `largest` is drawn at `largest`.
    """
    name = category or list(kinds)[rng.integers(len(kinds))]
    build, low, high = kinds[name]
    low, high = min(low, largest), min(high, largest)
    return build(math.exp(rng.uniform(math.log(low), math.log(high))), rng)
