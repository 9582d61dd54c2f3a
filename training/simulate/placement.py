"""Where things stand: upright, on one another, touching, leaning, lying; never inside one another.

Places by construction, without dynamics: what is set on another has its middle over the flat top;
contacts are found by sliding until the exact distance is zero. Does not know cameras or images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.simulate.catalogue import turn
from training.simulate.gaps import Bodies
from training.simulate.renderer import Solid
from training.simulate.shapes import Shape
from training.simulate.truth import lowest, reach_of

Vector = npt.NDArray[np.float64]

#: Distance at which sliding things count as touching, metres.
CONTACT_M = 2e-4
_UP = np.array([[0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class Finish:
    """The look of a thing.

    Attributes:
        colour: name of the colour.
        rgb: red, green, blue in 0 to 1.
        material: of the renderer, or None.
        shininess: 0 to 1.
        absorbs: probability that a depth camera gets no reading from it.
    """

    colour: str
    rgb: tuple[float, float, float]
    material: str | None
    shininess: float
    absorbs: float


@dataclass(frozen=True, eq=False)
class Body:
    """A thing in its place.

    Attributes:
        shape: its parts.
        finish: its look.
        position: (3,) of the shape's origin, world, metres.
        rotation: (3, 3) shape -> world.
        situation: names of what makes it hard to measure.
        plane: what carries it or its stack: "table", "floor" or "shelf".
        plane_height: height of that plane, metres.
    """

    shape: Shape
    finish: Finish
    position: Vector
    rotation: Vector
    situation: tuple[str, ...] = ()
    plane: str = "table"
    plane_height: float = 0.0

    def solids(self, instance: int = 0) -> list[Solid]:
        """Its parts in the world."""
        red, green, blue = self.finish.rgb
        return [
            Solid(
                part.kind,
                part.half,
                self.rotation @ np.array(part.centre) + self.position,
                self.rotation @ part.rotation,
                (
                    min(1.0, red * part.tone),
                    min(1.0, green * part.tone),
                    min(1.0, blue * part.tone),
                ),
                instance,
                self.finish.material,
                self.finish.shininess,
                part.mesh,
            )
            for part in self.shape.parts
        ]

    @property
    def top(self) -> float:
        """Height of its highest point, metres."""
        return float(reach_of(self.solids(), _UP)[0])

    @property
    def foot(self) -> float:
        """Height of its lowest point, metres."""
        return lowest(self.solids())

    @property
    def radius(self) -> float:
        """Horizontal distance from its position to its farthest point, at most; metres."""
        angles = np.linspace(0, 2 * math.pi, 16, endpoint=False)
        rays = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
        reach = reach_of(self.solids(), rays) - rays @ self.position
        return float(reach.max()) / math.cos(math.pi / 16)

    def labelled(self, *names: str) -> Body:
        """The body with more situations."""
        return replace(self, situation=tuple(dict.fromkeys((*self.situation, *names))))


def shifted(body: Body, step: tuple[float, float] | Vector) -> Body:
    """The body moved by (x, y) or (x, y, z) metres."""
    moved = np.zeros(3)
    moved[: len(step)] = step
    return replace(body, position=body.position + moved)


def turned(body: Body, rotation: Vector) -> Body:
    """The body turned by a rotation (3, 3) about its position."""
    return replace(body, rotation=rotation @ body.rotation)


def set_down(body: Body, height: float) -> Body:
    """The body moved up or down until its lowest point has a height."""
    return shifted(body, np.array([0.0, 0.0, height - body.foot]))


def stand(shape: Shape, finish: Finish, at: tuple[float, float], yaw: float) -> Body:
    """A shape upright on the plane z = 0, turned by `yaw` radians."""
    return Body(shape, finish, np.array([*at, 0.0]), turn("z", yaw))


def lie_down(body: Body, yaw: float) -> Body:
    """The body tipped onto its side on z = 0; its former vertical points along `yaw`."""
    tipped = replace(body, rotation=turn("z", yaw) @ turn("y", math.pi / 2))
    return set_down(tipped, 0.0)


def set_on(upper: Body, *below: Body, offset: tuple[float, float] = (0.0, 0.0)) -> Body:
    """The body with its foot on the tops of others of one height, over their middle.

    offset: horizontal displacement (x, y) from that middle, metres.
    """
    middle = np.mean([body.position for body in below], axis=0)[:2] + offset
    placed = replace(
        upper,
        position=np.array([middle[0], middle[1], upper.position[2]]),
        plane=below[0].plane,
        plane_height=below[0].plane_height,
    )
    return set_down(placed, max(body.top for body in below))


def slide_to(
    body: Body, others: list[Body], direction: tuple[float, float], gap: float = 0.0
) -> Body:
    """The body moved along a horizontal unit direction until it is `gap` from one of the others.

    Steps of the distance that is left never overshoot. A body that passes all others ends beside
    them, farther than `gap`.
    """
    own = body.solids()
    rest = [solid for other in others for solid in other.solids()]
    bodies = Bodies([*own, *rest])
    mine, theirs = list(range(len(own))), list(range(len(own), len(own) + len(rest)))
    step, moved = np.array([*direction, 0.0]), 0.0
    for _ in range(200):
        left = bodies.distance(mine, theirs) - gap
        if left < CONTACT_M or moved > 5.0:
            break
        advance = left - CONTACT_M / 2
        bodies.move(mine, advance * step)
        moved += advance
    return shifted(body, moved * step)


def gap_to(body: Body, others: list[Body]) -> float:
    """Metres from a body to the nearest of the others; below 0 = they overlap."""
    own = body.solids()
    rest = [solid for other in others for solid in other.solids()]
    if not rest:
        return math.inf
    bodies = Bodies([*own, *rest])
    return bodies.distance(list(range(len(own))), list(range(len(own), len(own) + len(rest))))


def is_free(body: Body, others: list[Body], gap: float) -> bool:
    """No other is nearer than `gap` metres."""
    near = [
        other
        for other in others
        if np.linalg.norm((other.position - body.position)[:2]) < body.radius + other.radius + gap
    ]
    return gap_to(body, near) >= gap


def find_room(
    body: Body, others: list[Body], reach: tuple[float, float], gap: float,
    rng: np.random.Generator,
) -> Body | None:  # fmt: skip
    """The body at a random place within `reach` (x, y) of the origin that is free; None = full."""
    for _ in range(25):
        spot = rng.uniform(-1, 1, 2) * reach
        moved = replace(body, position=np.array([*spot, body.position[2]]))
        if is_free(moved, others, gap):
            return moved
    return None


def on_plane(bodies: list[Body], plane: str, height: float) -> list[Body]:
    """Bodies that stood on z = 0, moved to a plane of another height, metres."""
    return [
        replace(shifted(body, np.array([0, 0, height])), plane=plane, plane_height=height)
        for body in bodies
    ]
