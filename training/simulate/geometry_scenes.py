"""Scenes for measuring: a group of things, what carries them, and a camera that sees them badly.

Every scene is built around one situation, in turn, so that all occur equally often; half of the
scenes add a second group. Does not know pixels or sensors.

World frame: z up, metres; the table or floor is at z = 0, the camera looks along +y.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.simulate import geometry_groups as groups
from training.simulate.catalogue import turn
from training.simulate.placement import Body, on_plane, shifted
from training.simulate.renderer import Solid
from training.simulate.textures import GROUNDS

Vector = npt.NDArray[np.float64]
Rng = np.random.Generator

GROUPS: dict[str, Callable[[Rng], list[Body]]] = {
    "plain": groups.plain,
    "stacked": groups.stacked,
    "touching": groups.touching,
    "occluded": groups.occluded,
    "thin": groups.thin,
    "flat": groups.flat,
    "leaning": groups.leaning,
    "clutter": groups.clutter,
}
#: The situations that scenes are built around, in turn.
SITUATIONS = (*GROUPS, "border_cut", "shelf", "bin", "overhead", "camera_turned", "floor")


@dataclass(frozen=True, eq=False)
class View:
    """Where the camera is.

    Attributes:
        target: (3,) the point it looks at, world, metres.
        room: radius in metres that should fit into the image.
        closeness: the distance is that at which `room` just fits, times this.
        elevation, azimuth, roll: radians; elevation 0 is level, pi / 2 straight down; azimuth 0
            looks along +y.
        cut: index of the body that the image border shall cut; None = none.
    """

    target: Vector
    room: float
    closeness: float
    elevation: float
    azimuth: float
    roll: float
    cut: int | None = None


@dataclass(frozen=True, eq=False)
class GeometryScene:
    """Things, the solids of the room around them (instance 0), and the view."""

    bodies: list[Body]
    room: list[Solid]
    view: View


def _slab(half: tuple[float, float, float], centre: tuple[float, float, float], rng: Rng,
          yaw: float = 0.0) -> Solid:  # fmt: skip
    grey = rng.uniform(0.3, 1.0)
    red, green, blue = (float(np.clip(grey + rng.normal(0, 0.05), 0.05, 1)) for _ in range(3))
    material = f"ground_{GROUNDS[rng.integers(len(GROUNDS))]}" if rng.random() < 0.75 else None
    at = np.array(centre)
    return Solid("box", half, at, turn("z", yaw), (red, green, blue), 0, material, 0.05)


def _walls(back: float, low: float, rng: Rng) -> list[Solid]:
    """A wall behind, and sometimes one at a side; their feet at the height `low`."""
    walls = []
    if rng.random() < 0.85:
        walls.append(_slab((6.0, 0.05, 1.5), (0.0, back + 0.05, low + 1.5), rng))
    if rng.random() < 0.25:
        side = float(rng.choice([-1, 1])) * rng.uniform(1.0, 2.5)
        walls.append(_slab((0.05, 6.0, 1.5), (side, 0.0, low + 1.5), rng))
    return walls


def _reach(bodies: list[Body]) -> tuple[float, float]:
    """Farthest extent (x, y) of things from the origin, metres."""
    x = max(abs(float(body.position[0])) + body.radius for body in bodies)
    return x, max(abs(float(body.position[1])) + body.radius for body in bodies)


def _table(bodies: list[Body], rng: Rng) -> list[Solid]:
    yaw = rng.uniform(-0.4, 0.4)
    far = math.hypot(*_reach(bodies)) + 0.03
    half = (far * rng.uniform(1.0, 2.5), far * rng.uniform(1.0, 2.0), 0.015)
    drop = rng.uniform(0.4, 0.9)
    top = _slab(half, (0.0, 0.0, -half[2]), rng, yaw)
    floor = _slab((8.0, 8.0, 0.05), (0.0, 0.0, -drop - 0.05), rng)
    return [top, floor, *_walls(half[1] * 1.5 + rng.uniform(0.1, 1.5), -drop, rng)]


def _floor(bodies: list[Body], rng: Rng) -> list[Solid]:
    floor = _slab((8.0, 8.0, 0.05), (0.0, 0.0, -0.05), rng)
    return [floor, *_walls(_reach(bodies)[1] + rng.uniform(0.2, 2.0), 0.0, rng)]


def _centred(bodies: list[Body]) -> list[Body]:
    """The bodies moved so that their middle is above the origin."""
    middle = np.mean([body.position for body in bodies], axis=0)[:2]
    return [shifted(body, -middle) for body in bodies]


def _beside(bodies: list[Body], others: list[Body], rng: Rng) -> list[Body]:
    """Both groups, the second at a side of the first or behind it."""
    (x, y), (other_x, other_y) = _reach(bodies), _reach(others)
    gap = rng.uniform(0.005, 0.08)
    if rng.random() < 0.3:
        step = (rng.uniform(-x, x), y + other_y + gap)
    else:
        step = (float(rng.choice([-1, 1])) * (x + other_x + gap), rng.uniform(-0.1, 0.1))
    return _centred([*bodies, *(shifted(body, step) for body in others)])


def _shelf(rng: Rng) -> tuple[list[Body], list[Solid], float]:
    """Boards with things on them; the height of the board to look at."""
    wide, deep, thick = rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.4), 0.018
    spacing, levels = rng.uniform(0.26, 0.40), int(rng.integers(3, 5))
    base = rng.uniform(0.2, 0.8)
    look = levels // 2
    board = _slab((wide / 2, deep / 2, thick / 2), (0.0, 0.0, 0.0), rng)
    solids, bodies = [], []
    for level in range(levels):
        height = base + level * spacing
        at = np.array([0.0, 0.0, height - thick / 2])
        solids.append(
            Solid("box", board.half, at, board.rotation, board.rgb, 0, board.material, 0.05)
        )
        if abs(level - look) <= 1:
            bodies += on_plane(_on_board(wide, deep, spacing - 0.03, rng), "shelf", height)
    whole = levels * spacing
    for side in (-1, 1):
        beside = (side * (wide / 2 + thick / 2), 0.0, base + whole / 2 - spacing / 2)
        solids.append(_slab((thick / 2, deep / 2, whole / 2), beside, rng))
    solids.append(_slab((8.0, 8.0, 0.05), (0.0, 0.0, -0.05), rng))
    back = deep / 2 + (0.01 if rng.random() < 0.7 else rng.uniform(0.05, 0.4))
    solids.append(_slab((6.0, 0.05, 1.5), (0.0, back + 0.05, 1.5), rng))
    return bodies, solids, base + look * spacing


def _on_board(wide: float, deep: float, tall: float, rng: Rng) -> list[Body]:
    """One or two groups side by side that fit on a board; all under `tall` metres."""
    placed: list[Body] = []
    left = -wide / 2
    for _ in range(int(rng.integers(1, 4))):
        name = ("plain", "plain", "stacked", "touching")[rng.integers(4)]
        for _ in range(20):
            group = _centred(GROUPS[name](rng))[: 1 if name == "plain" else None]
            group = _centred(group)
            x, y = _reach(group)
            fits = y < deep / 2 and left + 2 * x < wide / 2
            if fits and max(body.top for body in group) < tall:
                placed += [shifted(body, (left + x, 0.0)) for body in group]
                left += 2 * x + rng.uniform(0.005, 0.08)
                break
    return [body.labelled("shelf") for body in placed]


def _view(bodies: list[Body], primary: str, rng: Rng, target: Vector | None = None) -> View:
    """A view for a situation."""
    tops = np.array([[*body.position[:2], (body.top + body.foot) / 2] for body in bodies])
    middle = (tops.min(axis=0) + tops.max(axis=0)) / 2 if target is None else target
    room = max(
        float(np.linalg.norm(at - middle)) + math.hypot(body.radius, (body.top - body.foot) / 2)
        for at, body in zip(tops, bodies, strict=True)
    )
    degrees = {
        "overhead": (80.0, 90.0),
        "shelf": (-2.0, 16.0),
        "bin": (50.0, 88.0),
        "floor": (10.0, 42.0),
        "occluded": (8.0, 40.0),
    }.get(primary, (16.0, 60.0))
    roll = rng.normal(0, math.radians(2.0))
    if primary == "camera_turned" or (primary in GROUPS and rng.random() < 0.1):
        quarter = float(rng.integers(1, 4)) * math.pi / 2
        roll += rng.uniform(0, 2 * math.pi) if rng.random() < 0.4 else quarter
    return View(
        middle,
        min(room, 0.45) if primary == "shelf" else room,
        rng.uniform(0.6, 1.3) if primary != "bin" else rng.uniform(0.75, 1.3),
        math.radians(rng.uniform(*degrees)),
        rng.uniform(-0.4, 0.4),
        roll,
        int(rng.integers(len(bodies))) if primary == "border_cut" else None,
    )


def compose_geometry(seed: int, scene: int) -> GeometryScene:
    """Scene number `scene` of a seed; the same arguments give the same scene."""
    rng = np.random.default_rng([seed, scene, 2])
    primary = SITUATIONS[scene % len(SITUATIONS)]
    if primary == "shelf":
        bodies, room, board = _shelf(rng)
        while not bodies:
            bodies, room, board = _shelf(rng)
        target = np.array([rng.uniform(-0.1, 0.1), 0.0, board + rng.uniform(0.02, 0.15)])
        return GeometryScene(bodies, room, _view(bodies, primary, rng, target))
    if primary == "bin":
        bodies = groups.filled_bin(rng)
    elif primary == "floor":
        bodies = _centred(groups.furniture(rng))
    else:
        names = list(GROUPS)
        first = primary if primary in GROUPS else names[rng.integers(len(names))]
        bodies = _centred(GROUPS[first](rng))
        if first != "clutter" and rng.random() < 0.4:
            second = names[rng.integers(len(names) - 1)]  # all but clutter
            bodies = _beside(bodies, _centred(GROUPS[second](rng)), rng)
    if primary == "floor" or rng.random() < 0.15:
        bodies = [body.labelled("floor") for body in on_plane(bodies, "floor", 0.0)]
        room = _floor(bodies, rng)
    else:
        room = _table(bodies, rng)
    if primary == "overhead":
        bodies = [body.labelled("overhead") for body in bodies]
    return GeometryScene(bodies, room, _view(bodies, primary, rng))
